"""What goes between the driver and its workers: arrays, numbers, texts, and lists and dicts of these. No object of a
class and no function, so nothing of the one process's code runs in the other."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from hansa.compiler.narrowing import Path
from hansa.runtimes.columns import Room, elements
from hansa.types import SequenceType, Struct, StructType, Type, contains, identities, to_value
from hansa.types.batches import Batches, ClientBatches
from hansa.types.batching import Batching
from hansa.types.client_values import ClientValues, shaped
from hansa.types.examples import Examples
from hansa.types.rows import Block, Rows
from hansa.types.unread import Unread
from hansa.types.values import field_values

Plain = Any
"""Arrays, numbers, texts and None, in lists, tuples and dicts; also references to such in the object store."""

ToExamples = Callable[[Plain], Examples]
"""What a worker has of a population, of what the driver calls it."""

ToArrays = Callable[[Plain], Sequence[Any]]
"""The arrays of a block, of a reference to them or of themselves."""


def has_sequence(kind: Type) -> bool:
    """Whether there is a sequence in a type."""
    return contains(kind, lambda part: isinstance(part, SequenceType))


def flat(kind: Type, value: Any, what: str) -> Plain:
    """A value of a type: the arrays of its tensors, in order; of a sequence, those of each element.

    Raises:
        TypeError, ValueError: if it is not of the type.
    """
    if isinstance(kind, SequenceType):
        if isinstance(value, Batches):
            return [_leaves(batch) for batch in value]
        return [
            _leaves(to_value(element, kind.element, f"{what}[{i}]")) for i, element in enumerate(elements(value, what))
        ]
    if isinstance(kind, StructType) and has_sequence(kind):
        parts = field_values(value, kind, what)
        return [flat(member, part, f"{what}.{name}") for (name, member), part in zip(kind.fields, parts, strict=True)]
    return _leaves(to_value(value, kind, what))


def of_flat(kind: Type, found: Plain) -> Any:
    """What `flat` was given, as an argument of a computation."""
    if isinstance(kind, SequenceType):
        return [shaped(kind.element, iter(leaves)) for leaves in found]
    if isinstance(kind, StructType) and has_sequence(kind):
        return Struct((name, of_flat(member, part)) for (name, member), part in zip(kind.fields, found, strict=True))
    return shaped(kind, iter(found))


def rows_of_batches(
    kind: Type, entries: Sequence[Any], values: Sequence[Plain], path: Path, room: Room
) -> list[tuple[Path, int]]:
    """To how many rows the batches of each sequence in clients' values are padded: as they are in one process.

    Args:
        kind: the type of a value.
        entries: the values, one for each client.
        values: the same, flat.
        path: where in the argument they are.
        room: the capacities of the program.
    """
    if isinstance(kind, SequenceType):
        if entries and all(isinstance(entry, Batches) for entry in entries):
            return [(path, max(entry.capacity for entry in entries))]
        sizes = [np.shape(leaves[0])[0] for batches in values for leaves in batches if leaves and np.ndim(leaves[0])]
        return [(path, room.batch((path, "batch"), max(sizes, default=1)))]
    if isinstance(kind, StructType) and has_sequence(kind):
        each = [field_values(entry, kind, "a client") for entry in entries]
        return [
            found
            for i, member in enumerate(kind)
            for found in rows_of_batches(member, [e[i] for e in each], [v[i] for v in values], (*path, i), room)
        ]
    return []


def batches(clients: ClientBatches, population: Plain) -> Plain:
    """Some clients of a population that workers have, or whose rows are given with them.

    Args:
        clients: the clients.
        population: what the population is called.
    """
    given = {
        "examples": population,
        "batching": asdict(clients.batching),
        "starts": clients.starts,
        "sizes": clients.sizes,
        "ids": clients.client_ids.tolist(),
    }
    return ("batches", {**given, "unrolled": clients.unrolled, "capacity": clients.capacity})


def unread(clients: ClientBatches, called: Callable[[Examples], Plain]) -> Plain:
    """Some clients whose examples a worker reads.

    Args:
        clients: of whose examples is known where they are (`hansa.types.unread.Unread`).
        called: says what workers call a population.
    """
    assert isinstance(clients.examples, Unread)
    some = clients.select(np.flatnonzero(clients.rows))
    return batches(_moved(clients), clients.examples.told(some.starts, called))


def compact(clients: ClientBatches) -> tuple[ClientBatches, Any]:
    """Some clients whose rows are the only ones, one client's after another's; and these rows."""
    rows = clients.rows
    taken = np.concatenate([np.arange(0), *(np.arange(s, s + n) for s, n in zip(clients.starts, rows, strict=True))])
    return _moved(clients), clients.examples.take(taken)


def _moved(clients: ClientBatches) -> ClientBatches:
    """The same where their rows are the only ones, one client's after another's."""
    return ClientBatches._of(
        clients.examples,
        clients.batching,
        clients.unrolled,
        np.cumsum(clients.rows) - clients.rows,
        clients.sizes,
        clients.client_ids,
        clients.numbers,
        clients.capacity,
    )


def column(kind: Type, found: Plain, examples: ToExamples, arrays: ToArrays) -> Any:
    """What all clients of some work have at one input of a stage, as an argument of a computation.

    Args:
        kind: the type of one client's.
        found: what the driver has sent.
        examples: gives a population.
        arrays: gives the arrays of a block.
    """
    form, given = found
    if form == "batches":
        return ClientBatches._of(
            examples(given["examples"]),
            Batching(**given["batching"]),
            given["unrolled"],
            np.asarray(given["starts"], np.int64),
            np.asarray(given["sizes"], np.int64),
            identities.array(given["ids"]),
            np.arange(len(given["ids"]), dtype=np.int32),  # Numbers are an input of their own.
            given["capacity"],
        )
    if form == "rows":
        blocks, block, row = given
        rows = Rows(tuple(Block(arrays(each)) for each in blocks), block, row)
        return ClientValues(kind, rows, np.arange(len(row)))
    if form == "values":
        return [of_flat(kind, value) for value in given]
    assert form == "numbers"
    return given


def together(arrays: Sequence[Any]) -> Plain:
    """Arrays as bytes, with the shapes and dtypes of them: the small ones in one, as each array by itself takes time to
    send; large ones as they lie, without a copy."""
    leaves = [np.ascontiguousarray(array) for array in arrays]
    each = [leaf.reshape(-1).view(np.uint8) for leaf in leaves]
    small = [part for part in each if part.nbytes <= _SMALL]
    starts = np.cumsum([0, *(-(-part.nbytes // _ALIGNED) * _ALIGNED for part in small)]).tolist()
    whole = np.empty(starts[-1], np.uint8)
    for start, part in zip(starts, small, strict=False):
        whole[start : start + part.nbytes] = part
    told = [(np.shape(array), leaf.dtype.name) for array, leaf in zip(arrays, leaves, strict=True)]
    return told, whole, [part for part in each if part.nbytes > _SMALL]


def apart(found: Plain) -> list[Any]:
    """What `together` was given; the arrays share its bytes."""
    parts, whole, large = found
    arrays, start, others = [], 0, iter(large)
    for shape, name in parts:
        dtype = np.dtype(name)
        size = math.prod(shape) * dtype.itemsize
        if size > _SMALL:
            content = next(others)
        else:
            content = whole[start : start + size]
            start += -(-size // _ALIGNED) * _ALIGNED
        arrays.append(content.view(dtype).reshape(shape))
    return arrays


def structure(rows: Any, leaf: Callable[[Any], Plain]) -> Plain:
    """A struct of arrays by name, or one array, each put in another form."""
    if isinstance(rows, Struct):
        return [(name, structure(part, leaf)) for name, part in rows._items()]
    return leaf(rows)


def of_structure(found: Plain, leaf: Callable[[Plain], Any]) -> Any:
    """What `structure` was given."""
    if isinstance(found, list):
        return Struct((name, of_structure(part, leaf)) for name, part in found)
    return leaf(found)


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, Struct):
        return [leaf for part in value for leaf in _leaves(part)]
    return [np.asarray(value)]


_ALIGNED = 64
"""Bytes of which arrays that are sent together begin at a multiple."""

_SMALL = 2**15
"""Bytes of an array that is sent with others."""
