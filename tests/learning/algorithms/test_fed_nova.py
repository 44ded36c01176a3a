"""FedNova beside NumPy with 64 bits, with momentum, with the proximal term and with both."""

from __future__ import annotations

import numpy as np
import pytest

import hansa
from hansa.learning import build_fed_nova
from tests.learning.algorithms import by_hand, plain

MODEL = plain.model()


def matrix_of_factors(steps: int, momentum: float, mu: float) -> float:
    """|a_i|_1: steps are a linear map of gradients; a_i is the row that gives the last weights, up to the rate."""
    factors, velocity = np.zeros(steps), np.zeros(steps)
    for number in range(steps):
        velocity = momentum * velocity + np.eye(steps)[number] - plain.RATE * mu * factors
        factors = factors + velocity
    assert (factors > 0).all()
    return float(factors.sum())


def expected(momentum: float = 0.0, mu: float = 0.0) -> plain.Weights:
    """The model after all rounds."""
    x = plain.initial()
    for cohort in plain.COHORTS:
        changes, effective, sizes = [], [], []
        for client in by_hand.counted(cohort):
            near = lambda g, w, x=x: plain.combine(lambda g, w, x: g + mu * (w - x), g, w, x)  # noqa: E731
            y = by_hand.sgd(x, client, near, momentum)
            steps = len(plain.batches(client))
            factors = matrix_of_factors(steps, momentum, mu)
            changes.append(plain.combine(lambda y, x, factors=factors: (y - x) / factors, y, x))
            effective.append(matrix_of_factors(steps, momentum, 0.0))
            sizes.append(plain.SIZES[client])
        tau = np.average(effective, weights=sizes)
        x = plain.combine(lambda x, d, tau=tau: x + tau * d, x, by_hand.mean(changes, sizes))
    return x


@pytest.mark.parametrize(
    ("momentum", "mu"),
    [(0.9, 0.5), *(pytest.param(*pair, marks=pytest.mark.slow) for pair in [(0.0, 0.0), (0.9, 0.0), (0.0, 0.5)])],
)
def test_rounds_are_those_of_the_paper(momentum: float, mu: float) -> None:
    process = build_fed_nova(MODEL, client_learning_rate=plain.RATE, client_momentum=momentum, proximal_strength=mu)
    plain.assert_close(by_hand.rounds(process).model.trainable, expected(momentum, mu))


def test_sums_of_factors_are_those_of_the_paper() -> None:
    """Its closed forms, for momentum and for the proximal term."""
    rho, alpha, steps = 0.9, plain.RATE * 0.5, 4
    closed = (steps - rho * (1 - rho**steps) / (1 - rho)) / (1 - rho)
    np.testing.assert_allclose(matrix_of_factors(steps, rho, 0.0), closed)
    np.testing.assert_allclose(matrix_of_factors(steps, 0.0, 0.5), (1 - (1 - alpha) ** steps) / alpha)


@pytest.mark.slow
def test_equal_numbers_of_steps_are_averaging_and_others_are_not() -> None:
    nova = build_fed_nova(MODEL, client_learning_rate=plain.RATE)
    average = hansa.learning.build_federated_averaging_process(MODEL)
    alone, others = [[3], [0], [3]], plain.COHORTS
    found, same = (by_hand.rounds(process, alone).model.trainable for process in (nova, average))
    plain.assert_close(found, plain.as_numpy(same), 1e-6)
    found, other = (by_hand.rounds(process, others).model.trainable for process in (nova, average))
    assert np.abs(found.kernel - other.kernel).max() > 1e-4


def test_numbers_out_of_their_bounds_are_refused() -> None:
    with pytest.raises(ValueError, match="client_learning_rate must be a number above 0, found 0"):
        build_fed_nova(MODEL, client_learning_rate=0)
    with pytest.raises(ValueError, match=r"client_momentum must be a number at least 0 and below 1, found 1\.0"):
        build_fed_nova(MODEL, client_learning_rate=0.1, client_momentum=1.0)
    with pytest.raises(ValueError, match="proximal_strength must be a number at least 0, found -1"):
        build_fed_nova(MODEL, client_learning_rate=0.1, proximal_strength=-1)
