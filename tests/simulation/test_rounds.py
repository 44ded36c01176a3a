"""Populations, partitioners and samplers in rounds of federated averaging, against lists of batches made by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import optax
import pytest

import hansa
from hansa.learning import BatchOutput
from hansa.simulation import ClientData, UniformSampler, load_digits, partition_dirichlet

CLIENTS, COHORT, ROUNDS, EPOCHS, BATCH = 30, 6, 5, 2, 16


def forward(weights: Any, batch: Any, training: bool, rng: Any) -> BatchOutput:
    logits = batch.x @ weights["kernel"]
    return BatchOutput(optax.softmax_cross_entropy_with_integer_labels(logits, batch.y).mean(), logits)


def process() -> Any:
    model = hansa.learning.functional_model(
        {"kernel": np.zeros((64, 10), np.float32)},
        forward,
        input_spec="<x=float32[?,64],y=int32[?]>",
        optimizer=optax.sgd(0.2),
    )
    return hansa.learning.build_federated_averaging_process(model)


@pytest.mark.parametrize("shuffled", [False, True], ids=["resident", "shuffled"])
def test_rounds_equal_those_of_batches_made_by_hand(shuffled: bool) -> None:
    digits = load_digits()
    x, y = digits.train_images, digits.train_labels
    client_of = partition_dirichlet(y, CLIENTS, 0.3, seed=1)
    plan = ClientData.from_arrays({"x": x, "y": y}, client_of).repeat(EPOCHS).batch(BATCH)
    data = plan.shuffle(7) if shuffled else plan
    sampler = UniformSampler(len(data), COHORT, seed=2)

    found, expected = process(), process()
    state, by_hand = found.initialize(), expected.initialize()
    for round_number in range(ROUNDS):
        cohort = sampler(round_number)
        state, metrics = found.next(state, data.cohort(cohort, round_number))
        clients = []
        for client in cohort:
            own = np.flatnonzero(client_of == client)
            if shuffled:  # which order is another test's matter: here, that the model sees it
                images = data.client(client, round_number)["x"].reshape(EPOCHS, len(own), 64)
                epochs = [[own[(x[own] == image).all(1).argmax()] for image in epoch] for epoch in images]
                assert len(set(map(str, epochs))) == EPOCHS
            else:
                epochs = [own.tolist()] * EPOCHS
            clients.append(
                [
                    {"x": x[rows[i : i + BATCH]], "y": y[rows[i : i + BATCH]]}
                    for rows in epochs
                    for i in range(0, len(rows), BATCH)
                ]
            )
        by_hand, metrics_by_hand = expected.next(by_hand, clients)
        assert float(metrics.loss) == pytest.approx(float(metrics_by_hand.loss), rel=1e-5)
        assert float(metrics.num_examples) == EPOCHS * sum((client_of == client).sum() for client in cohort)
    kernels = [np.asarray(end.model.trainable["kernel"]) for end in (state, by_hand)]
    assert abs(kernels[0]).max() > 0.1
    np.testing.assert_allclose(*kernels, rtol=1e-4, atol=1e-6)
    assert float(metrics.loss) < 2.0
