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
    Plan,
    Seen,
    build,
    combine,
    loss_and_count,
    type_of,
)
from hansa.models.keras import weights as keras_weights
from hansa.models.keras.copies import copy_with
from hansa.models.keras.folds import folds_of, metrics_in
from hansa.models.keras.jax import Called, JaxCalls
from hansa.models.keras.metrics import kept_by_clients, keras_metric_plan, to_keras
from hansa.models.keras.mixtures import explaining, refuse_kept, refuse_tensorflow
from hansa.models.keras.optimizers import from_keras, untouched
from hansa.models.keras.tensorflow import TensorFlowCalls
from hansa.models.learning_rates import check_keras
from hansa.models.merging import merged
from hansa.models.metrics import Metric, is_keras_metric, metric_plan
from hansa.models.model import Forward, FunctionalModel, ScaleLoss
from hansa.models.optimizer import TrainedVariables
from hansa.models.outputs import BatchOutput
from hansa.models.weights import ModelWeights
from hansa.types import Struct, StructType, TensorType, Type, to_type
from hansa.types._typing import Arrays
from hansa.types.mismatch import describe_uncalled
from hansa.types.samples import of_any_size, sample_type


def from_compiled_keras_model(
    keras_model: keras.Model, sample_batch: Arrays, metrics: Metrics | None = None
) -> FunctionalModel:
    """Makes a model for `hansa.learning` from a compiled Keras model, with its loss, metrics and optimizer.

    Args:
        keras_model: a Sequential, functional or subclassed model on which `compile` was called.
        sample_batch: a batch as the clients have them, a mapping with `x` and `y` or a pair of them; only its types
            count. Several inputs are a struct in `x`, in the order or by the names that the model expects.
        metrics: a list of `Metric`s and Keras metric objects, beside those that were compiled.

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
    kind, own = sample_type(sample_batch), _own_metrics(metrics)
    return _model(keras_model, kind, own, has_optimizer=keras_model.optimizer is not None)


def from_keras_model(
    keras_model: keras.Model,
    sample_batch: Arrays | None = None,
    loss: Loss | None = None,
    metrics: Metrics | None = None,
    optimizer: AnyOptimizer | None = None,
    *,
    input_spec: object = None,
    loss_weights: Sequence[float] | Mapping[str, float] | None = None,
) -> FunctionalModel:
    """Makes a model for `hansa.learning` from a Keras model that is not compiled, and what `compile` would take.

    Args:
        keras_model: a Sequential, functional or subclassed model; it is compiled by this function.
        sample_batch: a batch as the clients have them; see `from_compiled_keras_model`.
        loss: a loss by name, object or function, or a structure of those for several outputs.
        metrics: a list of metrics: names, functions and objects as in `compile`, and `Metric`s, which come after them.
        optimizer: the clients' optimizer, by name or object; without one the algorithm must be given one.
        input_spec: the type of a batch instead of a sample: a mapping of specs or a type in Hansa's notation.
        loss_weights: as in `compile`.

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
    compiled, own = _split(metrics)
    keras_model.compile(optimizer=optimizer or "sgd", loss=loss, metrics=compiled, loss_weights=loss_weights)
    return _model(keras_model, kind, own, has_optimizer=optimizer is not None)


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


def _batch_type(kind: Type, name: str) -> StructType:
    """The type of a batch of any number of examples, from that of one."""
    if (
        not isinstance(kind, StructType)
        or len(kind) != 2
        or not (kind.names == (None, None) or set(kind.names) == {"x", "y"})
    ):
        raise TypeError(
            f"a batch for the Keras model {name!r} is a mapping with the keys x and y, OrderedDict(x=…, y=…), or a "
            "pair (x, y); found the "
            f"type {kind}"
        )

    opened = of_any_size(kind, f"the model {name!r}")
    assert isinstance(opened, StructType)
    return opened


def _model(keras_model: Any, sample: Type, metrics: list[Metric], has_optimizer: bool) -> FunctionalModel:
    kind = _batch_type(sample, keras_model.name)
    if has_optimizer:
        check_keras(keras_model.optimizer, f"the optimizer of the Keras model {keras_model.name!r}")
    refuse_tensorflow(keras_model)
    with explaining(f"the Keras model {keras_model.name!r}"):
        _build(keras_model, kind)
    refuse_kept(keras_model)
    functions = _KerasFunctions(keras_model, kind)
    own = build([(metric._name(), _plan(metric)) for metric in metrics], lambda of: functions.type_of(of, kind))
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
        wide=keras.backend.backend() != "jax",
        variables=functions.variables,
        scales_loss=keras_model.dtype_policy.name == "mixed_float16",
        with_weights=lambda weights: copy_with(keras_model, weights, lambda copied: _build(copied, kind)),
    )


def _plan(metric: Metric) -> Plan:
    make = keras_metric_plan if is_keras_metric(metric.function) else metric_plan
    return make(metric._name(), metric)


def _instead_of_compiled(metric: Any) -> str:
    if keras.backend.backend() == "jax":
        return f"Leave it out of compile. {kept_by_clients(metric)}; give that to from_compiled_keras_model"
    return (
        "Leave it out of compile, and write it as a function in JAX of all examples, such as hansa.learning.Metric("
        "lambda labels, predictions, weight: jnp.abs(labels - predictions), 'max', name='max_error'), in the list "
        "metrics= of from_compiled_keras_model"
    )


