"""Keras models as `FunctionalModel`s: Keras's own stateless functions, called with the weights of a round.

What Keras would do in `fit` is done here: regularisation losses, loss weights, metrics, layers that behave differently
in training. Only the state of random generators is replaced by one drawn from the client's key for each batch.
"""

from __future__ import annotations

from typing import Any, cast

import jax
import jax.numpy as jnp
import keras
import numpy as np

from hansa.language import intrinsics
from hansa.language.computations import Computation
from hansa.language.tracing import federated_computation, narrow_computation
from hansa.models import keras_weights
from hansa.models.model import BatchOutput, Forward, FunctionalModel
from hansa.models.optimizers import from_keras
from hansa.models.weights import ModelWeights
from hansa.types import CLIENTS, FederatedType, Struct, StructType, TensorType, Type, infer_type, to_type
from hansa.types.batches import Batches, ClientBatches


def from_compiled_keras_model(keras_model: keras.Model, sample_batch: Any) -> FunctionalModel:
    """A compiled Keras model, with its loss, metrics and optimizer, as a model to learn.

    Args:
        keras_model: a Sequential, functional or subclassed model on which `compile` was called.
        sample_batch: a batch as the clients have them, a mapping with `x` and `y` or a pair of them; only its types
            count. Several inputs are a struct in `x`, in the order or by the names that the model expects.

    Raises:
        TypeError, ValueError: if the model is not compiled, cannot be called on the batch, or trains in its own way.
    """
    _check(keras_model, "from_compiled_keras_model")
    if not keras_model.compiled:
        raise ValueError(
            f"the Keras model {keras_model.name!r} is not compiled: call keras_model.compile(optimizer, loss, metrics) "
            "first, or pass loss, "
            "metrics and optimizer to hansa.learning.from_keras_model"
        )
    return _model(keras_model, _sample_type(sample_batch))


