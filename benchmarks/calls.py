"""What a call costs beside its arithmetic, and how long a graph takes to become a program.

python -m benchmarks.calls [--repeat 500]

The calls are of computations that do next to nothing, compiled beforehand, and what is left is Python and XLA's own
start of a program; that of a bare `jax.jit` of the same function on the same devices is measured beside it, in turn.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import jax
import numpy as np

import hansa
from hansa.compiler.partition import compile_computation
from hansa.language.graph import walk


@hansa.jax_computation("float32", "float32")
def add(a, b):
    """A local computation."""
    return a + b


@hansa.federated_computation("{float32}@CLIENTS", "float32@SERVER")
def shifted_mean(values, shift):
    """One client stage."""
    return hansa.federated_map(add, [hansa.federated_mean(values), shift])


def chain(rounds: int) -> hansa.federated_computation:
    """A computation with many nodes: rounds of work at the clients, aggregation and broadcast."""

    @hansa.federated_computation("{float32}@CLIENTS", "float32@SERVER")
    def chained(values, shift):
        for _ in range(rounds):
            sent = hansa.federated_broadcast(shift)
            values = hansa.federated_map(add, [hansa.federated_map(add, [values, sent]), sent])
            shift = hansa.federated_map(add, [hansa.federated_mean(values), shift])
        return shift, values

    return chained


def in_turn(calls: dict[str, Callable[[], object]], repeat: int) -> dict[str, list[float]]:
    """Seconds of each call, again and again in turn."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(repeat):
        for name, call in calls.items():
            start = time.perf_counter()
            jax.block_until_ready(call())
            times[name].append(time.perf_counter() - start)
    return times


def bare_mean() -> Callable[[], object]:
    """The arithmetic of `shifted_mean` for ten clients as a program of one's own over all devices."""
    mesh = jax.make_mesh((len(jax.devices()),), ("cores",), axis_types=(jax.sharding.AxisType.Auto,))
    nowhere = jax.sharding.PartitionSpec()
    program = jax.jit(
        jax.shard_map(
            lambda values, shift: jax.lax.psum(values.sum() / 20, "cores") + shift,
            mesh=mesh,
            in_specs=(nowhere, nowhere),
            out_specs=nowhere,
            check_vma=False,
        )
    )
    values, shift = np.arange(10, dtype="float32"), np.float32(1)
    return lambda: np.asarray(program(values, shift))


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=500, help="how many calls of each")
    repeat = parser.parse_args().repeat

    jitted = jax.jit(lambda a, b: a + b)
    one, two = np.float32(1), np.float32(2)
    values = [np.float32(i) for i in range(10)]
    calls: dict[str, Callable[[], object]] = {
        "jax.jit, one device": lambda: np.asarray(jitted(one, two)),
        "a local computation": lambda: add(1.0, 2.0),
        "jax.jit of a shard_map, all devices": bare_mean(),
        "a mean over ten clients": lambda: shifted_mean(values, 1.0),
    }
    for name, times in in_turn(calls, repeat).items():
        print(f"{name:36} {1e6 * statistics.median(times):6.0f} µs (least {1e6 * min(times):.0f})")

    traced, compiled = [], []
    for _ in range(9):
        start = time.perf_counter()
        computation = chain(33)
        middle = time.perf_counter()
        program = compile_computation(computation)
        traced.append(middle - start)
        compiled.append(time.perf_counter() - middle)
    nodes = len(list(walk(program.result)))
    print(f"a graph of {nodes} nodes: traced in {1e3 * statistics.median(traced):.1f} ms, ", end="")
    print(f"made a program in {1e3 * statistics.median(compiled):.1f} ms")


if __name__ == "__main__":
    main()
