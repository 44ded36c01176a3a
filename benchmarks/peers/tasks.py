"""The workloads that are compared, as tasks: those of `benchmarks.workloads` and some that take longer."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from benchmarks.peers.protocol import Task
from benchmarks.workloads import CNN_FLOPS, Workload, all_workloads, clients, cnn, mlp
from hansa.simulation import load_mnist

layers = keras.layers
SEQUENCE = 80


def all_tasks() -> dict[str, Callable[[], Task]]:
    """By name, what makes each task."""
    return {workload.name: partial(task_of, workload) for workload in all_workloads()} | {
        name: partial(make, name)
        for name, make in {
            "CNN, 4 x 600, B=10": partial(convolutional, 10),
            "CNN, 4 x 600, B=50": partial(convolutional, 50),
            "character LSTM, 8 speakers, B=10": shakespeare,
            "logistic regression, 10 of 1000, B=10": sampled,
        }.items()
    }


def task_of(workload: Workload, cohorts: list[list[int]] | None = None, test: Any = None) -> Task:
    """A workload as a task. All clients take part, if no cohorts are given; and without a test set, there is no
    evaluation."""
    keras.utils.set_random_seed(0)
    model = workload.build()
    data = workload.data
    offsets = np.concatenate([data.starts, data.starts[-1:] + data.sizes[-1:]])
    x, y = (data.examples.rows[name][: offsets[-1]] for name in ("x", "y"))
    test_x, test_y = (x[:0], y[:0]) if test is None else test
    return Task(
        name=workload.name,
        layers=[described(layer) for layer in model.layers],
        weights=model.get_weights(),
        x=x,
        y=y,
        offsets=offsets,
        test_x=test_x,
        test_y=test_y,
        cohorts=cohorts or [list(range(len(data)))],
        batch_size=data.batching.batch_size,
        learning_rate=workload.learning_rate,
    )


def described(layer: keras.Layer) -> dict[str, Any]:
    """A layer as a task tells of it. The softmax at the end is left to the loss."""
    activation = "relu" if getattr(layer, "activation", None) is keras.activations.relu else None
    match layer:
        case layers.Dense():
            return {"kind": "dense", "units": layer.units, "activation": activation}
        case layers.Conv2D():
            sizes = {"filters": layer.filters, "size": layer.kernel_size[0]}
            return {"kind": "conv", **sizes, "activation": activation}
        case layers.MaxPooling2D():
            return {"kind": "pool", "size": layer.pool_size[0]}
        case layers.Flatten():
            return {"kind": "flatten", "shape": layer.input.shape[1:]}
        case layers.Embedding():
            return {"kind": "embedding", "entries": layer.input_dim, "units": layer.output_dim}
        case layers.LSTM():
            return {"kind": "lstm", "units": layer.units}
    raise ValueError(f"tasks have no layer like {layer!r}")


def images(shape: tuple[int, ...], test: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """MNIST in this shape, and labels [n, 1]."""
    data = load_mnist()
    x, y = (data.test_images, data.test_labels) if test else (data.train_images, data.train_labels)
    return (x.reshape(-1, *shape) / 255.0).astype("float32"), y.reshape(-1, 1).astype("int32")


def convolutional(batch: int, name: str, sizes: Sequence[int] = (600,) * 4) -> Task:
    """The CNN of McMahan et al. (2017, arXiv:1602.05629, section 3), 1,663,370 weights, on clients of these sizes."""
    x, y = images((28, 28, 1))
    return task_of(Workload(name, cnn, clients(x, y, list(sizes), batch), 0.01, CNN_FLOPS))


def speeches(path: Path) -> list[str]:
    """What each speaker of the plays says, the speaker with most to say first."""
    said = defaultdict(list)
    for passage in path.read_text().split("\n\n"):
        speaker, _, words = passage.partition(":\n")
        said[speaker].append(words)
    return sorted(("\n".join(parts) for parts in said.values()), key=len, reverse=True)


def sequences(text: str, codes: dict[str, int]) -> tuple[np.ndarray, np.ndarray]:
    """A text's characters and those that follow them, each int32 [n, 80]; what is left over at the end is dropped."""
    numbers = np.array([codes[character] for character in text], "int32")
    count = max(0, len(numbers) - 1) // SEQUENCE
    x, y = (numbers[start : count * SEQUENCE + start].reshape(count, SEQUENCE) for start in (0, 1))
    return x, y


def shakespeare(name: str) -> Task:
    """The character LSTM of McMahan et al. (section 3), on every thirty-second of the 257 speakers that have 81
    characters or more, by how much they say: from 211 sequences down to one."""
    path = Path(os.environ.get("HANSA_DATA_DIR", ""), "shakespeare", "input.txt")
    if not path.exists():
        raise FileNotFoundError("there is no shakespeare/input.txt in HANSA_DATA_DIR")
    codes = {character: code for code, character in enumerate(sorted(set(path.read_text())))}
    by_speaker = [sequences(text, codes) for text in speeches(path) if len(text) > SEQUENCE][12::32]
    xs, ys = zip(*by_speaker, strict=True)

    def build() -> keras.Model:
        recurrent = [layers.LSTM(256, return_sequences=True) for _ in range(2)]
        dense = layers.Dense(len(codes), activation="softmax")
        embedding = layers.Embedding(len(codes), 8)
        return keras.Sequential([keras.Input((SEQUENCE,), dtype="int32"), embedding, *recurrent, dense])

    data = clients(np.concatenate(xs), np.concatenate(ys), [len(x) for x in xs], 10)
    return task_of(Workload(name, build, data, 0.5, np.nan))


def sampled(name: str) -> Task:
    """The comparison that FLUTE publishes of itself with Flower: 1,000 clients with 69 ± 106 examples, 10 a round, a
    learning rate of 0.03; 100 rounds, an evaluation after every 20."""
    rng = np.random.default_rng(0)
    mean, deviation = 69, 106
    variance = np.log(1 + (deviation / mean) ** 2)
    sizes = rng.lognormal(np.log(mean) - variance / 2, np.sqrt(variance), 1000).astype(int).clip(min=1)
    x, y = images((784,))
    rows = np.arange(sizes.sum()) % len(x)
    cohorts = [rng.choice(len(sizes), 10, replace=False).tolist() for _ in range(100)]
    workload = Workload(name, mlp([784, 10]), clients(x[rows], y[rows], list(sizes), 10), 0.03, np.nan)
    return task_of(workload, cohorts, images((784,), test=True))
