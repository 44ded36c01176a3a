"""What a round costs on Ray beside the same round in one process: `python -m benchmarks.cluster.rounds [WORKERS]`.

McMahan's 2NN (784-200-200-10, 199,210 weights) on random images, made once with a seed: what is measured is where time
and bytes go, and that does not depend on what is in the images. Three tables are printed:

- a round of eight clients with one batch each: by where the time goes in the driver, of the quickest of many rounds;
- a round of 100 clients with 60 batches each;
- the memory of the driver by the number of clients in a round.

The driver and two workers are three processes, and take turns where there are two cores. On a busy machine the quickest
round says most; seconds of CPU are given beside it.
"""

from __future__ import annotations

import gc
import itertools
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
import ray

import hansa
from hansa.runtimes.ray import clients, folding
from hansa.runtimes.stages.devices import Devices
from hansa.runtimes.stages.workplace import Workplace

BATCH = 10


def model() -> hansa.learning.FunctionalModel:
    """The 2NN."""
    rng, sizes = np.random.default_rng(0), (784, 200, 200, 10)
    layers = [
        {"w": rng.normal(0, m**-0.5, (m, n)).astype("float32"), "b": np.zeros(n, np.float32)}
        for m, n in itertools.pairwise(sizes)
    ]

    def forward(weights: Any, batch: Any, training: bool, key: Any) -> hansa.learning.BatchOutput:
        x = batch.x
        for i, layer in enumerate(weights):
            x = x @ layer["w"] + layer["b"]
            x = jax.nn.relu(x) if i < 2 else x
        losses = optax.softmax_cross_entropy_with_integer_labels(x, batch.y)
        return hansa.learning.BatchOutput(losses.mean(), x)

    batch = "<x=float32[?,784],y=int32[?]>"
    return hansa.learning.functional_model(layers, forward, input_spec=batch, optimizer=optax.sgd(0.1))


def population(number: int, batches: int) -> hansa.ClientBatches:
    """Clients with so many batches each."""
    rng, rows = np.random.default_rng(1), number * batches * BATCH
    arrays = {"x": rng.random((rows, 784), np.float32), "y": rng.integers(0, 10, rows).astype("int32")}
    return hansa.ClientBatches(arrays, np.arange(number + 1) * batches * BATCH, BATCH)


@contextmanager
def watched(spent: dict[str, float]) -> Iterator[None]:
    """Notes, in the block, for how long the driver is in the parts of a round."""
    parts: list[tuple[str, Any, str]] = [
        ("put what is sent", clients.ray, "put"),
        ("wait for workers", ray, "wait"),
        ("get states", clients.ray, "get"),
        ("merge states", Workplace, "merge"),
        ("states of nobody", Workplace, "zero"),
        ("tell workers", folding.Folding, "_give"),
        ("the server's programs", Devices, "execute"),
    ]
    before = [getattr(owner, name) for _, owner, name in parts]
    inside: list[str] = []

    def timed(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            begun = time.perf_counter()
            inside.append(part)
            try:
                return function(*args, **named)
            finally:
                inside.pop()
                if not inside:
                    spent[part] = spent.get(part, 0.0) + time.perf_counter() - begun

        return call

    for (part, owner, name), function in zip(parts, before, strict=True):
        setattr(owner, name, timed(part, function))
    try:
        yield
    finally:
        for (_, owner, name), function in zip(parts, before, strict=True):
            setattr(owner, name, function)


def quickest(call: Callable[[], Any], times: int) -> tuple[float, float, dict[str, float]]:
    """The seconds of the quickest of some calls, the CPU seconds of this process for it, and where it went."""
    best: tuple[float, float, dict[str, float]] = (float("inf"), 0.0, {})
    for _ in range(times):
        spent: dict[str, float] = {}
        with watched(spent):
            cpu, begun = time.process_time(), time.perf_counter()
            jax.block_until_ready(jax.tree.leaves(call()))
            best = min(best, (time.perf_counter() - begun, time.process_time() - cpu, spent), key=lambda one: one[0])
    return best


def resident() -> float:
    """MiB of memory of this process that no file and no other process shares."""
    gc.collect()
    fields = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    return int(fields["RssAnon"].split()[0]) / 1024


def main(workers: int) -> None:
    """Prints the tables."""
    process = hansa.learning.build_federated_averaging_process(model())
    state = process.initialize()
    here = hansa.InProcessRuntime()
    with hansa.RayRuntime(workers) as there:
        there.describe()
        for title, data, times in (
            ("8 clients with one batch each", population(8, 1), 60),
            ("100 clients with 60 batches each", population(100, 60), 4),
        ):
            print(f"\n{title}: quickest of {times} rounds", flush=True)
            for name, runtime in (("in process", here), (f"{there}", there)):
                with hansa.runtime(runtime):
                    for _ in range(3):
                        process.next(state, data)
                    seconds, cpu, spent = quickest(lambda data=data: process.next(state, data), times)
                print(f"{name:28}{1e3 * seconds:9.1f} ms, {1e3 * cpu:7.1f} ms of this process's CPUs")
                for part, each in sorted(spent.items(), key=lambda one: -one[1]) if runtime is there else ():
                    print(f"    {part:24}{1e3 * each:9.1f} ms")
                if runtime is there:
                    print(f"    {'all else':24}{1e3 * (seconds - sum(spent.values())):9.1f} ms")
        print("\nclients in a round    MiB of the driver's own memory, more than before it")
        everybody = population(10_000, 1)
        with hansa.runtime(there):
            for number in (100, 1_000, 10_000):
                cohort = everybody.select(np.arange(number))
                process.next(state, cohort)
                before = resident()
                most, result = before, process.next(state, cohort)
                most = max(most, resident())
                del result
                print(f"{number:10}{most - before:20.1f}", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
