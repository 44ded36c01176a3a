"""What a round costs on Ray beside the same round in one process: `python -m benchmarks.cluster [WORKERS]`.

McMahan's 2NN (784-200-200-10, 199,210 weights) on random images, made once with a seed: what is measured is where time
and bytes go, and that does not depend on what is in the images. Three tables are printed:

- what Ray takes for messages alone: a call that does nothing, and calls that are given a model and give a state each;
- a round of eight clients with one batch each: by where the time goes in the driver, of the quickest of many rounds;
  as the runtime deals them out, which is to one worker, and dealt out to all;
- a round of 100 clients with 60 batches each;
- the memory of the driver by the number of clients in a round.

With each round on Ray there are the CPU seconds of the driver and of the workers, and what goes to and from the driver.

The driver and two workers are three processes, and take turns where there are two cores. On a busy machine the quickest
round says most; seconds of CPU are given beside it.
"""

from __future__ import annotations

import gc
import itertools
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
import ray

import hansa
from hansa.runtimes.ray import dealing, folding
from hansa.runtimes.stages.devices import Devices
from hansa.runtimes.stages.workplace import Workplace

BATCH = 10
_WEIGHTS, _STATE_BYTES = 199_210, 20
"""Of the 2NN, and of the state of a sum for each."""


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
        ("put what is sent", ray, "put"),
        ("wait for workers", ray, "wait"),
        ("get states", ray, "get"),
        ("merge states", Workplace, "merge"),
        ("states of nobody", Workplace, "zero"),
        ("tell workers", folding.Folding, "_give"),
        ("the server's programs", Devices, "execute"),
    ]
    before = [getattr(owner, name) for _, owner, name in parts]
    traffic = {"put what is sent": "bytes down", "get states": "bytes up"}
    inside: list[str] = []

    def timed(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            begun = time.perf_counter()
            inside.append(part)
            found = None
            try:
                found = function(*args, **named)
                return found
            finally:
                if part in traffic:
                    sent = args[0] if part == "put what is sent" else found
                    spent[traffic[part]] = spent.get(traffic[part], 0) + size_of(sent)
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


def size_of(value: Any) -> int:
    """The bytes of all arrays in a value."""
    return sum(leaf.nbytes for leaf in jax.tree.leaves(value) if hasattr(leaf, "nbytes"))


def cpu_seconds(pids: Sequence[int]) -> float:
    """What processes have computed for so far."""
    fields = (Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split() for pid in pids)
    return sum(int(each[11]) + int(each[12]) for each in fields) / os.sysconf("SC_CLK_TCK")


@dataclass
class Measured:
    """What a call took, of many: the quickest one, and where its time went; CPU seconds of all of them, a call."""

    seconds: float
    median: float
    driver: float
    workers: float
    spent: dict[str, float]

    def show(self, name: str, of: float | None = None) -> None:
        """Prints it; with how many times as long as something else it took."""
        times = "" if of is None else f", {self.seconds / of:6.1f} times the empty call"
        cpu = f"CPU: driver {1e3 * self.driver:6.1f}, workers {1e3 * self.workers:6.1f} ms"
        print(f"{name:34}{1e3 * self.seconds:8.1f} ms (median {1e3 * self.median:7.1f}); {cpu}{times}", flush=True)

    def show_parts(self) -> None:
        """Prints where the time went, and the bytes."""
        seconds = {part: each for part, each in self.spent.items() if not part.startswith("bytes")}
        for part, each in sorted(seconds.items(), key=lambda one: -one[1]):
            print(f"    {part:30}{1e3 * each:8.1f} ms")
        print(f"    {'all else':30}{1e3 * (self.seconds - sum(seconds.values())):8.1f} ms")
        down, up = (self.spent.get(f"bytes {way}", 0) / 1e6 for way in ("down", "up"))
        print(f"    {'from the driver, and to it':30}{down:8.2f} MB, {up:.2f} MB", flush=True)


def quickest(call: Callable[[], Any], times: int, pids: Sequence[int] = ()) -> Measured:
    """Measures some calls."""
    found: list[tuple[float, dict[str, float]]] = []
    cpu, of_workers = time.process_time(), cpu_seconds(pids)
    for _ in range(times):
        spent: dict[str, float] = {}
        with watched(spent):
            begun = time.perf_counter()
            jax.block_until_ready(jax.tree.leaves(call()))
            found.append((time.perf_counter() - begun, spent))
    best, spent = min(found, key=lambda one: one[0])
    driver, workers = (time.process_time() - cpu) / times, (cpu_seconds(pids) - of_workers) / times
    return Measured(best, statistics.median(each for each, _ in found), driver, workers, spent)


class Empty:
    """An actor that computes nothing."""

    def __init__(self, size: int) -> None:
        self.state = np.ones(size, np.uint8)

    def nothing(self) -> None:
        """A call that does nothing."""

    def state_for(self, model: Any) -> tuple[None, Any]:
        """A call that is given a model, and gives a state."""
        return None, self.state


def messages(workers: int) -> float:
    """Prints what Ray's messages alone take; gives the seconds of the quickest empty call."""
    weights = [np.ones(_WEIGHTS, np.float32)]
    actors: list[Any] = [ray.remote(Empty).options(num_cpus=0).remote(_STATE_BYTES * _WEIGHTS) for _ in range(workers)]

    def states() -> Any:
        model = ray.put(weights)
        found = [actor.state_for.options(num_returns=2).remote(model) for actor in actors]
        ray.wait([done for done, _ in found], num_returns=len(found))
        return ray.get([state for _, state in found])

    def nothing() -> Any:
        return ray.get(actors[0].nothing.remote())

    nothing()
    states()
    empty = quickest(nothing, 100)
    empty.show("a call that does nothing")
    quickest(states, 60).show(f"a model to {workers}, a state from each", empty.seconds)
    for actor in actors:
        ray.kill(actor)
    return empty.seconds


def resident() -> float:
    """MiB of memory of this process that no file and no other process shares."""
    gc.collect()
    fields = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    return int(fields["RssAnon"].split()[0]) / 1024


def main(workers: int) -> None:
    """Prints the tables."""
    process = hansa.learning.build_federated_averaging_process(model())
    state = process.initialize()
    here, alone = hansa.InProcessRuntime(), dealing._ALONE
    with hansa.RayRuntime(workers) as there:
        pids = [int(worker["pid"]) for worker in there.describe()]
        print("Ray's messages alone: the quickest of many")
        empty = messages(workers)
        for title, data, times in (
            ("8 clients with one batch each", population(8, 1), 60),
            ("100 clients with 60 batches each", population(100, 60), 4),
        ):
            print(f"\n{title}: quickest of {times} rounds", flush=True)
            ways: list[tuple[str, Any, float]] = [("in process", here, alone), (f"{there}", there, alone)]
            if times > 10:
                ways.append((f"{there}, all at work", there, 0.0))
            for name, runtime, dealing._ALONE in ways:
                with hansa.runtime(runtime):
                    one_round = partial(process.next, state, data)
                    for _ in range(3):
                        one_round()
                    found = quickest(one_round, times, pids)
                found.show(name, empty)
                if runtime is there:
                    found.show_parts()
            dealing._ALONE = alone
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
