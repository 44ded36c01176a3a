"""Models in plain JAX that several tests train, and their data."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from hansa.learning import BatchOutput, build_federated_averaging_process, functional_model

FEATURES, CLASSES = 5, 3
SPEC = "<x=float32[?,5],y=int32[?]>"


def make_client(size, seed=0):
    rng = np.random.default_rng(1000 * seed + size)
    x = rng.normal(size=(size, FEATURES)).astype("float32")
    return {"x": x, "y": rng.integers(0, CLASSES, size).astype("int32")}


def true_batches(client, size=32):
    return [{k: v[i : i + size] for k, v in client.items()} for i in range(0, len(client["y"]), size)]


def cross_entropy(logits, y):
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], 1).mean()


def weights(seed=0):
    rng = np.random.default_rng(seed)
    return {
        "hidden": {"kernel": rng.normal(size=(FEATURES, 8)).astype("float32"), "bias": np.zeros(8, "float32")},
        "out": {"kernel": rng.normal(size=(8, CLASSES)).astype("float32")},
    }


def forward(w, batch, training, rng):
    hidden = jnp.tanh(batch.x @ w["hidden"]["kernel"] + w["hidden"]["bias"])
    logits = hidden @ w["out"]["kernel"]
    return BatchOutput(cross_entropy(logits, batch.y), logits)


def mlp(**arguments):
    return functional_model(weights(), forward, **{"input_spec": SPEC, "optimizer": optax.sgd(0.2), **arguments})


def zero_model(forward=forward, w=None, **arguments):
    return functional_model(weights() if w is None else w, forward, **{"input_spec": SPEC, **arguments})


def one_round(model, clients, **arguments):
    process = build_federated_averaging_process(model, **arguments)
    return process.next(process.initialize(), clients)


def assert_trees_close(found, expected, **tolerance):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, **{"rtol": 1e-5, "atol": 1e-5, **tolerance})


STATISTICS = {"mean": np.zeros(8, "float32"), "var": np.ones(8, "float32")}


def normalised(pair, batch, training, rng):
    w, statistics = pair
    x = batch.x @ w["hidden"]["kernel"]
    mean, var = (x.mean(0), x.var(0)) if training else (statistics["mean"], statistics["var"])
    after = {"mean": 0.9 * statistics["mean"] + 0.1 * mean, "var": 0.9 * statistics["var"] + 0.1 * var}
    logits = jax.nn.relu((x - mean) / jnp.sqrt(var + 1e-3) + w["hidden"]["bias"]) @ w["out"]["kernel"]
    return BatchOutput(cross_entropy(logits, batch.y), logits), after if training else statistics


def momentum_step(w, velocity, batch, rng):
    loss, gradients = jax.value_and_grad(lambda w: forward(w, batch, True, rng).loss)(w)
    velocity = jax.tree.map(lambda v, g: 0.9 * v + g, velocity, gradients)
    return jax.tree.map(lambda w, v: w - 0.1 * v, w, velocity), velocity, BatchOutput(loss)
