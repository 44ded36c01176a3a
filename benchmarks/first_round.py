"""From process start to the end of the first tutorial round, imports and compilation included.

python -m benchmarks.first_round [--repeat 3]

Each run is a process of its own, with an empty cache of compiled programs or one that another run has filled. Beside
it, in turn: importing JAX and Keras, without which there is no Keras model on JAX, and one epoch of Keras's `fit` over
the same examples, which does the arithmetic of the round without federation.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

IMPORTS = "import os; os.environ['KERAS_BACKEND'] = 'jax'; import jax, keras; jax.devices()"
MODEL = """
import keras
import numpy as np

rng = np.random.default_rng(0)
x, y = rng.random((10_000, 784), "float32"), rng.integers(0, 10, (10_000, 1)).astype("int32")

def compiled():
    dense = keras.layers.Dense
    model = keras.Sequential([keras.Input((784,)), dense(512, activation="relu"), dense(10, activation="softmax")])
    loss, metrics = "sparse_categorical_crossentropy", ["sparse_categorical_accuracy"]
    model.compile(optimizer=keras.optimizers.SGD(0.1), loss=loss, metrics=metrics)
    return model
"""
FIT = f"""{IMPORTS}
{MODEL}
assert np.isfinite(compiled().fit(x, y, batch_size=100, shuffle=False, verbose=0).history["loss"][0])
"""
ROUND = f"""
from collections import OrderedDict
import hansa
{MODEL}
batches = [OrderedDict(x=x[i : i + 100], y=y[i : i + 100]) for i in range(0, 10_000, 100)]
clients = [batches[i : i + 10] for i in range(0, 100, 10)]

def model_fn():
    return hansa.learning.from_compiled_keras_model(compiled(), batches[0])

process = hansa.learning.build_federated_averaging_process(model_fn)
state, metrics = process.next(process.initialize(), clients)
assert np.isfinite(metrics.loss)
"""


def seconds(program: str, cache: str) -> float:
    """How long it takes from the start of a new process to the end of its program; it ends itself some time later."""
    program += "\nimport time; print(time.time())"
    command = [sys.executable, "-c", program]
    start = time.time()
    done = subprocess.run(command, check=True, env=os.environ | {"HANSA_CACHE_DIR": cache}, stdout=subprocess.PIPE)
    return float(done.stdout) - start


def ratio(times: list[float], others: list[float]) -> float:
    """The median of the ratios in the same turn."""
    return statistics.median(one / other for one, other in zip(times, others, strict=True))


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=3, help="how many times; the median counts")
    repeat = parser.parse_args().repeat
    rows: dict[str, list[float]] = {
        "import jax and keras": [],
        "Keras's fit": [],
        "first round, empty cache": [],
        "first round, full cache": [],
    }
    imports, fit, empty, full = rows.values()
    with tempfile.TemporaryDirectory() as warm:
        seconds(ROUND, warm)
        for _ in range(repeat):
            with tempfile.TemporaryDirectory() as cold:
                imports.append(seconds(IMPORTS, cold))
                fit.append(seconds(FIT, cold))
                empty.append(seconds(ROUND, cold))
            full.append(seconds(ROUND, warm))
    print(f"{'':26} {'seconds':>9} {'to imports':>11} {'to fit':>8}")
    for name, times in rows.items():
        to_imports, to_fit = (ratio(times, others) for others in (imports, fit))
        print(f"{name:26} {statistics.median(times):9.2f} {to_imports:10.2f}x {to_fit:7.2f}x")


if __name__ == "__main__":
    main()
