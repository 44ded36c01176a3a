"""How a round's time and memory grow with clients and examples, and what stays the same over many rounds.

python -m benchmarks.scale [PART …] [--plot FILE.png] [--json FILE]

clients      seconds a round of 10 to 100,000 clients of 20 examples, with the slope of the line through them
examples     seconds a round of 10 clients of 100 to 30,000 examples, likewise
memory       the most memory that a process needs for cohorts of 10 and of 10,000 clients beside their data
rounds       resident memory over 500 rounds of cohorts that differ in everything
streaming    data on disk: seconds of reading alone, of computing alone, of both, and how much of them overlaps
population   choosing a cohort out of a million clients and starting its round
parts        where a round's time goes: load (checking and packing the argument), transfer (giving it to the devices),
             compute (the clients' work), reduce (adding up over the devices), and the rest (giving back the result)

Each line is measured in a process of its own.
"""

from __future__ import annotations

import argparse
import itertools
import json
import mmap
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

FEATURES, CLASSES = 784, 10


def resident() -> float:
    """The process's resident memory, in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def peak() -> float:
    """The most resident memory that the process has had, in MB."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1e3


def process(hidden: list[int]) -> Any:
    """The averaging process of a chain of dense layers."""
    import jax
    import jax.numpy as jnp
    import optax

    import hansa

    sizes = [FEATURES, *hidden, CLASSES]
    rng = np.random.default_rng(0)
    weights = [
        {"kernel": (rng.normal(size=(m, n)) / np.sqrt(m)).astype("float32"), "bias": np.zeros(n, "float32")}
        for m, n in itertools.pairwise(sizes)
    ]

    def forward(weights: Any, batch: Any, training: bool, key: Any) -> Any:
        hidden = batch.x
        for layer in weights[:-1]:
            hidden = jax.nn.relu(hidden @ layer["kernel"] + layer["bias"])
        logits = hidden @ weights[-1]["kernel"] + weights[-1]["bias"]
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch.y)
        return hansa.learning.BatchOutput(jnp.mean(losses), logits)

    spec = {"x": f"float32[?,{FEATURES}]", "y": "int32[?]"}
    model = hansa.learning.functional_model(weights, forward, input_spec=spec, optimizer=optax.sgd(0.05))
    return hansa.learning.build_federated_averaging_process(model)


def examples(count: int) -> dict[str, Any]:
    """So many random examples."""
    rng = np.random.default_rng(1)
    return {"x": rng.random((count, FEATURES), "float32"), "y": rng.integers(0, CLASSES, count).astype("int32")}


