"""Hansa's worker. With the option `joined`, a round's clients are one client with all their examples; with `ray`, they
are worked for by as many processes on Ray as there are cores."""

from __future__ import annotations

import os

import hansa  # isort: skip
import jax
import keras
import numpy as np

from benchmarks.peers import keras_layers
from benchmarks.peers.protocol import Task, serve


class Hansa:
    """Federated averaging of a Keras model."""

    def __init__(self, task: Task, form: str = "clients") -> None:
        self.task = task
        self.joined = form == "joined"
        self.population = hansa.ClientBatches({"x": task.x, "y": task.y}, task.offsets, task.batch_size)
        self.model = keras_layers.build(keras, task.layers, task.x.shape[1:], task.x.dtype.name)
        self.model.set_weights(task.weights)
        self.model.compile(keras.optimizers.SGD(task.learning_rate), keras_layers.loss(keras))
        batch = {"x": task.x[: task.batch_size], "y": task.y[: task.batch_size]}
        self.process = hansa.learning.build_federated_averaging_process(
            lambda: hansa.learning.from_compiled_keras_model(self.model, batch)
        )
        self.state = self.process.initialize()
        if form == "ray":
            hansa.set_runtime(hansa.RayRuntime(os.cpu_count() or 1))

    def round(self, number: int) -> float:
        """One call of `process.next`."""
        self.state, metrics = self.process.next(self.state, self.clients(number))
        jax.block_until_ready(self.state)
        return float(metrics.loss)

    def clients(self, number: int) -> hansa.ClientBatches:
        """Who takes part."""
        if not self.joined:
            return self.population.select(self.task.cohort(number))
        x, y = self.task.joined(number)
        return hansa.ClientBatches({"x": x, "y": y}, [0, len(x)], self.task.batch_size)

    def evaluate(self) -> float:
        """Keras's `evaluate`."""
        self.state.model.assign_weights_to(self.model)
        return float(self.model.evaluate(self.task.test_x, self.task.test_y, batch_size=1000, verbose=0))

    def weights(self) -> list[np.ndarray]:
        """As Keras orders them."""
        self.state.model.assign_weights_to(self.model)
        return list(self.model.get_weights())


if __name__ == "__main__":
    serve(Hansa)
