"""Weights that a process hands on as they are, such as those of frozen layers: named, left out, and put in again."""

from __future__ import annotations

from typing import Any

import jax

from hansa.models.weights import ModelWeights
from hansa.types import Struct, StructType

Names = dict[str, set[str | None]]
"""The names of some weights, by part: trainable, and non-trainable."""


def differing(before: Any, after: Any) -> Names:
    """The names of the weights that are others after something than before it."""
    return {
        str(part): {name for name, leaf in found._items() if leaf != before[part][name]}
        for part, found in after._items()
    }


def only(weights: Any, names: Names) -> ModelWeights:
    """The weights of these names."""
    parts = [[pair for pair in whole._items() if pair[0] in names[str(part)]] for part, whole in weights._items()]
    return ModelWeights.create(*map(Struct, parts))


def moving(initial: ModelWeights, update: StructType) -> Names:
    """The names of the weights that each state has arrays of its own for: those of which clients report an update, and
    those that are not on devices between rounds, scalars and 64-bit arrays."""
    found: Names = {}
    for part, whole in initial._items():
        reported = update[str(part)]
        assert isinstance(reported, StructType)
        small = {name for name, leaf in whole._items() if not leaf.ndim or leaf.dtype.itemsize > 4}
        found[str(part)] = small | set(reported.names)
    return found


def on_device(weights: ModelWeights, but: Names) -> ModelWeights:
    """The weights but for some, as arrays of JAX; on CPUs these are in the same memory."""
    parts = [
        [(name, jax.device_put(leaf)) for name, leaf in whole._items() if name not in but[str(part)]]
        for part, whole in weights._items()
    ]
    return ModelWeights.create(*map(Struct, parts))


def together(like: ModelWeights, some: Any, names: Names, rest: Any) -> ModelWeights:
    """The weights whose names are given, and all others, in the order of others."""
    parts = [
        [(name, (some if name in names[str(part)] else rest)[str(part)][name]) for name in whole._fields]
        for part, whole in like._items()
    ]
    return ModelWeights.create(*map(Struct, parts))
