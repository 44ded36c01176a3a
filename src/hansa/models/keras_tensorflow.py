"""What Keras models and optimizers compute on Keras's TensorFlow backend: lowered by TensorFlow, and run by JAX."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from hansa.language.local import tensors, unflatten
from hansa.language.tensorflow import TensorFlowFunction
from hansa.models import keras_weights
from hansa.models.keras_jax import Called
from hansa.models.keras_metrics import to_keras
from hansa.models.variables import Group, VariableFunction, with_gradients
from hansa.types import Struct, TensorType, Type


class TensorFlowCalls:
    """What a Keras model computes of a batch; the same as `JaxCalls`, and gradients, which JAX cannot take of it.

    Args:
        model: the Keras model, built.
        kind: the type of a batch.
        x_y: from a batch to its inputs and labels.
    """

    def __init__(self, model: Any, kind: Type, x_y: Callable[[Any], tuple[Any, Any]]) -> None:
        self._name = f"the Keras model {model.name!r}"
        trained = list(model.trainable_variables)
        rest = [v for v in model.non_trainable_variables if not keras_weights.is_seed(v)]
        self._counted = list(model.metrics_variables)
        groups = [_group(variables) for variables in (trained, rest, self._counted)]

        def called(flat: Sequence[Any], training: bool) -> dict[str, Any]:
            x, y = (to_keras(part) for part in x_y(unflatten(kind, list(flat))))
            predictions = model(x, training=training)
            loss = model.compute_loss(x=x, y=y, y_pred=predictions, training=training)
            model.compute_metrics(x, y, predictions)
            return {"loss": loss, "predictions": predictions}

        def differentiated(*flat: Any) -> dict[str, Any]:
            return with_gradients(lambda: called(flat, True), [variable.value for variable in trained])

        leaves = tensors(kind)
        self._forward = {
            training: VariableFunction(
                lambda *flat, training=training: called(flat, training), leaves, self._name, groups, keeps_slots=True
            )
            for training in (True, False)
        }
        self._gradients = VariableFunction(differentiated, leaves, self._name, groups, keeps_slots=True)
        self._results = VariableFunction(
            model.get_metrics_result,
            [],
            f"the metrics of {self._name}",
            groups[2:],
            keeps_slots=True,
        )

    def forward(self, trainable: list[Any], rest: list[Any], batch: Any, training: bool, key: Any) -> Called:
        """The model, its loss and its metrics on a batch; `rest` is without the states of random generators."""
        return self._called(self._forward[training], trainable, rest, batch, key)[0]

    def gradients(self, trainable: list[Any], rest: list[Any], batch: Any, key: Any) -> tuple[Called, list[Any]]:
        """`forward` in training, and the gradient of the loss by each trainable weight."""
        called, results = self._called(self._gradients, trainable, rest, batch, key)
        return called, results["gradients"]

    def _called(
        self, function: VariableFunction, trainable: list[Any], rest: list[Any], batch: Any, key: Any
    ) -> tuple[Called, Any]:
        nothing = [jnp.zeros(v.shape, v.dtype) for v in self._counted]
        given = [_struct(values) for values in (trainable, rest, nothing)]
        results, (_, after, added, _) = function(jax.tree.leaves(batch), given, function.slots.initial(), key)
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


def optimizer_step(optimizer: Any, variables: list[Any]) -> Callable[[list[Any], list[Any], list[Any]], Any]:
    """(state, gradients, weights) -> (weights, state) after a step of a Keras optimizer that is built for variables."""

    def step(*gradients: Any) -> dict[str, Any]:
        optimizer.apply(list(gradients), variables)
        return {}

    groups, name = [_group(variables), _group(optimizer.variables)], f"the Keras optimizer {optimizer.name!r}"
    function = VariableFunction(step, [_kind(v) for v in variables], name, groups, keeps_slots=True)

    def apply(state: list[Any], gradients: list[Any], weights: list[Any]) -> tuple[list[Any], list[Any]]:
        given = [_struct(weights), _struct(state)]
        _, (after, slots, _) = function(gradients, given, function.slots.initial(), jax.random.key(0))
        return list(after), list(slots)

    return apply


def _kind(variable: Any) -> TensorType:
    return TensorType(str(variable.dtype), tuple(variable.shape))


def _group(variables: Sequence[Any]) -> Group:
    return Group({f"_{i}": variable.value for i, variable in enumerate(variables)})


def _struct(values: Sequence[Any]) -> Struct:
    return Struct((f"_{i}", value) for i, value in enumerate(values))
