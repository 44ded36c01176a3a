"""The workloads of the benchmarks: a Keras model, clients' data, and the arithmetic that a round needs."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import keras
import numpy as np

import hansa
from hansa.simulation import load_mnist

layers = keras.layers


@dataclass(frozen=True)
class Workload:
    """One row of the table.

    Attributes:
        name: what it is called.
        build: makes the Keras model, not compiled.
        data: all clients' examples.
        learning_rate: of the clients' SGD.
        flops_per_example: of forward and backward pass, as matrix products.
    """

    name: str
    build: Callable[[], keras.Model]
    data: hansa.ClientBatches
    learning_rate: float
    flops_per_example: float

    @property
    def flops(self) -> float:
        """The arithmetic of a round in which every client takes part."""
        return float(self.data.sizes.sum()) * self.flops_per_example

    def process(self) -> hansa.templates.IterativeProcess:
        """The averaging process of the model."""

        def model_fn() -> hansa.learning.FunctionalModel:
            model = self.build()
            model.compile(
                optimizer=keras.optimizers.SGD(self.learning_rate),
                loss="sparse_categorical_crossentropy",
                metrics=["sparse_categorical_accuracy"],
            )
            return hansa.learning.from_compiled_keras_model(model, next(iter(self.data[0])))

        return hansa.learning.build_federated_averaging_process(model_fn)


def dense_flops(sizes: list[int]) -> float:
    """Forward and backward pass of one example through dense layers; the first needs no gradient of its input."""
    products = [2 * a * b for a, b in pairwise(sizes)]
    return float(3 * sum(products) - products[0])


def mlp(sizes: list[int]) -> Callable[[], keras.Model]:
    """A chain of dense layers, relu between them and softmax at the end."""

    def build() -> keras.Model:
        hidden = [layers.Dense(size, activation="relu") for size in sizes[1:-1]]
        return keras.Sequential([keras.Input((sizes[0],)), *hidden, layers.Dense(sizes[-1], activation="softmax")])

    return build


def cnn() -> keras.Model:
    """The CNN of McMahan et al. (2017, arXiv:1602.05629, section 3), 1,663,370 weights."""
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(32, 5, padding="same", activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(64, 5, padding="same", activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(512, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )


CNN_FLOPS = float(3 * 2 * (28 * 28 * 32 * 25 + 14 * 14 * 64 * 25 * 32 + 3136 * 512 + 512 * 10) - 2 * 28 * 28 * 32 * 25)
"""Forward and backward pass of one example through it."""


def clients(x: np.ndarray, y: np.ndarray, sizes: list[int], batch: int) -> hansa.ClientBatches:
    """Examples cut into clients of these sizes, one after another."""
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    return hansa.ClientBatches(OrderedDict(x=x, y=y), offsets, batch)


def all_workloads() -> list[Workload]:
    """The workloads, on MNIST."""
    data = load_mnist()
    x = (data.train_images.reshape(-1, 784) / 255.0).astype("float32")
    y = data.train_labels.reshape(-1, 1).astype("int32")
    by_digit = np.concatenate([np.flatnonzero(y == digit)[:1000] for digit in range(10)])
    ragged = np.maximum(1, np.random.default_rng(0).lognormal(3, 1.5, 100).astype(int)).clip(max=3000)
    tutorial, two, logistic = [784, 512, 10], [784, 200, 200, 10], [784, 10]
    digits = clients(x[by_digit], y[by_digit], [1000] * 10, 100)
    return [
        Workload("tutorial MLP, 10 x 1000, B=100", mlp(tutorial), digits, 0.1, dense_flops(tutorial)),
        Workload("2NN, 10 x 600, B=10", mlp(two), clients(x, y, [600] * 10, 10), 0.05, dense_flops(two)),
        Workload(
            "logistic regression, 500 x 20, B=10",
            mlp(logistic),
            clients(x, y, [20] * 500, 10),
            0.05,
            dense_flops(logistic),
        ),
        Workload("2NN, 100 ragged clients, B=10", mlp(two), clients(x, y, list(ragged), 10), 0.05, dense_flops(two)),
    ]
