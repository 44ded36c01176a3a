"""Sequences of batches kept as arrays: one client's (`Batches`), or those of many clients (`ClientBatches`).

A sequence may also be a list, a generator or a `tf.data.Dataset` of batches; these classes hold the same thing without
a Python object per batch, so a large population costs what its arrays cost.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from hansa._tracebacks import boundaries
from hansa.types import identities
from hansa.types._typing import Arrays
from hansa.types.batching import Batching, checked_capacity
from hansa.types.conversion import infer_type
from hansa.types.examples import Examples
from hansa.types.identities import ClientId
from hansa.types.types import SequenceType


@boundaries
class Batches:
    """One client's examples, in batches of a size, the last of which may be short.

    Args:
        arrays: a dict, tuple or struct of arrays `[examples, ...]`, or one such array.
        batch_size: examples per batch.
        epochs: how many times the examples are gone through; each epoch has batches of its own, the last one short.
        unrolled: the arrays hold the examples of all epochs, one epoch after another, each perhaps in another order.
        steps: how many batches there are, in place of a number of epochs; the examples are gone through as often as
            that takes.
        drop_remainder: leave short batches out.
        across_epochs: fill a batch that the end of an epoch cuts short from the next epoch.
        capacity: the most examples that a batch of anybody in the client's population has, where a run says it; no
            more than `batch_size`. See the attribute of this name.

    Examples:
        >>> batches = hansa.Batches({"x": np.zeros((50, 784), np.float32), "y": np.zeros(50, np.int32)}, batch_size=20)
        >>> batches
        Batches(50 examples in batches of 20: <x=float32[?,784],y=int32[?]>*)
        >>> len(batches), batches.total, batches.lengths, batches.capacity
        (3, 50, array([20, 20, 10]), 20)
        >>> print(batches.type_signature)
        <x=float32[?,784],y=int32[?]>*
        >>> [batch.y.shape for batch in batches]
        [(20,), (20,), (10,)]
    """

    def __init__(
        self,
        arrays: Arrays | Examples,
        batch_size: int,
        epochs: int = 1,
        unrolled: bool = False,
        *,
        steps: int | None = None,
        drop_remainder: bool = False,
        across_epochs: bool = False,
        capacity: int | None = None,
    ) -> None:
        self.examples = arrays if isinstance(arrays, Examples) else Examples(arrays)
        self.batching, self.unrolled = Batching(batch_size, epochs, steps, drop_remainder, across_epochs), unrolled
        self.start = 0
        own = _in_one_epoch(np.array([self.examples.size]), self.batching, unrolled)
        self.size = int(own[0])
        self._population_capacity = None if capacity is None else checked_capacity(capacity, self.batching, own)

    @classmethod
    def _part(cls, whole: ClientBatches, start: int, size: int) -> Batches:
        part = cls.__new__(cls)
        part.examples, part.batching, part.unrolled = whole.examples, whole.batching, whole.unrolled
        part.start, part.size, part._population_capacity = start, size, whole.capacity
        return part

    @property
    def _least_capacity(self) -> int:
        """What is known of the population's capacity."""
        return self._population_capacity or self.batching.capacity(np.array([self.size]))

    def _with_capacity(self, capacity: int) -> Batches:
        made = copy(self)
        made._population_capacity = capacity
        return made

    @property
    def capacity(self) -> int:
        """The rows that a batch is computed with, on which the last bits of results depend.

        It is the most examples that a batch of anybody in the client's population has. Where that is not known it is
        `batch_size`, or, if that is more than 64, a power of two that has room for the client's own batches.
        """
        known = self._population_capacity
        return self.batching.capacity_for_some(np.array([self.size])) if known is None else known

    @property
    def type_signature(self) -> SequenceType:
        """The type of one client's sequence of batches."""
        return SequenceType(self.examples.kind)

    @property
    def total(self) -> int:
        """How many examples are in the batches, each as often as it is there."""
        return int(self.batching.examples(np.array([self.size]))[0])

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """How many examples each batch has; int64 [batches]."""
        return self._lay_out()[1]

    def pieces(self) -> list[tuple[int, int]]:
        """The rows of all batches, in order, in as few pieces as there can be: of each the first row, and the end.

        Examples:
            >>> hansa.Batches(np.zeros(50), batch_size=20, epochs=2).pieces()
            [(0, 50), (0, 50)]
        """
        starts, lengths = self._lay_out()
        if not len(starts):
            return []
        if self._is_cyclic:
            epochs, more = divmod(int(lengths.sum()), self.size)
            return [(self.start, self.start + rows) for rows in [self.size] * epochs + [more] * (more > 0)]
        stops = starts + lengths
        cuts = np.flatnonzero(starts[1:] != stops[:-1])
        firsts, ends = starts[np.append(0, cuts + 1)], stops[np.append(cuts, len(stops) - 1)]
        return list(zip(firsts.tolist(), ends.tolist(), strict=True))

    @property
    def _is_cyclic(self) -> bool:
        return self.batching.across_epochs and not self.unrolled

    def _lay_out(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        starts, lengths, _ = self.batching.lay_out(np.array([self.start]), np.array([self.size]), self.unrolled)
        return starts, lengths

    def __len__(self) -> int:
        return int(self.batching.batches(np.array([self.size]))[0])

    def __iter__(self) -> Iterator[Any]:
        starts, lengths = self._lay_out()
        for first, length in zip(starts.tolist(), lengths.tolist(), strict=True):
            if self._is_cyclic and first + length > self.start + self.size:
                rows = first - self.start + np.arange(length)
                yield self.examples.take(self.start + rows % self.size)
            else:
                yield self.examples.batch(first, first + length)

    def __repr__(self) -> str:
        return f"Batches({self.size} examples {self.batching}{_epochs(self.batching)}: {self.type_signature})"


@boundaries
class ClientBatches(Sequence[Batches]):
    """The examples of many clients in one set of arrays: a value for `{T*}@CLIENTS`, without a copy per client.

    A cohort is a part of the population, `population.select([3, 14, 15])`: it shares the arrays, so they stay where the
    runtime has put them, and only the selection goes there each round. Do not write to the arrays after that. Arrays
    that are `np.memmap`s stay on disk, and the cohort's examples are read each round, in parts if they are many; so are
    those of batches across epochs.

    Args:
        arrays: a dict, tuple or struct of arrays `[examples, ...]`, all clients' examples one after another.
        offsets: int [clients + 1]; client `i` has the examples `offsets[i]` to `offsets[i + 1]`.
        batch_size: examples per batch; each client's last one may be short.
        client_ids: who the clients are, all strings or all integers, each once; by default 0, 1, 2… A client's random
            draws depend on its id, and not on where it stands or on who else there is.
        epochs: how many times each client's examples are gone through; each epoch has batches of its own.
        unrolled: a client's rows are those of all epochs, one epoch after another, each perhaps in another order.
        steps: how many batches each client that has examples gets, in place of a number of epochs; its examples are
            gone through as often as that takes.
        drop_remainder: leave short batches out.
        across_epochs: fill a batch that the end of an epoch cuts short from the next epoch.
        capacity: see below; given where these clients are some of a larger population, and a run says it.

    Attributes:
        client_ids: who the clients are, [clients]: int64, or objects where they are strings or larger integers.
        capacity: the rows that a batch is computed with: the most examples that a batch of these clients has. Those
            that are selected from them keep it, so the last bits of a client's results do not depend on who else is in
            the cohort.

    Examples:
        >>> arrays = {"x": np.zeros((70, 784), np.float32), "y": np.zeros(70, np.int32)}
        >>> clients = hansa.ClientBatches(arrays, offsets=[0, 50, 70], batch_size=20, client_ids=["ann", "bo"])
        >>> clients
        ClientBatches(2 clients, 70 examples in batches of 20: <x=float32[?,784],y=int32[?]>*)
        >>> clients[1]
        Batches(20 examples in batches of 20: <x=float32[?,784],y=int32[?]>*)
        >>> clients.rows, clients.stored, clients.totals, clients.capacity
        (array([50, 20]), array([50, 20]), array([50, 20]), 20)
        >>> clients.batches  # the first row and the size of each batch; how many batches each client has
        (array([ 0, 20, 40, 50]), array([20, 20, 10, 20]), array([3, 1]))
        >>> clients.numbers.dtype, clients.is_cyclic
        (dtype('int32'), False)
        >>> print(clients.type_signature)
        <x=float32[?,784],y=int32[?]>*
    """

    def __init__(
        self,
        arrays: Arrays | Examples,
        offsets: npt.ArrayLike,
        batch_size: int,
        client_ids: Sequence[ClientId] | npt.NDArray[Any] | None = None,
        epochs: int = 1,
        unrolled: bool = False,
        *,
        steps: int | None = None,
        drop_remainder: bool = False,
        across_epochs: bool = False,
        capacity: int | None = None,
    ) -> None:
        self.examples = arrays if isinstance(arrays, Examples) else Examples(arrays)
        self.batching, self.unrolled = Batching(batch_size, epochs, steps, drop_remainder, across_epochs), unrolled
        bounds = np.asarray(offsets)
        if bounds.ndim != 1 or bounds.dtype.kind not in "iu" or not bounds.size:
            raise ValueError(f"offsets must be integers, one more than there are clients; found {infer_type(bounds)}")
        bounds = bounds.astype(np.int64)
        if bounds[0] < 0 or (np.diff(bounds) < 0).any() or bounds[-1] > self.examples.size:
            raise ValueError(
                f"offsets must rise from 0 or more to at most the number of examples, {self.examples.size}; found "
                f"{bounds[0]} to {bounds[-1]}" + (", not rising" if (np.diff(bounds) < 0).any() else "")
            )
        self.starts = bounds[:-1]
        self.sizes = _in_one_epoch(np.diff(bounds), self.batching, unrolled)
        self.capacity = (
            self.batching.capacity(self.sizes)
            if capacity is None
            else checked_capacity(capacity, self.batching, self.sizes)
        )
        clients = len(self.starts)
        ids: Sequence[ClientId] = range(clients)
        if client_ids is not None and (clients or len(client_ids)):
            ids = identities.distinct(client_ids)
            if len(ids) != clients:
                raise ValueError(f"client_ids must be one id for each of the {clients} clients; found {len(ids)}")
        self.client_ids = identities.array(ids)
        self._numbers = identities.numbers(ids)

    @classmethod
    def _of(
        cls,
        examples: Examples,
        batching: Batching,
        unrolled: bool,
        starts: npt.NDArray[np.int64],
        sizes: npt.NDArray[np.int64],
        client_ids: npt.NDArray[Any],
        numbers: npt.NDArray[np.int32],
        capacity: int,
    ) -> ClientBatches:
        """Clients whose rows begin at `starts`, with `sizes` examples in each epoch, and their ids and numbers."""
        made = cls.__new__(cls)
        made.examples, made.batching, made.unrolled = examples, batching, unrolled
        made.starts, made.sizes, made.client_ids, made._numbers = starts, sizes, client_ids, numbers
        made.capacity = capacity
        return made

    def select(self, clients: npt.ArrayLike) -> ClientBatches:
        """The clients at these positions, in this order; they share the arrays.

        A client that is selected several times is there in copies, each of which has random draws of its own.

        Examples:
            >>> clients = hansa.ClientBatches(np.arange(6.0), offsets=[0, 3, 4, 6], batch_size=2)
            >>> clients.select([2, 0]).client_ids
            array([2, 0])
        """
        indices = np.asarray(clients, dtype=np.int64 if not np.size(clients) else None)
        if indices.ndim != 1 or indices.dtype.kind not in "iu":
            raise TypeError(f"clients are selected by a list of integer positions, found {clients!r}")
        outside = indices[(indices < -len(self)) | (indices >= len(self))]
        if outside.size:
            raise IndexError(f"there are {len(self)} clients; position {outside[0]} was selected")
        return ClientBatches._of(
            self.examples,
            self.batching,
            self.unrolled,
            self.starts[indices],
            self.sizes[indices],
            self.client_ids[indices],
            self._numbers[indices],
            self.capacity,
        )

    @property
    def type_signature(self) -> SequenceType:
        """The type of one client's sequence of batches."""
        return SequenceType(self.examples.kind)

    @cached_property
    def numbers(self) -> npt.NDArray[np.int32]:
        """What makes each client's random draws its own; int32 [clients], all different, those of copies too."""
        return identities.of_copies(self._numbers)

    @cached_property
    def batches(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Of each batch of the clients, one after another, the first row and the number of rows; of each client, how
        many batches it has. If `is_cyclic`, a client's rows are followed by the same again."""
        return self.batching.lay_out(self.starts, self.sizes, self.unrolled)

    @property
    def is_cyclic(self) -> bool:
        """Whether a batch may go on at a client's first row where its rows end."""
        return self.batching.across_epochs and not self.unrolled

    @property
    def rows(self) -> npt.NDArray[np.int64]:
        """How many rows of the arrays each client has; int64 [clients]."""
        return self.stored if self.unrolled else self.sizes

    @property
    def stored(self) -> npt.NDArray[np.int64]:
        """How many rows, one after another, each client's batches are read from; int64 [clients]."""
        return self.batching.stored(self.sizes, self.unrolled)

    @property
    def totals(self) -> npt.NDArray[np.int64]:
        """How many examples are in each client's batches, each as often as it is there; int64 [clients]."""
        return self.batching.examples(self.sizes)

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self.select(np.arange(len(self))[index])
        return Batches._part(self, int(self.starts[index]), int(self.sizes[index]))

    def __repr__(self) -> str:
        examples = f"{int(self.sizes.sum())} examples {self.batching}{_epochs(self.batching)}"
        return f"ClientBatches({len(self)} clients, {examples}: {self.type_signature})"


def _epochs(batching: Batching) -> str:
    return "" if batching.epochs == 1 else f", {batching.epochs} epochs"


def _in_one_epoch(rows: npt.NDArray[np.int64], batching: Batching, unrolled: bool) -> npt.NDArray[np.int64]:
    """How many examples clients with so many rows have."""
    if not unrolled:
        return rows
    if batching.steps is not None:
        raise ValueError("with unrolled, the arrays hold so many epochs; give epochs, and not steps")
    uneven = np.flatnonzero(rows % batching.epochs)
    if uneven.size:
        raise ValueError(
            f"with unrolled, a client has the same number of rows for each of the {batching.epochs} epochs; client "
            f"{uneven[0]} has {rows[uneven[0]]} rows"
        )
    return rows // batching.epochs
