"""What models of every kind find in a batch."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from hansa.types import Struct

LABELS = ("y", "sample_weight")
"""The fields of a batch that a model learns from, and does not predict from."""


def leading_size(batch: Any) -> Any:
    """How many examples a batch holds: the leading size of its first tensor that has one."""
    return next((leaf.shape[0] for leaf in jax.tree.leaves(batch) if leaf.ndim), 1)


def labels(batch: Any, name: str) -> Any:
    """The labels of a batch: its field `y`, or the second of a pair or triple."""
    if isinstance(batch, Struct):
        if "y" in batch._fields:
            return batch["y"]
        if 2 <= len(batch) <= 3 and not any(batch._fields):
            return batch[1]
    raise TypeError(
        f"{name} takes labels, the field y of a batch or the second of a pair, and there are none in the batches of "
        f"the model: {_described(batch)}; use hansa.learning.MetricSums, whose function gets the whole batch"
    )


def class_indices(batch: Any, num_classes: int, name: str) -> Any:
    """The labels of a batch as class indices `[examples]`: integers `[examples]` or `[examples, 1]`, or one-hot.

    Raises:
        TypeError: if there are no labels, or they are of another shape or dtype.
    """
    found = jnp.asarray(labels(batch, name))
    if found.ndim == 2 and found.shape[1] == num_classes:
        return found.argmax(1)
    if found.ndim == 2 and found.shape[1] == 1:
        found = found[:, 0]
    if found.ndim != 1 or not jnp.issubdtype(found.dtype, jnp.integer):
        raise TypeError(
            f"{name} takes labels that are class indices, integers [examples], or one-hot, [examples, {num_classes}]; "
            f"found {found.dtype}{list(found.shape)}"
        )
    return found


def sample_weight(batch: Any) -> Any:
    """The weights of a batch's examples, if it has any: its field `sample_weight`, or the third of a triple."""
    if isinstance(batch, Struct):
        if "sample_weight" in batch._fields:
            return batch["sample_weight"]
        if len(batch) == 3 and not any(batch._fields):
            return batch[2]
    return None


def _described(batch: Any) -> str:
    return f"with the fields {', '.join(map(str, batch._fields))}" if isinstance(batch, Struct) else "arrays"