def _split(metrics: Any) -> tuple[Any, list[Metric]]:
    """What Keras compiles of a list of metrics, and those that are Hansa's."""
    if isinstance(metrics, Metric):
        return None, [metrics]
    if isinstance(metrics, list | tuple):
        own = [metric for metric in metrics if isinstance(metric, Metric)]
        rest = [metric for metric in metrics if not isinstance(metric, Metric)]
    else:
        own, rest = [], metrics
    if any(isinstance(leaf, Metric) for leaf in jax.tree.leaves(rest, is_leaf=lambda x: isinstance(x, Metric))):
        raise TypeError(
            "a hansa.learning.Metric is given in the list of metrics itself, and not for one output: its function gets "
            "the labels and predictions of all outputs"
        )
    return rest, own


def _own_metrics(metrics: Any) -> list[Metric]:
    """The metrics that are added to a compiled model's."""
    found = []
    for metric in [] if metrics is None else metrics:
        if not isinstance(metric, Metric) and not is_keras_metric(metric):
            raise TypeError(
                "the metrics that from_compiled_keras_model adds to the compiled ones are hansa.learning.Metrics or "
                f"Keras metric objects, found {metric!r}; give names and functions to compile"
            )
        found.append(metric if isinstance(metric, Metric) else Metric(metric))
    return found


def _metric_names(variables: list[Any]) -> list[str]:
    paths = [variable.path for variable in variables]
    return [path if paths.count(path) == 1 else f"{path}#{i}" for i, path in enumerate(paths)]


def _build(model: Any, kind: StructType) -> None:
    """Makes the variables of the model, its loss and its metrics, but not those of its optimizer."""
    x, y = (_example(member) for member in _x_y(Struct(kind.fields)))
    try:
        with untouched(model.optimizer):
            if model.optimizer is not None:
                model.optimizer.built = True
            model._symbolic_build(data_batch=(x, y))
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


def _x_y(batch: Any) -> tuple[Any, Any]:
    return (batch.x, batch.y) if "x" in batch._fields else (batch[0], batch[1])


class _KerasFunctions:
    """The pure functions of a Keras model. It holds the model, of which it changes nothing."""

    def __init__(self, model: Any, kind: Type) -> None:
        self.model = model
        self.calls: JaxCalls | TensorFlowCalls = (
            JaxCalls(model, _x_y) if keras.backend.backend() == "jax" else TensorFlowCalls(model, kind, _x_y)
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
                called = self.calls.forward(*self._in_keras_order(weights), batch, training, key)
            return self._seen(called, batch, local, metrics)

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
            called, found = calls.gradients(*self._in_keras_order(weights), batch, key, scale_loss)
            by_name = Struct((name, found[i]) for name, i in self._trainable)
            return self._seen(called, batch, local, metrics), by_name

        return gradients

    def _in_keras_order(self, weights: ModelWeights) -> tuple[list[Any], list[Any]]:
        parts = (self._trainable, weights.trainable), (self._rest, weights.non_trainable)
        trainable, rest = (_in_keras_order(order, values) for order, values in parts)
        return trainable, rest

    def _output(self, called: Called, batch: Any) -> BatchOutput:
        return BatchOutput(called.loss, called.predictions, jax.tree.leaves(_x_y(batch)[0])[0].shape[0])

    def _seen(self, called: Called, batch: Any, local: Struct, metrics: ModelMetrics) -> Forward:
        output = self._output(called, batch)
        non_trainable = Struct((name, called.rest[i]) for name, i in self._rest)
        return Forward(output, non_trainable, metrics.update(local, Seen.of(batch, output, called.added)))

    def type_of(self, of: Callable[[Seen], Any], kind: Type) -> Type:
        """The type of a function of what metrics see of a training batch."""
        weights = ModelWeights.create(*keras_weights.initial_weights(self.model))

        @narrow_computation(type_of(weights), kind, TensorType("uint32", (2,)))
        def traced(weights: Any, batch: Any, key: Any) -> Any:
            called = self.calls.forward(*self._in_keras_order(weights), batch, True, jax.random.wrap_key_data(key))
            return of(Seen.of(batch, self._output(called, batch), called.added))

        return cast(Type, traced.type_signature.result)

    def project(self, trainable: Struct) -> Struct:
        """The weights with Keras's constraints applied, which Keras's own optimizers do themselves."""
        constrained = self.calls.constrained(self.trained, list(trainable))
        return Struct(zip(trainable._fields, constrained, strict=True))

    def compiled_metrics(self, kind: Type) -> Accumulator:
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
            metrics_in(self.model), variables, lambda: self._measured_type(kind), self._measure, _instead_of_compiled
        )
        return merged("the compiled metrics", kinds, folds, contribute, finish)

    def _measured_type(self, kind: Type) -> StructType:
        """The type of what metrics are updated with: inputs, labels, predictions."""
        predictions = self.type_of(lambda seen: Struct.of(predictions=seen.output.predictions), kind)
        x, y = _x_y(Struct(cast(StructType, kind).fields))
        return StructType([("x", x), ("labels", y), *cast(StructType, predictions).fields])

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
