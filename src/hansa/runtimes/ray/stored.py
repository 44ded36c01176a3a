"""What clients keep, in the object store: rows that stay where they were computed, and outlive the worker that did."""

from __future__ import annotations

import uuid
import weakref
from collections.abc import Callable, Sequence
from math import prod
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import ray

from hansa._warnings import warn
from hansa.runtimes.ray.populations import described
from hansa.runtimes.ray.wire import Plain
from hansa.types.examples import Examples
from hansa.types.rows import Block, Rows

Shapes = Sequence[tuple[tuple[int, ...], str]]
"""Of some arrays."""

Gather = Callable[[list[Plain], Any, Any], Any]
"""Has a worker put rows together: (blocks, block, row) -> a reference to a list with the arrays."""


class StoredBlock(Block):
    """Rows in the object store. They come to this process only where somebody asks for the arrays.

    Args:
        found: a reference to a list, and at which place in it the arrays are.
        shapes: of the arrays.
        gather: has rows put together elsewhere.
    """

    def __init__(self, found: tuple[Any, int], shapes: Shapes, gather: Gather) -> None:
        self.found, self.shapes, self.gather = found, shapes, gather
        self.size = shapes[0][0][0] if shapes else 0
        self.row_bytes = sum(prod(shape[1:]) * np.dtype(dtype).itemsize for shape, dtype in shapes)
        self.in_file = False

    @property
    def arrays(self) -> tuple[Any, ...]:  # type: ignore[override]
        """The arrays, in memory that this node's processes share."""
        return tuple(arrays(self.found))

    def together(self, rows: Rows) -> Rows:
        """Some rows in one block, as a worker puts them together, if all are in the store."""
        rows = rows.trimmed()
        blocks = [block.found for block in rows.blocks if isinstance(block, StoredBlock)]
        if len(blocks) < len(rows.blocks):
            return super().together(rows)
        reference = self.gather(blocks, rows.block, rows.row)
        shapes = [((len(rows), *shape[1:]), dtype) for shape, dtype in self.shapes]
        block = StoredBlock((reference, 0), shapes, self.gather)
        return Rows((block,), np.zeros(len(rows), np.int32), np.arange(len(rows), dtype=np.int32))


class Store:
    """What this process has put into the object store: blocks, arrays and populations, as long as they are here."""

    def __init__(self) -> None:
        self._known: WeakKeyDictionary[Block, tuple[Any, int]] = WeakKeyDictionary()
        self._arrays: dict[int, tuple[Any, Any]] = {}
        self._has_said = False
        self._populations: WeakKeyDictionary[Examples, tuple[str, Plain]] = WeakKeyDictionary()

    def rows(self, rows: Rows) -> Plain:
        """Some rows as they go to a worker: references where they are in the store, and otherwise what is needed."""
        rows = rows.trimmed()
        used = np.bincount(rows.block, minlength=len(rows.blocks))
        moving = [
            i
            for i, block in enumerate(rows.blocks)
            if not isinstance(block, StoredBlock) and (block.in_file or block.size > used[i])
        ]
        entries = np.flatnonzero(np.isin(rows.block, moving))
        copied = None
        if entries.size:
            copied = rows.select(entries).copied().blocks[0]
            rows = rows.replaced(entries, Rows.of(copied.arrays, len(entries)))
            copied = rows.blocks[-1]
        blocks: list[Plain] = [self._given(each) if each is copied else self._found(each) for each in rows.blocks]
        return ("rows", (blocks, rows.block, rows.row))

    def array(self, array: Any) -> Any:
        """A reference to an array that comes again and again, such as frozen weights; a small one as it is."""
        if getattr(array, "nbytes", 0) < _LARGE:
            return np.asarray(array)
        known = self._arrays.get(id(array))
        if known is None or known[0]() is not array:
            self._arrays = {key: each for key, each in self._arrays.items() if each[0]() is not None}
            known = self._arrays[id(array)] = weakref.ref(array), ray.put(np.asarray(array))
        return known[1]

    def count_sent(self, size: int, why: str = "") -> None:
        """Says, once, that examples go through this process in each round, if they are so many that it matters.

        Args:
            size: how many bytes they have.
            why: why that is, where it is known.
        """
        if size > _MUCH and not self._has_said:
            self._has_said = True
            reason = why or "they are made by the caller, or have been read before this runtime was set"
            warn(
                f"the driver makes the examples of this round, and sends {size / 1e6:.0f} MB of them to workers: "
                f"{reason}. Workers keep a population, or read its files, and shuffle and scale, where all that is "
                "done is data, and no function: with scale or features in place of map"
            )

    def population(self, examples: Examples, forget: Callable[[str], None]) -> tuple[str, Plain]:
        """What a population is called, and how workers get at its arrays.

        Args:
            examples: the population.
            forget: is called with its name when nobody has it any more.
        """
        if examples not in self._populations:
            name = f"population {uuid.uuid4().hex}"
            self._populations[examples] = name, described(examples)
            weakref.finalize(examples, forget, name)
        return self._populations[examples]

    def _given(self, block: Block) -> list[Any]:
        return list(map(np.asarray, block.arrays))

    def _found(self, block: Block) -> tuple[Any, int]:
        if isinstance(block, StoredBlock):
            return block.found
        if block not in self._known:
            self._known[block] = ray.put([self._given(block)]), 0
        return self._known[block]


def arrays(found: Plain) -> Sequence[Any]:
    """The arrays of a block: those that are given, or those at a place of what a reference is to."""
    if isinstance(found, tuple):
        reference, place = found
        stored: Sequence[Any] = ray.get(reference)[place]
        return stored
    given: Sequence[Any] = found
    return given


_LARGE = 2**20
"""Bytes of an array that is sent once."""

_MUCH = 2**24
"""Bytes of examples that are sent in a round."""
