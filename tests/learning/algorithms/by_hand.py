"""What rounds of the algorithms' NumPy versions have in common: SGD on a client's batches, means of clients' values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.learning.algorithms import plain
from tests.learning.algorithms.plain import Weights, combine

Direction = Callable[[Weights, Weights], Weights]
"""From the gradient and the weights to what a step follows."""


def rounds(process: Any, cohorts: list[list[int]] = plain.COHORTS) -> Any:
    """The state of a process after some rounds."""
    state = process.initialize()
    for cohort in cohorts:
        state, _ = process.next(state, plain.population().select(cohort))
    return state


def counted(cohort: list[int]) -> list[int]:
    """The clients of a cohort that are not left out."""
    return [client for client in cohort if not plain.left_out(client)]


def sgd(start: Weights, client: int, direction: Direction | None = None, momentum: float = 0.0) -> Weights:
    """The weights after a step on each batch of a client."""
    w, v = start, plain.zeros()
    for batch in plain.batches(client):
        g = plain.gradient(w, batch)
        g = g if direction is None else direction(g, w)
        v = combine(lambda v, g: momentum * v + g, v, g)
        w = combine(lambda w, v: w - plain.RATE * v, w, v)
    return w


def full_gradient(w: Weights, client: int) -> Weights:
    """The mean gradient over all examples of a client."""
    return plain.gradient(w, plain.all_of(client))


def full_loss(w: Weights, client: int) -> float:
    """The mean loss over all examples of a client."""
    return plain.loss(w, plain.all_of(client))


def mean(values: list[Weights], weights: list[float]) -> Weights:
    """The weighted mean of clients' values."""
    shares = np.array(weights) / sum(weights)
    return combine(lambda *each: sum(p * w for p, w in zip(shares, each, strict=True)), *values)


def subtract(a: Weights, b: Weights) -> Weights:
    """The difference of weights."""
    return combine(np.subtract, a, b)


def norm(a: Weights) -> float:
    """The squared norm of weights."""
    return float(sum((part**2).sum() for part in a))
