"""Where the examples of clients come from, and what has been done with them, read when they are asked for.

A source is a population: identities, sizes, and one client's arrays at a time. Those that can be one set of columns for
all clients, and always the same, say so (`columns`), and are then read once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from hansa.simulation._columns import Columns, of_clients
from hansa.simulation._lazy_rows import LazyRows
from hansa.simulation._steps import Arrays, Sizes, Step, checked_arrays, rows
from hansa.types import Type
from hansa.types.examples import Examples
from hansa.types.identities import ClientId, numbers


class Source:
    """A population.

    Attributes:
        client_ids: the clients' identities.
        in_memory: all examples are in memory, or become so.
        varies: examples, or their order, are others in each round and epoch.
        left_out: how many examples were left out when the population was made, since they are nobody's.
        label_names: what labels 0, 1, … are called, where that is known.
    """

    client_ids: Sequence[ClientId]
    in_memory: bool
    varies: bool = False
    left_out: int = 0
    label_names: tuple[str, ...] | None = None

    def number(self, position: int) -> int:
        """The client's number; see `hansa.types.identities.numbers`."""
        one = self.client_ids[position : position + 1]
        return int(numbers(one)[0]) if isinstance(one, range) else int(self.numbers[position])

    @cached_property
    def numbers(self) -> npt.NDArray[np.int32]:
        """The clients' numbers, which make their random draws their own; int32 [clients]."""
        return numbers(self.client_ids)

    def read(self, position: int) -> Arrays:
        """One client's examples, those of round 0 and its first epoch if they vary."""
        return self.epochs(position, 0, 1)[0]

    def epochs(self, position: int, round_number: int, epochs: int, copy: int = 0) -> list[Arrays]:
        """One client's examples in each epoch of a round; the same arrays `epochs` times if they do not vary.

        `copy` is how often the client was there before in the round's cohort.
        """
        kept = self.__dict__.get("columns")
        return [self._read(position) if kept is None else kept.rows_of(position)] * epochs

    def _read(self, position: int) -> Arrays:
        raise NotImplementedError

    @property
    def known_sizes(self) -> Sizes | None:
        """Examples per client, int64 [clients], where they are known without reading examples."""
        return None

    @property
    def steps(self) -> tuple[Step, ...]:
        """What is done with each client's examples, in order, since they were read."""
        return ()

    @property
    def counted(self) -> Sizes | None:
        """Examples per client, int64 [clients], if they are known by now."""
        return self.known_sizes if "sizes" not in self.__dict__ else self.sizes

    @property
    def known_type(self) -> Type | None:
        """The type of a batch, if it is known by now."""
        return self.__dict__.get("batch_type")

    @cached_property
    def sizes(self) -> Sizes:
        """Examples per client, int64 [clients]; reads all of them if need be."""
        known = self.known_sizes
        if known is None:
            if self.columns is not None:
                known = self.columns.counts
            else:
                everyone = range(len(self.client_ids))
                known = np.fromiter((rows(self.read(position)) for position in everyone), np.int64)
        known = np.array(known, np.int64)
        known.flags.writeable = False
        return known

    @cached_property
    def columns(self) -> Columns | None:
        """All clients' examples, if they are the same in every round and in memory, or on disk one after another."""
        if not self.in_memory or self.varies:
            return None
        return of_clients([self.read(position) for position in range(len(self.client_ids))], self.client_ids)

    @cached_property
    def batch_type(self) -> Type:
        """The type of a batch of the first client's examples, which is that of all clients'."""
        return Examples(self.read(0)).kind


class ArraySource(Source):
    """Rows of arrays, grouped by client: `order[starts[i] : starts[i] + counts[i]]` are the rows of client `i`.

    Args:
        arrays: arrays `[examples, ...]`, or `LazyRows` in place of some; on disk if one of them is a `np.memmap`.
        client_ids: the clients.
        order: int64 [rows]; None if the rows are one after another in the arrays.
        starts: int64 [clients].
        counts: int64 [clients].
        left_out: how many rows are nobody's.
    """

    def __init__(
        self,
        arrays: Arrays,
        client_ids: Sequence[ClientId],
        order: Sizes | None,
        starts: Sizes,
        counts: Sizes,
        left_out: int,
    ) -> None:
        self.client_ids, self._arrays, self._order, self._starts, self._counts = (
            client_ids,
            arrays,
            order,
            starts,
            counts,
        )
        examples = Examples({name: array[:0] for name, array in arrays.items()})
        self._lazy = any(isinstance(array, LazyRows) for array in arrays.values())
        self.in_memory, self.batch_type = not (examples.on_disk or self._lazy), examples.kind
        self.left_out = left_out

    @property
    def known_sizes(self) -> Sizes | None:
        return self._counts

    @cached_property
    def examples(self) -> Examples | None:
        """All rows, in the arrays' order; None if they become arrays only when they are read."""
        return None if self._lazy else Examples(self._arrays)

    def rows_of(self, position: int) -> Any:
        """Which of the rows a client has: the first one and the end, or all of them, int64 [rows]."""
        start = int(self._starts[position])
        stop = start + int(self._counts[position])
        return (start, stop) if self._order is None else self._order[start:stop]

    @cached_property
    def columns(self) -> Columns | None:
        arrays = self._arrays
        if self._lazy:
            return None
        if self._order is not None:
            if not self.in_memory:
                return None
            arrays = {name: array[self._order] for name, array in arrays.items()}
        return Columns(arrays, Examples(arrays), self._starts, self._counts)

    def _read(self, position: int) -> Arrays:
        mine = self.rows_of(position)
        chosen = slice(*mine) if isinstance(mine, tuple) else mine
        return {name: array[chosen] for name, array in self._arrays.items()}


class Files(Protocol):
    """Files that hold clients' examples, as another process is told of them."""

    @property
    def told(self) -> Mapping[str, Any]:
        """Which they are and what is read of them, as JSON has it. Its `reader` is the name of a module of
        `hansa.simulation.readers` whose `opened` takes it."""

    def part(self, client_id: ClientId) -> Any:
        """Which part of them is a client's, as what `opened` gives takes it."""


class FunctionSource(Source):
    """Clients whose examples a function reads.

    Attributes:
        files: where it reads them, if another process can do so, too.
    """

    files: Files | None = None

    def __init__(
        self,
        client_ids: Sequence[ClientId],
        function: Callable[[Any], Any],
        sizes: Sizes | None,
        in_memory: bool,
        name: str,
        kind: Type | None = None,
    ) -> None:
        self.client_ids, self._function, self._sizes, self.in_memory = client_ids, function, sizes, in_memory
        self._name = name
        if kind is not None:
            self.batch_type = kind

    @property
    def known_sizes(self) -> Sizes | None:
        return self._sizes

    def _read(self, position: int) -> Arrays:
        client_id = self.client_ids[position]
        arrays = checked_arrays(self._function(client_id), f"{self._name} {client_id!r}")
        if self._sizes is not None and rows(arrays) != self._sizes[position]:
            raise ValueError(
                f"{self._name} {client_id!r} has {rows(arrays)} rows, but sizes[{position}] says "
                f"{self._sizes[position]}; correct sizes, or leave it out"
            )
        return arrays
