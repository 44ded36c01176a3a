"""A population of clients and their examples, and what is done with them before a round: `ClientData`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from hansa._answers import Answering
from hansa._tracebacks import boundaries
from hansa.simulation._column_steps import Choose, FlipLabels, Scale
from hansa.simulation._columns import check_kind
from hansa.simulation._derived import Chosen, Concatenated, Kept, Transformed
from hansa.simulation._owned import by_owner
from hansa.simulation._population import Population
from hansa.simulation._selection import Features
from hansa.simulation._sources import FunctionSource
from hansa.simulation._splitting import held_out as held_out_clients
from hansa.simulation._steps import Arrays, Filter, GroupByLength, Map, Part, Shuffle, Sizes, Step, Take, checked_arrays
from hansa.simulation._values import counts, fraction, function, integer
from hansa.types.batching import Batching
from hansa.types.examples import Examples
from hansa.types.identities import ClientId, distinct
from hansa.types.mismatch import describe


@boundaries
class ClientData(Population, Answering):
    """A population of clients, each with an identity and examples: arrays with one row per example, by name.

    It is immutable. A method returns another population, which is a plan of what to do with a client's examples when
    they are wanted; nothing is read before that. Make one with `from_arrays`, `from_clients` or `from_function`.

    Steps apply to each client by itself, in the order in which they are called: `map`, `filter`, `features`, `scale`,
    `take`, `shuffle`.
    `repeat` and `batch` say how the result is gone through, wherever they stand: each epoch is shuffled, and put into
    batches, by itself.

    Examples:
        >>> client_of = hansa.simulation.partition_iid(len(y), clients=10)
        >>> data = hansa.simulation.ClientData.from_arrays({"x": x, "y": y}, client_of)
        >>> data
        ClientData(10 clients, 1797 examples, 179 to 180 each: <x=float32[?,64],y=int32[?]>)
        >>> len(data), data.client_ids[:3], data.sizes[:3], data.num_left_out, data.is_in_memory
        (10, [0, 1, 2], array([180, 180, 180]), 0, True)
        >>> train, test = data.split(0.2)
        >>> train = train.map(lambda arrays: {"x": 2 * arrays["x"] - 1, "y": arrays["y"]})
        >>> train = train.shuffle(seed=1).repeat(2).batch(20)
        >>> cohort = train.cohort([3, 0], round_number=1)
        >>> cohort
        ClientBatches(2 clients, 360 examples in batches of 20, 2 epochs: <x=float32[?,64],y=int32[?]>*)
    """

    @classmethod
    def from_arrays(
        cls,
        arrays: Mapping[str, npt.ArrayLike],
        client_of: npt.ArrayLike,
        client_ids: Sequence[ClientId] | None = None,
    ) -> ClientData:
        """A population from the examples of all clients together.

        Args:
            arrays: arrays `[examples, ...]` by name. `np.memmap`s stay on disk, and sparse matrices of SciPy sparse:
                the rows of a cohort are read, or made dense. NaN is a number here, and may make a client drop out.
            client_of: [examples], whose each example is: all strings or all integers, with None, NaN, an empty string
                or -1 for nobody; `hansa.types.identities` has the rule. The partitioners make such arrays; a column of
                a table may be one. Examples of nobody are left out and counted in `num_left_out`, with a warning if
                it is not -1 that says so.
            client_ids: the clients in their order, some perhaps without examples; by default those in `client_of`, in
                ascending order.

        Raises:
            TypeError, ValueError: if the arrays differ in length, or `client_of` is no such array, or nobody has any.

        Examples:
            >>> arrays = {"x": np.float32([[1, 2], [3, 4], [5, 6]]), "y": np.int32([0, 1, 1])}
            >>> data = hansa.simulation.ClientData.from_arrays(arrays, client_of=["bo", "ann", "bo"])
            >>> data.client("bo")
            {'x': array([[1., 2.],
                   [5., 6.]], dtype=float32), 'y': array([0, 1], dtype=int32)}
        """
        return cls(by_owner(arrays, client_of, client_ids))

    @classmethod
    def from_clients(cls, clients: Mapping[Any, Mapping[str, npt.ArrayLike]]) -> ClientData:
        """A population from each client's arrays: `{"ann": {"x": x, "y": y}, "bo": …}`.

        Raises:
            TypeError, ValueError: if a client's arrays differ in length, or from those of the first client; or the keys
                are neither all strings nor all integers.

        Examples:
            >>> data = hansa.simulation.ClientData.from_clients({"ann": {"x": [1.5, 2.5]}, "bo": {"x": [3.5]}})
            >>> data.sizes
            array([2, 1])
        """
        if not isinstance(clients, Mapping):
            raise TypeError(
                f"clients must be a dict from each client's identity to its arrays; found {describe(clients)}"
                + ("; dict(enumerate(clients)) numbers them" if type(clients) in (list, tuple) else "")
                + "; for a function that reads a client, use from_function"
            )
        ids = distinct(list(clients), "clients")
        given = zip(ids, clients.values(), strict=True)
        checked = {name: checked_arrays(arrays, f"clients[{name!r}]") for name, arrays in given}
        examples = {name: Examples(arrays) for name, arrays in checked.items()}
        kind = examples[ids[0]].kind
        for name, arrays in checked.items():
            check_kind(arrays, name, kind)
        sizes = np.array([examples[name].size for name in ids], np.int64)
        in_memory = not any(each.on_disk for each in examples.values())
        return cls(FunctionSource(ids, checked.__getitem__, sizes, in_memory, "the examples of client", kind))

    @classmethod
    def from_function(
        cls, client_ids: Sequence[Any], read: Callable[[Any], Mapping[str, Any]], sizes: npt.ArrayLike | None = None
    ) -> ClientData:
        """A population whose clients are read one by one, when they are wanted.

        Args:
            client_ids: the identities, all strings or all integers; `range(1_000_000)` costs nothing.
            read: gives a client's arrays, by its identity; the same ones each time.
            sizes: examples per client, if they are known. Else asking for sizes reads every client.

        Raises:
            TypeError, ValueError: if `read` is no function, or the sizes are not one per client, or ids repeat.

        Examples:
            >>> read = lambda client_id: {"x": np.full(3, client_id)}
            >>> hansa.simulation.ClientData.from_function(range(1_000_000), read).client(41_976)
            {'x': array([41976, 41976, 41976])}
        """
        if not callable(read):
            raise TypeError(f"read must be a function from a client's id to its arrays; found {describe(read)}")
        ids = distinct(client_ids)
        known = None if sizes is None else counts(sizes, len(ids))
        return cls(FunctionSource(ids, read, known, False, "what read returns for client"))

    def map(self, fn: Callable[..., Mapping[str, Any]], with_client_id: bool = False) -> ClientData:
        """Other arrays in place of each client's.

        Args:
            fn: from a dict of one client's arrays `[examples, ...]` to another with as many rows, computed for all
                examples at once: `lambda arrays: {"x": arrays["x"] / 255, "y": arrays["y"]}`.
            with_client_id: call `fn(client_id, arrays)`.

        Examples:
            >>> data = hansa.simulation.ClientData.from_clients({7: {"x": [1.0, 2.0]}, 8: {"x": [3.0]}})
            >>> data.map(lambda arrays: {"x": arrays["x"] / 2}).client(7)
            {'x': array([0.5, 1. ])}
            >>> data.map(lambda client_id, arrays: {"x": arrays["x"] + client_id}, with_client_id=True).client(7)
            {'x': array([8., 9.])}
        """
        return self._then(Map(function("map", fn), with_client_id))

    def filter(self, fn: Callable[[Arrays], Any]) -> ClientData:
        """The examples for which `fn`, from one client's arrays to bool [examples], is True.

        Examples:
            >>> data.filter(lambda arrays: arrays["y"] < 5).client(0)["y"].max()
            np.int32(4)
        """
        return self._then(Filter(function("filter", fn)))

    def features(self, features: Features, convert: Mapping[str, Any] | None = None) -> ClientData:
        """Some of the arrays, by other names or several in one, as a reader makes them of columns.

        Args:
            features: the arrays: a list of names, or a dict `{"x": ["height", "weight"], "y": "label"}`.
            convert: the dtypes that arrays are cast to: `{"x": "float32"}`. NaN counts as missing, and is refused.

        Examples:
            >>> data.features({"pixels": "x", "digit": "y"}, convert={"digit": "int8"}).example_type
            to_type('<pixels=float32[?,64],digit=int8[?]>')
        """
        return self._then(Choose(features, convert or {}))

    def scale(self, column: str, *, subtract: npt.ArrayLike = 0.0, divide: npt.ArrayLike = 1.0) -> ClientData:
        """An array less a constant, divided by another: numbers, or arrays that go with a row, such as one per feature.

        It is computed in float64 and rounded once: to float32, of integers and bools, or to the dtype of floats.

        Examples:
            >>> data.scale("x", subtract=0.5, divide=0.25).client(3)["x"].max()
            np.float32(2.0)
        """
        return self._then(Scale(column, subtract, divide))

    def flip_labels(self, clients: Sequence[ClientId], *, num_classes: int, label: str = "y") -> ClientData:
        """Labels c of some clients become num_classes - 1 - c, as of attackers (Fang et al. 2020, arXiv:1911.11815).

        Examples:
            >>> data.client(7)["y"][:2] + data.flip_labels([7], num_classes=10).client(7)["y"][:2]
            array([9, 9], dtype=int32)
        """
        return self._then(FlipLabels(label, num_classes, clients))

    def take(self, count: int) -> ClientData:
        """The first `count` examples of each client, or all of those who have fewer; in every epoch.

        Examples:
            >>> data.take(100).sizes
            array([100, 100, 100, 100, 100, 100, 100, 100, 100, 100])
        """
        return self._then(Take(count))

    def shuffle(self, seed: int) -> ClientData:
        """Each client's examples in a random order, another one in every round and epoch.

        The order is a function of the seed, the client, the number of the round and that of the epoch, and of nothing
        else: not of who else takes part, nor of what was asked for before.

        Examples:
            >>> shuffled = data.shuffle(seed=1)
            >>> shuffled.client(0, round_number=1)["y"][:5], shuffled.client(0, round_number=2)["y"][:5]
            (array([7, 4, 1, 9, 5], dtype=int32), array([8, 4, 8, 3, 7], dtype=int32))
        """
        return self._then(Shuffle(seed))

    def group_by_length(self, mask: str, *, batch_size: int, seed: int) -> ClientData:
        """Each client's examples in a random order, in which those of a batch are of similar lengths.

        In place of `shuffle`, for `hansa.learning.bucketed`. In each round and epoch all examples but those of a short
        last batch are sorted by length, equal ones in random order; their batches are put in random order.

        Args:
            mask: an array `[examples, tokens]` that is 0, or false, after the end of a sequence: `"sample_weight"`.
            batch_size: that of `batch`.
            seed: the root of the draws.

        Examples:
            >>> lengths = np.array([1, 4, 2, 4, 1, 2])
            >>> true = np.arange(4) < lengths[:, None]
            >>> data = hansa.simulation.ClientData.from_clients({"ann": {"true": true}})
            >>> data.group_by_length("true", batch_size=2, seed=0).client("ann")["true"].sum(1)
            array([4, 4, 2, 2, 1, 1])
        """
        return self._then(GroupByLength(mask, batch_size, seed))

    def repeat(self, epochs: int) -> ClientData:
        """Goes through each client's examples `epochs` times in a round; each time has batches of its own, unless
        `batch` says otherwise.

        Examples:
            >>> data.repeat(5).sizes[0], data.sizes[0]
            (np.int64(900), np.int64(180))
        """
        epochs = self._epochs * integer("epochs", epochs, 1)
        batching = None if self._batching is None else replace(self._batching, epochs=epochs)
        return ClientData(self._source, batching, epochs)

    def batch(
        self, batch_size: int, *, drop_remainder: bool = False, across_epochs: bool = False, steps: int | None = None
    ) -> ClientData:
        """Batches of this size; the last of each epoch may be short. What is called last counts.

        Args:
            batch_size: examples per batch.
            drop_remainder: leave short batches out. A client with fewer examples than a batch then has none.
            across_epochs: fill a batch that the end of an epoch cuts short from the next epoch, as `tf.data` does with
                `repeat(epochs).batch(batch_size)`.
            steps: so many batches for each client that has any, whatever its size, in place of `repeat`: its examples
                are gone through as often as that takes.

        Raises:
            TypeError, ValueError: if an argument is no such number, or there are `steps` and several epochs.

        Examples:
            >>> data.batch(50).cohort([0])[0].lengths
            array([50, 50, 50, 30])
            >>> data.batch(50, steps=5).cohort([0])[0].lengths
            array([50, 50, 50, 30, 50])
        """
        size = integer("batch_size", batch_size, 1)
        wanted = None if steps is None else integer("steps", steps, 1)
        batching = Batching(size, self._epochs, wanted, drop_remainder, across_epochs)
        return ClientData(self._source, batching, self._epochs)

    def in_memory(self) -> ClientData:
        """The same population, whose examples are read once, when they are first wanted, and then kept.

        Examples:
            >>> def read(client_id):
            ...     print("reading", client_id)
            ...     return {"x": np.zeros(3)}
            >>> data = hansa.simulation.ClientData.from_function([1, 2], read, sizes=[3, 3]).in_memory()
            >>> first, again = data.client(1), data.client(1)
            reading 1
            reading 2
        """
        if self._source.varies:
            raise ValueError(
                "in_memory keeps examples as they are, but shuffle makes them others in each round; "
                "call in_memory before shuffle"
            )
        return ClientData(Kept(self._source), self._batching, self._epochs)

    def take_clients(self, count: int) -> ClientData:
        """The first `count` clients, or all if there are fewer.

        Examples:
            >>> len(data.take_clients(3))
            3
        """
        return self._choose(np.arange(min(integer("count", count, 1), len(self))))

    def filter_clients(
        self, keep: Callable[[Any], Any] | None = None, *, min_examples: int = 0, max_examples: int | None = None
    ) -> ClientData:
        """The clients whose identity `keep` says True for, and whose number of examples is within bounds.

        Args:
            keep: a function of a client's id; by default all.
            min_examples: no client has fewer, in one epoch.
            max_examples: no client has more, in one epoch.

        Raises:
            ValueError: if no client is left.

        Examples:
            >>> data.filter_clients(lambda client_id: client_id % 2 == 0, min_examples=100).client_ids
            [0, 2, 4, 6, 8]
        """
        kept = np.ones(len(self), np.bool_)
        if keep is not None:
            kept &= np.fromiter((bool(keep(client_id)) for client_id in self.client_ids), np.bool_, len(self))
        if min_examples > 0 or max_examples is not None:
            sizes = self._source.sizes
            kept &= (sizes >= min_examples) & (sizes <= (sizes.max() if max_examples is None else max_examples))
        if not kept.any():
            raise ValueError(f"filter_clients leaves none of the {len(self)} clients; loosen its conditions")
        return self._choose(np.flatnonzero(kept))

    def split(
        self, held_out: float, *, by: Literal["clients", "examples"] = "clients", seed: int = 0
    ) -> tuple[ClientData, ClientData]:
        """Two populations: one to train on, and what is held out.

        Args:
            held_out: the fraction that is held out, more than 0 and less than 1.
            by: 'clients' holds out clients that have examples, with all of them; where sizes are not known, these
                clients are read for that. 'examples' holds out a part of each client's, rounded to whole examples.
            seed: decides which.

        Returns:
            The rest and what is held out, as populations with the same steps.

        Raises:
            ValueError: if one of the two would have no clients; or by examples after `shuffle`, when it would be others
                that are held out in each round.

        Examples:
            >>> train, test = data.split(0.2)
            >>> len(train), len(test)
            (8, 2)
            >>> train, test = data.split(0.2, by="examples")
            >>> len(train), train.sizes[0], test.sizes[0]
            (10, np.int64(144), np.int64(36))
        """
        share, seed = fraction("held_out", held_out), integer("seed", seed, 0)
        if by == "examples":
            if self._source.varies:
                raise ValueError(
                    "split by examples after shuffle would hold out others in each round; call split before shuffle"
                )
            return self._then(Part(share, seed, rest=True)), self._then(Part(share, seed, rest=False))
        if by != "clients":
            raise ValueError(f"by must be 'clients' or 'examples', found {by!r}")
        rest, chosen = held_out_clients(self._source, share, seed)
        return self._choose(rest), self._choose(chosen)

    def concatenate(self, other: ClientData) -> ClientData:
        """The clients of this population, and after them those of another, each with its own steps.

        Raises:
            ValueError: if a client is in both, or they have other batches or epochs.
            TypeError: if `other` is no `ClientData`.

        Examples:
            >>> ann = hansa.simulation.ClientData.from_clients({"ann": {"x": [1.5, 2.5]}})
            >>> bo = hansa.simulation.ClientData.from_clients({"bo": {"x": [3.5]}})
            >>> ann.concatenate(bo).client_ids
            ['ann', 'bo']
        """
        if not isinstance(other, ClientData):
            raise TypeError(f"concatenate takes another ClientData; found {describe(other)}")
        if (self._batching, self._epochs) != (other._batching, other._epochs):
            first, second = (f"{each._batching or 'not in batches'}, {each._epochs} epochs" for each in (self, other))
            raise ValueError(f"one population is {first}, the other {second}; call batch and repeat on them together")
        return ClientData(Concatenated(self._source, other._source), self._batching, self._epochs)

    def _then(self, step: Step) -> ClientData:
        return ClientData(Transformed(self._source, step), self._batching, self._epochs)

    def _choose(self, positions: Sizes) -> ClientData:
        return ClientData(Chosen(self._source, positions), self._batching, self._epochs)
