"""TensorFlow's functions in Keras models on JAX: each is refused in a sentence that says what to write, or works."""

from collections import OrderedDict
from typing import Any

import keras
import numpy as np
import pytest

import hansa

tf = pytest.importorskip("tensorflow")

pytestmark = pytest.mark.skipif(keras.backend.backend() != "jax", reason="is of Keras's JAX backend")
BATCH = OrderedDict(x=np.ones((4, 3), np.float32), y=np.array([0, 1, 0, 1]))


def model(layers: list[Any] | None = None, **compiled: Any) -> Any:
    made = keras.Sequential([keras.Input((3,)), *(layers or []), keras.layers.Dense(2)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    made.compile(**{"optimizer": "sgd", "loss": loss, **compiled})
    return made


class Own(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.dense = keras.layers.Dense(2)

    def call(self, x: Any) -> Any:
        return tf.nn.relu(self.dense(x))


class SumOfTensorFlow(keras.metrics.Metric):
    def __init__(self) -> None:
        super().__init__(name="own")
        self.total = self.add_weight(name="total", initializer="zeros")

    def update_state(self, y: Any, predicted: Any, sample_weight: Any = None) -> None:
        self.total.assign_add(tf.reduce_sum(predicted))

    def result(self) -> Any:
        return self.total


class SumInNumPy(SumOfTensorFlow):
    def update_state(self, y: Any, predicted: Any, sample_weight: Any = None) -> None:
        self.total.assign_add(np.sum(np.asarray(predicted)))


class InAList(SumOfTensorFlow):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Any] = []

    def update_state(self, y: Any, predicted: Any, sample_weight: Any = None) -> None:
        self.seen.append(keras.ops.mean(predicted))

    def result(self) -> Any:
        return sum(self.seen)


def own() -> Any:
    made = Own()
    made.compile(optimizer="sgd", loss="mse")
    return made


dense = keras.layers.Dense


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: model([dense(4, tf.nn.relu, name="d")]), "layer 'd' has activation=relu, which is TensorFlow's, and "
         "this Keras runs on JAX: write keras.ops.relu or activation='relu', or set .* KERAS_BACKEND=tensorflow"),
        (lambda: model([dense(4, lambda x: tf.nn.gelu(x))]), r"test_mixtures\.py, line .* has tf\.nn\.gelu; this "
         "Keras runs on JAX: write keras.ops.gelu"),
        (lambda: model([keras.layers.Lambda(lambda x: tf.square(x))]), r"has tf\.square; .*write keras\.ops\.square"),
        (lambda: model([dense(4, kernel_regularizer=lambda w: tf.reduce_sum(w**2))]), "write keras.ops.sum"),
        (lambda: model(loss=lambda y, p: tf.reduce_mean(p)), "write keras.ops.mean"),
        (lambda: model(loss=tf.nn.sparse_softmax_cross_entropy_with_logits), "has loss=.*which is TensorFlow's"),
        (lambda: model(metrics=[SumOfTensorFlow()]), "line .*, in update_state, has tf.reduce_sum"),
        (lambda: model(metrics=[SumInNumPy()]), "line .*, in update_state, has np.sum"),
        (own, "line .*, in call, has tf.nn.relu"),
    ],
)  # fmt: skip
def test_what_is_tensorflows_is_refused_with_what_to_write(make: Any, message: str):
    with pytest.raises(TypeError, match=message):
        hansa.learning.from_compiled_keras_model(make(), BATCH)


def test_what_is_keras_under_tensorflows_name_works():
    made = model(
        [dense(4, tf.keras.activations.relu)],
        loss=tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        optimizer=tf.keras.optimizers.Adam(tf.keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9)),
        metrics=[tf.keras.metrics.SparseCategoricalAccuracy()],
    )
    process = hansa.learning.build_federated_averaging_process(hansa.learning.from_compiled_keras_model(made, BATCH))
    _, metrics = process.next(process.initialize(), [[BATCH], [BATCH]])
    assert np.isfinite(metrics["loss"])


def test_a_metric_that_collects_in_a_list_is_told_of_variables():
    with pytest.raises(TypeError, match=r"InAList 'own' keeps .* in its attribute 'seen', .*self\.add_weight"):
        hansa.learning.from_compiled_keras_model(model(metrics=[InAList()]), BATCH)


class SumOfWeights(keras.regularizers.Regularizer):
    def __call__(self, weights: Any) -> Any:
        return tf.reduce_sum(weights)


def test_a_regularizer_of_ones_own_is_refused_when_a_step_is_traced():
    regularized = hansa.learning.from_compiled_keras_model(model([dense(4, kernel_regularizer=SumOfWeights())]), BATCH)
    with pytest.raises(TypeError, match=r"line .*, in __call__, has tf\.reduce_sum; .* write keras\.ops\.sum"):
        hansa.learning.build_federated_averaging_process(regularized)
