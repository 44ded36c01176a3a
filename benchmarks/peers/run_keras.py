"""The worker of Keras alone, without federation: `fit` on all the examples of a round, in order."""

from __future__ import annotations

import os
import sys
from functools import cache

os.environ["KERAS_BACKEND"] = sys.argv[2]

import keras
import numpy as np

from benchmarks.peers import keras_layers
from benchmarks.peers.protocol import Task, serve


class Keras:
    """One model, trained on one data set."""

    def __init__(self, task: Task, backend: str) -> None:
        self.task = task
        self.examples = cache(task.joined)
        self.model = keras_layers.build(keras, task.layers, task.x.shape[1:], task.x.dtype.name)
        self.model.set_weights(task.weights)
        self.model.compile(keras.optimizers.SGD(task.learning_rate), keras_layers.loss(keras))

    def round(self, number: int) -> float:
        """One epoch of `fit`."""
        x, y = self.examples(number % len(self.task.cohorts))
        history = self.model.fit(x, y, batch_size=self.task.batch_size, shuffle=False, verbose=0)
        return float(history.history["loss"][0])

    def evaluate(self) -> float:
        """Keras's `evaluate`."""
        return float(self.model.evaluate(self.task.test_x, self.task.test_y, batch_size=1000, verbose=0))

    def weights(self) -> list[np.ndarray]:
        """As Keras orders them."""
        return list(self.model.get_weights())


if __name__ == "__main__":
    serve(Keras)