def from_keras_model(
    keras_model: keras.Model,
    sample_batch: Any = None,
    loss: Any = None,
    metrics: Any = None,
    optimizer: Any = None,
    *,
    input_spec: Any = None,
    loss_weights: Any = None,
) -> FunctionalModel:
    """A Keras model that is not compiled, with what `compile` would be given, as a model to learn.

    Args:
        keras_model: a Sequential, functional or subclassed model; it is compiled by this function.
        sample_batch: a batch as the clients have them; see `from_compiled_keras_model`.
        loss: a loss by name, object or function, or a structure of those for several outputs.
        metrics: a list of metrics by name or object.
        optimizer: the clients' optimizer, by name or object; without one the algorithm must be given one.
        input_spec: the type of a batch instead of a sample: a mapping of specs or a type in Hansa's notation.
        loss_weights: as in `compile`.

    Raises:
        TypeError, ValueError: if both or none of `sample_batch` and `input_spec` are given, the loss is missing, the
            model is compiled already, or it cannot be called on the batch.
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
    kind = _sample_type(sample_batch) if input_spec is None else to_type(input_spec)
    keras_model.compile(optimizer=optimizer or "sgd", loss=loss, metrics=metrics, loss_weights=loss_weights)
    return _model(keras_model, kind, has_optimizer=optimizer is not None)


def _check(keras_model: Any, what: str) -> None:
    if keras.backend.backend() != "jax":
        raise RuntimeError(
            f"Keras runs on its {keras.backend.backend()!r} backend, and Hansa compiles Keras models with JAX: import "
            "hansa before keras, or "
            "set the environment variable KERAS_BACKEND=jax before Python starts"
        )
    if not isinstance(keras_model, keras.Model):
        raise TypeError(f"{what} takes a Keras model, found {type(keras_model).__name__}")
    if type(keras_model).train_step is not keras.Model.train_step:
        raise TypeError(
            f"the Keras model {keras_model.name!r} has a train_step of its own, which would not be run: what is "
            "compiled is its forward pass, "
            "its loss and its optimizer"
        )
    for layer in keras_model._flatten_layers():
        if getattr(layer, "stateful", False):
            raise ValueError(
                f"the layer {layer.name!r} is stateful: it carries a state from batch to batch, which clients with "
                "batches of different sizes do not have; build it with stateful=False"
            )


def _sample_type(batch: Any) -> Type:
    """The type of a sample batch; of `Batches`, that of each."""
    if batch is None:
        raise TypeError("sample_batch is None; pass a batch as the clients have them, such as OrderedDict(x=…, y=…)")
    if isinstance(batch, Batches | ClientBatches):
        return batch.type_signature.element
    return infer_type(_arrays(batch))


def _arrays(batch: Any) -> Any:
    return jax.tree.map(np.asarray, batch, is_leaf=lambda leaf: not isinstance(leaf, dict | list | tuple | Struct))


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

    def open_(member: Type) -> Type:
        if isinstance(member, StructType):
            return StructType((field, open_(part)) for field, part in member.fields)
        if not isinstance(member, TensorType) or not member.shape:
            raise TypeError(
                f"a batch for the Keras model {name!r} holds arrays [examples, ...]; found {member} in {kind}"
            )
        return TensorType(member.dtype, (None, *member.shape[1:]))

    opened = open_(kind)
    assert isinstance(opened, StructType)
    return opened


def _model(keras_model: Any, sample: Type, has_optimizer: bool = True) -> FunctionalModel:
    kind = _batch_type(sample, keras_model.name)
    _build(keras_model, kind)
    functions = _KerasFunctions(keras_model)
    named = zip(_metric_names(functions.metric_variables), functions.metric_variables, strict=True)
    local = Struct((name, np.zeros_like(np.asarray(v.value))) for name, v in named)
    initial_local = Struct([("metrics", local), ("loss", np.float32(0)), ("num_examples", np.int32(0))])
    return FunctionalModel(
        name=keras_model.name,
        batch_type=kind,
        initial_weights=keras_weights.initial_weights(keras_model),
        initial_local=initial_local,
        forward=functions.forward,
        local_outputs=_exact,
        metrics=functions.metrics(initial_local),
        optimizer=from_keras(keras_model.optimizer, functions.trained) if has_optimizer else None,
        project=functions.project,
    )


def _metric_names(variables: list[Any]) -> list[str]:
    paths = [variable.path for variable in variables]
    return [path if paths.count(path) == 1 else f"{path}#{i}" for i, path in enumerate(paths)]


def _build(model: Any, kind: StructType) -> None:
    """Makes the variables of the model, its loss and its metrics."""
    x, y = (_example(member) for member in _x_y(Struct(kind.fields)))
    try:
        model._symbolic_build(data_batch=(x, y))
    except Exception as error:
        error.add_note(
            f"while calling the Keras model {model.name!r}, its loss and its metrics on a batch of the type {kind}"
        )
        raise


def _example(kind: Any) -> Any:
    if isinstance(kind, StructType):
        return _to_keras(Struct((name, _example(member)) for name, member in kind.fields))
    return np.zeros((2, *(1 if n is None else n for n in kind.shape[1:])), kind.dtype)


def _x_y(batch: Any) -> tuple[Any, Any]:
    return (batch.x, batch.y) if "x" in batch._fields else (batch[0], batch[1])


def _to_keras(value: Any) -> Any:
    """A struct as Keras takes it: a dict if its fields have names, else a list."""
    if not isinstance(value, Struct):
        return value
    if len(value) and all(name is not None for name in value._fields):
        return {name: _to_keras(part) for name, part in value._items()}
    return [_to_keras(part) for part in value]


class _KerasFunctions:
    """The pure functions of a Keras model. It holds the model, of which it changes nothing."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.metric_variables = list(model.metrics_variables)
        trainable, rest = keras_weights.weights(model)
        self._trainable = keras_weights.order(model, trainable)
        self.trained = [trainable[i] for _, i in self._trainable]
        self._rest = keras_weights.order(model, rest)
        self._seeds = [keras_weights.is_seed(v) for v in model.non_trainable_variables]

    def forward(self, weights: ModelWeights, local: Struct, batch: Any, training: bool, key: Any) -> Forward:
        x, y = (_to_keras(part) for part in _x_y(batch))
        trainable = _in_keras_order(self._trainable, weights.trainable)
        rest = self._with_seeds(_in_keras_order(self._rest, weights.non_trainable), key)
        optimizer = [v.value for v in self.model.optimizer.variables]
        _, (loss, predictions, after, metrics) = self.model.compute_loss_and_updates(
            trainable, rest, list(local.metrics), x, y, None, training=training, optimizer_variables=optimizer
        )
        metrics = self._update_metrics(metrics, x, y, predictions)
        count = jax.tree.leaves(x)[0].shape[0]
        summed = Struct([
            ("metrics", Struct(zip(local.metrics._fields, metrics, strict=True))),
            ("loss", local.loss + loss * jnp.float32(count)),
            ("num_examples", local.num_examples + jnp.int32(count)),
        ])  # fmt: skip
        kept = [value for value, seed in zip(after, self._seeds, strict=True) if not seed]
        non_trainable = Struct((name, kept[i]) for name, i in self._rest)
        return Forward(BatchOutput(loss, predictions, count), non_trainable, summed)

    def project(self, trainable: Struct) -> Struct:
        """The weights with Keras's constraints applied, which Keras's own optimizers do themselves."""
        weights = zip(self.trained, trainable._items(), strict=True)
        return Struct([(name, variable.constraint(w) if variable.constraint else w) for variable, (name, w) in weights])

    def _with_seeds(self, rest: list[Any], key: Any) -> list[Any]:
        values, drawn = iter(rest), jax.random.split(key, max(sum(self._seeds), 1))
        seeds = iter(jax.random.key_data(drawn))
        return [next(seeds) if seed else next(values) for seed in self._seeds]

    def _update_metrics(self, values: list[Any], x: Any, y: Any, predictions: Any) -> list[Any]:
        mapping = list(zip(self.metric_variables, values, strict=True))
        with keras.StatelessScope(state_mapping=mapping) as scope:
            self.model.compute_metrics(x, y, predictions)
        found = ((scope.get_current_value(variable), before) for variable, before in mapping)
        return [before if after is None else jnp.asarray(after, before.dtype) for after, before in found]

    def metrics(self, initial_local: Struct) -> Computation:
        """Adds the clients' sums, and has Keras make its metrics of them; the loss comes last."""
        kind = _local_outputs_type(initial_local)
        variables = self.metric_variables

        @narrow_computation(kind)
        def finalize(total: Any) -> Any:
            mapping = [
                (variable, jnp.asarray(value, variable.dtype))
                for variable, value in zip(variables, total.metrics, strict=True)
            ]
            with keras.StatelessScope(state_mapping=mapping):
                results = self.model.get_metrics_result()
            results.pop("loss", None)
            count = total.num_examples
            loss = jnp.where(count > 0, total.loss / jnp.maximum(count, 1), 0)
            return {**results, "loss": jnp.asarray(loss, jnp.float32)}

        @federated_computation(FederatedType(kind, CLIENTS))
        def aggregate_metrics(outputs: Any) -> Any:
            return intrinsics.federated_map(finalize, intrinsics.federated_sum(outputs))

        return cast(Computation, aggregate_metrics)


def _in_keras_order(order: list[tuple[str, int]], values: Struct) -> list[Any]:
    found: list[Any] = [None] * len(order)
    for name, i in order:
        found[i] = values[name]
    return found


def _exact(local: Struct) -> Struct:
    """A client's sums in dtypes in which the sums of many clients stay exact."""
    with jax.enable_x64(True):
        return Struct(
            (name, jax.tree.map(lambda leaf: leaf.astype(_wide(leaf.dtype)), part)) for name, part in local._items()
        )


def _wide(dtype: Any) -> Any:
    return np.float64 if jnp.issubdtype(dtype, jnp.floating) else np.int64


def _local_outputs_type(local: Struct) -> Type:
    return infer_type(jax.tree.map(lambda leaf: np.zeros(np.shape(leaf), _wide(leaf.dtype)), local))
