"""One of several processes whose devices are one mesh: prints, as JSON, digests of what it has computed, and what it
was refused, as its data is not that of the first one.

    python -m tests.runtimes.inprocess.several_processes PORT PROCESSES NUMBER
"""

from __future__ import annotations

import hashlib
import json
import sys
from typing import Any

import jax
import numpy as np

import hansa
from tests.runtimes.ray.session import BATCH, CLIENTS, COHORTS, bits, model, population, two_stages


def computed() -> dict[str, str]:
    """Digests of the results of a few calls, by name."""
    data, found = population(), {}
    process = hansa.learning.build_scaffold(model(), client_learning_rate=0.1, population=CLIENTS)
    state = process.initialize()
    for i, cohort in enumerate(COHORTS):
        state, metrics = process.next(state, data.select(cohort))
        found[f"scaffold {i}"] = _digest([state, metrics])
    values = list(np.random.default_rng(3).normal(size=(83, 5)).astype(np.float32))
    return {**found, "two stages": _digest(two_stages()(values))}


def refused(number: int) -> list[str]:
    """What is said where the processes have other examples, other clients, and other values at the server."""
    data, said = population(), []
    evaluation = hansa.learning.build_federated_evaluation(model())
    weights = hansa.learning.build_federated_averaging_process(model()).initialize().model
    rows = {name: array.copy() for name, array in data.examples.rows._items()}
    rows["x"][0, 0] += number
    other = hansa.ClientBatches(rows, np.append(data.starts, data.examples.size), BATCH, data.client_ids)
    turned = data.select(COHORTS[0][:: 1 - 2 * number])
    moved = jax.tree.map(lambda leaf: leaf + np.asarray(number, leaf.dtype), weights)
    for state, clients in ((weights, other), (weights, turned), (moved, data)):
        try:
            evaluation(state, clients)
        except ValueError as error:
            said.append(str(error))
    return said


def _digest(value: Any) -> str:
    return hashlib.sha256(b"".join(bits(value))).hexdigest()


if __name__ == "__main__":
    port, processes, number = map(int, sys.argv[1:4])
    jax.distributed.initialize(f"127.0.0.1:{port}", processes, number)
    told = {"devices": len(jax.devices()), "computed": computed(), "refused": refused(number)}
    print(json.dumps(told))