def seconds(call: Callable[[], object], repeat: int, before: Callable[[], None] | None = None) -> float:
    """The median time of a call, after one that does not count; `before` each, something that does not count either."""
    import jax

    times = []
    for _ in range(repeat + 1):
        if before is not None:
            before()
        start = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def a_round(clients: int, each: int, hidden: list[int], repeat: int = 5) -> dict[str, float]:
    """Seconds and memory of rounds of equal clients in batches of 10; at most 100,000 examples are different ones."""
    import hansa

    distinct = min(clients * each, 100_000 // each * each)
    rows = examples(distinct)
    population = hansa.ClientBatches(rows, np.arange(0, distinct + 1, each), 10)
    population = population.select(np.arange(clients) % len(population))
    averaging = process(hidden)
    state = averaging.initialize()
    before = peak()
    took = seconds(lambda: averaging.next(state, population), repeat)
    return {"clients": clients, "examples": each, "seconds": took, "before_mb": before, "peak_mb": peak()}


def many_rounds(count: int = 500) -> dict[str, Any]:
    """Resident memory while cohorts, clients and batches have other sizes in each round."""
    import hansa

    rng = np.random.default_rng(2)
    averaging, rows = process([200]), examples(20_000)
    sizes = np.maximum(1, rng.lognormal(2.5, 1, 400).astype(int))
    sizes = sizes[np.cumsum(sizes) <= 20_000]
    population = hansa.ClientBatches(rows, np.concatenate([[0], np.cumsum(sizes)]), 10)
    state, memory = averaging.initialize(), []
    for number in range(count):
        cohort = rng.choice(len(population), rng.integers(5, 40), replace=False)
        data = population.select(cohort) if number % 2 else [list(population[int(i)]) for i in cohort]
        state, _ = averaging.next(state, data)
        memory.append(resident())
    warm = memory[100:]
    return {"first_mb": memory[0], "after_100_mb": warm[0], "last_mb": warm[-1], "spread": max(warm) / min(warm) - 1}


def streaming(clients: int = 400, each: int = 2000) -> dict[str, float]:
    """A population on disk, of 2.5 GB: reading it, computing with as much in memory, and both together; with the file
    in the system's cache, where reading takes a core's time, and not in it, where it is waiting too."""
    import hansa

    averaging = process([200])
    with tempfile.TemporaryDirectory() as folder:
        count = clients * each
        x = np.lib.format.open_memmap(f"{folder}/x.npy", "w+", "float32", (count, FEATURES))
        for first in range(0, count, 10_000):
            x[first : first + 10_000] = examples(10_000)["x"]
        x.flush()
        mapped = np.load(f"{folder}/x.npy", mmap_mode="r")
        on_disk = hansa.ClientBatches({"x": mapped, "y": np.zeros(count, "int32")}, np.arange(0, count + 1, each), 50)
        few = hansa.ClientBatches(examples(40 * each), np.arange(0, 40 * each + 1, each), 50)
        in_memory = few.select(np.arange(clients) % 40)
        state = averaging.initialize()
        runtime = hansa.InProcessRuntime()
        read: list[float] = []
        pack = runtime._on.pack

        def timed(*args: Any) -> Any:
            start = time.perf_counter()
            packed = pack(*args)
            read.append(time.perf_counter() - start)
            return packed

        def forget() -> None:
            for array in (x, mapped):
                array._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]
            with open(f"{folder}/x.npy", "rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

        def a_round() -> object:
            return averaging.next(state, on_disk)

        with hansa.runtime(runtime):
            computing = seconds(lambda: averaging.next(state, in_memory), 3)
            found = {"computing": computing}
            runtime._on.pack = timed  # type: ignore[method-assign]
            for name, before in (("cached", None), ("from disk", forget)):
                alone = seconds(lambda: mapped.sum(dtype="float32"), 3, before)
                read.clear()
                both = seconds(a_round, 3, before)
                reading = sum(read) / 4
                found |= {f"{name}: reading alone": alone, f"{name}: packing": reading, f"{name}: both": both}
                found[f"{name}: overlap"] = (reading + computing - both) / min(reading, computing)
        return found | {"peak_mb": peak()}


def population(count: int = 1_000_000) -> dict[str, float]:
    """A million clients, of which a hundred take part."""
    import hansa

    rows = examples(2000)
    start = time.perf_counter()
    offsets = np.linspace(0, 2000, count + 1).astype(np.int64)
    everybody = hansa.ClientBatches(rows, offsets, 10)
    made = time.perf_counter() - start
    averaging, rng = process([]), np.random.default_rng(3)
    state = averaging.initialize()
    averaging.next(state, everybody.select(rng.integers(0, count, 100)))

    def choose() -> Any:
        return everybody.select(rng.choice(count, 100, replace=False, shuffle=False))

    choosing = seconds(choose, 20)
    whole = seconds(lambda: averaging.next(state, choose()), 20)
    return {"made": made, "choosing": choosing, "choosing_and_round": whole}


def parts(clients: int = 100, each: int = 600) -> dict[str, dict[str, float]]:
    """Seconds by what they are spent on, in a round of the 2NN: with data that is resident, with lists of batches, and
    from disk; medians of five rounds. Reducing is what an all-reduce takes on the device that comes last to it."""
    import jax

    import hansa

    averaging = process([200, 200])
    rows = examples(clients * each)
    resident = hansa.ClientBatches(rows, np.arange(0, clients * each + 1, each), 10)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/x.npy", rows["x"])
        mapped = {"x": np.load(f"{folder}/x.npy", mmap_mode="r"), "y": rows["y"]}
        on_disk = hansa.ClientBatches(mapped, np.arange(0, clients * each + 1, each), 10)
        lists = [list(resident[i]) for i in range(clients)]
        for name, data in (("resident", resident), ("lists", lists), ("disk", on_disk)):
            runtime = hansa.InProcessRuntime()
            spent: dict[str, float] = {}
            pack, execute = runtime._on.pack, runtime._on.execute

            def timed_pack(*args: Any, pack: Any = pack, spent: dict[str, float] = spent) -> Any:
                start = time.perf_counter()
                packed = pack(*args)
                spent["load"] = time.perf_counter() - start
                return packed

            def timed_execute(*args: Any, execute: Any = execute, spent: dict[str, float] = spent, **more: Any) -> Any:
                start = time.perf_counter()
                result = execute(*args, **more)
                given = time.perf_counter()
                jax.block_until_ready(result)
                spent["transfer"], spent["compute"] = given - start, time.perf_counter() - given
                return result

            runtime._on.pack, runtime._on.execute = timed_pack, timed_execute  # type: ignore[method-assign]
            rounds = []
            with hansa.runtime(runtime):
                state, _ = averaging.next(averaging.initialize(), data)
                for _ in range(5):
                    start = time.perf_counter()
                    state, _ = averaging.next(state, data)
                    spent["rest"] = time.perf_counter() - start - sum(spent.values())
                    rounds.append(dict(spent))
                    spent.clear()
                reducing = reduction(averaging.next, state, data)
            median = {part: statistics.median(each[part] for each in rounds) for part in rounds[0]}
            found[name] = median | {"compute": median["compute"] - reducing, "reduce": reducing}
    return found


def reduction(call: Callable[..., object], *args: Any) -> float:
    """Seconds that a call spends adding up over the devices, from a profile."""
    import jax

    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            jax.block_until_ready(call(*args))
        (file,) = Path(folder).rglob("*.xplane.pb")
        took: dict[str, list[float]] = {}
        for plane in jax.profiler.ProfileData.from_file(str(file)).planes:
            for line in plane.lines:
                for event in line.events:
                    if event.name.startswith("all-reduce"):
                        took.setdefault(event.name, []).append(event.duration_ns / 1e9)
    return sum(map(min, took.values()))


def apart(call: str) -> Any:
    """What a call of this module gives, in a process of its own."""
    program = f"import json; from benchmarks import scale; print('RESULT', json.dumps(scale.{call}))"
    found = subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(found.split("RESULT ")[-1])


def line(points: list[dict[str, float]], by: str) -> tuple[float, float]:
    """Seconds for each and for none, by least relative squares."""
    size, took = (np.array([point[name] for point in points]) for name in (by, "seconds"))
    columns = np.stack([size, np.ones_like(size)], 1) / took[:, None]
    slope, start = np.linalg.lstsq(columns, np.ones_like(took), rcond=None)[0]
    return float(slope), float(start)


def draw(found: dict[str, Any], path: str) -> None:
    """Seconds a round by clients and by examples."""
    import matplotlib.pyplot as plt

    from hansa._figure_style import BLUE, DPI, GREY, QUIET, style

    series = [name for name in ("clients", "examples") if name in found]
    figure, axes = plt.subplots(1, len(series), figsize=(4.8 * len(series), 3.6), squeeze=False, layout="constrained")
    of = {
        "clients": "clients of 20 examples, logistic regression",
        "examples": "examples of each of 10 clients, 784-200-10",
    }
    for axis, name in zip(axes[0], series, strict=True):
        points = found[name]
        slope, start = line(points, name)
        size = np.array([point[name] for point in points])
        style(axis, f"{1e6 * slope:.0f} µs for each of the {name}, and {1e3 * start:.0f} ms", of[name])
        between = np.geomspace(size.min(), size.max(), 100)
        axis.plot(between, start + slope * between, color=GREY, linewidth=1.5)
        axis.plot(size, [point["seconds"] for point in points], "o", color=BLUE)
        axis.set(xscale="log", yscale="log")
        axis.xaxis.set_major_formatter("{x:,.0f}")
        axis.yaxis.set_major_formatter("{x:g}")
        axis.minorticks_off()
        axis.set_ylabel("seconds a round", fontsize=10, color=QUIET)
    figure.savefig(path, dpi=DPI)


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help="which; by default all")
    parser.add_argument("--plot", help="where to draw seconds by clients and examples")
    parser.add_argument("--json", type=Path, help="where to write what was found")
    args = parser.parse_args()
    found: dict[str, Any] = {}
    for part in args.parts or ["clients", "examples", "memory", "rounds", "streaming", "population", "parts"]:
        print(f"\n{part}")
        if part == "clients":
            found[part] = [apart(f"a_round({n}, 20, [])") for n in (10, 100, 1000, 10_000, 100_000)]
        elif part == "examples":
            found[part] = [apart(f"a_round(10, {n}, [200])") for n in (100, 300, 1000, 3000, 10_000, 30_000)]
        elif part == "memory":
            found[part] = [apart(f"a_round({n}, 20, [512], 1)") for n in (10, 10_000)]
            for point in found[part]:
                needed = point["peak_mb"] - point["before_mb"]
                print(
                    f"  {point['clients']:>7.0f} clients: {point['peak_mb']:.0f} MB at most, {needed:.0f} for the round"
                )
        elif part == "parts":
            found[part] = apart("parts()")
            for name, spent in found[part].items():
                shown = (f"{what} {1e3 * took:.1f} ms" for what, took in spent.items())
                print(f"  {name:10} {sum(spent.values()):.4f} s: {', '.join(shown)}")
        else:
            found[part] = apart({"rounds": "many_rounds()"}.get(part, f"{part}()"))
            for name, value in found[part].items():
                print(f"  {name:20} {value:.4g}")
        if part in ("clients", "examples"):
            for point in found[part]:
                print(f"  {point[part]:>7.0f} {part}: {point['seconds']:.4f} s")
            slope, start = line(found[part], part)
            print(f"  {1e6 * slope:.1f} µs each, and {1e3 * start:.1f} ms")
    if args.plot:
        draw(found, args.plot)
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
