"""A population of clients and their examples, and what is done with them before a round: `ClientData`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from hansa._answers import Answering
from hansa.simulation import _cohorts
from hansa.simulation._columns import check_kind, joined
from hansa.simulation._identities import IdentityIndex
from hansa.simulation._owned import by_owner
from hansa.simulation._sources import Chosen, Concatenated, FunctionSource, Kept, Source, Transformed
from hansa.simulation._splitting import held_out as held_out_clients
from hansa.simulation._steps import Arrays, Filter, Map, Part, Shuffle, Sizes, Step, Take, checked_arrays
from hansa.simulation._values import fraction, function, integer, positions_within
from hansa.types import Type
from hansa.types.batches import ClientBatches, Examples
from hansa.types.batching import Batching
from hansa.types.identities import ClientId, distinct
from hansa.types.mismatch import describe


class ClientData(Answering):
    """A population of clients, each with an identity and examples: arrays with one row per example, by name.

    It is immutable. A method returns another population, which is a plan of what to do with a client's examples when
    they are wanted; nothing is read before that. Make one with `from_arrays`, `from_clients` or `from_function`.

    Steps apply to each client by itself, in the order in which they are called: `map`, `filter`, `take`, `shuffle`.
    `repeat` and `batch` say how the result is gone through, wherever they stand: each epoch is shuffled, and put into
    batches, by itself.
    """

    def __init__(self, source: Source, batching: Batching | None = None, epochs: int = 1) -> None:
        self._source, self._batching, self._epochs = source, batching, epochs

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
        """
        return cls(by_owner(arrays, client_of, client_ids))

    @classmethod
    def from_clients(cls, clients: Mapping[Any, Mapping[str, npt.ArrayLike]]) -> ClientData:
        """A population from each client's arrays: `{"ann": {"x": x, "y": y}, "bo": …}`.

        Raises:
            TypeError, ValueError: if a client's arrays differ in length, or from those of the first client; or the keys
                are neither all strings nor all integers.
        """
        if not isinstance(clients, Mapping):
            raise TypeError(
                f"clients must be a dict from each client's identity to its arrays; found {describe(clients)}; for a "
                "function that reads a client, use from_function"
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
        """
        if not callable(read):
            raise TypeError(f"read must be a function from a client's id to its arrays; found {describe(read)}")
        ids = distinct(client_ids)
        known = None
        if sizes is not None:
            known = np.asarray(sizes)
            if known.shape != (len(ids),) or known.dtype.kind not in "iu" or (known < 0).any():
                raise ValueError(
                    f"sizes must be one number of examples for each of the {len(ids)} clients, none negative; found "
                    f"{describe(known)}"
                )
            known = known.astype(np.int64)
        return cls(FunctionSource(ids, read, known, False, "what read returns for client"))

    @property
    def client_ids(self) -> Sequence[Any]:
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
        """`sizes`, if no client need be read for them; else None."""
        return None if self._source.counted is None else self.sizes

    @property
    def num_left_out(self) -> int:
        """How many examples are nobody's, and were left out when the population was made."""
        return self._source.left_out

    @property
    def label_names(self) -> tuple[str, ...] | None:
        """What the labels 0, 1, … are called, as the folders of images say; None where nothing says it."""
        return self._source.label_names

    @property
    def is_in_memory(self) -> bool:
        """Whether the examples are in memory, so that going through them reads no files."""
        return self._source.in_memory

    @cached_property
    def example_type(self) -> Type:
        """The type of a batch of examples, such as `<x=float32[?,784],y=int32[?]>`; may read the first client."""
        return self._source.batch_type

    def __len__(self) -> int:
        return len(self._source.client_ids)

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
        return f"ClientData({', '.join(parts)}{'' if kind is None else f': {kind}'})"

    def positions(self, client_ids: Sequence[Any]) -> Sizes:
        """The positions of these clients, as `cohort` takes them; int64 [clients].

        Raises:
            KeyError: if one is not in the population.
        """
        return np.array([self._index[client_id] for client_id in client_ids], np.int64)

    def client(self, client_id: Any, round_number: int = 0) -> Arrays:
        """One client's examples: arrays `[examples, ...]` by name, after all steps, one epoch after another.

        Args:
            client_id: the client's identity.
            round_number: the round, which the order depends on after `shuffle`.

        Raises:
            KeyError: if there is no such client.
        """
        epochs = self._source.epochs(self._index[client_id], _round(round_number), self._epochs)
        return dict(epochs[0]) if self._epochs == 1 else joined(epochs, [client_id] * len(epochs), self.example_type)

    def centralized(self) -> Arrays:
        """All clients' examples, each once, one client after another, as for evaluation; `repeat` takes no part."""
        everyone = [self._source.read(position) for position in range(len(self))]
        return joined(everyone, self.client_ids, self.example_type)

    def map(self, fn: Callable[..., Mapping[str, Any]], with_client_id: bool = False) -> ClientData:
        """Other arrays in place of each client's.

        Args:
            fn: from a dict of one client's arrays `[examples, ...]` to another with as many rows, computed for all
                examples at once: `lambda arrays: {"x": arrays["x"] / 255, "y": arrays["y"]}`.
            with_client_id: call `fn(client_id, arrays)`.
        """
        return self._then(Map(function("map", fn), with_client_id))

    def filter(self, fn: Callable[[Arrays], Any]) -> ClientData:
        """The examples for which `fn`, from one client's arrays to bool [examples], is True."""
        return self._then(Filter(function("filter", fn)))

    def take(self, count: int) -> ClientData:
        """The first `count` examples of each client, or all of those who have fewer; in every epoch."""
        return self._then(Take(integer("count", count, 0)))

    def shuffle(self, seed: int) -> ClientData:
        """Each client's examples in a random order, another one in every round and epoch.

        The order is a function of the seed, the client, the number of the round and that of the epoch, and of nothing
        else: not of who else takes part, nor of what was asked for before.
        """
        return self._then(Shuffle(integer("seed", seed, 0)))

    def repeat(self, epochs: int) -> ClientData:
        """Goes through each client's examples `epochs` times in a round; each time has batches of its own, unless
        `batch` says otherwise."""
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
        """
        size = integer("batch_size", batch_size, 1)
        wanted = None if steps is None else integer("steps", steps, 1)
        batching = Batching(size, self._epochs, wanted, drop_remainder, across_epochs)
        return ClientData(self._source, batching, self._epochs)

    def in_memory(self) -> ClientData:
        """The same population, whose examples are read once, when they are first wanted, and then kept."""
        if self._source.varies:
            raise ValueError(
                "in_memory keeps examples as they are, but shuffle makes them others in each round; "
                "call in_memory before shuffle"
            )
        return ClientData(Kept(self._source), self._batching, self._epochs)

    def take_clients(self, count: int) -> ClientData:
        """The first `count` clients, or all if there are fewer."""
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
        """
        if not isinstance(other, ClientData):
            raise TypeError(f"concatenate takes another ClientData; found {describe(other)}")
        if (self._batching, self._epochs) != (other._batching, other._epochs):
            first, second = (f"{each._batching or 'not in batches'}, {each._epochs} epochs" for each in (self, other))
            raise ValueError(
                f"one population is {first}, the other {second}; call batch and repeat on the two together"
            )
        shared = next(iter(set(self.client_ids) & set(other.client_ids)), None)
        if shared is not None:
            raise ValueError(
                f"client {shared!r} is in both populations; a client has one place: choose others with filter_clients"
            )
        return ClientData(Concatenated(self._source, other._source), self._batching, self._epochs)

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
        """
        if self._batching is None:
            raise ValueError(
                "a cohort is passed in batches, and batch has not been called; write data.batch(20).cohort(…)"
            )
        chosen = positions_within("clients", clients, len(self), replace)
        number = _round(round_number)
        if self._population is not None:
            return self._population.select(chosen)
        return _cohorts.of_round(self._source, self._batching, chosen, number)

    @cached_property
    def _population(self) -> ClientBatches | None:
        return None if self._batching is None else _cohorts.of_everyone(self._source, self._batching)

    @cached_property
    def _index(self) -> IdentityIndex:
        return IdentityIndex(self.client_ids)

    def _then(self, step: Step) -> ClientData:
        return ClientData(Transformed(self._source, step), self._batching, self._epochs)

    def _choose(self, positions: Sizes) -> ClientData:
        return ClientData(Chosen(self._source, positions), self._batching, self._epochs)


def _round(round_number: Any) -> int:
    return integer("round_number", round_number, 0)
