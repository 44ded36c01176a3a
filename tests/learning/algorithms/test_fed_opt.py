"""FedAvgM, FedAdagrad, FedAdam and FedYogi beside NumPy with 64 bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import hansa
from hansa.learning import build_fed_adagrad, build_fed_adam, build_fed_avgm, build_fed_yogi
from tests.learning.algorithms import by_hand, plain
from tests.learning.algorithms.plain import combine
from tests.program.digits import assert_same_bits

MODEL = plain.model()
ETA, TAU = 0.05, 1e-3

SECOND: dict[str, Any] = {
    "adagrad": (build_fed_adagrad, 0.0, lambda v, d: v + d**2),
    "adam": (build_fed_adam, 0.9, lambda v, d: 0.99 * v + 0.01 * d**2),
    "yogi": (build_fed_yogi, 0.9, lambda v, d: v - 0.01 * d**2 * np.sign(v - d**2)),
}


def delta(x: plain.Weights, cohort: list[int]) -> plain.Weights:
    """The mean update."""
    clients = by_hand.counted(cohort)
    updates = [by_hand.subtract(by_hand.sgd(x, client), x) for client in clients]
    return by_hand.mean(updates, [plain.SIZES[client] for client in clients])


@pytest.mark.parametrize(
    "name", ["yogi", *(pytest.param(name, marks=pytest.mark.slow) for name in ("adam", "adagrad"))]
)
def test_rounds_of_adaptive_optimizers_are_those_of_the_paper(name: str) -> None:
    build, beta, second = SECOND[name]
    x, m = plain.initial(), plain.zeros()
    v = combine(lambda m: m + TAU**2, m)
    for cohort in plain.COHORTS:
        d = delta(x, cohort)
        m = combine(lambda m, d: beta * m + (1 - beta) * d, m, d)
        v = combine(second, v, d)
        x = combine(lambda x, m, v: x + ETA * m / (np.sqrt(v) + TAU), x, m, v)
    state = by_hand.rounds(build(MODEL, server_learning_rate=ETA))
    plain.assert_close(state.model.trainable, x)
    plain.assert_close(state.optimizer_state.v, v)
    assert state.hparams.tau == np.float32(TAU)


@pytest.mark.slow
def test_rounds_with_momentum_are_those_of_the_paper() -> None:
    x, m = plain.initial(), plain.zeros()
    for cohort in plain.COHORTS:
        m = combine(lambda m, d: 0.8 * m + d, m, delta(x, cohort))
        x = combine(lambda x, m: x + 0.5 * m, x, m)
    state = by_hand.rounds(build_fed_avgm(MODEL, server_learning_rate=0.5, momentum=0.8))
    plain.assert_close(state.model.trainable, x)
    plain.assert_close(state.optimizer_state.momentum, m)


@pytest.mark.slow
def test_without_momentum_it_is_averaging_to_the_bit() -> None:
    momentum = by_hand.rounds(build_fed_avgm(MODEL, momentum=0.0))
    assert_same_bits(momentum.model, by_hand.rounds(hansa.learning.build_federated_averaging_process(MODEL)).model)


def test_numbers_out_of_their_bounds_are_refused() -> None:
    with pytest.raises(ValueError, match=r"beta_1 must be a number at least 0 and below 1, found 1\.0"):
        build_fed_adam(MODEL, server_learning_rate=0.1, beta_1=1.0)
    with pytest.raises(ValueError, match="tau must be a number above 0, found 0"):
        build_fed_yogi(MODEL, server_learning_rate=0.1, tau=0)
    with pytest.raises(ValueError, match=r"momentum must be a number at least 0 and below 1, found -0\.1"):
        build_fed_avgm(MODEL, momentum=-0.1)
