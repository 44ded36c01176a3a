"""Keras models as `FunctionalModel`s: Keras's own stateless functions, called with the weights of a round.

What Keras would do in `fit` is done here: regularisation losses, loss weights, metrics, layers that behave differently
in training. Only the state of random generators is replaced by one drawn from the client's key for each batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import keras
import numpy as np

from hansa._tracebacks import add_note
from hansa.language.tracing import narrow_computation
from hansa.models._typing import AnyOptimizer, Loss, Metrics
from hansa.models.accumulators import (
    Accumulator,
    ModelMetrics,
    Seen,
    build,
    combine,
    loss_and_count,
    type_of,
)
from hansa.models.keras import weights as keras_weights
from hansa.models.keras.adapters import adapters_in
from hansa.models.keras.batches import ClassWeights, KerasBatch, batch_type, parts_of
from hansa.models.keras.copies import copy_with
from hansa.models.keras.folds import folds_of, metrics_in
from hansa.models.keras.given_metrics import instead_of_compiled, own_metrics, plan_of, split
from hansa.models.keras.jax import Called, JaxCalls
from hansa.models.keras.metrics import to_keras
from hansa.models.keras.mixtures import explaining, refuse_kept, refuse_tensorflow
from hansa.models.keras.optimizers import from_keras, untouched
from hansa.models.keras.tensorflow import TensorFlowCalls
from hansa.models.learning_rates import check_keras
from hansa.models.merging import merged
from hansa.models.metrics import Metric
from hansa.models.model import Forward, FunctionalModel, ScaleLoss
from hansa.models.optimizer import TrainedVariables
from hansa.models.outputs import BatchOutput
from hansa.models.weights import ModelWeights
from hansa.types import Struct, StructType, TensorType, Type, to_type
from hansa.types._typing import Arrays
from hansa.types.mismatch import describe_uncalled
from hansa.types.samples import sample_type


def from_compiled_keras_model(
    keras_model: keras.Model,
    sample_batch: Arrays,
    metrics: Metrics | None = None,
    *,
    class_weight: Mapping[int, float] | None = None,
) -> FunctionalModel:
    """Makes a model for `hansa.learning` from a compiled Keras model, with its loss, metrics and optimizer.

    Args:
        keras_model: a Sequential, functional or subclassed model on which `compile` was called.
        sample_batch: a batch as the clients have them, a mapping with `x` and `y` or a pair of them; only its types
            count. Several inputs are a struct in `x`, in the order or by the names that the model expects, or fields
            of the batch by these names in place of `x`. A `sample_weight`, or the third of a triple, is for the loss
            and the `weighted_metrics`, as in `fit`: `[examples]`, or `[examples, tokens]` for each token.
        metrics: a list of `Metric`s and Keras metric objects, beside those that were compiled.
        class_weight: weights of examples by their classes, in place of a `sample_weight` and in training only, as in
            `fit`: `{0: 1.0, 1: 5.0}`; other classes have the weight 1.

    Raises:
        TypeError, ValueError: if the model is not compiled, cannot be called on the batch, or trains in its own way.

    Examples:
        >>> network = keras.Sequential([keras.Input((64,)), keras.layers.Dense(10, activation="softmax")])
        >>> network.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
        >>> model = hansa.learning.from_compiled_keras_model(network, sample_batch={"x": x, "y": y})
        >>> print(model.batch_type)
        <x=float32[?,64],y=int32[?]>
    """
    _check(keras_model, "from_compiled_keras_model")
    if not keras_model.compiled:
        raise ValueError(
            f"the Keras model {keras_model.name!r} is not compiled: call keras_model.compile(optimizer, loss, metrics) "
            "first, or pass loss, "
            "metrics and optimizer to hansa.learning.from_keras_model"
        )
    kind, own = sample_type(sample_batch), own_metrics(metrics)
    return _model(keras_model, kind, own, keras_model.optimizer is not None, class_weight)


def from_keras_model(
    keras_model: keras.Model,
    sample_batch: Arrays | None = None,
    loss: Loss | None = None,
    metrics: Metrics | None = None,
    optimizer: AnyOptimizer | None = None,
    *,
    input_spec: object = None,
    loss_weights: Sequence[float] | Mapping[str, float] | None = None,
    weighted_metrics: Metrics | None = None,
    class_weight: Mapping[int, float] | None = None,
) -> FunctionalModel:
    """Makes a model for `hansa.learning` from a Keras model that is not compiled, and what `compile` would take.

    Args:
        keras_model: a Sequential, functional or subclassed model; it is compiled by this function.
        sample_batch: a batch as the clients have them; see `from_compiled_keras_model`.
        loss: a loss by name, object or function, or a structure of those for several outputs.
        metrics: a list of metrics: names, functions and objects as in `compile`, and `Metric`s, which come after them.
        optimizer: the clients' optimizer, by name or object; without one the algorithm must be given one.
        input_spec: the type of a batch instead of a sample: a mapping of specs or a type in Hansa's notation.
        loss_weights, weighted_metrics: as in `compile`.
        class_weight: as of `from_compiled_keras_model`.

    Raises:
        TypeError, ValueError: if both or none of `sample_batch` and `input_spec` are given, the loss is missing, the
            model is compiled already, or it cannot be called on the batch.

    Examples:
        >>> network = keras.Sequential([keras.Input((64,)), keras.layers.Dense(10, activation="softmax")])
        >>> model = hansa.learning.from_keras_model(
        ...     network,
        ...     sample_batch={"x": x, "y": y},
        ...     loss="sparse_categorical_crossentropy",
        ...     metrics=["accuracy"],
        ...     optimizer="sgd",
        ... )
        >>> print(model.batch_type)
        <x=float32[?,64],y=int32[?]>
    """
    _check(keras_model, "from_keras_model")
    if keras_model.compiled:
        raise ValueError(
            f"the Keras model {keras_model.name!r} is compiled already: use hansa.learning.from_compiled_keras_model"
        )
    if (sample_batch is None) == (input_spec is None):
        raise TypeError("from_keras_model needs one of sample_batch and input_spec, to know the type of a batch")
    if loss is None:
        raise TypeError("from_keras_model needs a loss, such as loss='sparse_categorical_crossentropy'")
    kind = sample_type(sample_batch) if input_spec is None else to_type(input_spec)
    compiled, own = split(metrics)
    keras_model.compile(
        optimizer=optimizer or "sgd",
        loss=loss,
        metrics=compiled,
        weighted_metrics=weighted_metrics,
        loss_weights=loss_weights,
    )
    return _model(keras_model, kind, own, optimizer is not None, class_weight)


def _check(keras_model: Any, what: str) -> None:
    if keras.backend.backend() not in ("jax", "tensorflow"):
        raise RuntimeError(
            f"Keras runs on its {keras.backend.backend()!r} backend, and Hansa compiles Keras models on JAX or on "
            "TensorFlow: import hansa before keras, or set the environment variable KERAS_BACKEND=jax before Python "
            "starts"
        )
    if not isinstance(keras_model, keras.Model):
        raise TypeError(f"{what} takes a Keras model, found {describe_uncalled(keras_model)}")
    if type(keras_model).train_step is not keras.Model.train_step:
        raise TypeError(
            f"the Keras model {keras_model.name!r} has a train_step of its own, which would not be run: what is "
            "compiled is its forward pass, its loss and its optimizer; say the loss in compile, and leave train_step "
            "out, or write the step in a hansa.learning.TrainableModel"
        )
    for layer in keras_model._flatten_layers():
        if getattr(layer, "stateful", False):
            raise ValueError(
                f"the layer {layer.name!r} is stateful: it carries a state from batch to batch, which clients with "
                "batches of different sizes do not have; build it with stateful=False"
            )


def _model(
    keras_model: Any,
    sample: Type,
    metrics: list[Metric],
    has_optimizer: bool,
    class_weight: Mapping[int, float] | None,
) -> FunctionalModel:
    kind = batch_type(sample, keras_model.name)
    classes = None if class_weight is None else ClassWeights(class_weight, kind, keras_model.name)
    if has_optimizer:
        check_keras(keras_model.optimizer, f"the optimizer of the Keras model {keras_model.name!r}")
    refuse_tensorflow(keras_model)
    with explaining(f"the Keras model {keras_model.name!r}"):
        _build(keras_model, kind)
    refuse_kept(keras_model)
    functions = _KerasFunctions(keras_model, kind, classes)
    own = build([(metric._name(), plan_of(metric)) for metric in metrics], lambda of: functions.type_of(of, kind))
    compiled = ("the compiled metrics", functions.compiled_metrics(kind))
    all_metrics = combine(
        [compiled, *own, ("the loss", loss_and_count(keep_count=False))], spread=["the compiled metrics", "the loss"]
    )
    return FunctionalModel(
        name=keras_model.name,
        batch_type=kind,
        initial_weights=ModelWeights.create(*keras_weights.initial_weights(keras_model)),
        initial_local=all_metrics.initial,
        forward=functions.forward(all_metrics),
        local_outputs=all_metrics.local_outputs,
        metrics=all_metrics.aggregate,
        optimizer=from_keras(keras_model.optimizer, functions.variables) if has_optimizer else None,
        project=functions.project,
        gradients=functions.gradients(all_metrics),
        differentiable=keras.backend.backend() == "jax",
        wide=keras.backend.backend() != "jax",
        variables=functions.variables,
        scales_loss=keras_model.dtype_policy.name == "mixed_float16",
        with_weights=lambda weights: copy_with(keras_model, weights, lambda copied: _build(copied, kind)),
        adapters=adapters_in(keras_model),
    )


def _metric_names(variables: list[Any]) -> list[str]:
    paths = [variable.path for variable in variables]
    return [path if paths.count(path) == 1 else f"{path}#{i}" for i, path in enumerate(paths)]


def _build(model: Any, kind: StructType) -> None:
    """Makes the variables of the model, its loss and its metrics, but not those of its optimizer."""
    parts = [_example(part) for part in parts_of(kind) if part is not None]
    try:
        with untouched(model.optimizer):
            if model.optimizer is not None:
                model.optimizer.built = True
            model._symbolic_build(data_batch=tuple(parts))
    except Exception as error:
        add_note(
            error,
            f"while calling the Keras model {model.name!r}, its loss and its metrics on a batch of the type {kind}",
        )
        raise


def _example(kind: Any) -> Any:
    if isinstance(kind, StructType):
        return to_keras(Struct((name, _example(member)) for name, member in kind.fields))
    return np.zeros((2, *(1 if n is None else n for n in kind.shape[1:])), kind.dtype)


class _KerasFunctions:
    """The pure functions of a Keras model. It holds the model, of which it changes nothing."""

    def __init__(self, model: Any, kind: StructType, classes: ClassWeights | None) -> None:
        self.model, self._classes = model, classes
        self.calls: JaxCalls | TensorFlowCalls = (
            JaxCalls(model) if keras.backend.backend() == "jax" else TensorFlowCalls(model, kind, classes is not None)
        )
        self.metric_variables = list(model.metrics_variables)
        trainable, rest = keras_weights.weights(model)
        self._trainable = keras_weights.order(model, trainable)
        self.trained = [trainable[i] for _, i in self._trainable]
        positions = {i: position for position, (_, i) in enumerate(self._trainable)}
        self.variables = TrainedVariables(tuple(trainable), tuple(positions[i] for i in range(len(trainable))))
        self._rest = keras_weights.order(model, rest)

    def forward(self, metrics: ModelMetrics) -> Callable[[ModelWeights, Struct, Any, bool, Any], Forward]:
        """The `forward` of the model, which keeps its metrics."""

        def forward(weights: ModelWeights, local: Struct, batch: Any, training: bool, key: Any) -> Forward:
            with explaining(f"the Keras model {self.model.name!r}"):
                called = self.calls.forward(*self._in_keras_order(weights), self._parts(batch, training), training, key)
            return self._seen(called, batch, local, metrics, training)

        return forward

    def gradients(
        self, metrics: ModelMetrics
    ) -> Callable[[ModelWeights, Struct, Any, Any, ScaleLoss], tuple[Forward, Struct]] | None:
        """The `gradients` of the model, if JAX cannot differentiate it."""
        calls = self.calls
        if isinstance(calls, JaxCalls):
            return None

        def gradients(
            weights: ModelWeights, local: Struct, batch: Any, key: Any, scale_loss: ScaleLoss
        ) -> tuple[Forward, Struct]:
            called, found = calls.gradients(*self._in_keras_order(weights), self._parts(batch, True), key, scale_loss)
            by_name = Struct((name, found[i]) for name, i in self._trainable)
            return self._seen(called, batch, local, metrics, True), by_name

        return gradients

    def _in_keras_order(self, weights: ModelWeights) -> tuple[list[Any], list[Any]]:
        parts = (self._trainable, weights.trainable), (self._rest, weights.non_trainable)
        trainable, rest = (_in_keras_order(order, values) for order, values in parts)
        return trainable, rest

    def _parts(self, batch: Any, training: bool) -> KerasBatch:
        """What the model is given of a batch; weights by classes are for training alone, as in `fit`."""
        parts = parts_of(batch)
        if self._classes is None or not training:
            return parts
        return parts._replace(sample_weight=self._classes.of(parts.y))

    def _output(self, called: Called, batch: Any, training: bool) -> BatchOutput:
        x, _, weights = self._parts(batch, training)
        total = None if weights is None else sum(jnp.sum(leaf).astype("float32") for leaf in jax.tree.leaves(weights))
        return BatchOutput(called.loss, called.predictions, jax.tree.leaves(x)[0].shape[0], weight=total)

    def _seen(self, called: Called, batch: Any, local: Struct, metrics: ModelMetrics, training: bool) -> Forward:
        output = self._output(called, batch, training)
        non_trainable = Struct((name, called.rest[i]) for name, i in self._rest)
        return Forward(output, non_trainable, metrics.update(local, Seen.of(batch, output, called.added)))

    def type_of(self, of: Callable[[Seen], Any], kind: Type) -> Type:
        """The type of a function of what metrics see of a training batch."""
        weights = ModelWeights.create(*keras_weights.initial_weights(self.model))

        @narrow_computation(type_of(weights), kind, TensorType("uint32", (2,)))
        def traced(weights: Any, batch: Any, key: Any) -> Any:
            given, draws = self._in_keras_order(weights), jax.random.wrap_key_data(key)
            called = self.calls.forward(*given, self._parts(batch, True), True, draws)
            return of(Seen.of(batch, self._output(called, batch, True), called.added))

        return cast(Type, traced.type_signature.result)

    def project(self, trainable: Struct) -> Struct:
        """The weights with Keras's constraints applied, which Keras's own optimizers do themselves."""
        constrained = self.calls.constrained(self.trained, list(trainable))
        return Struct(zip(trainable._fields, constrained, strict=True))

    def compiled_metrics(self, kind: StructType) -> Accumulator:
        """Puts together what comes of batches in the variables of metrics; Keras makes its metrics of that."""
        variables = self.metric_variables
        names = _metric_names(variables)

        def contribute(seen: Seen) -> Any:
            return Struct(zip(names, seen.own, strict=True))

        def finish(total: Any) -> Any:
            values = [jnp.asarray(value, v.dtype) for v, value in zip(variables, total, strict=True)]
            results = self.calls.metrics(values)
            return {name: value for name, value in results.items() if name != "loss"}

        kinds = StructType([(name, _summed_type(v)) for name, v in zip(names, variables, strict=True)])
        folds = folds_of(
            metrics_in(self.model), variables, lambda: self._measured_type(kind), self._measure, instead_of_compiled
        )
        return merged("the compiled metrics", kinds, folds, contribute, finish)

    def _measured_type(self, kind: StructType) -> StructType:
        """The type of what metrics are updated with: inputs, labels, predictions, and weights where there are any."""
        predictions = self.type_of(lambda seen: Struct.of(predictions=seen.output.predictions), kind)
        x, y, weights = parts_of(kind)
        weights = TensorType("float32", (None,)) if self._classes is not None else weights
        weighted = [] if weights is None else [("sample_weight", weights)]
        return StructType([("x", x), ("labels", y), *cast(StructType, predictions).fields, *weighted])

    def _measure(self, measured: Any) -> None:
        """Updates Keras's metrics themselves."""
        self.model.compute_metrics(*map(to_keras, measured))


def _summed_type(variable: Any) -> TensorType:
    dtype = "float32" if jnp.issubdtype(variable.dtype, jnp.floating) else "int32"
    return TensorType(dtype, tuple(variable.shape))


def _in_keras_order(order: list[tuple[str, int]], values: Struct) -> list[Any]:
    found: list[Any] = [None] * len(order)
    for name, i in order:
        found[i] = values[name]
    return found
