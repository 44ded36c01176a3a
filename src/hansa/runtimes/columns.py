"""Turns the data of a call into arrays: sequences become columns of rows, clients' values become stacks.

All sequences of one argument lie one after another in one array per tensor. Arrays are made with room to spare
(`Capacity`), so that the next cohort, larger or smaller, fits the program that was compiled for this one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import numpy as np
import numpy.typing as npt

from hansa.compiler.sequences import Columns, is_batched
from hansa.language.local import tensors
from hansa.runtimes import fitting, remedies
from hansa.types import SequenceType, Struct, infer_type, to_value
from hansa.types.aligned import aligned
from hansa.types.arrangement import arranged, arranged_type
from hansa.types.batches import Batches, ClientBatches
from hansa.types.batching import fill
from hansa.types.examples import Examples
from hansa.types.mismatch import describe
from hansa.types.narrow import misfits

Array = npt.NDArray[Any]


class Capacity:
    """Sizes that programs were compiled for. Asking for a size gives one of these if it is not wastefully large.

    Args:
        slack: a new size is this much larger than what was asked for.
        waste: a known size is used if it is at most this many times what was asked for.
        least: no size is smaller than this.
    """

    def __init__(self, slack: float, waste: float, least: int) -> None:
        self._slack, self._waste, self._least = slack, waste, least
        self._known: dict[Any, set[int]] = {}

    def __call__(self, key: Any, size: int) -> int:
        """A capacity for `size`, of what `key` stands for."""
        known = self._known.setdefault(key, set())
        fitting = [n for n in known if size <= n <= max(self._waste * size, 64)]
        if fitting:
            return min(fitting)
        capacity = max(int(size * self._slack), self._least)
        known.add(capacity)
        return capacity


def exactly(size: int) -> Callable[[Any, int], int]:
    """The one capacity that there is.

    Raises:
        ValueError: when it is asked for more.
    """

    def capacity(key: Any, asked: int) -> int:
        if asked > size:
            raise ValueError(f"a batch has {asked} rows, but batches are to be padded to {size}")
        return size

    return capacity


@dataclass
class Room:
    """The capacities of one program's arguments: rows and elements may have much slack, since what is not used costs
    address space, or a few bytes; the rows of a batch are computed with, so they have none. Those are told by data that
    says in which batches it is gone through, such as `ClientBatches`; `batch` is for what does not say it. Turns of a
    device are rows of what its clients keep, which may be large."""

    rows: Capacity = field(default_factory=lambda: Capacity(slack=3.0, waste=32.0, least=1024))
    elements: Capacity = field(default_factory=lambda: Capacity(slack=4.0, waste=64.0, least=1024))
    batch: Callable[[Any, int], int] = field(default_factory=lambda: Capacity(slack=1.0, waste=2.0, least=8))
    clients: Capacity = field(default_factory=lambda: Capacity(slack=2.0, waste=32.0, least=32))
    turns: Capacity = field(default_factory=lambda: Capacity(slack=1.25, waste=2.0, least=4))


@dataclass(frozen=True)
class Packed:
    """The sequences of one argument, as columns.

    Attributes:
        columns: the arrays, in host memory unless `resident`.
        capacity: the rows of a padded batch.
        sizes: the sizes of batch that occur.
        resident: the object whose arrays stay on the device between calls, if there is one.
    """

    columns: Columns
    capacity: int
    sizes: frozenset[int]
    resident: Examples | None = None


def pack_sequences(
    kind: SequenceType, values: Any, names: list[str], room: Room, key: Any, narrow: frozenset[int] = frozenset()
) -> Packed:
    """The columns of one sequence per entry of `values`.

    Args:
        kind: the sequences' type.
        values: a `ClientBatches`, or a list of sequences: each a `Batches`, a `tf.data.Dataset`, or an iterable of
            elements.
        names: how messages name each sequence; or, the one name of a `ClientBatches`.
        room: the capacities to fit into.
        key: what tells this argument from others of the program.
        narrow: which of an element's tensors are converted to 32 bits, and so must fit.

    Raises:
        TypeError, ValueError: if an element is not of the type; the message says which.
    """
    if isinstance(values, ClientBatches):
        examples = values.examples
        gathers = examples.on_disk or examples.passing or values.is_cyclic
        return (_gathered if gathers else _resident)(kind, values, room, key, names[0], narrow)
    parts = [_read(kind, value, name) for value, name in zip(values, names, strict=True)]
    counts = np.array([len(part.lengths) for part in parts], np.int64)
    lengths = np.concatenate([np.zeros(0, np.int64), *(part.lengths for part in parts)])
    starts = np.cumsum(lengths) - lengths
    if parts and all(isinstance(value, Batches) for value in values):
        capacity = max(value.capacity for value in values)
    else:
        capacity = room.batch((key, "batch"), int(lengths.max(initial=1)))
    arrays = []
    for i, leaf in enumerate(tensors(kind.element)):
        batched = is_batched(leaf.shape)
        chunks = [chunk for part in parts for chunk in part.leaves[i]]
        owners = [name for part, name in zip(parts, names, strict=True) for _ in part.leaves[i]]
        used = int(lengths.sum()) + capacity if batched else len(lengths)
        shape = common_shape(leaf.shape[batched:], [np.shape(chunk)[batched:] for chunk in chunks], owners)
        arrays.append(_fill(chunks, batched, room.rows((key, i), used), shape, leaf.dtype))
        if i in narrow:
            ends = np.cumsum(lengths) if batched else np.arange(1, len(lengths) + 1)
            fitting.check_elements(arrays[-1][: ends[-1] if len(ends) else 0], kind.element, i, ends, counts, names)
    columns = _index(arrays, starts, lengths, counts, room, key)
    return Packed(columns, capacity, frozenset(map(int, np.unique(lengths))))


def _index(arrays: list[Any], starts: Array, lengths: Array, counts: Array, room: Room, key: Any) -> Columns:
    elements = room.elements(key, len(starts))
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


def _resident(
    kind: SequenceType, values: ClientBatches, room: Room, key: Any, what: str, narrow: frozenset[int]
) -> Packed:
    _check(kind, values.type_signature, what)
    starts, lengths, counts = values.batches
    arrays = _leaves(arranged(values.examples.rows, kind.element))
    for i in narrow:
        rows = values.examples.misfits(arrays[i])
        if rows.size:  # of anybody in the population
            fitting.check_rows(arrays[i], rows, kind.element, i, values, values.starts, values.rows, what)
    columns = _index(arrays, starts, lengths, counts, room, key)
    return Packed(columns, values.capacity, frozenset(map(int, np.unique(lengths))), values.examples)


def _gathered(
    kind: SequenceType, values: ClientBatches, room: Room, key: Any, what: str, narrow: frozenset[int]
) -> Packed:
    """The columns of these clients' examples only, with room for those of other cohorts."""
    _check(kind, values.type_signature, what)
    starts, lengths, counts = values.batches
    stored = values.stored
    places = np.cumsum(stored) - stored
    present = stored if values.unrolled else np.minimum(values.sizes, stored)
    blocks = [each.tolist() for each in (places, stored, values.starts, present)]
    rows = values.examples.rows if len(values) else values.examples.nothing()
    arrays = []
    for i, leaf in enumerate(_leaves(arranged(rows, kind.element))):
        used = int(stored.sum()) + values.capacity
        column = aligned((room.rows((key, i), used), *leaf.shape[1:]), leaf.dtype)
        for place, rows, start, own in zip(*blocks, strict=True):
            fill(column[place : place + rows], leaf[start : start + own])
        if i in narrow:
            fitting.check_rows(
                column, misfits(column[: int(stored.sum())]), kind.element, i, values, places, stored, what
            )
        arrays.append(column)
    moved = starts + np.repeat(places - values.starts, counts)
    columns = _index(arrays, moved, lengths, counts, room, key)
    return Packed(columns, values.capacity, frozenset(map(int, np.unique(lengths))))


