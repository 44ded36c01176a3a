"""FedExP beside NumPy with 64 bits."""

from __future__ import annotations

import numpy as np
import pytest

import hansa
from hansa.learning import build_fed_exp
from tests.learning.algorithms import by_hand, plain


@pytest.mark.parametrize(
    ("epsilon", "weighting"), [(1e-3, "num_examples"), pytest.param(0.0, "uniform", marks=pytest.mark.slow)]
)
def test_rounds_are_those_of_the_paper(epsilon: float, weighting: str) -> None:
    w, rates = plain.initial(), []
    for cohort in plain.COHORTS:
        clients = by_hand.counted(cohort)
        sizes = [plain.SIZES[client] if weighting == "num_examples" else 1.0 for client in clients]
        updates = [by_hand.subtract(by_hand.sgd(w, client), w) for client in clients]
        delta = by_hand.mean(updates, sizes)
        norms = sum(size * by_hand.norm(update) for size, update in zip(sizes, updates, strict=True)) / sum(sizes)
        rates.append(max(1.0, norms / (2 * (by_hand.norm(delta) + epsilon))))
        w = plain.combine(lambda w, d: w + rates[-1] * d, w, delta)
    state = by_hand.rounds(build_fed_exp(plain.model(), epsilon=epsilon, client_weighting=weighting))
    plain.assert_close(state.model.trainable, w)
    assert float(state.finalizer.server_learning_rate) == pytest.approx(rates[-1], rel=1e-5)


@pytest.mark.slow
def test_clients_that_pull_apart_make_the_rate_large_and_those_that_agree_leave_it_at_1() -> None:
    model = hansa.learning.functional_model(
        {"w": np.zeros(2, np.float32)},
        lambda w, batch, training, rng: hansa.learning.BatchOutput((batch.x @ w["w"]).mean()),
        input_spec="<x=float32[?,2]>",
    )
    process = build_fed_exp(model, epsilon=0.0, client_optimizer="sgd", client_learning_rate=1.0)
    one = lambda *x: [{"x": np.float32([x])}]  # noqa: E731
    apart, _ = process.next(process.initialize(), [one(3, 1), one(-3, 1)])
    np.testing.assert_allclose(apart.model.trainable.w, [0, -5])  # 10 / (2 1) times the mean update (0, -1)
    same, _ = process.next(process.initialize(), [one(3, 1), one(3, 1)])
    assert same.finalizer.server_learning_rate == 1
    nobody, _ = process.next(process.initialize(), [one(0, 0)])
    assert nobody.finalizer.server_learning_rate == 1


def test_a_number_out_of_its_bound_is_refused() -> None:
    with pytest.raises(ValueError, match="epsilon must be a number at least 0, found -1"):
        build_fed_exp(plain.model(), epsilon=-1)
