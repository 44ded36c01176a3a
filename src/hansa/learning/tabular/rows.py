"""What the clients' batches have: rows of numbers in float64, the class of each, and whether they count."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp

from hansa.types import Struct, Type
from hansa.types._typing import Arrays
from hansa.types.samples import of_any_size, sample_type, shape_of_each

LARGEST = 1e150
"""The largest magnitude of a number that counts: a sum of squares of such is finite."""

_NUMBERED = "; number the classes from 0, by their place in a list that clients share: np.searchsorted(names, labels)"
_NUMBERS = ("float", "int", "bool")


@dataclass(frozen=True)
class Rows:
    """The rows of batches.

    Attributes:
        batch_type: the type of a batch of any size.
        columns: the arrays of a batch that make up its rows, side by side, and the shape of each in one example.
        labels: the array of classes, or None where all rows are of one.
        classes: how many classes there are.
    """

    batch_type: Type
    columns: Sequence[tuple[str, tuple[int, ...]]]
    labels: str | None = None
    classes: int = 1

    @property
    def width(self) -> int:
        """How many numbers a row has."""
        return sum(math.prod(shape) for _, shape in self.columns)

    def of(self, batch: Any) -> Any:
        """The rows of a batch, float64 [examples, width]."""
        arrays = [(_array(batch, name), math.prod(shape)) for name, shape in self.columns]
        flat = [x.astype(jnp.float64).reshape(x.shape[0], width) for x, width in arrays]
        return flat[0] if len(flat) == 1 else jnp.concatenate(flat, axis=1)

    def memberships(self, batch: Any) -> Any:
        """1 where an example is of a class, float64 [examples, classes]."""
        if self.labels is None:
            return jnp.ones((_array(batch, self.columns[0][0]).shape[0], 1), jnp.float64)
        return (_array(batch, self.labels)[:, None] == jnp.arange(self.classes)).astype(jnp.float64)

    def count(self, batch: Any) -> Any:
        """Whether all of a batch is of known classes, and of finite numbers that are not too large."""
        known = jnp.bool_(True) if self.labels is None else (self.memberships(batch).sum(axis=1) == 1).all()
        return known & (jnp.abs(self.of(batch)) <= LARGEST).all()


def rows_of(
    sample_batch: Arrays, what: str, *, features: str, targets: str | None = None, labels: str | None = None,
    classes: int = 1,
) -> Rows:  # fmt: skip
    """The rows of batches like a sample.

    Args:
        sample_batch: a batch as the clients have them.
        what: what the batch is for, in messages.
        features: the array of the features' numbers.
        targets: that of the numbers that are to be predicted, if there are any.
        labels: that of the classes, if there are any.
        classes: how many classes there are.

    Raises:
        TypeError: if a batch has no such array, or one of another dtype or shape.
    """
    kind = of_any_size(sample_type(sample_batch), what)
    named = {"features": features} | ({} if targets is None else {"targets": targets})
    columns = [(name, shape_of_each(kind, name, argument, _NUMBERS)) for argument, name in named.items()]
    if labels is not None and (shape := shape_of_each(kind, labels, "labels", ("int",), _NUMBERED)):
        raise TypeError(f"labels are one integer for each example, [examples]; found {[None, *shape]} in {kind}")
    return Rows(kind, columns, labels, classes)


def _array(batch: Any, name: str) -> Any:
    return batch[name] if isinstance(batch, Struct) else batch
