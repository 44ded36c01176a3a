"""Whether a peer has computed what Hansa has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

# Sums are taken in other orders, and each round multiplies what that changes.
LIMITS = {"first": 1e-3, "later": 3e-2}
# What is all but zero before a ReLU is above zero for one and not for another: where a client's unit came as near as
# 2e-8, NumPy's models with 32-bit floats and with 64 bits differed by 3 % after its steps.
LIMITS_WITH_RELU = {"first": 1e-2, "later": 3e-2}
# Max-pooling chooses between elements that are all but equal, far more often: the models of PyTorch with one thread and
# with two differ by 1 % after a round of the CNN.
LIMITS_WITH_POOLING = {"first": 1e-1, "later": 1e-1}


def loss_difference(found: float, expected: float) -> float:
    """Relative to the expected loss, or to 0.1 where that is less."""
    return abs(found - expected) / max(abs(expected), 0.1)


def model_difference(
    found: Sequence[np.ndarray], expected: Sequence[np.ndarray], initial: Sequence[np.ndarray]
) -> float:
    """The distance of two models, relative to how far the expected one is from the initial one."""
    shapes = [[weight.shape for weight in weights] for weights in (found, expected)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"a model with weights of the shapes {shapes[0]} was compared with one of {shapes[1]}")
    return _distance(found, expected) / _distance(expected, initial)


def model_limits(layers: Sequence[Mapping[str, Any]]) -> Mapping[str, float]:
    """How much models of these layers (described as a task does) may differ in the "first" round and a "later" one."""
    if any(layer["kind"] == "pool" for layer in layers):
        return LIMITS_WITH_POOLING
    return LIMITS_WITH_RELU if any(layer.get("activation") == "relu" for layer in layers) else LIMITS


def _distance(a: Sequence[np.ndarray], b: Sequence[np.ndarray]) -> float:
    return float(np.sqrt(sum(((x.astype("f8") - y.astype("f8")) ** 2).sum() for x, y in zip(a, b, strict=True))))
