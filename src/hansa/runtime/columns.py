"""Turns the data of a call into arrays: sequences become columns of rows, clients' values become stacks.

All sequences of one argument lie one after another in one array per tensor. Arrays are made with room to spare
(`Capacity`), so that the next cohort, larger or smaller, fits the program that was compiled for this one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from hansa.compiler.sequences import Columns, is_batched
from hansa.language.local import tensors
from hansa.types import SequenceType, Struct, to_value
from hansa.types.batches import Batches, ClientBatches, Examples

Array = npt.NDArray[Any]


class Capacity:
    """Sizes that programs were compiled for. Asking for a size gives one of these if it is not wastefully large.

    Args:
        slack: a new size is this much larger than what was asked for.
        waste: a known size is used if it is at most this many times what was asked for.
    """

    def __init__(self, slack: float, waste: float) -> None:
        self._slack, self._waste = slack, waste
        self._known: dict[Any, set[int]] = {}

    def __call__(self, key: Any, size: int) -> int:
        known = self._known.setdefault(key, set())
        fitting = [n for n in known if size <= n <= max(self._waste * size, 64)]
        if fitting:
            return min(fitting)
        capacity = max(int(size * self._slack), size, 1)
        known.add(capacity)
        return capacity


@dataclass
class Room:
    """The capacities of one program's arguments: rows and elements may have much slack, since what is not used costs
    address space only; the rows of a batch are computed with, so they have none."""

    rows: Capacity = field(default_factory=lambda: Capacity(slack=3.0, waste=32.0))
    batch: Capacity = field(default_factory=lambda: Capacity(slack=1.0, waste=2.0))
    clients: Capacity = field(default_factory=lambda: Capacity(slack=2.0, waste=32.0))


@dataclass(frozen=True)
class Packed:
    """The sequences of one argument, as columns.

    Attributes:
        columns: the arrays, in host memory unless `resident`.
        rows: the number of rows of each sequence, which is what working on it costs; int64 [sequences].
        capacity: the rows of a padded batch.
        sizes: the sizes of batch that occur.
        resident: the object whose arrays stay on the device between calls, if there is one.
    """

    columns: Columns
    rows: Array
    capacity: int
    sizes: frozenset[int]
    resident: Examples | None = None


def pack_sequences(kind: SequenceType, values: Any, room: Room, key: Any, what: str) -> Packed:
    """The columns of one sequence per entry of `values`.

    Args:
        kind: the sequences' type.
        values: a `ClientBatches`, or a list of sequences: each a `Batches`, a `tf.data.Dataset`, or an iterable of elements.
        room: the capacities to fit into.
        key: what tells this argument from others of the program.
        what: how messages name `values`.

    Raises:
        TypeError, ValueError: if an element is not of the type; the message says which.
    """
    if isinstance(values, ClientBatches):
        return _resident(kind, values, room, key, what)
    parts = [_read(kind, value, f"{what}[{i}]") for i, value in enumerate(values)]
    counts = np.array([len(part.lengths) for part in parts], np.int64)
    lengths = np.concatenate([np.zeros(0, np.int64), *(part.lengths for part in parts)])
    starts = np.cumsum(lengths) - lengths
    capacity = room.batch((key, "batch"), int(lengths.max(initial=1)))
    leaves = tensors(kind.element)
    arrays = []
    for i, leaf in enumerate(leaves):
        chunks = [chunk for part in parts for chunk in part.leaves[i]]
        used = int(lengths.sum()) + capacity if is_batched(leaf.shape) else len(lengths)
        shape = _common_shape(
            leaf.shape[1:] if is_batched(leaf.shape) else leaf.shape, chunks, is_batched(leaf.shape), what
        )
        arrays.append(_fill(chunks, is_batched(leaf.shape), room.rows((key, i), used), shape, leaf.dtype))
    rows = np.array([part.lengths.sum() for part in parts], np.int64)
    columns = _index(arrays, starts, lengths, counts, room, key)
    return Packed(columns, rows, capacity, frozenset(map(int, np.unique(lengths))))


def _index(arrays: list[Any], starts: Array, lengths: Array, counts: Array, room: Room, key: Any) -> Columns:
    elements = room.clients((key, "elements"), len(starts))
    sequences = room.clients((key, "sequences"), len(counts))
    first = np.cumsum(counts) - counts
    return Columns(
        tuple(arrays),
        *(_extend(a, elements) for a in (starts, lengths)),
        *(_extend(a, sequences) for a in (first, counts)),
    )


def _extend(array: Array, size: int) -> Array:
    extended = np.zeros(size, np.int32)
    extended[: len(array)] = array
    return extended


def _resident(kind: SequenceType, values: ClientBatches, room: Room, key: Any, what: str) -> Packed:
    kind.check_assignable_from(values.type_signature, what=what)
    size = values.batch_size
    counts = -(-values.counts // size)
    sequence = np.repeat(np.arange(len(values)), counts)
    position = np.arange(len(sequence)) - np.repeat(np.cumsum(counts) - counts, counts)
    starts = values.starts[sequence] + position * size
    lengths = np.minimum(size, values.counts[sequence] - position * size)
    capacity = min(size, max(int(values.examples.size), 1))
    arrays = _leaves(_in_order(values.examples.rows, kind.element))
    columns = _index(arrays, starts, lengths, counts, room, key)
    return Packed(columns, values.counts, capacity, frozenset(map(int, np.unique(lengths))), values.examples)


def pad_rows(array: Array, capacity: int) -> Array:
    """The array with `capacity` more rows at its end, so that a padded batch can be read from any row."""
    padded = aligned((array.shape[0] + capacity, *array.shape[1:]), array.dtype)
    padded[: array.shape[0]] = array
    padded[array.shape[0] :] = 0
    return padded


def aligned(shape: tuple[int, ...], dtype: Any) -> Array:
    """An uninitialised array whose memory JAX's CPU devices use as it is, without a copy."""
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    memory = np.zeros(size + 64, np.uint8)
    offset = -memory.ctypes.data % 64
    return memory[offset : offset + size].view(dtype).reshape(shape)


