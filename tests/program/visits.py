"""A run that costs little, whose clients keep a part of the state: each adds up what it has seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

import hansa
from hansa import CLIENTS, SERVER
from hansa.program import TrainingResult, train

COUNT = 40
IDS = [f"client {i}" for i in range(COUNT)]


def seeing() -> hansa.templates.IterativeProcess:
    """Each client adds its examples to what it has, and counts; the server adds up the mean of one of its numbers."""

    @hansa.federated_computation
    def initialize() -> Any:
        own = {"seen": np.zeros(2000, np.float32), "times": np.int32(0)}
        return {"server": hansa.federated_value(np.float32(0), SERVER), "own": hansa.federated_value(own, CLIENTS)}

    kept = "<seen=float32[2000],times=int32>"

    @hansa.jax_computation(kept, "<x=float32[?]>")
    def look(own: Any, batch: Any) -> Any:
        return {"seen": own.seen + jnp.sin(own.seen + batch.x.sum()), "times": own.times + 1}

    @hansa.federated_computation(f"<server=float32@SERVER,own={{{kept}}}@CLIENTS>", "{<x=float32[?]>*}@CLIENTS")
    def next(state: Any, data: Any) -> Any:
        own = hansa.sequence_reduce(data, state.own, look)
        first = hansa.federated_map(hansa.jax_computation(lambda own: own.seen[0]), own)
        server = hansa.federated_map(
            hansa.jax_computation(lambda a, b: a + b), [state.server, hansa.federated_mean(first)]
        )
        return {"state": {"server": server, "own": own}, "times": hansa.federated_sum(own.times)}

    return hansa.templates.IterativeProcess(initialize, next)


SEEING = seeing()


def population() -> Any:
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 4, COUNT)
    clients = {name: {"x": rng.normal(size=n).astype(np.float32)} for name, n in zip(IDS, sizes, strict=True)}
    return hansa.simulation.ClientData.from_clients(clients).batch(2)


def run(folder: Path | None, rounds: int, **options: Any) -> TrainingResult:
    asked = {"cohort_size": 4, "seed": 3, "run_dir": folder, "checkpoint_every": 2, "progress": False}
    return train(SEEING, population(), rounds, **(asked | options))
