"""What a population of clients can be asked for: who they are, how much they have, one client's arrays, a cohort."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from hansa import _reading
from hansa._tracebacks import boundaries
from hansa.simulation import _cohorts, _unread
from hansa.simulation._columns import joined
from hansa.simulation._given import given
from hansa.simulation._identities import IdentityIndex
from hansa.simulation._sources import Source
from hansa.simulation._steps import Arrays, Sizes
from hansa.simulation._values import integer, positions_within
from hansa.simulation.data_plan import DataPlan, PlanError
from hansa.types import Type
from hansa.types.batches import ClientBatches
from hansa.types.batching import Batching
from hansa.types.identities import ClientId
from hansa.types.mismatch import describe


@boundaries
class Population:
    """Clients with examples, and how a round goes through them. `ClientData` is one that others are made of.

    Args:
        source: who the clients are, and what they have.
        batching: how examples are put into batches; None where that has not been said.
        epochs: how often a round goes through them.
    """

    def __init__(self, source: Source, batching: Batching | None = None, epochs: int = 1) -> None:
        if not isinstance(source, Source):
            raise TypeError(
                "a population is made by ClientData.from_arrays(arrays, client_of), from_clients({id: arrays}) or "
                f"from_function(client_ids, read), or by a reader such as from_csv; found {describe(source)}"
            )
        self._source, self._batching, self._epochs = source, batching, epochs

    @property
    def client_ids(self) -> Sequence[ClientId]:
        """The clients' identities, in their order."""
        return self._source.client_ids

    @cached_property
    def sizes(self) -> Sizes:
        """Examples per client that a round goes through, each as often as it is in a batch; int64 [clients].

        Reads every client where that cannot be known otherwise: after `filter`, or from a function without sizes.
        """
        own = self._source.sizes
        sizes = own * self._epochs if self._batching is None else self._batching.examples(own)
        sizes.flags.writeable = False
        return sizes

    @property
    def known_sizes(self) -> Sizes | None:
        """`sizes`, if no client need be read for them; else None.

        Examples:
            >>> data = hansa.simulation.ClientData.from_function(range(1_000_000), lambda client_id: {"x": np.zeros(3)})
            >>> print(data.known_sizes)
            None
        """
        return None if self._source.counted is None else self.sizes

    @cached_property
    def batch_capacity(self) -> int | None:
        """The rows that every batch is computed with, on which the last bits of results depend.

        It is the most examples that a batch of anybody here has. Where clients would have to be read from files to know
        that, it is the size of batch. If that is more than 64 it is None: a cohort then has a power of two of rows with
        room for its own batches. It is None before `batch`, too.

        Examples:
            >>> data.batch(20).batch_capacity, data.batch(500).batch_capacity
            (20, 180)
        """
        return None if self._batching is None else _cohorts.capacity(self._source, self._batching)

    @property
    def goes_through(self) -> int | None:
        """How often a round goes through a client's examples: the epochs of `repeat`; None where `batch` has `steps`.

        Examples:
            >>> data.repeat(3).batch(20).goes_through, data.batch(20, steps=5).goes_through
            (3, None)
        """
        return self._epochs if self._batching is None else self._batching.goes_through

    @property
    def num_left_out(self) -> int:
        """How many examples are nobody's, and were left out when the population was made."""
        return self._source.left_out

    @property
    def label_names(self) -> tuple[str, ...] | None:
        """What the labels 0, 1, … are called, as the folders of images say; None where nothing says it.

        Examples:
            >>> print(data.label_names)
            None
        """
        return self._source.label_names

    @property
    def is_in_memory(self) -> bool:
        """Whether the examples are in memory, so that going through them reads no files."""
        return self._source.in_memory

    @cached_property
    def example_type(self) -> Type:
        """The type of a batch of examples, such as `<x=float32[?,784],y=int32[?]>`; may read the first client.

        Examples:
            >>> print(data.example_type)
            <x=float32[?,64],y=int32[?]>
        """
        return self._source.batch_type

    def plan(self) -> DataPlan:
        """What is done with a client's examples before a round, as data that another process can carry out.

        It begins with the arrays that the population was made of, or that a reader gave. Where these are from, and who
        takes part in a round, is not in it.

        Raises:
            PlanError: if `map` or `filter` calls a function, or `batch` has not been called.

        Examples:
            >>> data.take(100).shuffle(seed=1).repeat(2).batch(20).plan()
            DataPlan(take, shuffle, in batches of 20, 2 epochs: <x=float32[?,64],y=int32[?]>)
        """
        if self._batching is None:
            raise PlanError("a plan says how examples are put into batches, and batch has not been called: batch(20)")
        return DataPlan(self._source.steps, self._batching, self.example_type, self.batch_capacity)

    def __len__(self) -> int:
        return len(self._source.client_ids)

    def __getitem__(self, key: Any) -> NoReturn:
        raise TypeError(
            "a population has no items: data.client(client_id) gives one client's examples, data.cohort([0, 1]) those "
            "of a round, by position, and data.client_ids lists the clients"
        )

    def __repr__(self) -> str:
        known, kind = self._source.counted, self._source.known_type
        counted = "" if known is None else f"{int(known.sum())} examples, {int(known.min())} to {int(known.max())} each"
        parts = [f"{len(self)} clients", counted or "examples not counted yet"]
        if self._source.left_out:
            parts.append(f"{self._source.left_out} of nobody left out")
        if self._source.varies:
            parts.append("shuffled")
        if self._epochs != 1:
            parts.append(f"{self._epochs} epochs")
        if self._batching is not None:
            parts.append(str(self._batching))
        return f"{type(self).__name__}({', '.join(parts)}{'' if kind is None else f': {kind}'})"

    def positions(self, client_ids: Sequence[ClientId]) -> Sizes:
        """The positions of these clients, as `cohort` takes them; int64 [clients].

        Raises:
            KeyError: if one is not in the population.

        Examples:
            >>> data = hansa.simulation.ClientData.from_clients({"ann": {"x": [1.5, 2.5]}, "bo": {"x": [3.5]}}).batch(1)
            >>> cohort = data.cohort(data.positions(["bo"]))
            >>> cohort.client_ids
            array(['bo'], dtype=object)
        """
        return np.array([self._index[client_id] for client_id in client_ids], np.int64)

    def client(self, client_id: ClientId, round_number: int = 0) -> Arrays:
        """One client's examples: arrays `[examples, ...]` by name, after all steps, one epoch after another.

        Args:
            client_id: the client's identity.
            round_number: the round, which the order depends on after `shuffle`.

        Raises:
            KeyError: if there is no such client.

        Examples:
            >>> arrays = data.client(3)
            >>> arrays["x"].shape, arrays["y"].shape
            ((180, 64), (180,))
        """
        epochs = self._source.epochs(self._index[client_id], _round(round_number), self._epochs)
        return dict(epochs[0]) if self._epochs == 1 else joined(epochs, [client_id] * len(epochs), self.example_type)

    def own_arrays(self, client_id: ClientId) -> Arrays:
        """One client's arrays as the population was given them, before all steps: what `DataPlan.batches` takes.

        Raises:
            KeyError: if there is no such client.

        Examples:
            >>> first = data.take(2)
            >>> first.client(3)["y"].shape, first.own_arrays(3)["y"].shape
            ((2,), (180,))
        """
        return dict(given(self._source, self._index[client_id]))

    def centralized(self) -> Arrays:
        """All clients' examples, each once, one client after another, as for evaluation; `repeat` takes no part.

        Examples:
            >>> data.centralized()["x"].shape
            (1797, 64)
        """
        everyone = [self._source.read(position) for position in range(len(self))]
        return joined(everyone, self.client_ids, self.example_type)

    def cohort(self, clients: npt.ArrayLike, round_number: int = 0, *, replace: bool = False) -> ClientBatches:
        """The batches of some clients, as an argument of type `{T*}@CLIENTS`.

        Where the examples are in memory, or on disk one client after another, and nothing has to be done anew in each
        round, all cohorts share one set of arrays, which the runtime keeps on its devices. Otherwise the examples of
        these clients are read.

        Args:
            clients: their positions, 0 to `len(self) - 1`, each at most once; `positions` gives them for identities.
            round_number: the round, which orders depend on after `shuffle`.
            replace: whether a client may be there several times, as a sampler with `replace=True` gives it. Each copy
                has random draws, and after `shuffle` an order, of its own.

        Returns:
            The clients in this order, with their `client_ids`.

        Raises:
            ValueError: if `batch` has not been called, or a client is there twice without `replace`.
            TypeError, IndexError: if `clients` are no positions in this population.

        Examples:
            >>> cohort = data.cohort([3, 0])
            >>> cohort
            ClientBatches(2 clients, 360 examples in batches of 20: <x=float32[?,64],y=int32[?]>*)
            >>> state, metrics = process.next(process.initialize(), cohort)
        """
        if self._batching is None:
            raise ValueError(
                "a cohort is passed in batches, and batch has not been called; write data.batch(20) in place of data: "
                "data.batch(20).cohort(…)"
            )
        chosen = positions_within("clients", clients, len(self), replace)
        number = _round(round_number)
        if self._population is not None:
            return self._population.select(chosen)
        given = (self._source, self._batching, chosen, number, self.batch_capacity)
        if _reading.is_elsewhere():
            try:
                return _unread.of_round(*given)
            except PlanError as error:
                cohort = _cohorts.of_round(*given)
                cohort.examples.why_here = error.why
                return cohort
        return _cohorts.of_round(*given)

    @cached_property
    def _population(self) -> ClientBatches | None:
        return None if self._batching is None else _cohorts.of_everyone(self._source, self._batching)

    @cached_property
    def _index(self) -> IdentityIndex:
        return IdentityIndex(self.client_ids)


def _round(round_number: Any) -> int:
    return integer("round_number", round_number, 0)
