"""MOON beside NumPy with 64 bits, with the logits of the softmax regression as its features."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import keras
import numpy as np
import pytest

import hansa
from tests.learning.algorithms import by_hand, plain
from tests.program.digits import assert_same_bits

MU, TAU = 2.0, 0.5
COHORTS = [*plain.COHORTS, [0, 1, 3]]


def towards(z: Any, other: Any) -> tuple[Any, Any]:
    """The cosine of rows, and its gradient by those of z."""
    lengths = np.linalg.norm(z, axis=1, keepdims=True), np.linalg.norm(other, axis=1, keepdims=True)
    cosine = (z * other).sum(1, keepdims=True) / lengths[0] / lengths[1]
    return cosine, other / lengths[0] / lengths[1] - cosine * z / lengths[0] ** 2


def gradient(w: plain.Weights, batch: Any, sent: plain.Weights, before: plain.Weights | None) -> plain.Weights:
    """The gradient of the supervised loss and of mu times that of equation 3."""
    g = plain.gradient(w, batch)
    if before is None:
        return g
    x = batch[0]
    z, z_glob, z_prev = (x @ kernel + bias for bias, kernel in (w, sent, before))
    (near, of_near), (last, of_last) = towards(z, z_glob), towards(z, z_prev)
    p_prev = np.exp(last / TAU) / (np.exp(near / TAU) + np.exp(last / TAU))
    of_z = MU * p_prev * (of_last - of_near) / TAU / len(x)
    return plain.combine(np.add, g, (of_z.sum(0), x.T @ of_z))


def rounds_by_hand() -> tuple[plain.Weights, dict[int, plain.Weights]]:
    """The model after all rounds, and those of the clients that had a part in one."""
    model, own = plain.initial(), {}
    for cohort in COHORTS:
        clients, updates = by_hand.counted(cohort), []
        for client in clients:
            w = model
            for batch in plain.batches(client):
                g = gradient(w, batch, model, own.get(client))
                w = plain.combine(lambda w, g: w - plain.RATE * g, w, g)
            updates.append(w)
            own[client] = w
        model = by_hand.mean(updates, [plain.SIZES[client] for client in clients])
    return model, own


def logits(output: Any) -> Any:
    return output.predictions


@pytest.fixture(scope="module")
def process() -> Any:
    return hansa.learning.build_moon(plain.model(), mu=MU, tau=TAU, features=logits)


@pytest.mark.parametrize(
    "runtime", [hansa.InProcessRuntime, pytest.param(hansa.ReferenceRuntime, marks=pytest.mark.slow)]
)
def test_rounds_are_those_of_the_paper(process: Any, runtime: Any) -> None:
    model, own = rounds_by_hand()
    with hansa.runtime(runtime()):
        state = by_hand.rounds(process, COHORTS)
    plain.assert_close(state.model.trainable, model)
    for client, name in enumerate(plain.IDS):
        kept = state.clients[name].work
        plain.assert_close(kept.model.trainable, own.get(client, plain.initial()))
        assert kept.rounds == sum(client in cohort and not plain.left_out(client) for cohort in COHORTS)


@pytest.mark.slow
def test_without_the_term_it_is_averaging_and_the_term_counts(process: Any) -> None:
    average = by_hand.rounds(hansa.learning.build_federated_averaging_process(plain.model()), COHORTS)
    state = process.with_hparams(process.initialize(), mu=0)
    for cohort in COHORTS:
        state, _ = process.next(state, plain.population().select(cohort))
    plain.assert_close(state.model.trainable, plain.as_numpy(average.model.trainable), 1e-6)
    assert np.abs(rounds_by_hand()[0][1] - plain.as_numpy(average.model.trainable)[1]).max() > 1e-3


def in_features(features: Any) -> Any:
    """The model, with features of its own."""

    def forward(weights: Any, batch: Any, training: bool, rng: Any) -> Any:
        z = batch.x @ weights["kernel"]
        return hansa.learning.BatchOutput(jnp.mean(z**2), z, features=features(z))

    return hansa.learning.functional_model(
        {"kernel": np.ones((2, 3), np.float32)},
        forward,
        input_spec="<x=float32[?,2]>",
        optimizer="sgd",
        learning_rate=0.1,
    )


@pytest.mark.slow
def test_features_of_a_model_are_those_of_a_function() -> None:
    clients = [[{"x": np.float32([[1, 2], [0, 0]])}], [{"x": np.float32([[3, 1]])}]]
    found = []
    for process in (
        hansa.learning.build_moon(in_features(lambda z: z), mu=1),
        hansa.learning.build_moon(in_features(lambda z: None), mu=1, features=logits),
    ):
        state = process.initialize()
        for _ in range(2):
            state, metrics = process.next(state, clients)
        assert metrics.num_non_finite_clients == 0
        found.append(state.model)
    assert_same_bits(*found)


@pytest.mark.slow
def test_a_keras_model_gives_features_as_an_output() -> None:
    inputs = keras.Input((plain.FEATURES,))
    hidden = keras.layers.Dense(4, activation="tanh", name="features")(inputs)
    scores = keras.layers.Dense(plain.CLASSES, name="scores")(hidden)
    network = keras.Model(inputs, {"scores": scores, "features": hidden})
    loss = {"scores": keras.losses.SparseCategoricalCrossentropy(from_logits=True), "features": None}
    network.compile(keras.optimizers.SGD(0.1), loss=loss)
    sample = {"x": np.zeros((2, plain.FEATURES), np.float32), "y": {"scores": np.zeros(2, np.int32)}}
    model = hansa.learning.from_compiled_keras_model(network, sample_batch=sample)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(8, plain.FEATURES)).astype(np.float32), rng.integers(0, 3, 8).astype(np.int32)
    found = []
    for mu in (0, 5):
        process = hansa.learning.build_moon(model, mu=mu, features=lambda output: output.predictions["features"])
        state = process.initialize()
        for _ in range(3):
            state, _ = process.next(state, [[{"x": x, "y": {"scores": y}}], [{"x": -x, "y": {"scores": y}}]])
        found.append(np.asarray(state.model.trainable["features/kernel"]))
    assert np.isfinite(found).all() and np.abs(found[0] - found[1]).max() > 1e-4


def test_what_has_no_features_is_refused() -> None:
    for given in ({}, {"features": lambda output: output.loss}):
        with pytest.raises(TypeError, match=r"MOON takes features of the shape \[examples, size\]"):
            hansa.learning.build_moon(plain.model(), mu=1, **given)
    with pytest.raises(TypeError, match="features must be a function of a BatchOutput, found 'dense'"):
        hansa.learning.build_moon(plain.model(), mu=1, features="dense")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="tau must be a number above 0, found 0"):
        hansa.learning.build_moon(plain.model(), mu=1, tau=0)
