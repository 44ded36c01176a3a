"""The same computations in process and on Ray: prints, as JSON, where the bits differ, and what became of the workers.

`test_ray` runs it in a process of its own, as users compile:

    python -m tests.runtimes.ray.session WORKERS KILLS SEED PART...

With several numbers of workers, such as 1,2,4, everything is computed with each, one after another. Of the calls on Ray
so many, drawn at random with the seed, lose a worker while they are under way. Without parts, all are computed.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import ray
from ray.cluster_utils import Cluster

import hansa
from hansa.runtimes.ray.session import connect

CLIENTS, FEATURES, CLASSES, BATCH = 40, 64, 10, 16


def population() -> hansa.ClientBatches:
    """Clients with 0 to 60 examples."""
    rng = np.random.default_rng(0)
    sizes = rng.integers(0, 60, CLIENTS)
    x = rng.normal(size=(sizes.sum(), FEATURES)).astype(np.float32)
    y = rng.integers(0, CLASSES, sizes.sum()).astype(np.int32)
    ids = [f"client {i}" for i in range(CLIENTS)]
    return hansa.ClientBatches({"x": x, "y": y}, np.cumsum([0, *sizes]), BATCH, ids)


def model() -> hansa.learning.FunctionalModel:
    def forward(weights: Any, batch: Any, training: bool, rng: Any) -> hansa.learning.BatchOutput:
        hidden = jax.nn.relu(batch.x @ weights["w"] + weights["b"])
        scores = hidden @ weights["v"]
        losses = optax.softmax_cross_entropy_with_integer_labels(scores, batch.y)
        return hansa.learning.BatchOutput(losses.mean(), scores)

    rng = np.random.default_rng(1)
    weights = {"w": rng.normal(0, 0.1, (FEATURES, 32)), "b": np.zeros(32), "v": rng.normal(0, 0.1, (32, CLASSES))}
    return hansa.learning.functional_model(
        weights,
        forward,
        input_spec="<x=float32[?,64],y=int32[?]>",
        metrics={"accuracy": lambda labels, scores, sample_weight: scores.argmax(-1) == labels},
        optimizer=optax.sgd(0.1),
    )


def two_stages() -> Any:
    """The mean of what clients have, how far each is from it, which it keeps, and a fold in the cohort's order."""
    away = hansa.jax_computation(lambda own, mean: jnp.sum(own * jnp.sin(mean)), "float32[5]", "float32[5]")
    fading = hansa.jax_computation(lambda a, b: 0.7 * a + b, "float32", "float32")
    same = hansa.jax_computation(lambda a: a, "float32")

    @hansa.federated_computation("{float32[5]}@CLIENTS")
    def spread(values: Any) -> Any:
        mean = hansa.federated_mean(values)
        far = hansa.federated_map(away, [values, hansa.federated_broadcast(mean)])
        last = hansa.federated_aggregate(far, 0.0, fading, fading, same)
        return {"mean": mean, "far": hansa.federated_max(far), "each": far, "last": last}

    return spread


Rounds = Generator[tuple[str, Any], Any, None]
"""What is computed, one after another: a name, and a call, whose result is sent back."""

COHORTS = [np.random.default_rng(2).choice(CLIENTS, size, replace=False) for size in (7, 11, 5)]


def averaging_rounds(data: hansa.ClientBatches) -> Rounds:
    process = hansa.learning.build_federated_averaging_process(model())
    state = process.initialize()
    for i, cohort in enumerate(COHORTS[:2]):
        state, _ = yield f"averaging {i}", lambda s=state, c=cohort: process.next(s, data.select(c))
    evaluation = hansa.learning.build_federated_evaluation(model())
    yield "evaluation", lambda: evaluation(state.model, data)


def robust_round(data: hansa.ClientBatches) -> Rounds:
    process = hansa.learning.build_federated_averaging_process(model(), aggregator=hansa.aggregators.median())
    state = process.initialize()
    yield "median", lambda: process.next(state, data.select(COHORTS[1]))


