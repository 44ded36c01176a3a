"""The way of somebody who comes from TensorFlow Federated: `tf.data`, a process, a computation of their own."""

from __future__ import annotations

import collections
import re
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import hansa

tf = pytest.importorskip("tensorflow")


def preprocess(dataset: Any) -> Any:
    def batch_format(pixels: Any, label: Any) -> Any:
        return collections.OrderedDict(x=tf.reshape(pixels, [-1, 64]), y=tf.reshape(label, [-1, 1]))

    return dataset.repeat(2).shuffle(100, seed=1).batch(20).map(batch_format)


def model_fn() -> hansa.learning.FunctionalModel:
    network = keras.Sequential(
        [keras.Input((64,)), keras.layers.Dense(10, kernel_initializer="zeros"), keras.layers.Softmax()]
    )
    return hansa.learning.from_keras_model(
        network,
        input_spec=preprocess(of_digit(0)).element_spec,
        loss=keras.losses.SparseCategoricalCrossentropy(),
        metrics=[keras.metrics.SparseCategoricalAccuracy()],
    )


def of_digit(digit: int) -> Any:
    digits = hansa.simulation.load_digits()
    own = digits.train_labels == digit
    return tf.data.Dataset.from_tensor_slices((digits.train_images[own], digits.train_labels[own]))


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("learning.build_federated_averaging_process_", "hansa.learning.build_federated_averaging_process"),
        ("learning.build_fed_avg", "hansa.learning.build_federated_averaging_process(model_fn)"),
        ("learning.algorithms.build_weighted_fed_avg", "it is hansa.learning.build_weighted_fed_avg"),
        ("type_at_clients", 'hansa.to_type("{float32[10]}@CLIENTS")'),
    ],
)
def test_a_name_of_tff_is_answered_with_what_to_write(name: str, write: str) -> None:
    value: Any = hansa
    with pytest.raises(AttributeError, match=re.escape(write)):
        for part in name.split("."):
            value = getattr(value, part)


@pytest.mark.slow
def test_the_way_ends_with_a_trained_evaluated_and_saved_model(tmp_path: Path) -> None:
    data = [preprocess(of_digit(digit)) for digit in range(10)]
    process = hansa.learning.build_weighted_fed_avg(
        model_fn,
        client_optimizer_fn=lambda: keras.optimizers.SGD(0.1),
        server_optimizer_fn=lambda: keras.optimizers.SGD(1.0),
    )
    with pytest.raises(TypeError, match=re.escape("expected")):
        process.next(data)  # without the state
    state = process.initialize()
    losses = []
    for _ in range(5):
        state, metrics = process.next(state, data)
        losses.append(float(metrics.loss))
    assert losses == sorted(losses, reverse=True)

    evaluation = hansa.learning.build_federated_evaluation(model_fn)
    assert "SERVER" in str(evaluation.type_signature)
    assert float(evaluation(state.model, data).sparse_categorical_accuracy) > 0.5

    @hansa.federated_computation("{float32}@CLIENTS", "float32@SERVER")
    def share_above(readings, threshold):
        above = hansa.jax_computation(lambda reading, threshold: 1.0 * (reading > threshold))
        return hansa.federated_mean(hansa.federated_map(above, [readings, hansa.federated_broadcast(threshold)]))

    assert share_above([18.5, 21.0, 23.5], 20.0) == np.float32(2 / 3)

    network = keras.Sequential([keras.Input((64,)), keras.layers.Dense(10), keras.layers.Softmax()])
    state.model.assign_weights_to(network)
    network.save(tmp_path / "digits.keras")
    images = hansa.simulation.load_digits().train_images[:5]
    predict = hansa.learning.build_prediction(model_fn, state.model)
    np.testing.assert_allclose(
        keras.models.load_model(tmp_path / "digits.keras").predict(images, verbose=0), predict(images), atol=1e-5
    )
