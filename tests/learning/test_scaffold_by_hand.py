"""State at the clients, used for what it is for: SCAFFOLD, with some of the clients in each round."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hansa
from tests.learning.scaffold import scaffold

SIZES, BATCH, RATE, COHORTS = [30, 50, 20, 40], 20, 0.1, [[0, 2], [1, 2, 3], [3, 0]]
IDS = ["ann", "bo", "cy", "di"]
RUNTIMES = {
    "whole": hansa.InProcessRuntime,
    "in chunks": lambda: hansa.InProcessRuntime(clients_per_chunk=1),
    "several at once on one device": lambda: hansa.InProcessRuntime(jax.devices()[:1], clients_at_once=2),
    "reference": hansa.ReferenceRuntime,
}


def loss(weights: Any, batch: Any) -> Any:
    scores = jax.nn.log_softmax(batch.x @ weights.w + weights.b)
    return -jnp.take_along_axis(scores, batch.y[:, None], 1).mean()


def gradient(w: Any, b: Any, x: Any, y: Any) -> list[Any]:
    p = np.exp(x @ w + b)
    p /= p.sum(1, keepdims=True)
    p[np.arange(len(y)), y] -= 1
    return [x.T @ p / len(y), p.mean(0)]


def by_hand(x: Any, y: Any) -> tuple[Any, Any, Any]:
    """The model, the server's control and the clients' after three rounds, in NumPy and 64 bits."""
    offsets = np.cumsum([0, *SIZES])
    model, c = [np.zeros((6, 3)), np.zeros(3)], [np.zeros((6, 3)), np.zeros(3)]
    own = [[np.zeros((6, 3)), np.zeros(3)] for _ in SIZES]
    for cohort in COHORTS:
        moved, controls = [], []
        for i in cohort:
            local, steps = [part.copy() for part in model], 0
            for first in range(offsets[i], offsets[i + 1], BATCH):
                rows = slice(first, min(first + BATCH, offsets[i + 1]))
                found = gradient(*local, x[rows].astype(float), y[rows])
                local = [v - RATE * (g - mine + all_) for v, g, mine, all_ in zip(local, found, own[i], c, strict=True)]
                steps += 1
            new = [
                mine - all_ + (at - v) / (steps * RATE)
                for mine, all_, at, v in zip(own[i], c, model, local, strict=True)
            ]
            moved.append([v - at for v, at in zip(local, model, strict=True)])
            controls.append([a - b for a, b in zip(new, own[i], strict=True)])
            own[i] = new
        model = [at + np.mean([each[k] for each in moved], 0) for k, at in enumerate(model)]
        share = len(cohort) / len(SIZES)
        c = [all_ + share * np.mean([each[k] for each in controls], 0) for k, all_ in enumerate(c)]
    return model, c, own


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_scaffold_is_that_of_the_paper(runtime: str) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(sum(SIZES), 6)).astype(np.float32), rng.integers(0, 3, sum(SIZES)).astype(np.int32)
    data = hansa.ClientBatches({"x": x, "y": y}, np.cumsum([0, *SIZES]), BATCH, IDS)
    weights = hansa.Struct.of(w=np.zeros((6, 3), np.float32), b=np.zeros(3, np.float32))
    process = scaffold(weights, loss, hansa.to_type("<x=float32[?,6],y=int32[?]>"), RATE, len(SIZES))
    with hansa.runtime(RUNTIMES[runtime]()):
        state = process.initialize()
        for cohort in COHORTS:
            state, _ = process.next(state, data.select(cohort))
    model, control, own = by_hand(x, y)
    found = [state.server.x, state.server.c, *state.clients.select(IDS)]
    for part, expected in zip(found, [model, control, *own], strict=True):
        np.testing.assert_allclose(part.w, expected[0], atol=1e-6)
        np.testing.assert_allclose(part.b, expected[1], atol=1e-6)
