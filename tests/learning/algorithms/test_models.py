"""Hooks with models of each kind: TensorFlow's gradients, Keras's statistics and frozen layers, scaled losses."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import optax
import pytest

import hansa
from tests.learning.test_averaging import make_clients
from tests.program.digits import assert_same_bits

layers = keras.layers


def deep() -> Any:
    """A Keras model with a frozen layer, statistics, and draws of its own."""
    keras.utils.set_random_seed(1)
    stack = [layers.Dense(8), layers.BatchNormalization(), layers.Dropout(0.3), layers.Dense(3)]
    network = keras.Sequential([keras.Input((6,)), *stack])
    network.layers[0].trainable = False
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile(optimizer=keras.optimizers.Adam(0.01), loss=loss, metrics=["accuracy"])
    return hansa.learning.from_compiled_keras_model(network, make_clients([5])[0][0])


@pytest.mark.slow
def test_a_keras_model_with_statistics_and_a_frozen_layer_has_the_bits_of_averaging() -> None:
    model, states = deep(), []
    for process in (
        hansa.learning.build_federated_averaging_process(model),
        hansa.learning.build_fed_prox(model, proximal_strength=0.0),
    ):
        state = process.initialize()
        for seed in range(2):
            state, _ = process.next(state, make_clients([5, 17, 0, 3], seed=seed))
        states.append(state.model)
    assert_same_bits(*states)


@pytest.mark.slow
def test_statistics_and_frozen_layers_in_an_update_of_several_parts() -> None:
    model = deep()
    process = hansa.learning.build_scaffold(model, client_learning_rate=0.1, population=3, option="I")
    cohort = hansa.ClientBatches(
        {"x": np.random.default_rng(0).normal(size=(30, 6)).astype(np.float32), "y": np.zeros((30, 1), np.int32)},
        [0, 10, 20, 30],
        5,
        ["ann", "bo", "cy"],
    )
    first = process.initialize()
    state, metrics = process.next(first, cohort)
    assert not metrics.model_unchanged and not metrics.num_non_finite_clients
    changed = {
        str(name)
        for part in ("trainable", "non_trainable")
        for name, leaf in state.model[part]._items()
        if not np.array_equal(leaf, first.model[part][name])
    }
    assert {name.rpartition("/")[2] for name in changed} >= {"moving_mean", "moving_variance", "kernel", "gamma"}
    frozen = [name for name in first.model.non_trainable._fields if "kernel" in str(name)]
    assert len(frozen) == 1 and frozen[0] not in changed


@pytest.mark.slow
def test_tensorflows_gradients_are_directed_too() -> None:
    pytest.importorskip("tensorflow")
    from tests.learning.tensorflow_mnist import MnistModel, MnistTrainableModel
    from tests.learning.test_tensorflow_models import averaged, cohort

    rate, mu, data = 0.1, 0.5, cohort([7, 12, 3], 5)

    def proximal() -> Any:
        sent: list[Any] = []

        def rule(weights: Any, gradients: Any) -> None:
            sent[:] = sent or [w.copy() for w in weights]
            for w, g, w_t in zip(weights, gradients, sent, strict=True):
                w -= rate * (g + mu * (w - w_t))

        return rule

    process = hansa.learning.build_fed_prox(MnistModel, proximal_strength=mu, client_optimizer=optax.sgd(rate))
    state = process.initialize()
    for _ in range(2):
        state, _ = process.next(state, data)
    kernel, bias = averaged(data, 2, proximal)
    np.testing.assert_allclose(state.model.trainable.weights, kernel, atol=1e-5)
    np.testing.assert_allclose(state.model.trainable.bias, bias, atol=1e-5)
    with pytest.raises(ValueError, match=r"`direction` changes the gradient .* trains itself .* client_optimizer"):
        hansa.learning.build_fed_prox(MnistTrainableModel, proximal_strength=mu)


@pytest.mark.slow
def test_a_loss_that_is_scaled_is_refused_where_a_hook_would_see_its_gradient() -> None:
    work = hansa.learning.local_training(gradient=lambda take, weights, batch, at: take(weights, batch))
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = deep()
    finally:
        keras.config.set_dtype_policy(before)
    with pytest.raises(ValueError, match=r"`gradient` cannot be used .* scaled for float16"):
        hansa.learning.build_process(model, client_work=work)
