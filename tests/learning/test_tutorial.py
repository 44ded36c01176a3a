"""The tutorial's program on MNIST, with the figures it prints."""

from collections import OrderedDict

import keras
import numpy as np
import pytest

import hansa

TYPE = (
    "( -> <model=<trainable=<dense/bias=float32[512],dense/kernel=float32[784,512],dense_1/bias=float32[10],"
    "dense_1/kernel=float32[512,10]>,non_trainable=<>>,optimizer_state=<int64>>@SERVER)"
)
PUBLISHED = [(0.9138, 0.2718), (0.9259, 0.2448), (0.9488, 0.2233), (0.9616, 0.2055), (0.9683, 0.1905), (0.9704, 0.1773)]


def create_keras_model():
    return keras.Sequential(
        [
            keras.Input((784,)),
            keras.layers.Flatten(),
            keras.layers.Dense(512, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )


@pytest.fixture(scope="module")
def images(mnist):
    return (mnist.train_images.reshape(-1, 784) / 255.0).astype("float32"), mnist.train_labels.astype("int32").reshape(
        -1, 1
    )


@pytest.fixture(scope="module")
def client_data(images):
    x, y = images

    def client(digit):
        own = np.flatnonzero(y == digit)[:1000]
        return [OrderedDict(x=x[own[i : i + 100]], y=y[own[i : i + 100]]) for i in range(0, 1000, 100)]

    return [client(digit) for digit in range(10)]


def test_hello_world():
    assert hansa.federated_computation(lambda: "Hello, World!")() == "Hello, World!"


def test_the_tutorial(client_data, images, mnist):
    def model_fn():
        model = create_keras_model()
        model.compile(
            loss=keras.losses.SparseCategoricalCrossentropy(),
            optimizer=keras.optimizers.SGD(learning_rate=0.1),
            metrics=[keras.metrics.SparseCategoricalAccuracy()],
        )
        return hansa.learning.from_compiled_keras_model(model, client_data[0][0])

    keras.utils.set_random_seed(0)
    process = hansa.learning.build_federated_averaging_process(model_fn)
    assert isinstance(process, hansa.utils.IterativeProcess)
    assert process.initialize.type_signature.compact() == TYPE

    state = process.initialize()
    for accuracy, loss in PUBLISHED:
        state, metrics = process.next(state, client_data)
        assert metrics.sparse_categorical_accuracy == pytest.approx(accuracy, abs=0.02)
        assert metrics.loss == pytest.approx(loss, rel=0.1)
    assert (
        str(metrics)
        == f"<sparse_categorical_accuracy={metrics.sparse_categorical_accuracy:.6g},loss={metrics.loss:.6g}>"
    )
    assert state.optimizer_state[0] == 6

    keras_model = create_keras_model()  # dense_2 and dense_3 by now
    keras_model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    state.model.assign_weights_to(keras_model)
    test = (mnist.test_images.reshape(-1, 784) / 255.0).astype("float32")
    loss, accuracy = keras_model.evaluate(test, mnist.test_labels.astype("int32"), verbose=0)
    hidden = np.maximum(
        test @ np.asarray(state.model.trainable["dense/kernel"]) + np.asarray(state.model.trainable["dense/bias"]), 0
    )
    scores = hidden @ np.asarray(state.model.trainable["dense_1/kernel"]) + np.asarray(
        state.model.trainable["dense_1/bias"]
    )
    assert accuracy == pytest.approx((scores.argmax(1) == mnist.test_labels).mean(), abs=1e-6)
    assert accuracy > 0.3


def test_uncompiled_model_with_loss_metrics_and_optimizer(client_data):
    def model_fn():
        return hansa.learning.from_keras_model(
            create_keras_model(),
            input_spec=OrderedDict(x="float32[?,784]", y="int32[?,1]"),
            loss="sparse_categorical_crossentropy",
            metrics=["sparse_categorical_accuracy"],
            optimizer=keras.optimizers.SGD(0.1),
        )

    keras.utils.set_random_seed(0)
    process = hansa.learning.build_federated_averaging_process(model_fn)
    assert process.initialize.type_signature.compact() == TYPE
    _, metrics = process.next(process.initialize(), client_data)
    assert metrics.sparse_categorical_accuracy == pytest.approx(0.9138, abs=0.02)
