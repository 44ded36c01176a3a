"""TensorFlow Federated's worker: its weighted federated averaging, in its default execution context."""

from __future__ import annotations

from functools import cache

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from benchmarks.peers import keras_layers
from benchmarks.peers.protocol import Task, serve


class Federated:
    """Federated averaging of a Keras model; a client's data is a `tf.data.Dataset`, made once."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.client = cache(self._dataset)
        self.evaluated = cache(self._compiled)
        self.process = tff.learning.algorithms.build_weighted_fed_avg(
            self._model,
            client_optimizer_fn=tff.learning.optimizers.build_sgdm(task.learning_rate),
            server_optimizer_fn=tff.learning.optimizers.build_sgdm(1.0),
        )
        initial = tff.learning.models.ModelWeights(trainable=task.weights, non_trainable=[])
        self.state = self.process.set_model_weights(self.process.initialize(), initial)

    def round(self, number: int) -> float:
        """One call of `next`."""
        clients = [self.client(index) for index in self.task.cohort(number)]
        output = self.process.next(self.state, clients)
        self.state = output.state
        return float(output.metrics["client_work"]["train"]["loss"])

    def evaluate(self) -> float:
        """Keras's `evaluate` of the server's model."""
        model = self.evaluated()
        self.process.get_model_weights(self.state).assign_weights_to(model)
        return float(model.evaluate(self.task.test_x, self.task.test_y, batch_size=1000, verbose=0))

    def weights(self) -> list[np.ndarray]:
        """As Keras orders them."""
        return [np.asarray(weight) for weight in self.process.get_model_weights(self.state).trainable]

    def _keras(self) -> tf.keras.Model:
        return keras_layers.build(tf.keras, self.task.layers, self.task.x.shape[1:], self.task.x.dtype.name)

    def _compiled(self) -> tf.keras.Model:
        model = self._keras()
        model.compile(loss=keras_layers.loss(tf.keras))
        return model

    def _model(self) -> tff.learning.models.VariableModel:
        x, y = self.task.x, self.task.y
        spec = [tf.TensorSpec([None, *array.shape[1:]], array.dtype) for array in (x, y)]
        return tff.learning.models.from_keras_model(self._keras(), keras_layers.loss(tf.keras), tuple(spec))

    def _dataset(self, index: int) -> tf.data.Dataset:
        return tf.data.Dataset.from_tensor_slices(self.task.client(index)).batch(self.task.batch_size).prefetch(1)


if __name__ == "__main__":
    serve(Federated)
