"""A chain of dense layers in plain JAX, for the comparison of algorithms. Runs in either side's JAX."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

DOMAINS, DOMAIN_WEIGHTS, DOMAIN_RATE, WINDOW = 2, (0.3, 0.7), 0.1, 2
MOMENTUM, PROXIMAL = 0.9, 0.1


def logits(weights: Sequence[Any], x: Any) -> Any:
    """Of kernels and biases in turn, with ReLU between the layers."""
    for number in range(0, len(weights), 2):
        x = (jax.nn.relu(x) if number else x) @ weights[number] + weights[number + 1]
    return x


def losses(weights: Sequence[Any], x: Any, y: Any) -> Any:
    """The loss of each example, of labels [examples] or [examples, 1]."""
    return of_scores(logits(weights, x), y)


def of_scores(scores: Any, y: Any) -> Any:
    """The cross entropy of each example."""
    return -jnp.take_along_axis(jax.nn.log_softmax(scores), y.reshape(-1, 1), 1)[:, 0]


def domains(y: np.ndarray) -> np.ndarray:
    """The domain of each example: whether its label is odd."""
    return (y.reshape(-1) % DOMAINS).astype(np.int32)


def two_starts(weights: Sequence[np.ndarray]) -> list[list[np.ndarray]]:
    """Two models for clustering to begin with: the one that is given, and one near it."""
    rng = np.random.default_rng(1)
    return [list(weights), [w + rng.normal(0, 0.1, w.shape).astype(np.float32) for w in weights]]
