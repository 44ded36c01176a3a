"""Ditto beside NumPy with 64 bits: the global model and those of the clients."""

from __future__ import annotations

import numpy as np
import pytest

import hansa
from tests.learning.algorithms import by_hand, plain
from tests.program.digits import assert_same_bits

LAMBDA, PASSES = 0.7, 2


def expected(lambda_: float) -> tuple[plain.Weights, dict[int, plain.Weights]]:
    """w and the v_k after all rounds (Algorithm 1); who was never seen has none."""
    w, own = plain.initial(), {}
    for cohort in plain.COHORTS:
        clients = by_hand.counted(cohort)
        for k in clients:
            near = lambda g, v, w=w: plain.combine(lambda g, v, w: g + lambda_ * (v - w), g, v, w)  # noqa: E731
            v = own.get(k, w)
            for _ in range(PASSES):
                v = by_hand.sgd(v, k, near)
            own[k] = v
        w = by_hand.mean([by_hand.sgd(w, k) for k in clients], [plain.SIZES[k] for k in clients])
    return w, own


def test_rounds_are_those_of_the_paper() -> None:
    process = hansa.learning.build_ditto(plain.model(), lambda_=5.0, personal_passes=PASSES)
    state = process.with_hparams(process.initialize(), lambda_=LAMBDA)
    for cohort in plain.COHORTS:
        state, _ = process.next(state, plain.population().select(cohort))
    w, own = expected(LAMBDA)
    plain.assert_close(state.model.trainable, w)
    for client, name in enumerate(plain.IDS):
        work = state.clients[name].work
        assert work.seen == (client in own)
        if client in own:
            plain.assert_close(work.model.trainable, own[client])
    assert np.abs(own[0][1] - w[1]).max() > 1e-2
    averaging = by_hand.rounds(hansa.learning.build_federated_averaging_process(plain.model()))
    assert_same_bits(state.model, averaging.model)


def test_each_client_is_evaluated_with_its_own_model() -> None:
    process = hansa.learning.build_ditto(plain.model(), lambda_=LAMBDA)
    state = by_hand.rounds(process, [[0]])
    evaluation = hansa.learning.build_per_client_evaluation(process)
    found = [each.metrics.loss for each in evaluation(state, plain.population().select([0, 3]))]
    for loss_of, client, weights in zip(found, (0, 3), (state.clients["ann"].work.model, state.model), strict=True):
        loss = plain.loss(plain.as_numpy(weights.trainable), plain.all_of(client))
        assert loss_of == pytest.approx(loss, rel=1e-5)


def test_numbers_out_of_their_bounds_are_refused() -> None:
    with pytest.raises(ValueError, match="lambda_ must be a number at least 0, found -1"):
        hansa.learning.build_ditto(plain.model(), lambda_=-1)
    with pytest.raises(ValueError, match="passes must be an integer of at least 1, found 0"):
        hansa.learning.build_ditto(plain.model(), lambda_=1, personal_passes=0)
