"""A softmax regression in JAX and, independently, in NumPy with 64 bits, and ragged clients, for algorithms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import optax

import hansa
from hansa.learning import BatchOutput, FunctionalModel

FEATURES, CLASSES, BATCH, RATE = 6, 3, 4, 0.1
SIZES = [10, 7, 0, 13, 5]
IDS = ["ann", "bo", "cy", "di", "eve"]
COHORTS = [[0, 1, 2], [1, 3, 4], [4, 0, 3]]
"""Some of the clients in each round: `cy` has no examples, and an example of `eve` is not a number."""

Array = npt.NDArray[np.float64]
Weights = tuple[Array, Array]
"""The bias and the kernel, in the order of the model's weights."""


def model(rate: float = RATE) -> FunctionalModel:
    """The softmax regression, with SGD."""
    rng = np.random.default_rng(7)
    weights = {"bias": np.zeros(CLASSES, np.float32), "kernel": rng.normal(0, 0.1, (FEATURES, CLASSES))}
    weights = {name: leaf.astype(np.float32) for name, leaf in weights.items()}

    def forward(weights: Any, batch: Any, training: bool, rng: Any) -> BatchOutput:
        logits = batch.x @ weights["kernel"] + weights["bias"]
        loss = -jnp.take_along_axis(jax.nn.log_softmax(logits), batch.y[:, None], 1).mean()
        return BatchOutput(loss, logits)

    spec = f"<x=float32[?,{FEATURES}],y=int32[?]>"
    return hansa.learning.functional_model(weights, forward, input_spec=spec, optimizer=optax.sgd(rate))


def examples() -> tuple[Any, Any]:
    """The features and the labels of all clients, one after the other."""
    rng = np.random.default_rng(0)
    number, offsets = sum(SIZES), np.cumsum([0, *SIZES])
    x, y = rng.normal(size=(number, FEATURES)).astype(np.float32), rng.integers(0, CLASSES, number).astype(np.int32)
    x[offsets[4] + 1, 2] = np.nan
    return x, y


def population() -> hansa.ClientBatches:
    """The data of all clients."""
    x, y = examples()
    return hansa.ClientBatches({"x": x, "y": y}, np.cumsum([0, *SIZES]), BATCH, IDS)


def other_data() -> hansa.ClientBatches:
    """Other data of all clients: their features, halved."""
    x, y = examples()
    return hansa.ClientBatches({"x": x / 2, "y": y}, np.cumsum([0, *SIZES]), BATCH, IDS)


def all_other_of(client: int) -> tuple[Array, Any]:
    """The other data of one client, as one batch."""
    x, y = all_of(client)
    return x / 2, y


def batches(client: int) -> list[tuple[Array, Any]]:
    """The batches of one client, as NumPy arrays of 64 bits."""
    x, y = examples()
    first, last = np.cumsum([0, *SIZES])[client : client + 2]
    cuts = [slice(start, min(start + BATCH, last)) for start in range(first, last, BATCH)]
    return [(x[cut].astype(np.float64), y[cut]) for cut in cuts]


def all_of(client: int) -> tuple[Array, Any]:
    """The examples of one client, as one batch."""
    x, y = zip(*batches(client), strict=True)
    return np.concatenate(x), np.concatenate(y)


def left_out(client: int) -> bool:
    """Whether a client has no part in any round."""
    return client in (2, 4)


def gradient(weights: Weights, batch: tuple[Array, Any]) -> Weights:
    """The gradient of the mean loss on a batch."""
    (bias, kernel), (x, y) = weights, batch
    scores = x @ kernel + bias
    error = np.exp(scores - scores.max(1, keepdims=True))
    error /= error.sum(1, keepdims=True)
    error[np.arange(len(y)), y] -= 1
    return error.mean(0), x.T @ error / len(y)


def loss(weights: Weights, batch: tuple[Array, Any]) -> float:
    """The mean loss on a batch."""
    (bias, kernel), (x, y) = weights, batch
    scores = x @ kernel + bias
    scores = scores - scores.max(1, keepdims=True)
    return float((np.log(np.exp(scores).sum(1)) - scores[np.arange(len(y)), y]).mean())


def combine(function: Callable[..., Any], *values: Weights) -> Weights:
    """A function of the numbers of some weights."""
    bias, kernel = (function(*parts) for parts in zip(*values, strict=True))
    return bias, kernel


def initial() -> Weights:
    """Where training starts."""
    return as_numpy(model().initial_weights.trainable)


def as_numpy(weights: Any) -> Weights:
    """Weights of the model, with 64 bits."""
    return np.float64(weights.bias), np.float64(weights.kernel)


def zeros() -> Weights:
    """Zeros in the place of weights."""
    return combine(np.zeros_like, initial())


def assert_close(found: Any, expected: Weights, tolerance: float = 1e-5) -> None:
    """Checks that weights of the model are those."""
    for a, b in zip(as_numpy(found), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)
