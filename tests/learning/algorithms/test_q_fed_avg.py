"""q-FedAvg beside NumPy with 64 bits."""

from __future__ import annotations

import numpy as np
import pytest

import hansa
from hansa.learning import build_q_fed_avg
from tests.learning.algorithms import by_hand, plain
from tests.learning.algorithms.plain import combine

MODEL = plain.model()


def test_rounds_are_those_of_the_paper() -> None:
    q, L = 1.5, 1 / plain.RATE
    w = plain.initial()
    for cohort in plain.COHORTS:
        deltas, hs = [], []
        for client in by_hand.counted(cohort):
            loss, after = by_hand.full_loss(w, client), by_hand.sgd(w, client)
            change = combine(lambda w, after: L * (w - after), w, after)
            deltas.append(combine(lambda c, loss=loss: loss**q * c, change))
            hs.append(q * loss ** (q - 1) * by_hand.norm(change) + L * loss**q)
        total = sum(hs)
        w = combine(lambda w, *each, total=total: w - sum(each) / total, w, *deltas)
    state = by_hand.rounds(build_q_fed_avg(MODEL, q=q, client_learning_rate=plain.RATE))
    plain.assert_close(state.model.trainable, w)


@pytest.mark.slow
def test_with_q_0_it_is_averaging_with_equal_weights_and_another_q_compiles_nothing() -> None:
    process = build_q_fed_avg(MODEL, q=1.0, client_learning_rate=plain.RATE)
    state = process.with_hparams(process.initialize(), q=0.0)
    cohort = plain.population().select([0, 1, 3])
    average = hansa.learning.build_federated_averaging_process(MODEL, client_weighting="uniform")
    with_0, _ = process.next(state, cohort)
    plain.assert_close(
        with_0.model.trainable, plain.as_numpy(average.next(average.initialize(), cohort)[0].model.trainable), 1e-6
    )
    with_1, _ = process.next(process.initialize(), cohort)
    assert np.abs(with_1.model.trainable.kernel - with_0.model.trainable.kernel).max() > 1e-4


def test_numbers_out_of_their_bounds_are_refused() -> None:
    with pytest.raises(ValueError, match="q must be a number at least 0, found -1"):
        build_q_fed_avg(MODEL, q=-1, client_learning_rate=0.1)
    with pytest.raises(ValueError, match="client_learning_rate must be a number above 0, found 0"):
        build_q_fed_avg(MODEL, q=1, client_learning_rate=0)
