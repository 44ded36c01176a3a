"""The arrays that batches are read from: one row per example, in one array or several by name (`Examples`)."""

from __future__ import annotations

import math
import mmap
from typing import Any

import numpy as np
import numpy.typing as npt

from hansa.types.base import Type
from hansa.types.conversion import infer_type
from hansa.types.members import members
from hansa.types.mismatch import Mismatch
from hansa.types.narrow import misfits
from hansa.types.plain import unmasked
from hansa.types.structs import Struct
from hansa.types.types import StructType, TensorType


class Examples:
    """Arrays with one row per example, and their names. Compared by identity, so that a runtime can keep them resident.

    Attributes:
        rows: a `Struct` of arrays `[examples, ...]`, or one such array.
        size: the number of examples.
        on_disk: some array is a `np.memmap`, or a view of one, so only what is needed is to be read.
        passing: whether they are for one call, so that there is no use in keeping them.
        row_bytes: the size of an example in bytes.
        kind: the type of a batch of them, such as `<x=float32[?,784],y=int32[?]>`.
        why_here: why this process has read them for one call, where another one should have; empty if that is unknown.
    """

    why_here = ""

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

    def nothing(self) -> Any:
        """No examples, of the same type."""
        return self.batch(0, 0)

    def batch(self, start: int, stop: int) -> Any:
        """The examples from `start` to `stop`, as one batch."""
        return _map(self.rows, lambda leaf: leaf[start:stop])

    def take(self, rows: npt.NDArray[np.int64]) -> Any:
        """The examples of these rows, as one batch."""
        return _map(self.rows, lambda leaf: leaf[rows])


def _struct_of_arrays(value: Any) -> Any:
    try:
        found = members(value)
    except Mismatch as mismatch:
        raise mismatch.error("arrays") from None
    if found is None:
        return unmasked(value)
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
