"""APFL beside NumPy with 64 bits: the global model, and what each client keeps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import hansa
from tests.learning.algorithms import by_hand, plain

Own = dict[int, tuple[plain.Weights, float]]
ALPHA = 0.4


def mixture(alpha: float, v: plain.Weights, w: plain.Weights) -> plain.Weights:
    return plain.combine(lambda v, w: alpha * v + (1 - alpha) * w, v, w)


def expected(first: float, adaptive: bool = True, rate: float = plain.RATE) -> tuple[plain.Weights, Own]:
    """w, and v_i and alpha_i after all rounds (Algorithm 1)."""
    down = lambda w, g, by=rate: plain.combine(lambda w, g: w - by * g, w, g)  # noqa: E731
    w, own = plain.initial(), {}
    for cohort in plain.COHORTS:
        local = []
        for i in by_hand.counted(cohort):
            w_i, (v, alpha) = w, own.get(i, (w, first))
            for batch in plain.batches(i):
                of_w, of_mixed = plain.gradient(w_i, batch), plain.gradient(mixture(alpha, v, w_i), batch)
                slope = sum(np.sum((a - b) * g) for a, b, g in zip(v, w_i, of_mixed, strict=True))
                w_i, v = down(w_i, of_w), down(v, of_mixed, rate * alpha)
                alpha = float(np.clip(alpha - rate * slope, 0, 1)) if adaptive else alpha
            local.append(w_i)
            own[i] = v, alpha
        w = by_hand.mean(local, [1.0] * len(local))
    return w, own


def check(state: Any, found: tuple[plain.Weights, Own]) -> None:
    w, own = found
    plain.assert_close(state.model.trainable, w)
    for client, name in enumerate(plain.IDS):
        work = state.clients[name].work
        assert work.seen == (client in own)
        if client in own:
            plain.assert_close(work.model.trainable, own[client][0])
            assert work.alpha == pytest.approx(own[client][1], abs=1e-5)


def test_rounds_are_those_of_the_paper() -> None:
    process = hansa.learning.build_apfl(plain.model(), client_learning_rate=1.0, alpha=ALPHA)
    state = process.with_hparams(process.initialize(), client_learning_rate=plain.RATE)
    for rate in (plain.RATE, 3.0):
        # With the larger rate some alpha would leave the interval.
        state = process.with_hparams(process.initialize(), client_learning_rate=rate)
        for cohort in plain.COHORTS:
            state, _ = process.next(state, plain.population().select(cohort))
        w, own = expected(ALPHA, rate=rate)
        check(state, (w, own))
        assert any(alpha in (0.0, 1.0) for _, alpha in own.values()) == (rate == 3.0)
        assert max(abs(alpha - ALPHA) for _, alpha in own.values()) > 1e-3
    evaluation = hansa.learning.build_per_client_evaluation(process)
    losses = [each.metrics.loss for each in evaluation(state, plain.population().select([0, 3]))]
    told = [plain.loss(mixture(own[i][1], own[i][0], w), plain.all_of(i)) for i in (0, 3)]
    assert losses == pytest.approx(told, rel=1e-4)


def test_a_share_that_is_fixed() -> None:
    build = lambda alpha: hansa.learning.build_apfl(  # noqa: E731
        plain.model(), client_learning_rate=plain.RATE, alpha=alpha, adaptive=False
    )
    state = by_hand.rounds(build(0.3))
    check(state, expected(0.3, adaptive=False))
    averaging = hansa.learning.build_federated_averaging_process(plain.model(), client_weighting="uniform")
    plain.assert_close(state.model.trainable, plain.as_numpy(by_hand.rounds(averaging).model.trainable), 1e-6)


def test_a_client_that_was_never_seen_is_evaluated_with_the_servers_model() -> None:
    process = hansa.learning.build_apfl(plain.model(), client_learning_rate=plain.RATE)
    state = by_hand.rounds(process, [[0]])
    evaluation = hansa.learning.build_per_client_evaluation(process)
    loss = evaluation(state, plain.population().select([3]))[0].metrics.loss
    assert loss == pytest.approx(plain.loss(plain.as_numpy(state.model.trainable), plain.all_of(3)), rel=1e-5)


def test_numbers_out_of_their_bounds_are_refused() -> None:
    for alpha in (-0.1, 1.5):
        message = f"alpha must be a number at least 0 and at most 1, found {alpha}"
        with pytest.raises(ValueError, match=message):
            hansa.learning.build_apfl(plain.model(), client_learning_rate=0.1, alpha=alpha)
    with pytest.raises(ValueError, match="client_learning_rate must be a number above 0"):
        hansa.learning.build_apfl(plain.model(), client_learning_rate=0.0)
