"""Rounds of changing cohorts of ragged clients compile nothing after the second, whatever clients keep or send."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import hansa
from hansa import aggregators
from hansa.runtimes.inprocess import runtime as inprocess
from tests.learning.algorithms import plain

CLIENTS, COHORT, ROUNDS = 100, 20, 50

AVERAGING: Callable[..., Any] = hansa.learning.build_federated_averaging_process
BUILDERS: dict[str, Callable[[Any], Any]] = {
    "averaging with a median": lambda model: AVERAGING(model, aggregator=aggregators.median()),
    "SCAFFOLD": lambda model: hansa.learning.build_scaffold(model, client_learning_rate=0.1, population=CLIENTS),
    "error feedback": lambda model: AVERAGING(model, aggregator=aggregators.quantised(bits=4, error_feedback=True)),
}


def population() -> hansa.ClientBatches:
    rng = np.random.default_rng(3)
    offsets = np.cumsum([0, *rng.integers(5, 16, CLIENTS)])
    x = rng.normal(size=(offsets[-1], plain.FEATURES)).astype(np.float32)
    y = rng.integers(0, plain.CLASSES, offsets[-1]).astype(np.int32)
    return hansa.ClientBatches({"x": x, "y": y}, offsets, plain.BATCH, list(range(CLIENTS)))


@pytest.mark.slow
@pytest.mark.parametrize("apart", [False, True], ids=["on each device", "on the first"])
@pytest.mark.parametrize("name", BUILDERS)
def test_no_round_after_the_second_compiles(name: str, apart: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if apart:  # What the server has of each client, where it has that.
        monkeypatch.setattr(inprocess, "_ON_EACH", 0)
    runtime, rng, data = hansa.InProcessRuntime(), np.random.default_rng(4), population()
    with hansa.runtime(runtime):
        process = BUILDERS[name](plain.model())
        state, compiled = process.initialize(), []
        for _ in range(ROUNDS):
            state, _ = process.next(state, data.select(rng.choice(CLIENTS, COHORT, replace=False)))
            compiled.append(runtime.compilations)
    assert compiled[0] > 0 and compiled[1:] == [compiled[1]] * (ROUNDS - 1)
