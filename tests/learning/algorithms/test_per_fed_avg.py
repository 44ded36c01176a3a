"""Per-FedAvg beside NumPy with 64 bits, both variants, and the evaluation after a personal step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import hansa
from tests.learning.algorithms import by_hand, plain

ALPHA, DELTA = 0.3, 0.01


def after(w: plain.Weights, batch: Any, rate: float, direction: plain.Weights) -> plain.Weights:
    """The gradient at other weights."""
    return plain.gradient(plain.combine(lambda w, g: w - rate * g, w, direction), batch)


def meta_gradient(w: plain.Weights, batch: Any, variant: str) -> plain.Weights:
    """What a step follows (Algorithm 1)."""
    g = after(w, batch, ALPHA, plain.gradient(w, batch))
    if variant == "FO":
        return g
    ahead, behind = after(w, batch, -DELTA, g), after(w, batch, DELTA, g)
    return plain.combine(lambda g, a, b: g - ALPHA * (a - b) / (2 * DELTA), g, ahead, behind)


def expected(variant: str) -> plain.Weights:
    w = plain.initial()
    for cohort in plain.COHORTS:
        trained = []
        for client in by_hand.counted(cohort):
            y = w
            for batch in plain.batches(client):
                y = plain.combine(lambda y, g: y - plain.RATE * g, y, meta_gradient(y, batch, variant))
            trained.append(y)
        w = by_hand.mean(trained, [1.0] * len(trained))
    return w


@pytest.mark.parametrize("variant", ["FO", "HF"])
def test_rounds_are_those_of_the_paper(variant: Any) -> None:
    process = hansa.learning.build_per_fed_avg(plain.model(), alpha=ALPHA, variant=variant, delta=DELTA)
    plain.assert_close(by_hand.rounds(process).model.trainable, expected(variant))
    assert np.abs(expected("FO")[1] - expected("HF")[1]).max() > 1e-3


def test_the_second_variant_follows_the_gradient_of_the_loss_after_a_step() -> None:
    """The gradient of F is found by differences of F itself."""
    w, batch = plain.initial(), plain.batches(0)[0]
    found = meta_gradient(w, batch, "HF")

    def loss(kernel: Any) -> float:
        at = (w[0], kernel)
        step = plain.gradient(at, batch)
        return plain.loss(plain.combine(lambda w, g: w - ALPHA * g, at, step), batch)

    for place in ((0, 0), (3, 2)):
        apart = np.zeros_like(w[1])
        apart[place] = 1e-5
        slope = (loss(w[1] + apart) - loss(w[1] - apart)) / 2e-5
        assert found[1][place] == pytest.approx(slope, rel=1e-3)


def test_clients_are_evaluated_before_and_after_training() -> None:
    process = hansa.learning.build_per_fed_avg(plain.model(), alpha=ALPHA)
    state = process.initialize()
    evaluation = hansa.learning.build_personalization_eval(
        process, client_optimizer="sgd", client_learning_rate=ALPHA, passes=2
    )
    results = evaluation(state, plain.population().select([0, 3]), plain.other_data().select([0, 3]))
    for result, client in zip(results, (0, 3), strict=True):
        w = plain.initial()
        for batch in plain.batches(client) * 2:
            w = plain.combine(lambda w, g: w - ALPHA * g, w, plain.gradient(w, batch))
        test = plain.all_other_of(client)
        assert result.baseline.loss == pytest.approx(plain.loss(plain.initial(), test), rel=1e-5)
        assert result.metrics.loss == pytest.approx(plain.loss(w, test), rel=1e-5)
        assert result.num_examples == plain.SIZES[client]
    told = hansa.learning.ClientMetrics.of(results).values["loss"]
    np.testing.assert_allclose(told, [result.metrics.loss for result in results])


def test_a_client_begins_with_weights_of_its_own_and_trains_some_of_them() -> None:
    process = hansa.learning.build_fed_per(plain.model(), personal="bias")
    state = by_hand.rounds(process, [[0]])
    evaluation = hansa.learning.build_personalization_eval(
        process, client_optimizer="sgd", client_learning_rate=ALPHA, personal="bias"
    )
    result = evaluation(state, plain.population().select([0]), plain.population().select([0]))[0]
    mine = state.clients["ann"].work.weights.trainable.bias
    w = np.float64(mine), np.float64(state.model.trainable.kernel)
    assert result.baseline.loss == pytest.approx(plain.loss(w, plain.all_of(0)), rel=1e-5)
    for batch in plain.batches(0):
        w = w[0] - ALPHA * plain.gradient(w, batch)[0], w[1]
    assert result.metrics.loss == pytest.approx(plain.loss(w, plain.all_of(0)), rel=1e-5)


def test_arguments_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="variant is 'FO' or 'HF', found 'both'"):
        hansa.learning.build_per_fed_avg(plain.model(), alpha=0.1, variant="both")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="alpha must be a number above 0, found 0"):
        hansa.learning.build_per_fed_avg(plain.model(), alpha=0)
    with pytest.raises(ValueError, match="passes must be an integer of at least 1"):
        hansa.learning.build_personalization_eval(plain.model(), passes=0)
