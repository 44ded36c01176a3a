"""What a Keras model computes on Keras's JAX backend: its own stateless functions."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import keras

from hansa.models.attributes import Attributes
from hansa.models.keras import weights as keras_weights
from hansa.models.keras.batches import KerasBatch
from hansa.models.keras.metrics import to_keras


class Called(NamedTuple):
    """What a Keras model computes of a batch; lists are in Keras's order.

    Attributes:
        loss: with losses of regularisation, as Keras minimises it.
        predictions: what the model returns.
        rest: the non-trainable weights after it.
        added: what the batch adds to the variables of the compiled metrics.
    """

    loss: Any
    predictions: Any
    rest: list[Any]
    added: list[Any]


class JaxCalls:
    """What a Keras model computes of a batch.

    Args:
        model: the Keras model, built.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._counted = list(model.metrics_variables)
        self._seeds = [keras_weights.is_seed(v) for v in model.non_trainable_variables]
        self._unscaled = Attributes.taken([] if model.optimizer is None else [model.optimizer])
        for _, attributes in self._unscaled.of:
            attributes["scale_loss"] = lambda loss: loss

    def forward(self, trainable: list[Any], rest: list[Any], batch: KerasBatch, training: bool, key: Any) -> Called:
        """The model, its loss and its metrics on a batch; `rest` is without the states of random generators."""
        x, y, weight = map(to_keras, batch)
        nothing = [jnp.zeros(v.shape, v.dtype) for v in self._counted]
        with self._unscaled.in_use():  # the optimizer is not built, and scales the loss elsewhere
            _, (loss, predictions, after, added) = self._model.compute_loss_and_updates(
                trainable, self._with_seeds(rest, key), nothing, x, y, weight, training=training, optimizer_variables=[]
            )
        kept = [value for value, seed in zip(after, self._seeds, strict=True) if not seed]
        return Called(loss, predictions, kept, self._update_metrics(added, x, y, predictions, weight))

    def metrics(self, counted: list[Any]) -> dict[str, Any]:
        """What the compiled metrics make of the values of their variables."""
        with keras.StatelessScope(state_mapping=list(zip(self._counted, counted, strict=True))):
            found: dict[str, Any] = self._model.get_metrics_result()
        return found

    def constrained(self, variables: list[Any], values: list[Any]) -> list[Any]:
        """The values with the variables' constraints applied."""
        return [v.constraint(value) if v.constraint else value for v, value in zip(variables, values, strict=True)]

    def _with_seeds(self, rest: list[Any], key: Any) -> list[Any]:
        values, drawn = iter(rest), jax.random.split(key, max(sum(self._seeds), 1))
        seeds = iter(jax.random.key_data(drawn))
        return [next(seeds) if seed else next(values) for seed in self._seeds]

    def _update_metrics(self, values: list[Any], *given: Any) -> list[Any]:
        mapping = list(zip(self._counted, values, strict=True))
        with keras.StatelessScope(state_mapping=mapping) as scope:
            self._model.compute_metrics(*given)
        found = ((scope.get_current_value(variable), before) for variable, before in mapping)
        return [before if after is None else jnp.asarray(after, before.dtype) for after, before in found]
