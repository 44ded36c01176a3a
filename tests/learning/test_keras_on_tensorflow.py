"""Keras models on Keras's TensorFlow backend, in a process of its own, give what they give on its JAX backend here."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorflow")

PROGRAM = """
import json, sys
from collections import OrderedDict
import hansa, keras, numpy as np

layers, optimizers = keras.layers, keras.optimizers
assert keras.backend.backend() == sys.argv[1]


def mlp():
    return [keras.Input((5,)), layers.Dense(8, activation="relu", kernel_regularizer="l2"), layers.Dense(3)]


def cnn():
    return [
        keras.Input((12, 12, 1)), layers.Conv2D(4, 3, activation="relu"), layers.MaxPooling2D(),
        layers.BatchNormalization(), layers.Conv2D(3, 2, padding="same", strides=2), layers.AveragePooling2D(2),
        layers.Flatten(), layers.Dense(3, kernel_constraint=keras.constraints.MaxNorm(0.5)),
    ]


def recurrent():
    return [
        keras.Input((7,), dtype="int32"), layers.Embedding(9, 4), layers.LSTM(4, return_sequences=True), layers.GRU(4),
        layers.LayerNormalization(), layers.Dense(3),
    ]


OPTIMIZERS = {
    "sgd": lambda: optimizers.SGD(0.1),
    "nesterov": lambda: optimizers.SGD(optimizers.schedules.ExponentialDecay(0.1, 3, 0.9), 0.9, nesterov=True),
    "adam": lambda: optimizers.Adam(0.01, clipnorm=0.5),
    "adamw": lambda: optimizers.AdamW(0.01),
    "rmsprop": lambda: optimizers.RMSprop(0.01),
}


def batch(rng, size, shape, dtype):
    x = rng.integers(0, 9, (size, *shape)) if dtype == "int32" else rng.normal(size=(size, *shape))
    return OrderedDict(x=x.astype(dtype), y=rng.integers(0, 3, (size, 1)).astype("int32"))


def weigh(batch, weighs):
    weights = {"sample_weight": (np.arange(len(batch["y"])) % 3 + 0.5).astype("float32")}
    return OrderedDict(batch, **weights) if weighs == "examples" else batch


def run(make, optimizer, server_optimizer=None, client_optimizer=None, weighs=None):
    def build():
        model = keras.Sequential([*make(), layers.Softmax()])
        rng = np.random.default_rng(5)
        model.set_weights([
            value if "moving" in variable.path else rng.normal(scale=0.3, size=value.shape).astype(value.dtype)
            for value, variable in zip(model.get_weights(), model.weights)
        ])
        return model

    model = build()
    shape, dtype = model.inputs[0].shape[1:], model.inputs[0].dtype

    def model_fn():
        model = build()
        model.compile(
            OPTIMIZERS[optimizer](), "sparse_categorical_crossentropy",
            metrics=["accuracy", keras.metrics.SparseTopKCategoricalAccuracy(2)], weighted_metrics=["accuracy"],
        )
        sample = weigh(batch(np.random.default_rng(0), 2, shape, dtype), weighs)
        by_class = {0: 0.5, 2: 4.0} if weighs == "classes" else None
        return hansa.learning.from_compiled_keras_model(model, sample, class_weight=by_class)

    rng = np.random.default_rng(1)
    data = [[weigh(batch(rng, size, shape, dtype), weighs) for size in sizes] for sizes in ([6, 6, 2], [5], [], [1])]
    server = None if server_optimizer is None else OPTIMIZERS[server_optimizer]()
    client = None if client_optimizer is None else OPTIMIZERS[client_optimizer]()
    process = hansa.learning.build_federated_averaging_process(
        model_fn, server_optimizer=server, client_optimizer=client
    )
    state = process.initialize()
    for _ in range(3):
        state, metrics = process.next(state, data)
    state.model.assign_weights_to(model)
    weights = [np.asarray(w).ravel().tolist() for w in [*state.model.trainable, *state.model.non_trainable]]
    assigned = [np.asarray(w).ravel().tolist() for w in model.get_weights()]
    return [sum(weights, []), sum(sorted(assigned), []), [float(value) for value in metrics]]


