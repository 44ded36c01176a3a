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
from ray.exceptions import ObjectLostError

from hansa._warnings import warn
from hansa.runtimes.ray.populations import described
from hansa.runtimes.ray.wire import Plain
from hansa.types.examples import Examples
from hansa.types.rows import Block, Rows

Shapes = Sequence[tuple[tuple[int, ...], str]]
"""Of some arrays."""

Place = int | tuple[tuple[int, int], ...]

Gather = Callable[[list[Plain], Any, Any], tuple[Any, str, Callable[["StoredBlock"], None]]]
"""Has a worker put rows together: (blocks, block, row) -> a reference to a list with the arrays, the node where they
are, and what has the block that they become on a second node, where there is one."""


class StoredBlock(Block):
    """Rows in the object store. They come to this process only where somebody asks for the arrays.

    Args:
        found: a reference to a list of lists, and which of these the arrays are, or for each array where it is in them.
        shapes: of the arrays.
        node: where they were computed.
        gather: has rows put together elsewhere.
    """

    def __init__(self, found: tuple[Any, Place], shapes: Shapes, node: str, gather: Gather) -> None:
        self.found, self.shapes, self.node, self.gather = found, shapes, node, gather
        self.size = shapes[0][0][0] if shapes else 0
        self.row_bytes = sum(prod(shape[1:]) * np.dtype(dtype).itemsize for shape, dtype in shapes)
        self.in_file = False

    @property
    def arrays(self) -> tuple[Any, ...]:  # type: ignore[override]
        """The arrays, in memory that this node's processes share."""
        return tuple(arrays(self.found))

    def picked(self, others: Sequence[Block], picks: Sequence[tuple[int, int]]) -> Block:
        """Some of the arrays of this block and of others, which stay where they are if they came together."""
        blocks = [self, *others]
        stored = [block for block in blocks if isinstance(block, StoredBlock) and block.found[0] == self.found[0]]
        places = [block.found[1] for block in stored]
        if len(stored) < len(blocks):
            return super().picked(others, picks)
        at = [(place, j) if isinstance(place, int) else place[j] for place, j in ((places[i], j) for i, j in picks)]
        shapes = [stored[i].shapes[j] for i, j in picks]
        return StoredBlock((self.found[0], tuple(at)), shapes, self.node, self.gather)

    def together(self, rows: Rows) -> Rows:
        """Some rows in one block, as a worker puts them together, if all are in the store."""
        rows = rows.trimmed()
        blocks = [block.found for block in rows.blocks if isinstance(block, StoredBlock)]
        if len(blocks) < len(rows.blocks):
            return super().together(rows)
        shapes = [((len(rows), *shape[1:]), dtype) for shape, dtype in self.shapes]
        for again in range(_MOST_AGAIN):
            reference, node, keep = self.gather(blocks, rows.block, rows.row)
            block = StoredBlock((reference, 0), shapes, node, self.gather)
            try:
                keep(block)
                break
            except ObjectLostError:  # with its node, before there was a copy; what it is made of is still there
                if again + 1 == _MOST_AGAIN:
                    raise
        return Rows((block,), np.zeros(len(rows), np.int32), np.arange(len(rows), dtype=np.int32))


class Store:
    """What this process has put into the object store: blocks, arrays and populations, as long as they are here."""

    def __init__(self) -> None:
        self._known: WeakKeyDictionary[Block, tuple[Any, Place]] = WeakKeyDictionary()
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

    def _found(self, block: Block) -> tuple[Any, Place]:
        if isinstance(block, StoredBlock):
            return block.found
        if block not in self._known:
            self._known[block] = ray.put([self._given(block)]), 0
        return self._known[block]


def arrays(found: Plain) -> Sequence[Any]:
    """The arrays of a block: those that are given, or those at a place of what a reference is to."""
    if isinstance(found, tuple):
        reference, place = found
        stored: Sequence[Sequence[Any]] = ray.get(reference)
        return stored[place] if isinstance(place, int) else [stored[i][j] for i, j in place]
    given: Sequence[Any] = found
    return given


_LARGE = 2**20
"""Bytes of an array that is sent once."""

_MUCH = 2**24
"""Bytes of examples that are sent in a round."""

_MOST_AGAIN = 3
