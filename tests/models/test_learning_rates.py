"""Negative and infinite learning rates are refused where an optimizer or a schedule is given; others are taken."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import keras
import numpy as np
import optax
import pytest

import hansa
from hansa.learning import BatchOutput, build_federated_averaging_process, functional_model
from hansa.models.optimizers import to_optimizer

SCHEDULES = keras.optimizers.schedules
NEGATIVE = [
    optax.sgd(-0.1),
    optax.sgd(-0.1, momentum=0.9, nesterov=True),
    optax.adam(-0.001),
    optax.adamw(-0.001, weight_decay=0.1),
    optax.inject_hyperparams(optax.adam)(learning_rate=-0.1),
    optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(-0.1)),
    optax.scale(0.1),
    optax.sgd(optax.warmup_constant_schedule(0.0, -0.1, 5)),
    keras.optimizers.SGD(-0.1),
    keras.optimizers.Adam(lambda: -0.1),
    keras.optimizers.SGD(SCHEDULES.ExponentialDecay(-0.1, 10, 0.5)),
    keras.optimizers.SGD(SCHEDULES.PiecewiseConstantDecay([5], [0.1, -0.1])),
    keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(-0.1)),
    lambda: optax.sgd(-0.1),
]
NOT_FINITE = [
    optax.sgd(np.nan),
    optax.adam(np.inf),
    optax.inject_hyperparams(optax.sgd)(learning_rate=np.nan),
    keras.optimizers.Adam(np.nan),
    keras.optimizers.SGD(np.inf),
    keras.optimizers.SGD(SCHEDULES.ExponentialDecay(np.nan, 10, 0.5)),
]
POSITIVE = [
    optax.sgd(0.1),
    optax.adam(1e-3),
    optax.adamw(1e-3),
    optax.adafactor(1e-3),
    optax.lamb(1e-3),
    optax.lion(1e-3),
    optax.rprop(1e-3),
    optax.yogi(1e-3),
    optax.sgd(0.0),
    optax.sgd(optax.warmup_constant_schedule(0.0, 0.1, 5)),
    optax.multi_transform({"a": optax.sgd(0.1), "b": optax.sgd(0.2)}, {"w": "a", "v": "b"}),
    optax.polyak_sgd(),
    optax.contrib.sam(optax.sgd(0.1), optax.sgd(0.1), sync_period=2),
    keras.optimizers.SGD(0.1),
    keras.optimizers.SGD(0.0),
    keras.optimizers.Adam(lambda: 0.1),
    keras.optimizers.SGD(SCHEDULES.CosineDecay(0.1, 10)),
    keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1)),
]


@pytest.mark.parametrize("optimizer", NEGATIVE)
def test_negative_learning_rates_are_refused(optimizer: Any) -> None:
    with pytest.raises(ValueError, match=r"client_optimizer.*learning rate.*its steps would go up the gradient"):
        to_optimizer(optimizer, "client_optimizer")


@pytest.mark.parametrize("optimizer", NOT_FINITE)
def test_learning_rates_that_are_not_finite_are_refused(optimizer: Any) -> None:
    with pytest.raises(ValueError, match=r"client_optimizer.*learning rate.*its steps would not be finite"):
        to_optimizer(optimizer, "client_optimizer")


@pytest.mark.parametrize("optimizer", POSITIVE)
def test_other_optimizers_are_taken(optimizer: Any) -> None:
    to_optimizer(optimizer, "client_optimizer")


def line(**options: Any) -> Any:
    def forward(weights: Any, batch: Any, training: bool, rng: Any) -> BatchOutput:
        return BatchOutput(jnp.mean((weights["w"] * batch.x - batch.y) ** 2))

    return functional_model({"w": np.float32(0)}, forward, input_spec="<x=float32[?],y=float32[?]>", **options)


def test_they_are_refused_wherever_an_optimizer_is_given() -> None:
    for give, what in [
        (lambda: line(optimizer=optax.sgd(-0.1)), "optimizer"),
        (lambda: build_federated_averaging_process(line(), client_optimizer=optax.sgd(-0.1)), "client_optimizer"),
        (
            lambda: build_federated_averaging_process(
                line(optimizer=optax.sgd(0.1)), server_optimizer=keras.optimizers.SGD(-1.0)
            ),
            "server_optimizer",
        ),
    ]:
        with pytest.raises(ValueError, match=rf"^{what} has .*learning rate"):
            give()


def test_they_are_refused_in_keras_models() -> None:
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    batch = {"x": np.zeros((1, 2), np.float32), "y": np.zeros((1, 1), np.float32)}
    message = r"the optimizer of the Keras model 'sequential.*' has the learning rate -0\.1"
    optimizer = keras.optimizers.SGD(-0.1)
    with pytest.raises(ValueError, match=message):
        hansa.learning.from_keras_model(model, loss="mse", optimizer=optimizer, sample_batch=batch)
    model.compile(optimizer=optimizer, loss="mse")
    with pytest.raises(ValueError, match=message):
        hansa.learning.from_compiled_keras_model(model, sample_batch=batch)


@pytest.mark.parametrize("schedule", [lambda n: -1.0, optax.linear_schedule(1.0, -1.0, 100), lambda n: jnp.nan])
def test_schedules_of_rounds_are_not_negative(schedule: Any) -> None:
    with pytest.raises(ValueError, match=r"client_schedule gives the factor .* for the round \d+"):
        build_federated_averaging_process(line(optimizer=optax.sgd(0.1)), client_schedule=schedule)


def test_a_schedule_may_end_with_a_table() -> None:
    factors = jnp.array([1.0, 0.5, 0.25])
    table = lambda n: factors.at[n].get(mode="fill", fill_value=jnp.nan)  # noqa: E731
    build_federated_averaging_process(line(optimizer=optax.sgd(0.1)), client_schedule=table)
