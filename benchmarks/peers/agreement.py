"""Whether a peer has computed what Hansa has."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# Sums are taken in other orders, and each round multiplies what that changes.
LIMITS = {"first": 1e-3, "later": 3e-2}
# Where max-pooling chooses between elements that are all but equal, rounding decides which weight moves: the models of
# PyTorch with one thread and with two differ by 1 % after a round of the CNN, with losses that are the same.
LIMITS_WITH_TIES = {"first": 1e-1, "later": 1e-1}


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


def agrees(difference: float, when: str, ties: bool = False) -> bool:
    """Whether a difference in the "first" round, or a "later" one, is within its limit; one that is NaN is not.

    Args:
        difference: of losses or of models.
        when: `first` or `later`.
        ties: whether it is one of models with max-pooling.
    """
    return difference <= (LIMITS_WITH_TIES if ties else LIMITS)[when]


def _distance(a: Sequence[np.ndarray], b: Sequence[np.ndarray]) -> float:
    return float(np.sqrt(sum(((x.astype("f8") - y.astype("f8")) ** 2).sum() for x, y in zip(a, b, strict=True))))