cases = {
    "mlp": lambda: run(mlp, "rmsprop", server_optimizer="adamw"),
    "cnn, other optimizers": lambda: run(cnn, "sgd", server_optimizer="nesterov", client_optimizer="adam"),
    "recurrent": lambda: run(recurrent, "adam"),
    "weights of examples": lambda: run(mlp, "sgd", weighs="examples"),
    "weights of classes": lambda: run(mlp, "sgd", weighs="classes"),
}
print(json.dumps({name: case() for name, case in cases.items()}))
"""


RANDOM = """
import hansa, keras, numpy as np
from collections import OrderedDict

layers = keras.layers


def model_fn():
    dense = layers.Dense(1, use_bias=False, kernel_initializer="zeros")
    model = keras.Sequential([keras.Input((200,)), layers.Dropout(0.5), dense])
    model.compile(keras.optimizers.SGD(1.0), "mean_absolute_error")
    return hansa.learning.from_compiled_keras_model(model, client(1)[0])


def client(batches):
    return [OrderedDict(x=np.ones((1, 200), "float32"), y=np.full((1, 1), -9e6, "float32"))] * batches


process = hansa.learning.build_federated_averaging_process(model_fn)
kernels = []
for data in ([client(1)], [client(1), client(1)], [client(2)]):
    state, _ = process.next(process.initialize(), data)
    kernels.append(np.asarray(state.model.trainable[0]).ravel() / -2)  # 1 where a unit was kept
one, two, twice = kernels
assert set(np.round(one, 4)) == {0, 1} and 60 < one.sum() < 140, one
assert set(np.round(two, 4)) == {0, 0.5, 1}, two
assert set(np.round(twice, 4)) == {0, 1, 2}, twice
"""


OPTIMIZER = """
from collections import OrderedDict

import hansa, keras, numpy as np, tensorflow as tf
from tests.learning.tensorflow_mnist import MnistTrainableModel


class Stepping(MnistTrainableModel):
    def train_on_batch(self, batch):
        with tf.GradientTape() as tape:
            output = self.forward_pass(batch)
        gradients = tape.gradient(output.loss, self.trainable_variables)
        self.optimizer().apply_gradients(zip(gradients, self.trainable_variables))
        return output


class Kept(Stepping):
    def __init__(self):
        super().__init__()
        self._optimizer = keras.optimizers.SGD(0.1, momentum=0.9)

    def optimizer(self):
        return self._optimizer


class Made(Stepping):
    def optimizer(self):
        return keras.optimizers.SGD(0.1, momentum=0.9)


def softmax(z):
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


rng = np.random.default_rng(0)
batches = [
    OrderedDict(x=rng.normal(size=(n, 784)).astype("float32"), y=rng.integers(0, 10, (n, 1)).astype("int32"))
    for n in (4, 4, 2)
]
weights, bias = np.zeros((784, 10)), np.zeros(10)
for _ in range(2):
    velocity, fall = 0.0, 0.0
    for batch in batches:
        error = (softmax(batch["x"] @ weights + bias) - np.eye(10)[batch["y"][:, 0]]) / len(batch["y"])
        velocity, fall = 0.9 * velocity + batch["x"].T @ error, 0.9 * fall + error.sum(0)
        weights, bias = weights - 0.1 * velocity, bias - 0.1 * fall
for model in (Kept, Made):
    process = hansa.learning.build_federated_averaging_process(model)
    state = process.initialize()
    for _ in range(2):
        state, _ = process.next(state, [batches])
    np.testing.assert_allclose(state.model.trainable.weights, weights, atol=1e-6)
    np.testing.assert_allclose(state.model.trainable.bias, bias, atol=1e-6)
"""


METRIC = """
import hansa, keras, numpy as np

model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
model.compile("sgd", "mse", metrics=[keras.metrics.MeanAbsoluteError()])
batch = {"x": np.zeros((2, 2), "float32"), "y": np.ones((2, 1), "float32")}
squares = hansa.learning.Metric(lambda labels, predictions, weight: (labels - predictions)[:, 0] ** 2, name="squares")
made = hansa.learning.from_compiled_keras_model(model, batch, metrics=[squares])
process = hansa.learning.build_federated_averaging_process(made)
_, metrics = process.next(process.initialize(), [[batch]])
assert metrics._fields[:3] == ("mean_absolute_error", "squares", "loss"), metrics
np.testing.assert_allclose([metrics.mean_absolute_error, metrics.squares, metrics.loss], 1)
try:
    hansa.learning.from_compiled_keras_model(model, batch, metrics=[keras.metrics.MeanSquaredError()])
except TypeError as error:
    assert "a Keras metric on Keras's 'tensorflow' backend" in str(error), error
else:
    raise AssertionError("no error")
"""


FIT = """
from collections import OrderedDict

