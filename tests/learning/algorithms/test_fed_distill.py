"""Federated distillation beside NumPy with 64 bits: each client's model, and what all say of each class."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import hansa
from tests.learning.algorithms import by_hand, plain

GAMMA, C = 0.7, plain.CLASSES


def probabilities(w: plain.Weights, x: Any) -> Any:
    scores = x @ w[1] + w[0]
    shares = np.exp(scores - scores.max(1, keepdims=True))
    return shares / shares.sum(1, keepdims=True)


def told(w: plain.Weights, client: int) -> tuple[Any, Any]:
    """F_k, and of which classes the client has examples."""
    x, y = plain.all_of(client)
    found, p = np.zeros((C, C)), probabilities(w, x)
    there = np.array([label in y for label in range(C)])
    for label in np.flatnonzero(there):
        found[label] = p[y == label].mean(0)
    return found, there


def expected(cohorts: list[list[int]]) -> tuple[dict[int, plain.Weights], Any]:
    """The clients' models after some rounds, and the mean outputs of the last one."""
    models: dict[int, plain.Weights] = {}
    last: dict[int, tuple[Any, Any]] = {}
    for cohort in cohorts:
        now = {}
        for k in by_hand.counted(cohort):
            w = models.get(k, plain.initial())
            now[k] = told(w, k)
            others = [each for client, each in last.items() if client != k]
            for x, y in plain.batches(k):
                error = probabilities(w, x)
                g = error - np.eye(C)[y]
                for row, label in enumerate(y):
                    said = [found[label] for found, there in others if there[label]]
                    if said:
                        g[row] += GAMMA * (error[row] - np.mean(said, 0))
                step = g.mean(0), x.T @ g / len(y)
                w = plain.combine(lambda w, g: w - plain.RATE * g, w, step)
            models[k] = w
        last = now
    every = np.zeros((C, C))
    for label in range(C):
        said = [found[label] for found, there in last.values() if there[label]]
        every[label] = np.mean(said, 0) if said else 0
    return models, every


def test_rounds_are_those_of_the_paper() -> None:
    cohorts = [*plain.COHORTS, [0, 1, 3], [0, 1]]
    process = hansa.learning.build_fed_distill(plain.model(), num_classes=C, gamma=GAMMA)
    state = by_hand.rounds(process, cohorts)
    models, outputs = expected(cohorts)
    for client, w in models.items():
        plain.assert_close(state.clients[plain.IDS[client]].work.model.trainable, w, 1e-6)
    np.testing.assert_allclose(state.finalizer.outputs, outputs, atol=1e-6)
    plain.assert_close(state.model.trainable, plain.initial(), 1e-7)  # which nobody sends
    evaluation = hansa.learning.build_per_client_evaluation(process)
    loss = evaluation(state, plain.population().select([3]))[0].metrics.loss
    assert loss == pytest.approx(plain.loss(models[3], plain.all_of(3)), rel=1e-5)


def test_wrong_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="num_classes must be an integer, at least 2; found 1"):
        hansa.learning.build_fed_distill(plain.model(), num_classes=1)
    with pytest.raises(ValueError, match="gamma must be a number at least 0, found -1"):
        hansa.learning.build_fed_distill(plain.model(), num_classes=C, gamma=-1)
    with pytest.raises(ValueError, match=r"federated distillation takes predictions of the shape \[examples, 4\]"):
        hansa.learning.build_fed_distill(plain.model(), num_classes=4)
