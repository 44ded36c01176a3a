"""The models of the experiments, in plain JAX: softmax regression, and a network with a hidden layer."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import jax
import numpy as np
import optax

from hansa import learning


def network(sizes: tuple[int, ...], *, optimizer: Any = None, seed: int = 0) -> learning.FunctionalModel:
    """Dense layers with relu between them, for rows of numbers and a class of each.

    Args:
        sizes: of the input, the hidden layers and the classes; without hidden layers weights begin at zero, which is
            as good as any start there.
        optimizer: the clients', for algorithms that are given none.
        seed: decides the first weights.

    Returns:
        A model of batches `<x=float32[?,sizes[0]],y=int32[?]>`, with the metrics `accuracy` and `loss`. Its weights are
        called `hidden_1/kernel`, `hidden_1/bias` and so on; those of the last layer `output/kernel`, `output/bias`.
    """
    draws = np.random.default_rng(seed)
    names = [*(f"hidden_{number}" for number in range(1, len(sizes) - 1)), "output"]
    weights = {
        name: {
            "kernel": draws.normal(0, np.sqrt((1 if name == "output" else 2) / into), (into, out)).astype(np.float32)
            * np.float32(len(names) > 1),
            "bias": np.zeros(out, np.float32),
        }
        for name, (into, out) in zip(names, pairwise(sizes), strict=True)
    }

    def forward(weights: Any, batch: Any, training: bool, key: Any) -> learning.BatchOutput:
        x = batch.x
        for name in names:
            x = x @ weights[name]["kernel"] + weights[name]["bias"]
            x = x if name == "output" else jax.nn.relu(x)
        return learning.BatchOutput(optax.softmax_cross_entropy_with_integer_labels(x, batch.y).mean(), x)

    return learning.functional_model(
        weights,
        forward,
        input_spec=f"<x=float32[?,{sizes[0]}],y=int32[?]>",
        metrics={"accuracy": lambda labels, logits, sample_weight: logits.argmax(axis=1) == labels},
        optimizer=optimizer,
        name="network",
    )