@dataclass(frozen=True)
class _Part:
    """One sequence: for each tensor its values in order, and the rows of each element."""

    leaves: list[list[Any]]
    lengths: Array


def _read(kind: SequenceType, value: Any, what: str) -> _Part:
    if isinstance(value, Batches):
        kind.check_assignable_from(value.type_signature, what=what)
        whole = _in_order(value.examples.batch(value.start, value.start + value.count), kind.element)
        lengths = np.full(len(value), value.batch_size, np.int64)
        if value.count % value.batch_size:
            lengths[-1] = value.count % value.batch_size
        return _Part([[leaf] for leaf in _leaves(whole)], lengths)
    leaves: list[list[Any]] = [[] for _ in tensors(kind.element)]
    batched = [is_batched(leaf.shape) for leaf in tensors(kind.element)]
    lengths = []
    for i, element in enumerate(_elements(value, what)):
        found = _leaves(to_value(element, kind.element, f"{what}[{i}]"))
        sizes = {leaf.shape[0] for leaf, rows in zip(found, batched, strict=True) if rows}
        if len(sizes) > 1:
            raise ValueError(
                f"{what}[{i}] is a batch whose tensors have different numbers of examples: {sorted(sizes)}"
            )
        if sizes == {0}:
            continue
        lengths.append(sizes.pop() if sizes else 1)
        for leaf, values in zip(found, leaves, strict=True):
            values.append(leaf)
    return _Part(leaves, np.array(lengths, np.int64))


def _elements(value: Any, what: str) -> Iterator[Any]:
    if hasattr(value, "as_numpy_iterator"):
        return iter(value.as_numpy_iterator())
    if isinstance(value, str | bytes | Mapping | Struct) or not isinstance(value, Iterable):
        raise TypeError(
            f"{what} must be a sequence: a list, an iterator, a tf.data.Dataset or a hansa.Batches; found {type(value).__name__}"
            + ("; put the one batch in a list" if isinstance(value, Mapping | Struct) else "")
        )
    return iter(value)


def _common_shape(shape: tuple[int | None, ...], chunks: list[Any], batched: bool, what: str) -> tuple[int, ...]:
    found = {chunk.shape[1:] if batched else np.shape(chunk) for chunk in chunks}
    if len(found) > 1:
        raise ValueError(
            f"{what} holds tensors of different shapes, {' and '.join(map(str, sorted(found)[:3]))}; only the leading size of a batch may "
            "vary: pad them to one shape"
        )
    return found.pop() if found else tuple(1 if n is None else n for n in shape)


def _fill(chunks: list[Any], batched: bool, size: int, shape: tuple[int, ...], dtype: Any) -> Array:
    column = aligned((size, *shape), dtype)
    if not batched:
        if chunks:
            column[: len(chunks)] = np.asarray(chunks, dtype)
        return column
    used = 0
    for chunk in chunks:
        column[used : used + len(chunk)] = chunk
        used += len(chunk)
    return column


def _in_order(value: Any, kind: Any) -> Any:
    """A struct of arrays with its fields in the order of a type it is assignable to."""
    if not isinstance(value, Struct):
        return value
    by_name = all(name is not None and name in kind.names for name in value._fields)
    return Struct(
        (name, _in_order(value[name] if by_name else value[i], member)) for i, (name, member) in enumerate(kind.fields)
    )


def _leaves(value: Any) -> list[Any]:
    return [leaf for element in value for leaf in _leaves(element)] if isinstance(value, Struct) else [value]