def scaffold_rounds(data: hansa.ClientBatches) -> Rounds:
    process = hansa.learning.build_scaffold(model(), client_learning_rate=0.1, population=CLIENTS)
    state = process.initialize()
    for i, cohort in enumerate(COHORTS):
        state, _ = yield f"scaffold {i}", lambda s=state, c=cohort: process.next(s, data.select(c))


def shuffled_rounds(data: hansa.ClientBatches) -> Rounds:
    """Clients whose examples are in another order in each round, which workers put them in."""
    evaluation = hansa.learning.build_federated_evaluation(model())
    weights = hansa.learning.build_federated_averaging_process(model()).initialize().model
    arrays = dict(data.examples.rows._items())
    owners = np.repeat(np.arange(CLIENTS), data.sizes)
    shuffled = hansa.simulation.ClientData.from_arrays(arrays, owners).shuffle(seed=1).batch(BATCH)
    yield "shuffled", lambda: evaluation(weights, shuffled.cohort(range(len(shuffled)), 3))


def two_stage_calls(data: hansa.ClientBatches) -> Rounds:
    spread = two_stages()
    values = list(np.random.default_rng(3).normal(size=(83, 5)).astype(np.float32))
    yield "two stages", lambda: spread(values)


def wide_call(data: hansa.ClientBatches) -> Rounds:
    @hansa.federated_computation("{float32[1000]}@CLIENTS")
    def total(values: Any) -> Any:
        return hansa.federated_sum(values)

    # More than the usual form of a sum holds.
    values = [np.full(1000, value, np.float32) for value in (1e30, 1.0, -1e30)]
    yield "wide", lambda: total(values)


PARTS = {
    "averaging": averaging_rounds,
    "robust": robust_round,
    "scaffold": scaffold_rounds,
    "shuffled": shuffled_rounds,
    "two stages": two_stage_calls,
    "wide": wide_call,
}


def bits(value: Any) -> list[bytes]:
    """All numbers of a result."""
    if isinstance(value, hansa.ClientStates):
        return [str(value.client_ids).encode(), *bits(list(value.select(value.client_ids)))]
    if isinstance(value, hansa.ClientValues | hansa.Struct | list | tuple):
        return [part for each in value for part in bits(each)]
    return [np.asarray(value).tobytes()]


@contextmanager
def killing(runtime: hansa.RayRuntime, yes: bool, again: bool = False) -> Iterator[None]:
    """Kills a worker that is at work, or each one, within the block."""
    over = threading.Event()

    def kill() -> None:
        while not over.wait(0.002):
            for member in runtime._pool.members:
                if member.busy is not None and member.described:
                    with suppress(ProcessLookupError):  # which is known to be lost in a moment
                        os.kill(member.described["pid"], signal.SIGKILL)
                    if not again:
                        return

    thread = threading.Thread(target=kill)
    if yes:
        thread.start()
    yield
    over.set()
    if yes:
        thread.join()


def follow(parts: list[str], runtime: Any, doomed: set[str], seconds: dict[str, float]) -> dict[str, list[bytes]]:
    """The bits of all results."""
    found = {}
    for part in parts:
        going = PARTS[part](population())
        name, call = next(going)
        while name is not None:
            begun = time.perf_counter()
            with hansa.runtime(runtime), killing(runtime, name in doomed):
                result = call()
            found[name], seconds[name] = bits(result), time.perf_counter() - begun
            try:
                name, call = going.send(result)
            except StopIteration:
                name = None
    return found


def main(workers: list[int], kills: int, seed: int, parts: list[str]) -> dict[str, Any]:
    times: dict[str, Any] = {"in process": {}}
    expected = follow(parts, hansa.InProcessRuntime(), set(), times["in process"])
    connect(None, max(workers))
    told: dict[str, Any] = {"differing": [], "lost": [], "pids": [], "computed": 0, "times": times}
    told["folder"] = ray.worker.global_worker.node.get_session_dir_path()
    draws = random.Random(seed)
    for number in workers:
        doomed, seconds = set(draws.sample(list(expected), kills)), times.setdefault(number, {})
        with hansa.RayRuntime(number) as runtime:
            before = [each["pid"] for each in runtime.describe()]
            found = follow(parts, runtime, doomed, seconds)
            after = [each["pid"] for each in runtime.describe()]
            told["lost"].append(runtime.lost)
        told["pids"].append([before, after])
        told["computed"] += len(found)
        told["differing"] += [f"{name}, {number} workers" for name in expected if found[name] != expected[name]]
    told["seconds of CPU"] = cpu_seconds()
    ray.shutdown()
    return told


