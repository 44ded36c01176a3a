"""Mime and MimeLite beside NumPy with 64 bits, and numbers of the tests of FedJAX."""

from __future__ import annotations

from typing import Any

import numpy as np
import optax
import pytest

import hansa
from hansa.learning import build_mime, build_mime_lite
from tests.learning.algorithms import by_hand, plain
from tests.learning.algorithms.plain import combine

MODEL = plain.model()
SERVER_RATE = 0.7

Slots = tuple[int, plain.Weights, plain.Weights]


def momentum(slots: Slots, g: plain.Weights) -> tuple[Slots, plain.Weights]:
    """optax.sgd(0.1, momentum=0.9): the state after a step, and what is added to the weights."""
    m = combine(lambda m, g: 0.9 * m + g, slots[1], g)
    return (slots[0] + 1, m, m), combine(lambda m: -plain.RATE * m, m)


def adam(slots: Slots, g: plain.Weights) -> tuple[Slots, plain.Weights]:
    """optax.adam(0.1)."""
    t = slots[0] + 1
    m = combine(lambda m, g: 0.9 * m + 0.1 * g, slots[1], g)
    v = combine(lambda v, g: 0.999 * v + 0.001 * g**2, slots[2], g)
    step = combine(lambda m, v: -plain.RATE * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8), m, v)
    return (t, m, v), step


def expected(base: Any, corrected: bool, uniform: bool, sent: Any = lambda w: w) -> tuple[plain.Weights, Slots]:
    """The model and the base optimizer's state after all rounds (Algorithm 1), of what clients are sent."""
    x, slots = plain.initial(), (0, plain.zeros(), plain.zeros())
    for cohort in plain.COHORTS:
        clients = by_hand.counted(cohort)
        sizes = [1.0 if uniform else plain.SIZES[client] for client in clients]
        to_x, to_slots = sent(x), (slots[0], sent(slots[1]), sent(slots[2]))
        c = by_hand.mean([by_hand.full_gradient(to_x, client) for client in clients], sizes)
        models = []
        for client in clients:
            y = to_x
            for batch in plain.batches(client):
                g = plain.gradient(y, batch)
                if corrected:
                    g = combine(lambda g, of_x, c: g - of_x + c, g, plain.gradient(to_x, batch), sent(c))
                y = combine(np.add, y, base(to_slots, g)[1])
            models.append(y)
        x = combine(lambda x, y: x + SERVER_RATE * y, x, by_hand.subtract(by_hand.mean(models, sizes), to_x))
        slots = base(slots, c)[0]
    return x, slots


ADAM, SGD = (
    (adam, {"base_optimizer": "adam", "base_learning_rate": 0.1}),
    (
        momentum,
        {"base_optimizer": optax.sgd(0.1, momentum=0.9)},
    ),
)
slow = pytest.mark.slow


@pytest.mark.parametrize(
    ("build", "base", "weighting"),
    [
        (build_mime, ADAM, "uniform"),
        (build_mime_lite, SGD, "num_examples"),
        pytest.param(build_mime, SGD, "num_examples", marks=slow),
        pytest.param(build_mime_lite, ADAM, "uniform", marks=slow),
    ],
)
def test_rounds_are_those_of_the_paper(build: Any, base: Any, weighting: str) -> None:
    by_numpy, given = base
    process = build(MODEL, server_learning_rate=SERVER_RATE, client_weighting=weighting, **given)
    state = by_hand.rounds(process)
    x, slots = expected(by_numpy, build is build_mime, weighting == "uniform")
    plain.assert_close(state.model.trainable, x)
    found = state.optimizer_state
    plain.assert_close(found.trace if by_numpy is momentum else found.mu, slots[1])
    if build is build_mime:
        after, metrics = process.next(state, plain.population().select([2, 4]))
        assert metrics.model_unchanged and after == state


def linear() -> Any:
    """The model of FedJAX's tests: the loss of an example is x w, and w begins with 4."""
    return hansa.learning.functional_model(
        {"w": np.float32(4)},
        lambda w, batch, training, rng: hansa.learning.BatchOutput((w["w"] * batch.x).mean()),
        input_spec="<x=float32[?]>",
    )


@slow
def test_numbers_of_fedjax() -> None:
    """`mime_test.py` and `mime_lite_test.py` of FedJAX, where a client's batches are of two examples."""
    clients = [[{"x": np.float32(x)} for x in batches] for batches in ([[2, 4], [6]], [[8, 10]])]
    given = {"base_optimizer": "sgd", "base_learning_rate": 1.0, "server_learning_rate": 0.2}
    state, _ = (process := build_mime(linear(), **given)).next(process.initialize(), clients)
    np.testing.assert_allclose(state.model.trainable.w, 2.08, rtol=1e-6)
    clients = [[{"x": np.float32(x)} for x in batches] for batches in ([[0.6, 0.4], [0.2]], [[0.8, 0.1]])]
    state, _ = (process := build_mime_lite(linear(), **given)).next(process.initialize(), clients)
    np.testing.assert_allclose(state.model.trainable.w, 3.8799999, rtol=1e-6)


@slow
def test_a_schedule_of_the_base_optimizer_is_by_round() -> None:
    halving = optax.exponential_decay(1.0, 1, 0.5)
    process = build_mime_lite(linear(), base_optimizer="sgd", base_learning_rate=halving)
    clients = [[{"x": np.float32([1])}] * 3]
    state, found = process.initialize(), []
    for _ in range(3):
        state, _ = process.next(state, clients)
        found.append(float(state.model.trainable.w))
    assert found == [4 - 3, 4 - 3 - 1.5, 4 - 3 - 1.5 - 0.75]


def test_arguments_that_do_not_do_are_refused() -> None:
    with pytest.raises(ValueError, match="server_learning_rate must be a number above 0, found 0"):
        build_mime(MODEL, base_optimizer="sgd", base_learning_rate=0.1, server_learning_rate=0)
    with pytest.raises((TypeError, ValueError), match="base_optimizer"):
        build_mime_lite(MODEL, base_optimizer=3)  # type: ignore[arg-type]
