"""Algorithms with personal models, with models of each kind."""

from __future__ import annotations

from typing import Any

import jax
import keras
import numpy as np
import optax
import pytest

import hansa
from hansa import learning
from tests.learning.algorithms import plain
from tests.learning.algorithms.test_models import deep


def images() -> hansa.ClientBatches:
    """Clients of the Keras model."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, (30, 1)).astype(np.int32)
    return hansa.ClientBatches(
        {"x": rng.normal(size=(30, 6)).astype(np.float32), "y": labels}, [0, 10, 20, 30], 5, ["ann", "bo", "cy"]
    )


def names(part: Any) -> set[str]:
    return {str(name).rpartition("/")[2] for name in part._fields}


@pytest.mark.slow
def test_batch_normalization_of_keras_is_found_and_stays_with_its_statistics() -> None:
    process = learning.build_fed_bn(deep())
    state, metrics = process.next(process.initialize(), images())
    assert not metrics.model_unchanged and not metrics.num_non_finite_clients
    own = state.clients["ann"].work.weights
    assert names(own.trainable) == {"beta", "gamma"}
    assert names(own.non_trainable) == {"moving_mean", "moving_variance"}
    assert not np.array_equal(
        *(jax.tree.leaves(state.clients[client].work.weights.non_trainable)[0] for client in ("ann", "bo"))
    )
    update = process.client_work.run.type_signature.result["update"]
    assert names_of_type(update["trainable"]) == {"bias", "kernel"} and not update["non_trainable"].names


def names_of_type(kind: Any) -> set[str]:
    return {str(name).rpartition("/")[2] for name in kind.names}


@pytest.mark.whole
def test_keras_optimizers_train_one_part_and_then_the_other() -> None:
    """The model's own optimizer, and one that is given, take the same steps, of what is trained alone."""
    states = []
    for optimizer in (None, keras.optimizers.Adam(0.01)):
        model = deep()
        layer = next(str(name) for name in reversed(model.initial_weights.trainable._fields) if "kernel" in str(name))
        head = layer.rpartition("/")[0]
        process = learning.build_fed_rep(model, personal=head, head_passes=2, client_optimizer=optimizer)
        begun = process.initialize()
        state, metrics = process.next(begun, images())
        assert not metrics.model_unchanged and not metrics.num_non_finite_clients
        assert np.array_equal(state.model.trainable[layer], begun.model.trainable[layer])
        assert not np.array_equal(state.clients["bo"].work.weights.trainable[layer], begun.model.trainable[layer])
        update = process.client_work.run.type_signature.result["update"]
        assert names_of_type(update["trainable"]) == {"beta", "gamma"}
        assert names_of_type(update["non_trainable"]) == {"moving_mean", "moving_variance"}
        states.append(state)
    for a, b in zip(*(jax.tree.leaves(state.model) for state in states), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_several_copies_of_a_keras_model_have_statistics_each() -> None:
    process = learning.build_apfl(deep(), client_learning_rate=0.05)
    state, metrics = process.next(process.initialize(), images())
    assert not metrics.model_unchanged and not metrics.num_non_finite_clients
    own = state.clients["ann"].work.model
    assert names(own.non_trainable) >= {"moving_mean", "moving_variance"}
    for name, leaf in own.non_trainable._items():
        if "moving" in str(name):
            assert not np.array_equal(leaf, state.model.non_trainable[name])


@pytest.mark.slow
def test_tensorflows_gradients_of_one_part_and_of_several_copies() -> None:
    pytest.importorskip("tensorflow")
    from tests.learning.tensorflow_mnist import MnistModel, MnistTrainableModel
    from tests.learning.test_tensorflow_models import averaged, cohort

    data = cohort([7, 12, 3], 5)
    process = learning.build_reconstruction(
        MnistModel, local="bias", split_dataset=False, client_optimizer=optax.sgd(0.1)
    )
    state, _ = process.next(process.initialize(), data)
    total, count = np.zeros((784, 10)), 0
    for client in data:
        batches = [(np.float64(b["x"]), b["y"][:, 0]) for b in client]
        bias, kernel = np.zeros(10), np.zeros((784, 10))
        for batch in batches:
            bias = bias - 0.1 * plain.gradient((bias, kernel), batch)[0]
        for batch in batches:
            kernel = kernel - 0.1 * plain.gradient((bias, kernel), batch)[1]
        size = sum(len(y) for _, y in batches)
        total, count = total + size * kernel, count + size
    np.testing.assert_allclose(state.model.trainable.weights, total / count, atol=1e-5)
    assert not np.any(state.model.trainable.bias)

    def rule(weights: Any, gradients: Any) -> None:
        for w, g in zip(weights, gradients, strict=True):
            w -= 0.1 * g

    mixing = learning.build_apfl(MnistModel, client_learning_rate=0.1, client_weighting="num_examples")
    after, _ = mixing.next(mixing.initialize(), data)
    kernel, bias = averaged(data, 1, lambda: rule)
    np.testing.assert_allclose(after.model.trainable.weights, kernel, atol=1e-5)
    np.testing.assert_allclose(after.model.trainable.bias, bias, atol=1e-5)
    with pytest.raises(ValueError, match="has no optimizer: pass one by name, client_optimizer='sgd'"):
        learning.build_reconstruction(MnistTrainableModel, local="bias")