import hansa, keras, numpy as np
from keras import optimizers


class Scaled(optimizers.SGD):
    def __init__(self, learning_rate, factor):
        super().__init__(learning_rate)
        self.factor = factor

    def update_step(self, gradient, variable, learning_rate):
        super().update_step(self.factor * gradient, variable, learning_rate)


def without_decay():
    optimizer = optimizers.AdamW(0.1, weight_decay=1.0)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    return optimizer


rng = np.random.default_rng(0)
x, y = rng.normal(size=(10, 3)).astype("float32"), rng.normal(size=(10, 2)).astype("float32")
batches = [OrderedDict(x=x[i:i + 4], y=y[i:i + 4]) for i in range(0, 10, 4)]
ema = {"use_ema": True, "ema_momentum": 0.6}


def compiled(make, policy):
    keras.config.set_dtype_policy(policy)
    layers = [
        keras.layers.Dense(2, activation="tanh", kernel_constraint=keras.constraints.UnitNorm(), name="z"),
        keras.layers.Dense(2, name="a"),
    ]
    model = keras.Sequential([keras.Input((3,)), *layers])
    keras.config.set_dtype_policy("float32")
    values = np.random.default_rng(1)
    model.set_weights([values.normal(size=w.shape) for w in model.weights])
    model.compile(make(), "mse")
    return model


for make, policy, atol in (
    (lambda: optimizers.SGD(0.1, **ema), "float32", 1e-5),
    (lambda: optimizers.Adam(0.1, **ema, ema_overwrite_frequency=2, clipnorm=0.1), "float32", 1e-5),
    (lambda: optimizers.SGD(0.1, gradient_accumulation_steps=2, loss_scale_factor=8.0), "float32", 1e-5),
    (lambda: optimizers.LossScaleOptimizer(optimizers.SGD(0.1), dynamic_growth_steps=2), "float32", 1e-5),
    (lambda: optimizers.RMSprop(lambda: 0.05), "float32", 1e-5),
    (lambda: Scaled(0.1, factor=5.0), "float32", 1e-5),
    (without_decay, "float32", 1e-5),
    (lambda: optimizers.Adam(0.1), "mixed_float16", 2e-3),
):
    model = compiled(make, policy)
    for _ in range(2):
        process = hansa.learning.build_federated_averaging_process(
            hansa.learning.from_compiled_keras_model(model, batches[0])
        )
        weights = process.next(process.initialize(), [batches]).state.model.trainable
    model.fit(x, y, batch_size=4, shuffle=False, verbose=0)
    for name, right in zip(("z/kernel", "z/bias", "a/kernel", "a/bias"), model.get_weights()):
        np.testing.assert_allclose(weights[name], right, atol=atol, err_msg=f"{model.optimizer.name} {name}")
try:
    hansa.learning.from_compiled_keras_model(compiled(lambda: optimizers.ScheduleFreeAdamW(0.1), "float32"), batches[0])
except TypeError as error:
    assert "ScheduleFreeAdamW starts from the weights" in str(error), error
else:
    raise AssertionError("no error")
"""


@pytest.fixture(scope="module")
def on_tensorflow():
    """All programs, one after another, in one process: importing TensorFlow and Keras takes most of it."""
    return subprocess.run(
        [sys.executable, "-c", "\n".join([PROGRAM, RANDOM, OPTIMIZER, METRIC, FIT]), "tensorflow"],
        capture_output=True,
        text=True,
        env=os.environ | {"KERAS_BACKEND": "tensorflow"},
        cwd=Path(__file__).parents[2],
    )


@pytest.mark.whole
@pytest.mark.xdist_group("keras_on_tensorflow")
def test_both_backends_give_the_same(on_tensorflow, capsys, monkeypatch):
    assert on_tensorflow.stdout, on_tensorflow.stderr[-4000:]
    found = json.loads(on_tensorflow.stdout.splitlines()[-1])
    monkeypatch.setattr(sys, "argv", ["program", "jax"])
    exec(PROGRAM, {})
    expected = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found.keys() == expected.keys()
    for name in expected:
        for ours, theirs in zip(found[name], expected[name], strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-4, rtol=1e-4, err_msg=name)


@pytest.mark.slow
@pytest.mark.xdist_group("keras_on_tensorflow")
def test_dropout_optimizers_of_variable_models_and_metrics_of_ones_own(on_tensorflow):
    assert on_tensorflow.returncode == 0, on_tensorflow.stderr[-4000:]
