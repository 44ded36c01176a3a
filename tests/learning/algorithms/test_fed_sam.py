"""FedSAM beside NumPy with 64 bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import hansa
from tests.learning.algorithms import by_hand, plain
from tests.program.digits import assert_same_bits

RHO = 0.3


def rounds_by_hand(rho: float) -> plain.Weights:
    """The model after all rounds."""
    model = plain.initial()
    for cohort in plain.COHORTS:
        clients, updates = by_hand.counted(cohort), []
        for client in clients:
            w = model
            for batch in plain.batches(client):
                g = plain.gradient(w, batch)
                length = np.sqrt(sum((part**2).sum() for part in g))
                there = plain.combine(lambda w, g, k=rho / length: w + k * g, w, g)
                w = plain.combine(lambda w, g: w - plain.RATE * g, w, plain.gradient(there, batch))
            updates.append(w)
        model = by_hand.mean(updates, [plain.SIZES[client] for client in clients])
    return model


def test_rounds_are_those_of_the_paper() -> None:
    process = hansa.learning.build_fed_sam(plain.model(), rho=RHO)
    plain.assert_close(by_hand.rounds(process).model.trainable, rounds_by_hand(RHO))
    assert np.abs(rounds_by_hand(RHO)[1] - rounds_by_hand(0)[1]).max() > 1e-3


@pytest.mark.slow
def test_at_the_weights_themselves_it_is_averaging_to_the_bit() -> None:
    average = hansa.learning.build_federated_averaging_process(plain.model())
    sam = hansa.learning.build_fed_sam(plain.model(), rho=0)
    assert_same_bits(*(by_hand.rounds(process).model for process in (average, sam)))


def test_a_gradient_of_zero_has_no_direction() -> None:
    def forward(weights: Any, batch: Any, training: bool, rng: Any) -> Any:
        return hansa.learning.BatchOutput(0.0 * weights["w"].sum() * batch.x.mean(), batch.x)

    model = hansa.learning.functional_model(
        {"w": np.ones(2, np.float32)}, forward, input_spec="<x=float32[?]>", optimizer="sgd", learning_rate=0.1
    )
    process = hansa.learning.build_fed_sam(model, rho=1)
    state, metrics = process.next(process.initialize(), [[{"x": np.ones(3, np.float32)}]])
    np.testing.assert_array_equal(state.model.trainable.w, [1, 1])
    assert metrics.num_non_finite_clients == 0


def test_a_distance_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="rho must be a number at least 0, found -1"):
        hansa.learning.build_fed_sam(plain.model(), rho=-1)