def _check(kind: SequenceType, found: SequenceType, what: str) -> None:
    """Checks the type of arrays, whose fields may be in another order."""
    kind.check_assignable_from(arranged_type(found, kind), what=what)


def pad_rows(array: Array, capacity: int) -> Array:
    """The array with `capacity` more rows at its end, so that a padded batch can be read from any row."""
    padded = aligned((array.shape[0] + capacity, *array.shape[1:]), array.dtype)
    padded[: array.shape[0]] = array
    padded[array.shape[0] :] = 0
    return padded


def without_elements(packed: Any) -> Any:
    """A packed argument of the same shapes, in which every sequence is empty."""

    def emptied(part: Any) -> Any:
        return replace(part, counts=np.zeros_like(part.counts)) if isinstance(part, Columns) else part

    return jax.tree.map(emptied, packed, is_leaf=lambda part: isinstance(part, Columns))


@dataclass(frozen=True)
class _Part:
    """One sequence: for each tensor its values in order, and the rows of each element."""

    leaves: list[list[Any]]
    lengths: Array


def _read(kind: SequenceType, value: Any, what: str) -> _Part:
    if isinstance(value, Batches):
        _check(kind, value.type_signature, what)
        found, pieces = _leaves(arranged(value.examples.rows, kind.element)), value.pieces()
        return _Part([[leaf[start:stop] for start, stop in pieces] for leaf in found], value.lengths)
    leaves: list[list[Any]] = [[] for _ in tensors(kind.element)]
    batched = [is_batched(leaf.shape) for leaf in tensors(kind.element)]
    counts: list[int] = []
    for i, element in enumerate(elements(value, what)):
        try:
            batch = to_value(element, kind.element, f"{what}[{i}]")
        except TypeError as error:
            raise TypeError(f"{error}{remedies.for_a_client(kind, value)}") from None
        found = _leaves(batch)
        sizes = {leaf.shape[0] for leaf, rows in zip(found, batched, strict=True) if rows}
        if len(sizes) > 1:
            raise ValueError(
                f"{what}[{i}] is a batch whose tensors have different numbers of examples: {infer_type(batch)}"
            )
        if sizes == {0}:
            continue
        counts.append(sizes.pop() if sizes else 1)
        for leaf, values in zip(found, leaves, strict=True):
            values.append(leaf)
    return _Part(leaves, np.array(counts, np.int64))


