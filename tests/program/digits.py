"""The run that several tests look at: softmax regression of scikit-learn's digits, in plain JAX."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

from hansa import templates
from hansa.learning import BatchOutput, build_federated_averaging_process, functional_model
from hansa.simulation import ClientData

MOMENTUM = optax.sgd(1.0, momentum=0.5)


def population(clients: int = 10) -> ClientData:
    """The digits, each tenth one at the same client, in batches of 30."""
    images, labels = load_digits(return_X_y=True)
    arrays = {"x": (images / 16).astype(np.float32), "y": labels.astype(np.int32)}
    return ClientData.from_arrays(arrays, np.arange(len(labels)) % clients).batch(30)


def softmax(rate: float = 0.5, features: int = 64) -> Any:
    """The model."""

    def forward(weights: Any, batch: Any, training: bool, rng: Any) -> BatchOutput:
        logits = batch.x @ weights["kernel"] + weights["bias"]
        loss = -jnp.take_along_axis(jax.nn.log_softmax(logits), batch.y[:, None], 1).mean()
        return BatchOutput(loss, logits)

    zero = {"kernel": np.zeros((features, 10), np.float32), "bias": np.zeros(10, np.float32)}
    return functional_model(
        zero, forward, input_spec=f"<x=float32[?,{features}],y=int32[?]>", optimizer=optax.sgd(rate)
    )


def averaging(rate: float = 0.5, features: int = 64, server_optimizer: Any = MOMENTUM) -> templates.IterativeProcess:
    """Federated averaging, by default with momentum at the server, whose state so has more than the model."""
    return build_federated_averaging_process(softmax(rate, features), server_optimizer=server_optimizer, seed=3)


class Evaluation:
    """The model's accuracy and errors by digit on all images, in NumPy."""

    def __init__(self) -> None:
        images, self._labels = load_digits(return_X_y=True)
        self._images = (images / 16).astype(np.float32)

    def __call__(self, state: Any) -> dict[str, Any]:
        weights = state.model.trainable
        logits = self._images @ np.asarray(weights.kernel) + np.asarray(weights.bias)
        right = logits.argmax(1) == self._labels
        errors = np.bincount(self._labels[~right], minlength=10)
        return {"accuracy": right.mean(), "errors": {"by_digit": errors}}


def assert_same_bits(found: Any, expected: Any) -> None:
    """Both have the same structure, and arrays of the same dtypes, shapes and bits."""
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        a, b = np.asarray(a), np.asarray(b)
        assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
