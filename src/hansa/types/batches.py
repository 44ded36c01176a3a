"""Sequences of batches kept as arrays: one client's (`Batches`), or those of many clients (`ClientBatches`).

A sequence may also be a list, a generator or a `tf.data.Dataset` of batches; these classes hold the same thing without
a Python object per batch, so a large population costs what its arrays cost.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from hansa.types.base import Type
from hansa.types.conversion import infer_type
from hansa.types.members import members
from hansa.types.mismatch import Mismatch
from hansa.types.narrow import misfits
from hansa.types.structs import Struct
from hansa.types.types import SequenceType, StructType, TensorType


class Examples:
    """Arrays with one row per example, and their names. Compared by identity, so that a runtime can keep them resident.

    Attributes:
        rows: a `Struct` of arrays `[examples, ...]`, or one such array.
        size: the number of examples.
        on_disk: some array is a `np.memmap`, or a view of one, so only what is needed is to be read.
        passing: whether they are for one call, so that there is no use in keeping them.
        row_bytes: the size of an example in bytes.
        kind: the type of a batch of them, such as `<x=float32[?,784],y=int32[?]>`.
    """

    def __init__(self, arrays: Any, passing: bool = False) -> None:
        self.rows, self.passing = _struct_of_arrays(arrays), passing
        leaves = _leaves(self.rows)
        sizes = {leaf.shape[0] for leaf in leaves if leaf.ndim}
        if not leaves or len(sizes) != 1 or any(not leaf.ndim for leaf in leaves):
            raise ValueError(f"the arrays of examples must share their leading size, found {infer_type(self.rows)}")
        self.size: int = sizes.pop()
        self.on_disk = any(map(_is_mapped, leaves))
        self.row_bytes = sum(leaf.dtype.itemsize * math.prod(leaf.shape[1:]) for leaf in leaves)
        self.kind = _batch_type(infer_type(self.rows))
        self._misfits: dict[int, npt.NDArray[np.int64]] = {}

    def misfits(self, leaf: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """The rows of one of the arrays with a number that is not the same in 32 bits; looked for once."""
        if id(leaf) not in self._misfits:
            self._misfits[id(leaf)] = misfits(leaf)
        return self._misfits[id(leaf)]

    def batch(self, start: int, stop: int) -> Any:
        """The examples from `start` to `stop`, as one batch."""
        return _map(self.rows, lambda leaf: leaf[start:stop])


class Batches:
    """One client's examples, in batches of a size, the last of which may be short.

    Args:
        arrays: a dict, tuple or struct of arrays `[examples, ...]`, or one such array.
        batch_size: examples per batch.
        epochs: how many times the examples are gone through; each epoch has batches of its own, the last one short.
        unrolled: the arrays hold the examples of all epochs, one epoch after another, each perhaps in another order.
    """

    def __init__(self, arrays: Any, batch_size: int, epochs: int = 1, unrolled: bool = False) -> None:
        self.examples = arrays if isinstance(arrays, Examples) else Examples(arrays)
        self.batch_size, self.epochs, self.unrolled = (
            _positive("batch_size", batch_size),
            _positive("epochs", epochs),
            unrolled,
        )
        self.start, self.count = 0, self.examples.size
        if unrolled:
            _check_unrolled(np.array([self.count]), self.epochs)

    @classmethod
    def _part(cls, whole: ClientBatches, start: int, count: int) -> Batches:
        part = cls.__new__(cls)
        part.examples, part.batch_size = whole.examples, whole.batch_size
        part.epochs, part.unrolled, part.start, part.count = whole.epochs, whole.unrolled, start, count
        return part

    @property
    def type_signature(self) -> SequenceType:
        """The type of one client's sequence of batches."""
        return SequenceType(self.examples.kind)

    @property
    def total(self) -> int:
        """How many examples are in the batches, those of every epoch counted."""
        return self.count if self.unrolled else self.count * self.epochs

    @property
    def batches(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Of each batch, the first row and the number of rows."""
        starts, lengths, _ = _lay_out(
            np.array([self.start]), np.array([self.count]), self.batch_size, self.epochs, self.unrolled
        )
        return starts, lengths

    def __len__(self) -> int:
        of_one = self.count // self.epochs if self.unrolled else self.count
        return -(-of_one // self.batch_size) * self.epochs

    def __iter__(self) -> Iterator[Any]:
        starts, lengths = self.batches
        for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
            yield self.examples.batch(start, start + length)

    def __repr__(self) -> str:
        epochs = "" if self.epochs == 1 else f", {self.epochs} epochs"
        examples = self.total // self.epochs
        return f"Batches({examples} examples in batches of {self.batch_size}{epochs}: {self.type_signature})"


class ClientBatches(Sequence[Batches]):
    """The examples of many clients in one set of arrays: a value for `{T*}@CLIENTS`, without a copy per client.

    A cohort is a part of the population, `population.select([3, 14, 15])`: it shares the arrays, so they stay where the
    runtime has put them, and only the selection goes there each round. Do not write to the arrays after that. Arrays
    that are `np.memmap`s stay on disk, and the cohort's examples are read each round, in parts if they are many.

    Args:
        arrays: a dict, tuple or struct of arrays `[examples, ...]`, all clients' examples one after another.
        offsets: int [clients + 1]; client `i` has the examples `offsets[i]` to `offsets[i + 1]`.
        batch_size: examples per batch; each client's last one may be short.
        client_ids: int [clients], the number that makes a client's random draws its own; by default 0, 1, 2…
        epochs: how many times each client's examples are gone through; each epoch has batches of its own.
        unrolled: a client's rows are those of all epochs, one epoch after another, each perhaps in another order.
    """

    def __init__(
        self,
        arrays: Any,
        offsets: npt.ArrayLike,
        batch_size: int,
        client_ids: npt.ArrayLike | None = None,
        epochs: int = 1,
        unrolled: bool = False,
    ) -> None:
        self.examples = arrays if isinstance(arrays, Examples) else Examples(arrays)
        self.batch_size, self.epochs, self.unrolled = (
            _positive("batch_size", batch_size),
            _positive("epochs", epochs),
            unrolled,
        )
        bounds = np.asarray(offsets)
        if bounds.ndim != 1 or bounds.dtype.kind not in "iu" or not bounds.size:
            raise ValueError(f"offsets must be integers, one more than there are clients; found {infer_type(bounds)}")
        bounds = bounds.astype(np.int64)
        if bounds[0] < 0 or (np.diff(bounds) < 0).any() or bounds[-1] > self.examples.size:
            raise ValueError(
                f"offsets must rise from 0 or more to at most the number of examples, {self.examples.size}; found "
                f"{bounds[0]} to {bounds[-1]}" + (", not rising" if (np.diff(bounds) < 0).any() else "")
            )
        self.starts, self.counts = bounds[:-1], np.diff(bounds)
        if unrolled:
            _check_unrolled(self.counts, self.epochs)
        ids = np.arange(len(self.starts)) if client_ids is None else np.asarray(client_ids)
        if ids.shape != self.starts.shape or ids.dtype.kind not in "iu":
            raise ValueError(
                f"client_ids must be one integer for each of the {len(self.starts)} clients, found {infer_type(ids)}"
            )
        if ids.size and not -(2**31) <= int(ids.min()) <= int(ids.max()) < 2**31:
            raise ValueError(
                f"client_ids must fit in 32 bits, found {ids.min()} to {ids.max()}; number the clients anew"
            )
        self.client_ids = ids.astype(np.int32)

    def select(self, clients: npt.ArrayLike) -> ClientBatches:
        """The clients at these positions, in this order; they share the arrays."""
        indices = np.asarray(clients, dtype=np.int64 if not np.size(clients) else None)
        if indices.ndim != 1 or indices.dtype.kind not in "iu":
            raise TypeError(f"clients are selected by a list of integer positions, found {clients!r}")
        outside = indices[(indices < -len(self)) | (indices >= len(self))]
        if outside.size:
            raise IndexError(f"there are {len(self)} clients; position {outside[0]} was selected")
        return self._of_rows(self.starts[indices], self.counts[indices], self.client_ids[indices])

    def _of_rows(
        self, starts: npt.NDArray[np.int64], counts: npt.NDArray[np.int64], client_ids: npt.NDArray[np.int32]
    ) -> ClientBatches:
        part = ClientBatches.__new__(ClientBatches)
        part.examples, part.batch_size = self.examples, self.batch_size
        part.epochs, part.unrolled = self.epochs, self.unrolled
        part.starts, part.counts, part.client_ids = starts, counts, client_ids
        return part

    @property
    def type_signature(self) -> SequenceType:
        """The type of one client's sequence of batches."""
        return SequenceType(self.examples.kind)

    @cached_property
    def batches(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Of each batch of the clients, one after another, the first row and the number of rows; of each client, how
        many batches it has."""
        return _lay_out(self.starts, self.counts, self.batch_size, self.epochs, self.unrolled)

    @property
    def totals(self) -> npt.NDArray[np.int64]:
        """How many examples are in each client's batches, those of every epoch counted; int64 [clients]."""
        return self.counts if self.unrolled else self.counts * self.epochs

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self.select(np.arange(len(self))[index])
        return Batches._part(self, int(self.starts[index]), int(self.counts[index]))

    def __repr__(self) -> str:
        examples = f"{int(self.totals.sum()) // self.epochs} examples in batches of {self.batch_size}"
        examples += "" if self.epochs == 1 else f", {self.epochs} epochs"
        return f"ClientBatches({len(self)} clients, {examples}: {self.type_signature})"


def _lay_out(
    starts: npt.NDArray[np.int64], counts: npt.NDArray[np.int64], batch_size: int, epochs: int, unrolled: bool
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The batches of clients with these rows: first rows and numbers of rows, and each client's number of batches."""
    examples = counts // epochs if unrolled else counts
    per_epoch = -(-examples // batch_size)
    batches = per_epoch * epochs
    client = np.repeat(np.arange(len(counts)), batches)
    turn = np.arange(len(client)) - np.repeat(np.cumsum(batches) - batches, batches)
    epoch, position = np.divmod(turn, per_epoch[client])
    first = position * batch_size
    rows = starts[client] + first + (epoch * examples[client] if unrolled else 0)
    return rows, np.minimum(batch_size, examples[client] - first), batches


def _check_unrolled(counts: npt.NDArray[np.int64], epochs: int) -> None:
    uneven = np.flatnonzero(counts % epochs)
    if uneven.size:
        raise ValueError(
            f"with unrolled, a client has the same number of rows for each of the {epochs} epochs; client {uneven[0]} "
            f"has {counts[uneven[0]]} rows"
        )


def _positive(name: str, value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"{name} must be a positive integer, found {value!r}")
    return int(value)


def _struct_of_arrays(value: Any) -> Any:
    try:
        found = members(value)
    except Mismatch as mismatch:
        raise mismatch.error("arrays") from None
    if found is None:
        return np.asarray(value)
    return Struct((name, _struct_of_arrays(part)) for name, part in zip(found.names, found.values, strict=True))


def _is_mapped(array: Any) -> bool:
    while isinstance(array, np.ndarray):
        if isinstance(array, np.memmap):
            return True
        array = array.base
    return isinstance(array, mmap.mmap)


def _leaves(value: Any) -> list[Any]:
    return [leaf for element in value for leaf in _leaves(element)] if isinstance(value, Struct) else [value]


def _map(value: Any, fn: Any) -> Any:
    return (
        Struct((name, _map(element, fn)) for name, element in value._items())
        if isinstance(value, Struct)
        else fn(value)
    )


def _batch_type(kind: Type) -> Type:
    if isinstance(kind, StructType):
        return StructType([(name, _batch_type(member)) for name, member in kind.fields])
    assert isinstance(kind, TensorType)
    return TensorType(kind.dtype, (None, *kind.shape[1:]))
