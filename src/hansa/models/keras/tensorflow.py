"""What Keras models and optimizers compute on Keras's TensorFlow backend: lowered by TensorFlow, and run by JAX."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from hansa.language.local import tensors, unflatten
from hansa.language.tensorflow import TensorFlowFunction
from hansa.models.attributes import Attributes
from hansa.models.keras import weights as keras_weights
from hansa.models.keras.batches import KerasBatch, parts_of
from hansa.models.keras.jax import Called
from hansa.models.keras.metrics import to_keras
from hansa.models.tensorflow.variables import FACTOR, Group, VariableFunction, factor_of, with_gradients
from hansa.types import Struct, StructType, TensorType


class TensorFlowCalls:
    """What a Keras model computes of a batch; the same as `JaxCalls`, and gradients, which JAX cannot take of it.

    Args:
        model: the Keras model, built.
        kind: the type of a batch.
        weighs_classes: whether batches are given weights of their examples in training, beside what is in them.
    """

    def __init__(self, model: Any, kind: StructType, weighs_classes: bool) -> None:
        self._name = f"the Keras model {model.name!r}"
        trained = list(model.trainable_variables)
        rest = [v for v in model.non_trainable_variables if not keras_weights.is_seed(v)]
        self._counted = list(model.metrics_variables)
        groups = [_group(variables) for variables in (trained, rest, self._counted)]

        kinds = {training: _given(kind, weighs_classes and training) for training in (True, False)}

        def called(flat: Sequence[Any], training: bool) -> dict[str, Any]:
            x, y, weight = map(to_keras, KerasBatch(*unflatten(kinds[training], list(flat))))
            predictions = model(x, training=training)
            loss = model.compute_loss(x=x, y=y, y_pred=predictions, sample_weight=weight, training=training)
            model.compute_metrics(x, y, predictions, weight)
            return {"loss": loss, "predictions": predictions}

        def differentiated(*given: Any) -> dict[str, Any]:
            *flat, factor = given
            return with_gradients(lambda: called(flat, True), [variable.value for variable in trained], factor)

        leaves = {training: tensors(given) for training, given in kinds.items()}
        self._forward = {
            training: VariableFunction(
                lambda *flat, training=training: called(flat, training),
                leaves[training],
                self._name,
                groups,
                keeps_slots=True,
            )
            for training in (True, False)
        }
        self._gradients = VariableFunction(
            differentiated, [*leaves[True], FACTOR], self._name, groups, keeps_slots=True
        )
        self._results = VariableFunction(
            model.get_metrics_result,
            [],
            f"the metrics of {self._name}",
            groups[2:],
            keeps_slots=True,
        )

    def forward(self, trainable: list[Any], rest: list[Any], batch: KerasBatch, training: bool, key: Any) -> Called:
        """The model, its loss and its metrics on a batch; `rest` is without the states of random generators."""
        return self._called(self._forward[training], trainable, rest, jax.tree.leaves(batch), key)[0]

    def gradients(
        self,
        trainable: list[Any],
        rest: list[Any],
        batch: KerasBatch,
        key: Any,
        scale_loss: Callable[[Any], Any] | None,
    ) -> tuple[Called, list[Any]]:
        """`forward` in training, and the gradient of the loss by each trainable weight, of the loss as it is scaled."""
        leaves = [*jax.tree.leaves(batch), factor_of(scale_loss)]
        called, results = self._called(self._gradients, trainable, rest, leaves, key)
        return called, results["gradients"]

    def _called(
        self, function: VariableFunction, trainable: list[Any], rest: list[Any], leaves: list[Any], key: Any
    ) -> tuple[Called, Any]:
        nothing = [jnp.zeros(v.shape, v.dtype) for v in self._counted]
        given = [_struct(values) for values in (trainable, rest, nothing)]
        results, (_, after, added, _) = function(leaves, given, function.slots.initial(), key)
        return Called(results["loss"], results["predictions"], list(after), list(added)), results

    def metrics(self, counted: list[Any]) -> dict[str, Any]:
        """What the compiled metrics make of the values of their variables."""
        results, _ = self._results([], [_struct(counted)], self._results.slots.initial(), jax.random.key(0))
        found: dict[str, Any] = results
        return found

    def constrained(self, variables: list[Any], values: list[Any]) -> list[Any]:
        """The values with the variables' constraints applied."""
        if not any(variable.constraint for variable in variables):
            return values
        function = TensorFlowFunction(
            lambda *given: [
                v.constraint(value) if v.constraint else value for v, value in zip(variables, given, strict=True)
            ],
            [_kind(variable) for variable in variables],
            f"the constraints of {self._name}",
        )
        found: list[Any] = function(values, {}, jax.random.key(0))[0]
        return found


class LoweredOptimizer:
    """What a Keras optimizer does that is built for variables.

    Args:
        optimizer: the optimizer.
        trained: the variables that it trains.
        state: its own.
        attributes: those that it has while it runs.
    """

    def __init__(self, optimizer: Any, trained: Sequence[Any], state: Sequence[Any], attributes: Attributes) -> None:
        self._attributes, self._name = attributes, f"the Keras optimizer {optimizer.name!r}"
        self._groups = [_group(trained), _group(state)]
        variables = list(trained)

        def step(*gradients: Any) -> None:
            optimizer.apply_gradients(zip(gradients, variables, strict=True))

        self._step = self._lowered(step, [_kind(variable) for variable in trained])
        self._scale = self._lowered(optimizer.scale_loss, [FACTOR])
        self._end = self._lowered(lambda: optimizer.finalize_variable_values(variables), [])

    def apply(self, state: list[Any], gradients: list[Any], weights: list[Any]) -> tuple[list[Any], list[Any]]:
        """The weights and the state after a step."""
        _, after, slots = self._run(self._step, gradients, weights, state)
        return after, slots

    def scale_loss(self, state: list[Any], weights: list[Any], loss: Any) -> Any:
        """The loss by which gradients are taken."""
        return self._run(self._scale, [loss], weights, state)[0]["result"]

    def finish(self, state: list[Any], weights: list[Any]) -> list[Any]:
        """The weights after the last step."""
        _, after, _ = self._run(self._end, [], weights, state)
        return after

    def _lowered(self, function: Callable[..., Any], kinds: list[TensorType]) -> VariableFunction:
        def traced(*tensors: Any) -> dict[str, Any]:
            with self._attributes.in_a_step():
                found = function(*tensors)
            return {} if found is None else {"result": found}

        return VariableFunction(traced, kinds, self._name, self._groups, keeps_slots=True)

    def _run(
        self, function: VariableFunction, leaves: list[Any], weights: list[Any], state: list[Any]
    ) -> tuple[Any, list[Any], list[Any]]:
        given = [_struct(weights), _struct(state)]
        results, (after, slots, _) = function(leaves, given, function.slots.initial(), jax.random.key(0))
        return results, list(after), list(slots)


def _given(kind: StructType, weighs_classes: bool) -> StructType:
    """The type of the inputs, labels and weights that the model is called with."""
    x, y, weight = parts_of(kind)
    weight = TensorType("float32", (None,)) if weighs_classes else weight
    return StructType([("x", x), ("y", y), *([] if weight is None else [("sample_weight", weight)])])


def _kind(variable: Any) -> TensorType:
    return TensorType(str(variable.dtype), tuple(variable.shape))


def _group(variables: Sequence[Any]) -> Group:
    return Group({f"_{i}": variable.value for i, variable in enumerate(variables)})


def _struct(values: Sequence[Any]) -> Struct:
    return Struct((f"_{i}", value) for i, value in enumerate(values))
