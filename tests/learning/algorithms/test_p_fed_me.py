"""pFedMe beside NumPy with 64 bits: the global model and the personal ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import hansa
from tests.learning.algorithms import by_hand, plain

LAMBDA, ETA, RATE, K, BETA = 2.0, 0.2, 0.15, 3, 0.7
NUMBERS: Any = {"lambda_": LAMBDA, "client_learning_rate": ETA, "personal_learning_rate": RATE}


def expected() -> tuple[plain.Weights, dict[int, plain.Weights]]:
    """w and the theta_i after all rounds (Algorithm 1)."""
    w, personal = plain.initial(), {}
    for cohort in plain.COHORTS:
        local = []
        for i in by_hand.counted(cohort):
            w_i = theta = w
            for batch in plain.batches(i):
                for _ in range(K):
                    g = plain.gradient(theta, batch)
                    theta = plain.combine(lambda t, g, w: t - RATE * (g + LAMBDA * (t - w)), theta, g, w_i)
                w_i = plain.combine(lambda w, t: w - ETA * LAMBDA * (w - t), w_i, theta)
            local.append(w_i)
            personal[i] = theta
        mean = by_hand.mean(local, [1.0] * len(local))
        w = plain.combine(lambda w, mean: (1 - BETA) * w + BETA * mean, w, mean)
    return w, personal


@pytest.fixture(scope="module")
def process() -> Any:
    return hansa.learning.build_p_fed_me(plain.model(), personal_steps=K, beta=BETA, **NUMBERS)


def test_rounds_are_those_of_the_paper(process: Any) -> None:
    state = by_hand.rounds(process)
    w, personal = expected()
    plain.assert_close(state.model.trainable, w)
    for client, name in enumerate(plain.IDS):
        work = state.clients[name].work
        assert work.seen == (client in personal)
        if client in personal:
            plain.assert_close(work.model.trainable, personal[client])
    assert np.abs(personal[0][1] - w[1]).max() > 1e-3
    evaluation = hansa.learning.build_per_client_evaluation(process)
    losses = [each.metrics.loss for each in evaluation(state, plain.population().select([0]))]
    assert losses == pytest.approx([plain.loss(personal[0], plain.all_of(0))], rel=1e-5)


def test_nobody_who_counts_changes_nothing(process: Any) -> None:
    before = process.initialize()
    after, metrics = process.next(before, plain.population().select([2, 4]))
    assert metrics.model_unchanged and after.model == before.model
    assert not after.clients["eve"].work.seen


def test_numbers_out_of_their_bounds_are_refused() -> None:
    for name in NUMBERS:
        with pytest.raises(ValueError, match=f"{name} must be a number above 0, found 0"):
            hansa.learning.build_p_fed_me(plain.model(), **{**NUMBERS, name: 0})
    with pytest.raises(ValueError, match="personal_steps must be an integer of at least 1, found 0"):
        hansa.learning.build_p_fed_me(plain.model(), personal_steps=0, **NUMBERS)
