"""One client's round is an epoch of `keras_model.fit(shuffle=False)` on the same batches, a short last one included."""

from collections import OrderedDict

import jax
import keras
import numpy as np
import pytest

import hansa
from hansa.language.context import current_runtime
from hansa.models.keras.weights import initial_weights
from hansa.models.weights import ModelWeights

layers, optimizers = keras.layers, keras.optimizers
N, BATCH = 43, 8
rng = np.random.default_rng(0)
FEATURES = rng.normal(size=(N, 12)).astype("float32")
IMAGES = rng.normal(size=(N, 12, 12, 3)).astype("float32")
WORDS = rng.integers(0, 20, (N, 7)).astype("int32")
CLASSES = rng.integers(0, 4, (N, 1)).astype("int32")
ONE_HOT = np.eye(4, dtype="float32")[CLASSES[:, 0]]
BINARY = rng.integers(0, 2, (N, 1)).astype("float32")
CROSS_ENTROPY = "sparse_categorical_crossentropy"


def mlp():
    hidden = layers.Dense(16, activation="relu", kernel_regularizer="l2", activity_regularizer="l1")
    return keras.Sequential([keras.Input((12,)), hidden, layers.Dense(4, activation="softmax")])


def normalised():
    return keras.Sequential(
        [
            keras.Input((12,)),
            layers.Dense(16),
            layers.BatchNormalization(),
            layers.Activation("gelu"),
            layers.LayerNormalization(),
            layers.Dense(4),
        ]
    )


def cnn():
    return keras.Sequential(
        [
            keras.Input((12, 12, 3)),
            layers.Conv2D(8, 3, activation="relu", padding="same"),
            layers.MaxPooling2D(),
            layers.BatchNormalization(),
            layers.DepthwiseConv2D(3),
            layers.Conv2DTranspose(4, 3, strides=2),
            layers.AveragePooling2D(2),
            layers.SeparableConv2D(6, 3),
            layers.GlobalAveragePooling2D(),
            layers.Dense(4, activation="softmax"),
        ]
    )


def lstm():
    return keras.Sequential(
        [
            keras.Input((7,), dtype="int32"),
            layers.Embedding(20, 8, mask_zero=True),
            layers.LSTM(6, return_sequences=True),
            layers.GRU(5),
            layers.Dense(1, activation="sigmoid"),
        ]
    )


class Subclassed(keras.Model):
    """Two inputs by name, and a loss of its own added to the compiled one."""

    def __init__(self):
        super().__init__()
        self.left = layers.Dense(8, activation="tanh")
        self.right = layers.Embedding(20, 8)
        self.out = layers.Dense(4)

    def call(self, inputs, training=False):
        hidden = self.left(inputs["features"]) + self.right(inputs["words"]).mean(axis=1)
        self.add_loss(1e-2 * keras.ops.mean(hidden**2))
        return self.out(hidden)


def two_headed():
    features = keras.Input((12,), name="features")
    hidden = layers.Dense(8, activation="relu")(features)
    outputs = {
        "class": layers.Dense(4, activation="softmax", name="class")(hidden),
        "value": layers.Dense(1, name="value")(hidden),
    }
    return keras.Model(features, outputs)


def constrained():
    hidden = layers.Dense(16, activation="relu", kernel_constraint=keras.constraints.UnitNorm())
    return keras.Sequential([keras.Input((12,)), hidden, layers.Dense(4, activation="softmax")])


def no_decay_of_kernels():
    optimizer = optimizers.AdamW(1e-2, weight_decay=10.0)
    optimizer.exclude_from_weight_decay(var_names=["kernel"])
    return optimizer


def schedule():
    return optimizers.RMSprop(optimizers.schedules.ExponentialDecay(1e-2, 2, 0.5))


