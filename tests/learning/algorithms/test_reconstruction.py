"""Federated reconstruction beside NumPy with 64 bits: local weights of some data, global ones of other data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import hansa
from tests.learning.algorithms import by_hand, plain

LOCAL_RATE, PASSES = 0.5, 2


def expected(split: bool) -> plain.Weights:
    """The model after all rounds (Algorithm 1), with the bias as the local weights."""
    bias, kernel = plain.initial()
    for cohort in plain.COHORTS:
        updates, sizes = [], []
        for client in by_hand.counted(cohort):
            batches = plain.batches(client)
            support, query = (batches[::2], batches[1::2]) if split else (batches, batches)
            mine, g = bias, kernel
            for batch in support * PASSES:
                mine = mine - LOCAL_RATE * plain.gradient((mine, g), batch)[0]
            for batch in query:
                g = g - plain.RATE * plain.gradient((mine, g), batch)[1]
            updates.append((bias, g))
            sizes.append(float(sum(len(y) for _, y in query)))
        if sum(sizes):
            bias, kernel = by_hand.mean(updates, sizes)
    return bias, kernel


def build(split: bool) -> Any:
    return hansa.learning.build_reconstruction(
        plain.model(),
        local="bias",
        reconstruction_optimizer="sgd",
        reconstruction_learning_rate=LOCAL_RATE,
        reconstruction_passes=PASSES,
        split_dataset=split,
    )


@pytest.mark.parametrize("split", [True, False])
def test_rounds_are_those_of_the_paper(split: bool) -> None:
    process = build(split)
    state = by_hand.rounds(process)
    plain.assert_close(state.model.trainable, expected(split))
    assert process.client_work.run.type_signature.result["update"]["trainable"].names == ("kernel",)
    assert np.abs(expected(True)[1] - expected(False)[1]).max() > 1e-3


def test_metrics_are_of_the_query_set_and_who_has_none_is_left_out() -> None:
    process = build(True)
    begun = process.initialize()
    _, metrics = process.next(begun, plain.population().select([0, 1]))
    assert metrics.num_examples == 4 + 3
    one_batch = [[{"x": np.ones((4, plain.FEATURES), np.float32), "y": np.zeros(4, np.int32)}]]
    after, metrics = process.next(begun, one_batch)
    assert metrics.model_unchanged and metrics.num_empty_clients == 1 and after == begun


def test_clients_are_evaluated_with_weights_that_are_found_on_other_data() -> None:
    process = build(True)
    state = by_hand.rounds(process, [[0, 1]])
    evaluation = hansa.learning.build_personalization_eval(
        process, personal="bias", client_optimizer="sgd", client_learning_rate=LOCAL_RATE
    )
    result = evaluation(state, plain.population().select([0]), plain.other_data().select([0]))[0]
    bias, kernel = plain.as_numpy(state.model.trainable)
    for batch in plain.batches(0):
        bias = bias - LOCAL_RATE * plain.gradient((bias, kernel), batch)[0]
    assert result.metrics.loss == pytest.approx(plain.loss((bias, kernel), plain.all_other_of(0)), rel=1e-5)


def test_arguments_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="local: there is no weight 'user'"):
        hansa.learning.build_reconstruction(plain.model(), local="user")
    with pytest.raises(ValueError, match="all trainable weights of the model 'forward' are local"):
        hansa.learning.build_reconstruction(plain.model(), local=["bias", "kernel"])
