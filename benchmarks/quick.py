"""Ratios of a round to this machine's matrix product and to loops without federation, within three minutes.

python -m benchmarks.quick [--repeat 5] [--json FILE]

The loops train one model on the examples of all clients, in batches of the same size, in this process, with all cores:
a Python loop of jitted JAX steps, and Keras's `fit`. Each is run in turn with a round and a matrix product.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hansa  # before Keras, which then runs on JAX

# isort: split
import jax
import jax.numpy as jnp
import keras
import numpy as np

from benchmarks.run import matrix_product, seconds
from benchmarks.workloads import CNN_FLOPS, Workload, all_workloads, clients, cnn

LINE = "{:38} {:>9} {:>10} {:>13} {:>11}"


def workloads() -> Iterator[Workload]:
    """Those of `benchmarks.run`, and a convolutional net."""
    yield from all_workloads()
    images = np.random.default_rng(0).random((600, 28, 28, 1), "float32")
    labels = np.arange(600, dtype="int32")[:, None] % 10
    yield Workload("CNN, 2 x 300, B=10", cnn, clients(images, labels, [300] * 2, 10), 0.05, CNN_FLOPS)


def batches(workload: Workload) -> list[Any]:
    """All clients' batches, one after another, as dicts."""
    return [{"x": batch.x, "y": batch.y} for client in workload.data for batch in client]


def loop_in_jax(workload: Workload) -> Callable[[], object]:
    """A Python loop of jitted steps of stochastic gradient descent, from the same weights each time."""
    model = workload.build()
    start = [variable.value for variable in model.trainable_variables]
    fixed = [variable.value for variable in model.non_trainable_variables]

    def loss(weights: Any, batch: Any) -> Any:
        outputs, _ = model.stateless_call(weights, fixed, batch["x"], training=True)
        return jnp.mean(keras.losses.sparse_categorical_crossentropy(batch["y"], outputs))

    @jax.jit
    def step(weights: Any, batch: Any) -> Any:
        value, gradient = jax.value_and_grad(loss)(weights, batch)
        return [w - workload.learning_rate * g for w, g in zip(weights, gradient, strict=True)], value

    data = jax.device_put(batches(workload))

    def run() -> object:
        weights, total = start, jnp.zeros(())
        for batch in data:
            weights, value = step(weights, batch)
            total += value
        return weights, total

    return run


def fit_in_keras(workload: Workload) -> Callable[[], object]:
    """One epoch of `fit`."""
    model = workload.build()
    metrics = ["sparse_categorical_accuracy"]
    model.compile(keras.optimizers.SGD(workload.learning_rate), "sparse_categorical_crossentropy", metrics=metrics)
    rows = {name: np.concatenate([batch[name] for batch in batches(workload)]) for name in ("x", "y")}
    size = workload.data.batching.batch_size
    return lambda: model.fit(rows["x"], rows["y"], batch_size=size, shuffle=False, verbose=0).history["loss"]


def measure(workload: Workload, repeat: int) -> dict[str, Any]:
    """The workload's row."""
    process = workload.process()
    state = process.initialize()
    product, flops = matrix_product()
    calls = [lambda: process.next(state, workload.data), product, loop_in_jax(workload), fit_in_keras(workload)]
    for call in calls:
        seconds(call)
    turns = np.array([[seconds(call) for call in calls] for _ in range(repeat)])
    ratios = np.median(turns[:, 1:] / turns[:, :1], axis=0).tolist()
    return {
        "workload": workload.name,
        "seconds": statistics.median(turns[:, 0].tolist()),
        "of_matrix_product": workload.flops / flops * ratios[0],
        "to_loop": ratios[1],
        "to_fit": ratios[2],
    }


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5, help="turns of each workload; the median counts")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    options = parser.parse_args()
    devices = jax.devices()
    print(f"hansa {hansa.__version__}, jax {jax.__version__}, {len(devices)} x {devices[0].device_kind}\n")
    print(LINE.format("workload", "s/round", "of matmul", "to JAX loop", "to Keras"))
    rows = []
    for workload in workloads():
        row = measure(workload, options.repeat)
        rows.append(row)
        shown = (f"{row['of_matrix_product']:.0%}", f"{row['to_loop']:.2f}x", f"{row['to_fit']:.2f}x")
        print(LINE.format(row["workload"], f"{row['seconds']:.4f}", *shown), flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
