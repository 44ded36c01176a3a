"""Optimizers are named for people as who made them would."""

from __future__ import annotations

from typing import Any

import keras
import optax
import pytest

from hansa.models.optimizers import to_optimizer


@pytest.mark.parametrize(
    ("optimizer", "name"),
    [
        (optax.sgd(0.1), "SGD, learning rate 0.1"),
        (optax.sgd(0.1, momentum=0.9), "SGD with momentum 0.9, learning rate 0.1"),
        (optax.adamw(1e-3), "Adam + weight decay, learning rate 0.001"),
        (optax.chain(optax.clip(1.0), optax.adam(optax.linear_schedule(0.1, 0.01, 5))),
         "clip + Adam, learning rate by a schedule"),
        (optax.GradientTransformation(lambda weights: (), lambda g, state, weights=None: (-0.1 * g, state)),
         "an Optax optimizer"),
        (keras.optimizers.Adam(keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.5)),
         "Adam, learning rate by a schedule"),
        (keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.25)),
         "SGD, learning rate 0.25, in a LossScaleOptimizer"),
    ],
)  # fmt: skip
def test_names_and_rates(optimizer: Any, name: str) -> None:
    assert to_optimizer(optimizer, "optimizer").name == name
