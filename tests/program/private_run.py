"""A private run that several tests look at: the mean of the clients' mean vectors, with noise, in one small program."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

import hansa
from hansa.privacy import Budget, Gaussian
from hansa.program import TrainingResult, train
from hansa.simulation import ClientData
from hansa.templates import IterativeProcess

CLIENTS, WEIGHTS = 40, 3
NOISE = 4.0
BUDGET = Budget(epsilon=30.0, delta=1e-5)


def population(shift: float = 0.0) -> ClientData:
    """40 clients with 4 examples each."""
    x = np.random.default_rng(7).normal(1.0, 1.0, (4 * CLIENTS, WEIGHTS)).astype(np.float32) + np.float32(shift)
    return ClientData.from_arrays({"x": x}, np.arange(4 * CLIENTS) % CLIENTS).batch(4)


def averaging(mechanism: Any = None, rate: float = 0.5, leak: bool = False) -> IterativeProcess:
    """Goes from a vector towards the clients' mean; with `leak`, a metric is made of the clients without noise."""
    mechanism = Gaussian(NOISE) if mechanism is None else mechanism
    state = hansa.types.TensorType("float32", (WEIGHTS,))
    start = hansa.jax_computation(lambda: jnp.zeros(WEIGHTS, jnp.float32))

    zero = hansa.jax_computation(lambda: jnp.zeros(WEIGHTS, jnp.float32))
    added = hansa.jax_computation(lambda s, batch: s + batch.x.mean(0), state, f"<x=float32[?,{WEIGHTS}]>")
    minus = hansa.jax_computation(lambda x, y: x - y, state, state)

    @hansa.federated_computation(state, f"<x=float32[?,{WEIGHTS}]>*")
    def towards(center: Any, batches: Any) -> Any:
        return minus(hansa.sequence_reduce(batches, zero(), added), center)

    @hansa.jax_computation(state, state)
    def moved(center: Any, noised: Any) -> Any:
        return center + rate * 4.0 * noised / (CLIENTS / 4)

    @hansa.federated_computation
    def initialize() -> Any:
        return hansa.federated_eval(start, hansa.SERVER)

    @hansa.federated_computation(
        hansa.FederatedType(state, hansa.SERVER),
        f"{{<x=float32[?,{WEIGHTS}]>*}}@CLIENTS",
    )
    def step(center: Any, data: Any) -> Any:
        sent = hansa.federated_broadcast(center)
        moves = hansa.federated_map(towards, (sent, data))
        noised = hansa.federated_private_sum(moves, 4.0, mechanism)
        following = hansa.federated_map(moved, (center, noised))
        if not leak:
            return following
        return {"state": following, "metrics": {"sum": hansa.federated_sum(moves)}}

    return IterativeProcess(initialize, step)


PROCESS = averaging()


def run(folder: Path | None, rounds: int = 6, process: IterativeProcess = PROCESS, **options: Any) -> TrainingResult:
    """The run, or its next rounds."""
    asked: dict[str, Any] = {
        "cohort_size": 10, "privacy": BUDGET, "run_dir": folder, "checkpoint_every": 2, "progress": False
    }  # fmt: skip
    data = options.pop("data", None)
    return train(process, population() if data is None else data, rounds, **(asked | options))


def seeded_like(folder: Path, other: Path) -> None:
    """Makes a new run's folder with the secrets of another run."""
    (folder / "private").mkdir(parents=True, mode=0o700)
    (folder / "private").chmod(0o700)
    shutil.copy2(other / "private" / "secrets.json", folder / "private")
