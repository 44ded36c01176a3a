"""Draws client_accuracy.png: python docs/images/client_accuracy.py"""

from pathlib import Path

import numpy as np
import optax

import hansa
from hansa.learning import BatchOutput

PICTURE = Path(__file__).with_suffix(".png")
CLIENTS = 120


def forward(weights, batch, training, rng):
    logits = batch.x @ weights["kernel"] + weights["bias"]
    return BatchOutput(optax.softmax_cross_entropy_with_integer_labels(logits, batch.y).mean(), logits)


def population():
    """Digits of 120 clients, most of whom have few of some digits; the first sixteenth reads its images mirrored."""
    digits, random = hansa.simulation.load_digits(), np.random.default_rng(0)
    shares = random.dirichlet(np.full(CLIENTS, 0.4), size=10)
    owners = np.array([random.choice(CLIENTS, p=shares[digit]) for digit in digits.train_labels])
    order = np.argsort(owners, kind="stable")
    x, y = digits.train_images[order], digits.train_labels[order].astype("int32")
    mirrored = owners[order] < CLIENTS // 16
    x[mirrored] = x[mirrored].reshape(-1, 8, 8)[:, :, ::-1].reshape(-1, 64)
    offsets = np.searchsorted(owners[order], np.arange(CLIENTS + 1))
    return hansa.ClientBatches({"x": x, "y": y}, offsets, batch_size=10)


def client_metrics():
    """The metrics of each client after twenty rounds of federated averaging."""
    model = hansa.learning.functional_model(
        {"kernel": np.zeros((64, 10)), "bias": np.zeros(10)},
        forward,
        input_spec="<x=float32[?,64],y=int32[?]>",
        metrics={"accuracy": lambda labels, logits, sample_weight: logits.argmax(axis=1) == labels},
        optimizer=optax.sgd(0.3),
    )
    clients = population()
    process = hansa.learning.build_federated_averaging_process(model)
    state = process.initialize()
    for _ in range(20):
        state, _ = process.next(state, clients)
    results = hansa.learning.build_per_client_evaluation(model)(state.model, clients)
    return hansa.learning.ClientMetrics.of(results, [f"client {i}" for i in range(CLIENTS)])


if __name__ == "__main__":
    client_metrics().plot("accuracy", PICTURE)
    print(PICTURE)
