"""How a client's examples become batches: of which size, how many, and what is done where an epoch ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hansa.types.mismatch import describe

Sizes: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Batching:
    """How each client's examples are put into batches. As `tf.data` says it, this is

    - `batch(batch_size, drop_remainder)`, then `repeat(epochs)`: each epoch has batches of its own;
    - with `across_epochs`, `repeat(epochs)`, then `batch(batch_size, drop_remainder)`: only the last one may be short;
    - with `steps`, one of these two repeated without an end, then `take(steps)`.

    Args:
        batch_size: examples per batch.
        epochs: how many times the examples are gone through.
        steps: how many batches each client has, in place of a number of epochs. A client without examples, or without
            a batch that is not dropped, has none.
        drop_remainder: whether short batches are left out.
        across_epochs: whether a batch that the end of an epoch cuts short is filled from the next epoch.

    Raises:
        TypeError, ValueError: if an argument is no such number, or both `epochs` and `steps` are given.
    """

    batch_size: int
    epochs: int = 1
    steps: int | None = None
    drop_remainder: bool = False
    across_epochs: bool = False

    def __post_init__(self) -> None:
        for name in ("batch_size", "epochs", "steps"):
            value = getattr(self, name)
            if name != "steps" or value is not None:
                object.__setattr__(self, name, _positive(name, value))
        for name in ("drop_remainder", "across_epochs"):
            if not isinstance(getattr(self, name), bool | np.bool_):
                raise TypeError(f"{name} must be True or False; found {describe(getattr(self, name))}")
        if self.steps is not None and self.epochs != 1:
            raise ValueError(
                f"steps={self.steps} says how many batches each client has, and {self.epochs} epochs say it too; give "
                "one of them"
            )

    @property
    def goes_through(self) -> int | None:
        """How often a client's examples are gone through; None where there are `steps`."""
        return self.epochs if self.steps is None else None

    def batches(self, sizes: Sizes) -> Sizes:
        """How many batches clients with so many examples have; int64 [clients]."""
        if self.steps is not None:
            has_any = sizes if self.across_epochs else self._whole(sizes)
            return np.where(has_any > 0, self.steps, 0).astype(np.int64)
        return self._whole(sizes * self.epochs) if self.across_epochs else self._whole(sizes) * self.epochs

    def examples(self, sizes: Sizes) -> Sizes:
        """How many examples are in the batches of clients with so many, each as often as it is there; int64."""
        batches = self.batches(sizes)
        if self.across_epochs:
            rows: Sizes = batches * self.batch_size
            return rows if self.steps is not None else np.minimum(rows, sizes * self.epochs)
        each = self._whole(sizes)
        kept = np.minimum(each * self.batch_size, sizes)
        epochs, more = np.divmod(batches, np.maximum(each, 1))
        found: Sizes = epochs * kept + np.minimum(more * self.batch_size, kept)
        return found

    def capacity(self, sizes: Sizes) -> int:
        """The most examples that a batch has of clients with so many, who are all of a population; at least 1."""
        if not self.across_epochs:
            most = int(sizes.max(initial=1))
        else:
            most = self.batch_size if self.steps is not None else int(sizes.max(initial=1)) * self.epochs
        return max(1, min(self.batch_size, most))

    @property
    def capacity_of_unknown(self) -> int | None:
        """`capacity`, where nobody knows how many examples the clients have: `batch_size`, if that is at most 64. Of
        more rows most might be nobody's, and it is None."""
        return self.batch_size if self.batch_size <= _SURE else None

    def capacity_for_some(self, sizes: Sizes) -> int:
        """`capacity`, where others of the population may have more examples than the clients with so many.

        If it is not `capacity_of_unknown`, it is a power of two that is enough for these clients.
        """
        room = _SURE
        while room < self.capacity(sizes):
            room *= 2
        return min(self.batch_size, room)

    def turns(self, sizes: Sizes) -> Sizes:
        """How many epochs are begun by clients with so many examples, at least 1; int64 [clients]."""
        if self.steps is None:
            return np.full(len(sizes), self.epochs)
        if self.across_epochs:
            return -(-self.steps * self.batch_size // np.maximum(sizes, 1))
        return -(-self.steps // np.maximum(self._whole(sizes), 1))

    def stored(self, sizes: Sizes, unrolled: bool) -> Sizes:
        """How many rows, one after another, the batches of clients with so many examples are read from; int64.

        With `unrolled`, these are the examples of one epoch after another. Else they are those of one epoch, and with
        `across_epochs` the same again after them, so that each batch lies in one piece.
        """
        if self.across_epochs:
            read = self.examples(sizes) if self.steps is not None else sizes * self.epochs
            return read if unrolled else np.minimum(read, np.where(sizes > 0, sizes + self.batch_size - 1, 0))
        if not unrolled:
            return np.minimum(sizes, self.batches(sizes) * self.batch_size)
        if self.steps is None:
            return sizes * self.epochs
        ended = self.turns(sizes) - 1
        rows: Sizes = ended * sizes + np.minimum(sizes, (self.steps - ended * self._whole(sizes)) * self.batch_size)
        return rows

    def lay_out(self, starts: Sizes, sizes: Sizes, unrolled: bool) -> tuple[Sizes, Sizes, Sizes]:
        """The batches of clients whose stored rows begin at `starts`, one client after another.

        Returns:
            Of each batch the first row and the number of rows; of each client, how many batches it has.
        """
        batches = self.batches(sizes)
        client = np.repeat(np.arange(len(sizes)), batches)
        turn = np.arange(len(client)) - np.repeat(np.cumsum(batches) - batches, batches)
        own = sizes[client]
        if self.across_epochs:
            first = turn * self.batch_size
            left = self.batch_size if self.steps is not None else own * self.epochs - first
            offset = first if unrolled else first % own
            return starts[client] + offset, np.minimum(self.batch_size, left) + np.zeros_like(first), batches
        epoch, position = np.divmod(turn, self._whole(sizes)[client])
        first = position * self.batch_size
        offset = first + (epoch * own if unrolled else 0)
        return starts[client] + offset, np.minimum(self.batch_size, own - first), batches

    def _whole(self, examples: Sizes) -> Sizes:
        """How many batches so many examples make."""
        return examples // self.batch_size if self.drop_remainder else -(-examples // self.batch_size)

    def __str__(self) -> str:
        """All but the number of epochs, in a few words."""
        parts = [f"in batches of {self.batch_size}"]
        if self.steps is not None:
            parts.append(f"{self.steps} steps")
        if self.across_epochs:
            parts.append("across epochs")
        if self.drop_remainder:
            parts.append("short ones dropped")
        return ", ".join(parts)


def fill(into: npt.NDArray[Any], rows: npt.NDArray[Any]) -> None:
    """Fills an array with rows, and with the same again where it is longer than they are."""
    for start in range(0, len(into), max(len(rows), 1)):
        piece = into[start : start + len(rows)]
        piece[:] = rows[: len(piece)]


def checked_capacity(value: Any, batching: Batching, sizes: Sizes) -> int:
    """The capacity that is given for batches of clients with so many examples.

    Raises:
        ValueError: if it is no number of rows that has room for these batches, or is more than any batch needs.
    """
    capacity, least = _positive("capacity", value), batching.capacity(sizes)
    if not least <= capacity <= batching.batch_size:
        raise ValueError(
            f"capacity says how many examples a batch has at most in the population: {least}, as a batch here has, to "
            f"batch_size={batching.batch_size}; found {capacity}"
        )
    return capacity


_SURE = 64
"""Batches of this size, or a smaller one, are computed with as they are declared, whoever has so many examples."""


def _positive(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"{name} must be a positive integer, found {value!r}")
    return int(value)
