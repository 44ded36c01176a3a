"""Factors of the clients' steps by the number of the round: `client_schedule`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from hansa.language.computation import Computation
from hansa.language.tracing import jax_computation
from hansa.learning.screening import is_float
from hansa.models.learning_rates import check_schedule
from hansa.models.weights import ModelWeights
from hansa.types import TensorType

_COUNT = TensorType("int64")


def schedule_of(function: Callable[[Any], Any]) -> Computation:
    """`(int64 -> float32)`: from the rounds so far to the factor of the clients' steps.

    Raises:
        TypeError, ValueError: if the function is none of a number.
    """
    if not callable(function):
        raise TypeError(
            "client_schedule must be a function from the number of a round to a factor of the clients' steps, such as "
            f"optax.exponential_decay(1.0, 10, 0.5); found {function!r}"
        )
    check_schedule(function, "client_schedule", "round", "factor")

    @jax_computation(_COUNT)
    def client_schedule(rounds: Any) -> Any:
        with jax.enable_x64(False):
            factor = jnp.asarray(function(rounds.astype(jnp.int32)), jnp.float32)
        if factor.shape:
            raise TypeError(f"client_schedule must return a number, and returns an array of shape {list(factor.shape)}")
        return factor

    return client_schedule


def part_of_step(factor: Any, before: ModelWeights, after: ModelWeights) -> ModelWeights:
    """The weights after a part of a step."""
    trainable = jax.tree.map(partial(_part, factor), before.trainable, after.trainable)
    return ModelWeights.create(trainable, after.non_trainable)


def _part(factor: Any, before: Any, after: Any) -> Any:
    return (before + factor * (after - before)).astype(before.dtype) if is_float(before) else after
