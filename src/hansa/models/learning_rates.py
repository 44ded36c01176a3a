"""Learning rates that are negative or no numbers, found where an optimizer or a schedule is given.

A negative learning rate trains a model to be worse, and nothing but the loss tells it; with NaN or infinity, no round
changes the model. It is read off a Keras
optimizer. Optax's transformations do not say theirs, so a few of their steps are tried on one weight.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hansa.models.attributes import reachable

STEPS = (0, 1, 10, 100, 1000)
"""The steps, or rounds, for which schedules are asked."""

_REMEDY = "its steps would go up the gradient, so that the loss grows; give a positive one"

_NOT_FINITE = "its steps would not be finite; give a positive number"


def check_optax(transformation: Any, what: str) -> None:
    """Refuses an Optax transformation whose first steps go up the gradient, and none down, or are not finite.

    One that does not work on a single weight, or needs more than gradients, is not looked at.

    Raises:
        ValueError: if they do.
    """

    weight, gradient = np.float32(0), np.float32(_GRADIENT)
    updates = []
    try:
        with jax.ensure_compile_time_eval():
            step = jax.jit(transformation.update)
            state = jax.jit(transformation.init)(weight)
            for _ in range(_TRIED):
                update, state = step(gradient, state, weight)
                updates.append(float(update))
    except Exception:
        return
    if not np.isfinite(updates).any():
        raise ValueError(f"{what} has a learning rate that is infinite or NaN: {_NOT_FINITE}, such as optax.sgd(0.1)")
    if max(updates) > 0 and not min(updates) < 0:
        raise ValueError(
            f"{what} has a negative learning rate: {_REMEDY}, such as optax.sgd(0.1). (Optax's own parts, such as "
            "optax.scale, are given minus the learning rate.)"
        )


_GRADIENT = 100.0
"""Of the weight that is tried: so large that noise does not turn a step round."""

_TRIED = 8
"""Steps: some optimizers wait for a few gradients, or go up for a step to look around."""


def check_keras(optimizer: Any, what: str) -> None:
    """Refuses a Keras optimizer whose learning rate, or whose schedule's for some first steps, is negative or NaN, or
    infinite, or that of an optimizer in it.

    Raises:
        ValueError: if it is.
    """
    for part in reachable(optimizer, lambda value: hasattr(value, "stateless_apply")):
        _check_rate(part, what)


def _check_rate(optimizer: Any, what: str) -> None:
    from keras.optimizers.schedules import LearningRateSchedule

    given = getattr(optimizer, "_learning_rate", None)
    if isinstance(given, LearningRateSchedule):
        check_schedule(given, f"the schedule of {what}", "step", "learning rate")
        return
    try:
        rate = float(optimizer.learning_rate)
    except Exception:
        return
    if not 0 <= rate < np.inf:
        raise ValueError(f"{what} has the learning rate {rate:g}: {_REMEDY if rate < 0 else _NOT_FINITE}")


def check_schedule(schedule: Callable[[Any], Any], what: str, of: str, gives: str) -> None:
    """Refuses a schedule that is negative for some first steps or rounds, or NaN for the first of all.

    One that fails is not looked at, and NaN later on may be that of a table which ends there.

    Args:
        schedule: from a number, from 0, to a factor or learning rate.
        what: how messages call it.
        of: what is numbered, a step or a round.
        gives: what the schedule gives.

    Raises:
        ValueError: if it is.
    """
    for number in STEPS:
        try:
            value = float(schedule(jnp.int32(number)))
        except Exception:
            return
        if value < 0 or (np.isnan(value) and not number):
            raise ValueError(
                f"{what} gives the {gives} {value:g} for the {of} {number}: {_REMEDY if value < 0 else _NOT_FINITE}"
            )
