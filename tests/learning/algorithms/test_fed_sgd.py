"""FedSGD beside NumPy with 64 bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import optax
import pytest

import hansa
from hansa.learning import build_fed_sgd
from tests.learning.algorithms import by_hand, plain

MODEL = plain.model()


@pytest.mark.parametrize(
    ("given", "rate"),
    [
        ({}, 0.1),
        pytest.param({"server_optimizer": optax.sgd(0.5), "client_weighting": "uniform"}, 0.5, marks=pytest.mark.slow),
    ],
)
def test_rounds_are_those_of_the_paper(given: dict[str, Any], rate: float) -> None:
    w = plain.initial()
    for cohort in plain.COHORTS:
        counted = by_hand.counted(cohort)
        sizes = [1.0 if "client_weighting" in given else plain.SIZES[client] for client in counted]
        g = by_hand.mean([by_hand.full_gradient(w, client) for client in counted], sizes)
        w = plain.combine(lambda w, g: w - rate * g, w, g)
    plain.assert_close(by_hand.rounds(build_fed_sgd(MODEL, **given)).model.trainable, w)


@pytest.mark.slow
def test_one_batch_each_is_averaging_of_one_step() -> None:
    whole = hansa.ClientBatches(dict(zip("xy", plain.examples(), strict=True)), np.cumsum([0, *plain.SIZES]), 16)
    sgd = build_fed_sgd(MODEL, server_learning_rate=plain.RATE)
    average = hansa.learning.build_federated_averaging_process(MODEL)
    (a, told), (b, _) = (process.next(process.initialize(), whole) for process in (sgd, average))
    plain.assert_close(a.model.trainable, plain.as_numpy(b.model.trainable), 1e-6)
    assert told.num_examples == 30 and told.num_non_finite_clients == 1 and told.num_empty_clients == 1


def test_statistics_of_batches_are_those_that_clients_have_met() -> None:
    def forward(both: Any, batch: Any, training: bool, rng: Any) -> Any:
        weights, state = both
        loss = (weights["w"] * batch.x).mean()
        return hansa.learning.BatchOutput(loss), {"mean": 0.5 * state["mean"] + 0.5 * batch.x.mean()}

    model = hansa.learning.functional_model(
        {"w": np.float32(1)},
        forward,
        input_spec="<x=float32[?]>",
        non_trainable={"mean": np.float32(0)},
    )
    process = build_fed_sgd(model, server_learning_rate=1.0)
    state, _ = process.next(process.initialize(), [[{"x": np.float32([1, 3])}, {"x": np.float32([8])}]])
    assert float(state.model.trainable.w) == 1 - 4 and float(state.model.non_trainable["mean"]) == 0.5 * 1 + 0.5 * 8