def cpu_seconds() -> float:
    """What this process and all that have come of it have used, as far as somebody waited for who has ended."""
    parents, used = {}, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            pid = int(path.parent.name)
            parents[pid], used[pid] = int(fields[1]), sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")

    def is_ours(pid: int) -> bool:
        return pid == os.getpid() or (pid in parents and is_ours(parents[pid]))

    return sum(seconds for pid, seconds in used.items() if is_ours(pid))


def slowed() -> dict[str, Any]:
    """A worker stands still while it works for clients; another one does it, too, and the first one goes on later."""
    spread = two_stages()
    values = list(np.random.default_rng(3).normal(size=(83, 5)).astype(np.float32))
    expected = bits(spread(values))
    with hansa.RayRuntime(2) as runtime, hansa.runtime(runtime):
        runtime.describe()
        found = [bits(spread(values))]
        with stopping(runtime) as stopped:
            begun = time.perf_counter()
            found.append(bits(spread(values)))
            seconds = time.perf_counter() - begun
        found.append(bits(spread(values)))
        lost = runtime.lost
    return {"same": [each == expected for each in found], "stopped": len(stopped), "seconds": seconds, "lost": lost}


@contextmanager
def stopping(runtime: hansa.RayRuntime) -> Iterator[list[int]]:
    """Within the block, the first worker that is at work stands still."""
    over, stopped = threading.Event(), list[int]()

    def stop() -> None:
        while not over.wait(0.0005) and not stopped:
            for member in runtime._pool.members:
                if member.busy is not None and not stopped:
                    os.kill(member.described["pid"], signal.SIGSTOP)
                    stopped.append(member.described["pid"])

    thread = threading.Thread(target=stop)
    thread.start()
    try:
        yield stopped
    finally:
        over.set()
        thread.join()
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)


@contextmanager
def several_nodes() -> Iterator[tuple[Cluster, hansa.RayRuntime]]:
    """A cluster of a driver's node and two with a worker each."""
    # Also small results are in a node's memory, and not at the driver.
    config = {"max_direct_call_object_size": 1000}
    cluster = Cluster(True, head_node_args={"num_cpus": 0, "_system_config": config, "include_dashboard": False})
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=1, include_dashboard=False)
        connect(cluster.address, 2)
        with hansa.RayRuntime(2) as runtime, hansa.runtime(runtime):
            runtime.describe()
            yield cluster, runtime
    finally:
        ray.shutdown()
        cluster.shutdown()


def end(cluster: Cluster, node: str) -> None:
    """Ends all processes of a node."""
    (lost,) = [each for each in cluster.list_all_nodes() if each.node_id == node]
    cluster.remove_node(lost, allow_graceful=False)


def lose(cluster: Cluster, node: str) -> None:
    """Ends all processes of a node, and starts another one, on which a worker can join."""
    end(cluster, node)
    cluster.add_node(num_cpus=1, include_dashboard=False)


def nodes_lost() -> dict[str, Any]:
    """Nodes are lost that have what clients keep: between rounds, and in a round before another one has a copy; then
    one of whose rows there is no copy."""
    expected = follow(["scaffold"], hansa.InProcessRuntime(), set(), {})
    found, said, lost = {}, "", []
    with several_nodes() as (cluster, runtime):
        copies = runtime._pool.copies
        mend = copies.mend

        def late(members: Any, new: Any) -> Any:
            (home,) = {copies._copies[name].home for name in new}
            if not lost:
                lost.append(home)
                lose(cluster, home)
            return mend(members, new)

        going = scaffold_rounds(population())
        name, call = next(going)
        while True:
            copies.mend = late if name == "scaffold 2" else mend  # type: ignore[method-assign]
            result = call()
            found[name] = bits(result)
            runtime.describe()
            if name == "scaffold 0":
                homes = copies.homes()
                lose(cluster, homes[0][0])
            if name == "scaffold 2":
                break
            name, call = going.send(result)
        copies.mend = lambda members, new: []  # type: ignore[method-assign]
        process = hansa.learning.build_scaffold(model(), client_learning_rate=0.1, population=CLIENTS)
        state, _ = process.next(process.initialize(), population().select(COHORTS[0]))
        lose(cluster, next(home for home, second in copies.homes() if second is None))
        try:
            process.next(state, population().select(COHORTS[1]))
        except RuntimeError as error:
            said = str(error)
        number = runtime.lost
    same = [name for name in expected if found.get(name) == expected[name]]
    return {"same": same, "homes": homes, "in a round": len(lost), "said": said, "lost": number}


