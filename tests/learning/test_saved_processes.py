"""Processes that are saved here and run by Python processes without Keras, TensorFlow and the code of the model."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import keras
import numpy as np
import optax
import pytest

import hansa
from hansa.learning import ModelWeights, RoundMetrics, build_federated_averaging_process
from hansa.simulation import load_digits
from hansa.templates import IterativeProcess
from tests.models.functional import make_client, mlp, true_batches

OFFSETS = [0, 30, 30, 71, 90]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("processes")


def digits(batch_size: int, offsets: list[int] = OFFSETS) -> hansa.ClientBatches:
    data = load_digits()
    return hansa.ClientBatches({"x": data.train_images, "y": data.train_labels}, offsets, batch_size)


def keras_process(*layers: Any) -> IterativeProcess:
    keras.utils.set_random_seed(3)
    model = keras.Sequential([keras.layers.Input((64,)), *layers, keras.layers.Dense(10)])
    model.compile(
        optimizer=keras.optimizers.SGD(0.1),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.SparseCategoricalAccuracy()],
    )
    data = load_digits()
    sample = {"x": data.train_images[:2], "y": data.train_labels[:2]}
    return build_federated_averaging_process(hansa.learning.from_compiled_keras_model(model, sample))


def rounds(process: IterativeProcess, *cohorts: Any) -> tuple[Any, list[Any]]:
    state, metrics = process.initialize(), []
    for cohort in cohorts:
        state, found = process.next(state, cohort)
        metrics.append(found)
    return state, metrics


def assert_same(found: Any, expected: Any) -> None:
    """Equal in the same containers, but for rounding: what tests compile without optimisation may add up otherwise."""
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-4, atol=1e-6)


_WITH = """
import sys
import keras
import numpy as np
import hansa
from tests.learning.test_saved_processes import digits, keras_process, rounds

path, result = sys.argv[1:]
process = keras_process(keras.layers.Dense(12, "relu"), keras.layers.BatchNormalization(), keras.layers.Dropout(0.3))
hansa.save(process, path)
state, metrics = rounds(process, digits(7), digits(7))
np.savez(result, *[np.asarray(leaf) for leaf in (*state.model.trainable, *state.model.non_trainable, *metrics[-1])])
"""

_WITHOUT = """
import sys


class Without:
    names = ("keras", "tensorflow", "optax", "tests")

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in self.names:
            raise ImportError(f"{name} is not to be imported here")


sys.meta_path.insert(0, Without())
import numpy as np
import hansa

path, data, result = sys.argv[1:]
process = hansa.load(path)
arrays = np.load(data)
clients = hansa.ClientBatches({"x": arrays["x"], "y": arrays["y"]}, arrays["offsets"], 7)
state = process.initialize()
for _ in range(2):
    state, metrics = process.next(state, clients)
assert type(state.model).__name__ == "ModelWeights" and type(metrics).__name__ == "RoundMetrics"
assert not {"keras", "tensorflow", "optax"} & set(sys.modules)
np.savez(result, *[np.asarray(leaf) for leaf in (*state.model.trainable, *state.model.non_trainable, *metrics)])
"""


@pytest.mark.slow
def test_another_python_process_without_the_model_gives_the_same_bits(folder):
    path, data = folder / "digits.hansa", folder / "data.npz"
    images = load_digits()
    np.savez(data, x=images.train_images, y=images.train_labels, offsets=OFFSETS)
    # As users compile: see `tests/runtimes/stages/test_bits.py`.
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    root = Path(__file__).parents[2]
    results = []
    for script, given, paths in (
        (_WITH, [path], [Path(hansa.__file__).parents[1], root]),
        (_WITHOUT, [path, data], [Path(hansa.__file__).parents[1]]),
    ):
        result = folder / f"result{len(results)}.npz"
        done = subprocess.run(
            [sys.executable, "-c", script, *map(str, given), str(result)],
            env={**environment, "PYTHONPATH": os.pathsep.join(map(str, paths))},
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        with np.load(result) as found:
            results.append([found[name] for name in found.files])
    for leaf, expected in zip(*results, strict=True):
        np.testing.assert_array_equal(leaf, expected)


@pytest.mark.slow
def test_a_keras_model_with_convolutions(folder):
    layers = keras.layers
    process = keras_process(
        layers.Reshape((8, 8, 1)), layers.Conv2D(3, 3, activation="relu"), layers.MaxPooling2D(), layers.Flatten()
    )
    hansa.save(process, folder / "convolution.hansa")
    loaded = hansa.load(folder / "convolution.hansa")
    assert isinstance(loaded, IterativeProcess)
    assert loaded.initialize.type_signature == process.initialize.type_signature
    assert loaded.next.type_signature == process.next.type_signature
    state, metrics = rounds(loaded, digits(13))
    assert isinstance(state.model, ModelWeights)
    assert isinstance(metrics[0], RoundMetrics)
    assert metrics[0].num_empty_clients == 1
    assert_same((state, metrics), rounds(process, digits(13)))


def test_a_model_in_plain_jax(folder):
    process = build_federated_averaging_process(mlp(), server_optimizer=optax.adam(0.1))
    hansa.save(process, folder / "jax.hansa")
    loaded = hansa.load(folder / "jax.hansa")
    cohorts = [[true_batches(make_client(n), size) for n in (40, 7)] for size in (8, 32)]
    assert_same(rounds(loaded, *cohorts), rounds(process, *cohorts))


def test_a_device_trains_what_the_runtime_averages(folder):
    process = build_federated_averaging_process(mlp())
    hansa.save(process, folder / "jax.hansa")
    stage = hansa.load_client_stage(folder / "jax.hansa")
    assert [port.name for port in stage.inputs].count("data") == 1
    clients = [true_batches(make_client(n), 16) for n in (40, 7)]
    state = process.initialize()
    after, _ = process.next(state, clients)

    key = jax.random.key_data(jax.random.fold_in(jax.random.key(0), 0))
    sent = {"state.model": state.model}
    broadcasts = [sent.get(port.name, np.asarray(key)) for port in stage.broadcasts]
    updates, weights = [], []
    for number, batches in enumerate(clients):
        own = {"data": batches}
        done = stage.work(broadcasts, [own.get(port.name, np.int32(number)) for port in stage.inputs])
        (mean,) = [
            values
            for part, values in zip(stage.contributions, done.contributions, strict=True)
            if part.operation == "federated_mean" and len(values) == 2
        ]
        updates.append(mean[0].trainable)
        weights.append(int(mean[1]))
    assert weights == [40, 7]
    for name, new in after.model.trainable._items():
        change = np.average([np.asarray(update[name]) for update in updates], axis=0, weights=weights)
        np.testing.assert_allclose(new, state.model.trainable[name] + change, rtol=1e-5, atol=1e-6)


def test_a_tensorflow_function(folder):
    tf = pytest.importorskip("tensorflow")

    @hansa.tf_computation(np.float32, "float32[?,2]")
    def total(state, batch):
        return state + tf.reduce_mean(tf.reduce_sum(batch, axis=1))

    @hansa.federated_computation("{float32[?,2]*}@CLIENTS")
    def means(data):
        return hansa.federated_sum(hansa.sequence_reduce(data, 0.0, total))

    hansa.save(means, folder / "tensorflow.hansa")
    rng = np.random.default_rng(0)
    data = [[rng.normal(size=(n, 2)).astype("float32") for n in sizes] for sizes in ([4, 3], [5], [])]
    expected = sum(batch.sum(1).mean() for batches in data for batch in batches)
    assert hansa.load(folder / "tensorflow.hansa")(data) == pytest.approx(expected, rel=1e-5)