def elements(value: Any, what: str) -> Iterator[Any]:
    """The elements of what is passed as a sequence, as they are.

    Raises:
        TypeError: if it is none; `what` names it.
    """
    if hasattr(value, "as_numpy_iterator"):
        return iter(value.as_numpy_iterator())
    if isinstance(value, str | bytes | Mapping | Struct) or not isinstance(value, Iterable):
        raise TypeError(
            f"{what} must be a sequence: a list, an iterator, a tf.data.Dataset or a hansa.Batches; found "
            f"{describe(value)}{remedies.for_no_sequence(value)}"
        )
    return iter(value)


def common_shape(shape: tuple[int | None, ...], found: list[tuple[int, ...]], names: list[str]) -> tuple[int, ...]:
    """The one shape that tensors of a type have, where the type leaves a size open.

    Raises:
        ValueError: if they have different ones; `names` says whose they are.
    """
    for other, name in zip(found, names, strict=True):
        if other != found[0]:
            raise ValueError(
                f"{names[0]} holds a tensor of shape {list(found[0])} and {name} one of shape {list(other)}; only the "
                "leading size of a "
                "batch may vary: pad them to one shape"
            )
    return found[0] if found else tuple(1 if n is None else n for n in shape)


def _fill(chunks: list[Any], batched: bool, size: int, shape: tuple[int, ...], dtype: Any) -> Array:
    if dtype.kind == "U":
        return np.zeros((size, *shape), np.bool_)  # Strings are for the caller's side; no program computes with them.
    column = aligned((size, *shape), dtype)
    if not batched:
        if chunks:
            column[: len(chunks)] = [np.asarray(chunk) for chunk in chunks]
        return column
    used = 0
    for chunk in chunks:
        column[used : used + len(chunk)] = chunk
        used += len(chunk)
    return column


def _leaves(value: Any) -> list[Any]:
    return [leaf for element in value for leaf in _leaves(element)] if isinstance(value, Struct) else [value]
