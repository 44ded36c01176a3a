"""Models that are not trained, so that what their metrics are is known, in plain JAX and in Keras."""

import jax
import keras
import numpy as np
import optax

import hansa
from hansa.learning import BatchOutput, build_federated_averaging_process, functional_model

FEATURES = 4
KERNEL = np.array([[1.0], [-0.5], [0.25], [2.0]], "float32")


def make_client(size, seed=0):
    rng = np.random.default_rng(100 * seed + size)
    x = rng.normal(size=(size, FEATURES)).astype("float32")
    return {"x": x, "y": rng.integers(0, 2, (size, 1)).astype("float32")}


CLIENTS = [make_client(size) for size in (1, 9, 33, 4)]


def batches(client, size=8):
    return [{k: v[i : i + size] for k, v in client.items()} for i in range(0, len(client["y"]), size)]


def linear_model():
    inputs = keras.Input((FEATURES,))
    dense = keras.layers.Dense(1, use_bias=False, activation="sigmoid")
    model = keras.Model(inputs, dense(inputs))
    dense.kernel.assign(KERNEL)
    return model


def keras_model(metrics):
    """A model that is not trained, so that metrics are those of `KERNEL`."""
    return hansa.learning.from_keras_model(
        linear_model(), CLIENTS[0], loss="mse", metrics=metrics, optimizer=keras.optimizers.SGD(0.0)
    )


def compiled_keras_model(metrics):
    model = linear_model()
    model.compile(keras.optimizers.SGD(0.0), loss="mse", metrics=["mae"])
    return hansa.learning.from_compiled_keras_model(model, CLIENTS[0], metrics=metrics)


def jax_model(metrics):
    def forward(w, batch, training, rng):
        predictions = jax.nn.sigmoid(batch.x @ w["kernel"])
        return BatchOutput(((predictions - batch.y) ** 2).mean(), predictions)

    named = {metric.name: metric for metric in metrics if not isinstance(metric, str)}
    return functional_model(
        {"kernel": KERNEL}, forward, sample_batch=CLIENTS[0], metrics=named, optimizer=optax.sgd(0.0)
    )


def run(model, clients=CLIENTS):
    process = build_federated_averaging_process(model)
    return process.next(process.initialize(), [batches(client) for client in clients]).metrics


def predicted(client):
    return 1 / (1 + np.exp(-client["x"].astype("float64") @ KERNEL))
