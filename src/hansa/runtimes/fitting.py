"""Says whose number it is that does not fit the 32 bits that a model computes in, before it is computed with."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hansa.compiler.narrowing import Path, tensor_paths
from hansa.types import Struct, StructType, Type
from hansa.types.batches import ClientBatches
from hansa.types.names import step
from hansa.types.narrow import misfits, why

Array = npt.NDArray[Any]
Integers = npt.NDArray[np.int64]


def check_elements(column: Array, element: Type, leaf: int, ends: Integers, counts: Integers, names: list[str]) -> None:
    """Checks one tensor of all elements of sequences, one after another.

    Args:
        column: the tensor of all elements.
        element: the type of an element.
        leaf: which of its tensors.
        ends: where each element ends in the column.
        counts: how many elements each sequence has.
        names: what to call each sequence.

    Raises:
        ValueError: if a number does not fit.
    """
    for row in misfits(column)[:1].tolist():
        number = int(np.searchsorted(ends, row, side="right"))
        last = np.cumsum(counts)
        whose = int(np.searchsorted(last, number, side="right"))
        which = number - int(last[whose] - counts[whose])
        raise ValueError(f"{names[whose]}[{which}]{_names(element)[leaf]} {why(column[row])}")


def check_rows(
    array: Array,
    rows: Integers,
    element: Type,
    leaf: int,
    clients: ClientBatches,
    starts: Integers,
    counts: Integers,
    what: str,
) -> None:
    """Checks that no client has one of these rows of an array.

    Args:
        array: one tensor of the clients' examples.
        rows: the rows in which a number does not fit, ascending.
        element: the type of a batch.
        leaf: which of its tensors.
        clients: the clients.
        starts: where each one's rows begin in the array.
        counts: how many rows each one has there.
        what: what to call the clients.

    Raises:
        ValueError: if one has.
    """
    first = np.searchsorted(rows, starts)
    having = np.flatnonzero(np.searchsorted(rows, starts + counts) > first)
    for client in having[:1].tolist():
        row = int(rows[first[client]])
        raise ValueError(
            f"{what}: client {clients.client_ids.tolist()[client]!r}, example {row - int(starts[client])}: "
            f"{_names(element)[leaf].lstrip('.') or 'it'} {why(array[row])}"
        )


def check_value(value: Any, kind: Type, path: Path, narrow: frozenset[Path], what: str) -> None:
    """Checks the tensors of a value that are among the paths.

    Raises:
        ValueError: if a number does not fit.
    """
    leaves = _leaves(value)
    for leaf, name, found in zip(leaves, _names(kind), tensor_paths(kind, path), strict=True):
        if found in narrow:
            array = np.atleast_1d(np.asarray(leaf))
            for row in misfits(array)[:1].tolist():
                raise ValueError(f"{what}{name} {why(array[row])}")


def _names(kind: Type) -> list[str]:
    """The way to each tensor in a type, in order, such as `.x` or `[0].y`."""
    if isinstance(kind, StructType):
        return [step(name, i) + rest for i, (name, part) in enumerate(kind.fields) for rest in _names(part)]
    return [""]


def _leaves(value: Any) -> list[Any]:
    return [leaf for element in value for leaf in _leaves(element)] if isinstance(value, Struct) else [value]
