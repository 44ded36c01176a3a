"""Rows that lie in several blocks: which row of which block each of many clients has.

A block is never written to. What changes is who has which row, so an older set of rows stays what it was.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


class ReadRows:
    """Rows that are not in memory: each is read when it is asked for.

    Attributes:
        shape: `[rows, ...]`.
        dtype: of their numbers.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __getitem__(self, row: int) -> Array:
        """A row."""
        raise NotImplementedError


class Block:
    """Some rows, in one array for each tensor. Compared by identity.

    Attributes:
        arrays: for each tensor `[rows, ...]`, in host memory, on one device or in a file (`ReadRows`).
        size: the number of rows.
        row_bytes: the size of one.
        in_file: whether they are read from a file.
    """

    def __init__(self, arrays: Sequence[Any]) -> None:
        self.arrays = tuple(arrays)
        self.size = int(self.arrays[0].shape[0]) if self.arrays else 0
        self.row_bytes = sum(math.prod(array.shape[1:]) * array.dtype.itemsize for array in self.arrays)
        self.in_file = any(isinstance(array, ReadRows) for array in self.arrays)

    def picked(self, others: Sequence[Block], picks: Sequence[tuple[int, int]]) -> Block:
        """Some of the arrays of this block and of others, whose rows are the same clients'.

        Args:
            others: the others.
            picks: for each array, of which block it is, 0 for this one, and which of its arrays.
        """
        blocks = [self, *others]
        return Block([blocks[i].arrays[j] for i, j in picks])

    def together(self, rows: Rows) -> Rows:
        """Rows of this block and others in one block that holds no others."""
        arrays = [np.empty((len(rows), *array.shape[1:]), array.dtype) for array in self.arrays]
        rows.write(arrays)
        return Rows.of(arrays, len(rows))


@dataclass(frozen=True, eq=False)
class Rows:
    """A row for each of some entries.

    Attributes:
        blocks: where rows lie.
        block: which block each entry's row is in; int32 [entries], -1 for none.
        row: which of the block's; int32 [entries].
    """

    blocks: tuple[Block, ...]
    block: npt.NDArray[np.int32]
    row: npt.NDArray[np.int32]

    @classmethod
    def of(cls, arrays: Sequence[Any], entries: int) -> Rows:
        """The first rows of some arrays, in order."""
        return cls((Block(arrays),), np.zeros(entries, np.int32), np.arange(entries, dtype=np.int32))

    def __len__(self) -> int:
        return len(self.block)

    def at(self, entry: int) -> list[Any]:
        """An entry's row, tensor by tensor, in host memory."""
        block, row = self.blocks[self.block[entry]], int(self.row[entry])
        return [_readable(array)[row] for array in block.arrays]

    def lies_as(self, other: Rows) -> bool:
        """Whether each entry's row is in the same place as another's."""
        alike = len(self.blocks) == len(other.blocks) and np.array_equal(self.block, other.block)
        return alike and np.array_equal(self.row, other.row)

    def select(self, entries: Any) -> Rows:
        """The rows of these entries, in this order."""
        return Rows(self.blocks, self.block[entries], self.row[entries])

    def write(self, out: Sequence[Array]) -> None:
        """Copies all rows, in order, to the beginnings of arrays. Where entries have none, nothing is written."""
        for number in np.unique(self.block[self.block >= 0]).tolist():
            places = np.flatnonzero(self.block == number)
            for array, target in zip(self.blocks[number].arrays, out, strict=True):
                _copy(_readable(array), self.row[places], target, places)

    def replaced(self, entries: npt.NDArray[np.int64], by: Rows) -> Rows:
        """The same with other rows for some entries, which may be new ones after the last. Those of blocks in which
        nobody has a row any more are let go."""
        size = max(len(self), int(entries.max(initial=-1)) + 1)
        block, row = np.full(size, -1, np.int32), np.zeros(size, np.int32)
        block[: len(self)], row[: len(self)] = self.block, self.row
        blocks = {each: number for number, each in enumerate(self.blocks)}
        numbers = np.array([blocks.setdefault(each, len(blocks)) for each in by.blocks], np.int32)
        block[entries], row[entries] = numbers[by.block], by.row
        return Rows(tuple(blocks), block, row).trimmed()

    def trimmed(self) -> Rows:
        """The same without blocks of which nobody has a row."""
        used = np.flatnonzero(self._live())
        if len(used) == len(self.blocks):
            return self
        numbers = np.full(len(self.blocks) + 1, -1, np.int32)
        numbers[used] = np.arange(len(used))
        return Rows(tuple(self.blocks[i] for i in used.tolist()), numbers[self.block], self.row)

    def sparse(self, in_files: bool = False) -> npt.NDArray[np.int64]:
        """The entries whose rows are to be put together, of those in memory, or of those in files.

        They lie in blocks of which most rows are nobody's, if all blocks together hold more than twice the rows that
        somebody has, and in memory so many that it matters; and in the smaller half of the blocks, if there are many.
        """
        mine = np.array([block.in_file == in_files for block in self.blocks], np.bool_)
        held = np.where(mine, [block.size for block in self.blocks], 0)
        live = np.where(mine, self._live(), 0)
        idle = sum(block.row_bytes * int(rows) for block, rows in zip(self.blocks, held - live, strict=True))
        much = held.sum() > 2 * live.sum() and (in_files or idle > _IDLE)
        chosen = mine & (2 * live < held) & much
        if mine.sum() > _MOST_BLOCKS:
            numbers = np.flatnonzero(mine)
            chosen[numbers[np.argsort(live[numbers], kind="stable")[: len(numbers) // 2]]] = True
        return np.flatnonzero(np.append(chosen, False)[self.block])

    def _live(self) -> npt.NDArray[np.int64]:
        """How many rows of each block somebody has."""
        return np.bincount(self.block[self.block >= 0], minlength=len(self.blocks))

    def merged(self, entries: npt.NDArray[np.int64]) -> Rows:
        """The same, with the rows of some entries in one block of their own."""
        if not entries.size:
            return self
        return self.replaced(entries, self.select(entries).copied())

    def copied(self) -> Rows:
        """The same rows in one block that holds no others. There must be one."""
        first: Block = next(self.blocks[number] for number in self.block)
        return first.together(self)


def _readable(array: Any) -> Any:
    """What rows are read from: an array in host memory, or one in a file."""
    return array if isinstance(array, ReadRows) else np.asarray(array)


def _copy(source: Any, rows: npt.NDArray[np.int32], target: Array, places: npt.NDArray[np.int64]) -> None:
    """`target[places] = source[rows]`, without another copy on the way where rows are large."""
    if not isinstance(source, ReadRows) and source[:1].nbytes < _LARGE:
        target[places] = source[rows]
        return
    for row, place in zip(rows.tolist(), places.tolist(), strict=True):
        target[place] = source[row]


_MOST_BLOCKS = 64
_IDLE = 1 << 26
"""Bytes of rows that nobody has, which in memory are not worth a copy of others."""

_LARGE = 1 << 12
"""Bytes of a row that are worth a step of Python."""
