"""What a Keras model takes of a batch, as `fit` does: inputs, labels, and weights of examples or of classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from hansa.models.batch_types import LABELS
from hansa.types import Struct, StructType, Type
from hansa.types.mismatch import describe
from hansa.types.samples import of_any_size


class KerasBatch(NamedTuple):
    """The arguments of `fit`, or their types, of a batch.

    Attributes:
        x: the inputs.
        y: the labels.
        sample_weight: the weights of examples or of their parts, such as tokens; None if there are none.
    """

    x: Any
    y: Any
    sample_weight: Any = None


def batch_type(kind: Type, name: str) -> StructType:
    """The type of a batch of any number of examples, from that of one.

    Raises:
        TypeError: if it is of no batch for a Keras model of this name.
    """
    if not isinstance(kind, StructType) or not _is_batch(kind.names):
        raise TypeError(
            f"a batch for the Keras model {name!r} is a mapping with the keys x and y, OrderedDict(x=…, y=…), or a "
            "pair (x, y); it may have a sample_weight, too, the third of a triple, and the inputs by their names in "
            f"place of x; found the type {kind}"
        )
    opened = of_any_size(kind, f"the model {name!r}")
    assert isinstance(opened, StructType)
    return opened


def _is_batch(names: tuple[str | None, ...]) -> bool:
    if not any(names):
        return len(names) in (2, 3)
    inputs = [name for name in names if name not in LABELS]
    return None not in names and "y" in names and bool(inputs) and ("x" not in inputs or len(inputs) == 1)


def parts_of(batch: Any) -> KerasBatch:
    """The parts of a batch, or of the type of one."""
    fields = batch.fields if isinstance(batch, StructType) else batch._items()
    by_name = dict(fields)
    if None in by_name:
        return KerasBatch(*(part for _, part in fields))
    inputs = [(name, part) for name, part in fields if name not in LABELS]
    x = inputs[0][1] if "x" in by_name else (StructType if isinstance(batch, StructType) else Struct)(inputs)
    return KerasBatch(x, by_name["y"], by_name.get("sample_weight"))


class ClassWeights:
    """The weights of examples by their classes, as `class_weight` of `fit` gives them.

    Args:
        weights: from class indices to weights; other classes have the weight 1.
        kind: the type of a batch.
        name: the model's.

    Raises:
        TypeError, ValueError: if they are no such weights, the labels are not those of one output, or batches have
            weights of their own.
    """

    def __init__(self, weights: Mapping[int, float], kind: StructType, name: str) -> None:
        if not isinstance(weights, Mapping) or not weights:
            raise TypeError(
                "class_weight is a mapping from class indices to weights, such as {0: 1.0, 1: 5.0}; found "
                f"{describe(weights)}"
            )
        for index, weight in weights.items():
            if isinstance(index, bool) or not isinstance(index, int | np.integer):
                raise TypeError(f"class_weight has indices of classes as keys, integers; found {index!r}")
            is_number = isinstance(weight, int | float | np.integer | np.floating) and not isinstance(weight, bool)
            if not is_number or not 0 <= weight < np.inf:
                raise ValueError(f"class_weight[{index}] must be a finite number of at least 0; found {weight!r}")
        _, y, given = parts_of(kind)
        if given is not None:
            raise ValueError(
                f"the batches of the Keras model {name!r} have a sample_weight, and class_weight makes another one; "
                "multiply the two in the data, and leave out class_weight"
            )
        if isinstance(y, StructType):
            raise ValueError(
                f"class_weight is for a model with one output, and the labels of {name!r} are {y}; give each output "
                "a sample_weight in the batch"
            )
        self._least, most = int(min(weights)), int(max(weights))
        if most - self._least > 10_000_000:
            raise ValueError(f"class_weight has the classes {self._least} to {most}, which is too many for a table")
        self._table = np.ones(most - self._least + 1, np.float32)
        for index, weight in weights.items():
            self._table[index - self._least] = weight

    def of(self, labels: Any) -> Any:
        """The weights of examples, float32 [examples]: of class indices `[examples]` or `[examples, 1]`, or of the
        greatest along the last axis."""
        if labels.ndim > 1:
            labels = labels.argmax(-1) if labels.shape[-1] != 1 else labels[..., 0]
        places = jnp.round(labels).astype(jnp.int32) - self._least
        known = (places >= 0) & (places < len(self._table))
        return jnp.where(known, jnp.asarray(self._table)[jnp.where(known, places, 0)], jnp.float32(1))