def nodes_lost_at_random(seed: int, rounds: int) -> dict[str, Any]:
    """A node is lost in most rounds, at any moment of it or between two."""
    draws, data = random.Random(seed), population()
    cohorts = [np.random.default_rng([seed, i]).choice(CLIENTS, 8, replace=False) for i in range(rounds)]

    def follow(after: Any = lambda i: None) -> list[list[bytes]]:
        process = hansa.learning.build_scaffold(model(), client_learning_rate=0.1, population=CLIENTS)
        state, found = process.initialize(), []
        for i, cohort in enumerate(cohorts):
            with after(i) or nullcontext():
                state, metrics = process.next(state, data.select(cohort))
            found.append([*bits(state), *bits(metrics)])
        return found

    expected = follow()
    with several_nodes() as (cluster, runtime):

        @contextmanager
        def losing(i: int) -> Iterator[None]:
            while len({member.node for member in runtime._pool.all_up()}) < 2:
                time.sleep(0.1)
            node = draws.choice(sorted({member.node for member in runtime._pool.members}))
            thread = threading.Timer(draws.choice([0.0, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2]), end, (cluster, node))
            is_lost = i > 0 and draws.random() < 0.7
            if is_lost:
                thread.start()
            yield
            if is_lost:
                thread.join()
                cluster.add_node(num_cpus=1, include_dashboard=False)  # only a main thread can

        found = follow(losing)
        number = runtime.lost
    return {"same": sum(map(list.__eq__, found, expected)), "rounds": rounds, "lost": number}


def on_disk(folder: str) -> dict[str, Any]:
    """Clients whose examples are in files, and in lists; then one whose workers end whenever they work for it."""
    data, spread = population(), two_stages()
    for name, array in data.examples.rows._items():
        np.save(f"{folder}/{name}.npy", array)
    mapped = {name: np.load(f"{folder}/{name}.npy", mmap_mode="r") for name in ("x", "y")}
    filed = hansa.ClientBatches(mapped, np.append(data.starts, data.examples.size), BATCH, data.client_ids)
    evaluation = hansa.learning.build_federated_evaluation(model())
    weights = hansa.learning.build_federated_averaging_process(model()).initialize().model
    forms = {"in memory": data, "in files": filed, "lists": [list(client) for client in data]}
    with hansa.RayRuntime(1) as runtime, hansa.runtime(runtime):
        found = {name: bits(evaluation(weights, clients)) for name, clients in forms.items()}
        stored = [name for name, _ in runtime._store._populations.values()]
        said = []
        try:
            with killing(runtime, True, again=True):
                spread([np.zeros(5, np.float32)])
        except RuntimeError as error:
            said.append(str(error))
    same = [name for name, each in found.items() if each == found["in memory"]]
    return {"same": same, "populations": len(stored), "said": said}


if __name__ == "__main__":
    others = {
        "on disk": on_disk,
        "slowed": slowed,
        "nodes lost": nodes_lost,
        "nodes lost at random": lambda seed, rounds: nodes_lost_at_random(int(seed), int(rounds)),
    }
    if sys.argv[1] in others:
        print(json.dumps(others[sys.argv[1]](*sys.argv[2:])))
        sys.exit()
    numbers = list(map(int, sys.argv[1].split(",")))
    print(json.dumps(main(numbers, int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:] or list(PARTS))))
