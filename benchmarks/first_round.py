"""From process start to the end of the first tutorial round, imports and compilation included.

python -m benchmarks.first_round [--repeat 3]

Each run is a process of its own, with an empty cache of compiled programs or one that another run has filled. What
importing JAX and Keras takes by itself is measured beside it, in turn: training a Keras model with JAX needs that.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

BARE = "import os; os.environ['KERAS_BACKEND'] = 'jax'; import jax, keras; jax.devices()"
ROUND = """
from collections import OrderedDict
import hansa
import keras
import numpy as np

rng = np.random.default_rng(0)
x, y = rng.random((10_000, 784), "float32"), rng.integers(0, 10, (10_000, 1)).astype("int32")
batches = [OrderedDict(x=x[i : i + 100], y=y[i : i + 100]) for i in range(0, 10_000, 100)]
clients = [batches[i : i + 10] for i in range(0, 100, 10)]

def model_fn():
    dense = keras.layers.Dense
    model = keras.Sequential([keras.Input((784,)), dense(512, activation="relu"), dense(10, activation="softmax")])
    loss, metrics = "sparse_categorical_crossentropy", ["sparse_categorical_accuracy"]
    model.compile(optimizer=keras.optimizers.SGD(0.1), loss=loss, metrics=metrics)
    return hansa.learning.from_compiled_keras_model(model, batches[0])

process = hansa.learning.build_federated_averaging_process(model_fn)
state, metrics = process.next(process.initialize(), clients)
assert np.isfinite(metrics.loss)
"""


def seconds(program: str, cache: str) -> float:
    """How long a new process takes to run a program."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True, env=os.environ | {"HANSA_CACHE_DIR": cache})
    return time.perf_counter() - start


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=3, help="how many times; the median counts")
    repeat = parser.parse_args().repeat
    rows: dict[str, list[float]] = {
        "import jax and keras": [],
        "first round, empty cache": [],
        "first round, full cache": [],
    }
    bare, empty, full = rows.values()
    with tempfile.TemporaryDirectory() as warm:
        seconds(ROUND, warm)
        for _ in range(repeat):
            with tempfile.TemporaryDirectory() as cold:
                bare.append(seconds(BARE, cold))
                empty.append(seconds(ROUND, cold))
            full.append(seconds(ROUND, warm))
    for name, times in rows.items():
        ratios = [took / base for took, base in zip(times, bare, strict=True)]
        print(f"{name:26} {statistics.median(times):6.2f} s   {statistics.median(ratios):4.1f} x")


if __name__ == "__main__":
    main()