LOGITS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
# fmt: off
# ruff: noqa: E501
CASES = {
    "mlp, sgd": (mlp, FEATURES, CLASSES, lambda: optimizers.SGD(0.1), CROSS_ENTROPY, ["accuracy"]),
    "mlp, momentum": (mlp, FEATURES, CLASSES, lambda: optimizers.SGD(0.05, 0.9, nesterov=True), CROSS_ENTROPY, ["accuracy"]),
    "mlp, adam": (mlp, FEATURES, ONE_HOT, lambda: optimizers.Adam(1e-2), "categorical_crossentropy", ["accuracy", keras.metrics.TopKCategoricalAccuracy(2)]),
    "mlp, adamw, clipping": (mlp, FEATURES, CLASSES, lambda: optimizers.AdamW(1e-2, clipnorm=0.5), CROSS_ENTROPY, []),
    "normalisation, sgd": (normalised, FEATURES, CLASSES, lambda: optimizers.SGD(0.05), LOGITS, [keras.metrics.SparseCategoricalAccuracy()]),
    "cnn, rmsprop with a schedule": (cnn, IMAGES, CLASSES, schedule, CROSS_ENTROPY, ["accuracy"]),
    "constraints, sgd": (constrained, FEATURES, CLASSES, lambda: optimizers.SGD(0.1), CROSS_ENTROPY, []),
    "adamw but for kernels": (mlp, FEATURES, CLASSES, no_decay_of_kernels, CROSS_ENTROPY, []),
    "cnn, momentum": (cnn, IMAGES, CLASSES, lambda: optimizers.SGD(0.05, 0.9), CROSS_ENTROPY, []),
    "lstm, adam": (lstm, WORDS, BINARY, lambda: optimizers.Adam(1e-2), "binary_crossentropy", ["accuracy", keras.metrics.AUC(), keras.metrics.Precision(), keras.metrics.Recall()]),
    "lstm, sgd": (lstm, WORDS, BINARY, lambda: optimizers.SGD(0.1), "mse", ["mae", keras.metrics.MeanSquaredError()]),
    "subclassed, two inputs": (Subclassed, {"features": FEATURES, "words": WORDS}, CLASSES, lambda: optimizers.SGD(0.1), LOGITS, ["accuracy"]),
    "two outputs, loss weights": (two_headed, FEATURES, {"class": CLASSES, "value": BINARY}, lambda: optimizers.SGD(0.1), {"class": CROSS_ENTROPY, "value": "mse"}, {"class": ["accuracy"]}),
}
# fmt: on
SLOW = {"cnn, momentum", "cnn, rmsprop with a schedule", "lstm, adam"}


def cut(arrays, start):
    return jax.tree.map(lambda a: a[start : start + BATCH], arrays)


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=pytest.mark.slow) if case in SLOW else case for case in CASES]
)
def test_one_client_and_one_epoch_equal_fit(case):
    build, x, y, optimizer, loss, metrics = CASES[case]
    keras.utils.set_random_seed(1)
    model = build()
    weights = {"class": 0.7, "value": 0.3} if "weights" in case else None
    model.compile(optimizer=optimizer(), loss=loss, metrics=metrics, loss_weights=weights)
    batches = [OrderedDict(x=cut(x, start), y=cut(y, start)) for start in range(0, N, BATCH)]

    process = hansa.learning.build_federated_averaging_process(
        hansa.learning.from_compiled_keras_model(model, batches[0])
    )
    state, found = process.next(process.initialize(), [batches])
    assert current_runtime()._compile(process.next).sizes is None, "short batches were compiled size by size"

    history = model.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0).history
    expected = ModelWeights.create(*initial_weights(model))
    for part in ("trainable", "non_trainable"):
        assert state.model[part]._fields == expected[part]._fields
        for name, value in expected[part]._items():
            np.testing.assert_allclose(
                state.model[part][name], value, rtol=1e-5, atol=max(1e-5 * np.abs(value).max(), 1e-6), err_msg=name
            )
    for name, (value,) in history.items():
        np.testing.assert_allclose(found[name], value, rtol=2e-5, atol=1e-6, err_msg=name)
    assert found.num_non_finite_clients == found.num_empty_clients == 0
