"""Agnostic averaging beside NumPy with 64 bits, and numbers of the tests of FedJAX."""

from __future__ import annotations

from typing import Any

import numpy as np
import optax
import pytest

import hansa
from hansa.learning import build_agnostic
from tests.learning.algorithms import plain
from tests.learning.algorithms.plain import combine

MODEL = plain.model()
FIRST, RATE, SERVER_RATE = np.array([0.2, 0.3, 0.5]), 0.3, 0.8
LOCAL = 0.5


def domain_ids() -> Any:
    """The domain of each example of all clients; client 1 has none of the last."""
    ids = np.random.default_rng(3).integers(0, 3, sum(plain.SIZES)).astype(np.int32)
    ids[10:17] = ids[10:17] % 2
    return ids


def population() -> hansa.ClientBatches:
    x, y = plain.examples()
    data = {"x": x, "y": y, "domain_id": domain_ids()}
    return hansa.ClientBatches(data, np.cumsum([0, *plain.SIZES]), plain.BATCH, plain.IDS)


def of_example(w: plain.Weights, x: Any, y: Any) -> tuple[float, plain.Weights]:
    """The loss and the gradient of one example."""
    return plain.loss(w, (x[None], y[None])), plain.gradient(w, (x[None], y[None]))


def expected(window_size: int) -> tuple[plain.Weights, Any, Any]:
    """The model, lambda and the window after all rounds."""
    w, weights, window = plain.initial(), FIRST, [np.ones(3)] * window_size
    ids, offsets = domain_ids(), np.cumsum([0, *plain.SIZES])
    for cohort in plain.COHORTS:
        alpha = weights / np.mean(window, axis=0)
        losses, numbers, betas, updates = np.zeros(3), np.zeros(3), [], []
        for client in cohort:
            if plain.left_out(client):
                continue
            x, y = plain.all_of(client)
            domains = ids[offsets[client] : offsets[client + 1]]
            for example in range(len(y)):
                losses[domains[example]] += of_example(w, x[example], y[example])[0]
            numbers += np.bincount(domains, minlength=3)
            beta, mine = alpha[domains].sum(), w
            for start in range(0, len(y), plain.BATCH):
                rows = range(start, min(start + plain.BATCH, len(y)))
                found = [(alpha[domains[row]], of_example(mine, x[row], y[row])[1]) for row in rows]
                total = [sum(a * g[part] for a, g in found) for part in range(2)]
                mine = combine(lambda w, g, beta=beta: w - LOCAL * g / beta, mine, (total[0], total[1]))
            betas.append(beta)
            updates.append(combine(np.subtract, mine, w))
        shares = np.array(betas) / sum(betas)
        w = combine(
            lambda w, *each, shares=shares: w + SERVER_RATE * sum(p * d for p, d in zip(shares, each, strict=True)),
            w,
            *updates,
        )
        weights = weights * np.exp(RATE * losses / np.maximum(numbers, 1))
        weights = weights / weights.sum()
        window = [*window[1:], numbers]
    return w, weights, window


@pytest.mark.parametrize("size", [2, pytest.param(1, marks=pytest.mark.slow)])
def test_rounds_are_those_of_the_paper(size: int) -> None:
    process = build_agnostic(
        MODEL,
        example_loss=lambda output, batch: optax.softmax_cross_entropy_with_integer_labels(output.predictions, batch.y),
        domain_weights=list(FIRST),
        domain_learning_rate=RATE,
        domain_window_size=size,
        client_optimizer="sgd",
        client_learning_rate=LOCAL,
        server_optimizer="sgd",
        server_learning_rate=SERVER_RATE,
    )
    state = process.initialize()
    for cohort in plain.COHORTS:
        state, _ = process.next(state, population().select(cohort))
    w, weights, window = expected(size)
    plain.assert_close(state.model.trainable, w)
    np.testing.assert_allclose(state.finalizer.domain_weights, weights, rtol=1e-5)
    np.testing.assert_array_equal(state.finalizer.domain_window, window)


@pytest.mark.slow
def test_numbers_of_fedjax() -> None:
    """`agnostic_fed_avg_test.py` of FedJAX: the loss of an example is x w, and w begins with 4."""
    model = hansa.learning.functional_model(
        {"w": np.float32(4)},
        lambda w, batch, training, rng: hansa.learning.BatchOutput((w["w"] * batch.x).mean(), w["w"] * batch.x),
        input_spec="<x=float32[?]>",
    )
    process = build_agnostic(
        model,
        example_loss=lambda output, batch: output.predictions,
        domain_weights=[0.1, 0.2, 0.3, 0.4],
        domain_learning_rate=0.01,
        domain_window_size=2,
        domain_window=[1, 2, 3, 4],
        client_optimizer="sgd",
        client_learning_rate=1.0,
        server_optimizer="sgd",
        server_learning_rate=0.1,
    )
    batch = lambda x, ids: {"x": np.float32(x), "domain_id": np.int32(ids)}  # noqa: E731
    clients = [
        [batch([1, 2, 4], [1, 0, 0]), batch([3, 6, 1], [0, 2, 2])],
        [batch([8, 10, 5], [1, 3, 1])],
    ]
    state, _ = process.next(process.initialize(), clients)
    np.testing.assert_allclose(state.model.trainable.w, 3.5555556, rtol=1e-6)
    weights = [0.08702461, 0.18604803, 0.2663479, 0.46057943]
    np.testing.assert_allclose(state.finalizer.domain_weights, weights, rtol=1e-5)
    np.testing.assert_array_equal(state.finalizer.domain_window, [[1, 2, 3, 4], [3, 3, 2, 1]])


REFUSED: dict[str, Any] = {
    "a sum": ({"domain_weights": [0.5, 0.6]}, "domain_weights must be numbers at least 0 with the sum 1"),
    "a length": ({"domain_window": [1.0]}, "domain_window must be a number above 0 for each of 2 domains"),
    "a size": ({"domain_window_size": 0}, "domain_window_size must be an integer at least 1, found 0"),
    "a rate": ({"domain_learning_rate": -1}, "domain_learning_rate must be a number at least 0, found -1"),
    "a loss": ({"example_loss": lambda output, batch: output.loss}, "example_loss must give a loss for each example"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_do_is_refused(name: str) -> None:
    changed, message = REFUSED[name]
    good = {
        "domain_weights": [0.5, 0.5],
        "domain_learning_rate": 0.1,
        "example_loss": lambda output, batch: batch.x[:, 0],
    }
    with pytest.raises((TypeError, ValueError), match=message):
        build_agnostic(MODEL, **{**good, **changed})
