"""What is done with one client's examples on the way to its batches: map, filter, take, shuffle, hold out.

A step is a pure function of a client's arrays and of whose they are; it says what it makes of a client's size, if that
is known without looking at the examples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from hansa._tracebacks import add_note
from hansa.simulation._lazy_rows import LazyRows, is_lazy
from hansa.simulation._numbers import own_array
from hansa.simulation._random import generator
from hansa.simulation._values import fraction, integer
from hansa.types import names
from hansa.types.identities import ClientId
from hansa.types.mismatch import describe

Arrays = dict[str, npt.NDArray[Any]]
Sizes = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Visit:
    """Whose examples are read, and when.

    Attributes:
        client_id: the client's identity.
        number: its number, which makes its random draws its own.
        round_number: the round.
        epoch: which of the round's local epochs, from 0.
        copy: how often the client was there before in the round's cohort.
    """

    client_id: ClientId
    number: int
    round_number: int = 0
    epoch: int = 0
    copy: int = 0


class Step(Protocol):
    """A step.

    Attributes:
        varies: a client's examples, or their order, are others in each round and epoch.
        keeps_type: the arrays' names, dtypes and shapes, except for the number of examples, stay as they are.
    """

    varies: bool
    keeps_type: bool

    def __call__(self, arrays: Arrays, visit: Visit) -> Arrays:
        """The client's arrays after the step."""

    def sizes(self, before: Sizes) -> Sizes | None:
        """The clients' sizes after the step, int64 [clients], or None where the examples decide."""


@dataclass(frozen=True)
class Map:
    """Other arrays in place of a client's, with as many rows."""

    fn: Callable[..., Any]
    with_client_id: bool
    varies, keeps_type = False, False

    def __call__(self, arrays: Arrays, visit: Visit) -> Arrays:
        with _naming("map", self.fn, visit):
            made = self.fn(visit.client_id, dict(arrays)) if self.with_client_id else self.fn(dict(arrays))
        what = f"what the function of map, {called(self.fn)}, returns for client {visit.client_id!r}"
        checked = checked_arrays(made, what)
        before, after = rows(arrays), rows(checked)
        if before != after:
            raise ValueError(
                f"{what} has {after} rows, but it was given {before}; return one row for each example, and leave "
                "examples out with filter"
            )
        return checked

    def sizes(self, before: Sizes) -> Sizes | None:
        """As before."""
        return before


@dataclass(frozen=True)
class Filter:
    """The examples for which a function says True."""

    fn: Callable[..., Any]
    varies, keeps_type = False, True

    def __call__(self, arrays: Arrays, visit: Visit) -> Arrays:
        with _naming("filter", self.fn, visit):
            mask = np.asarray(self.fn(dict(arrays)))
        if mask.dtype != np.bool_ or mask.shape != (rows(arrays),):
            raise TypeError(
                f"the function of filter, {called(self.fn)}, must return a bool for each of the {rows(arrays)} "
                f"examples of client {visit.client_id!r}, bool[{rows(arrays)}]; found {describe(mask)}; compare whole "
                'arrays: lambda arrays: arrays["y"] < 5'
            )
        return {name: array[mask] for name, array in arrays.items()}

    def sizes(self, before: Sizes) -> Sizes | None:
        """Unknown until the examples are read."""
        return None


@dataclass(frozen=True)
class Take:
    """A client's first examples."""

    count: int
    varies, keeps_type = False, True

    def __post_init__(self) -> None:
        object.__setattr__(self, "count", integer("count", self.count, 0))

    def __call__(self, arrays: Arrays, visit: Visit) -> Arrays:
        return {name: array[: self.count] for name, array in arrays.items()}

    def sizes(self, before: Sizes) -> Sizes | None:
        """At most `count`."""
        return np.minimum(before, self.count)


@dataclass(frozen=True)
class Shuffle:
    """A client's examples in an order that depends on the seed, the client, the round and the epoch."""

    seed: int
    varies, keeps_type = True, True

    def __post_init__(self) -> None:
        object.__setattr__(self, "seed", integer("seed", self.seed, 0))

    def __call__(self, arrays: Arrays, visit: Visit) -> Arrays:
        copy = (visit.copy,) if visit.copy else ()
        draws = generator(self.seed, "order", visit.number % 2**32, visit.round_number, visit.epoch, *copy)
        order = draws.permutation(rows(arrays))
        return {name: array[order] for name, array in arrays.items()}

    def sizes(self, before: Sizes) -> Sizes | None:
        """As before."""
        return before


@dataclass(frozen=True)
class GroupByLength:
    """Batches of examples of similar lengths, in a random order."""

    column: str
    batch_size: int
    seed: int
    varies, keeps_type = True, True

    def __post_init__(self) -> None:
        if not isinstance(self.column, str):
            raise TypeError(
                f"group_by_length takes the name of an array of the examples; found {describe(self.column)}"
            )
        object.__setattr__(self, "batch_size", integer("batch_size", self.batch_size, 1))
        object.__setattr__(self, "seed", integer("seed", self.seed, 0))

    def __call__(self, arrays: Arrays, visit: Visit) -> Arrays:
        found = arrays.get(self.column)
        if found is None:
            unknown = names.unknown(self.column, list(arrays))
            raise ValueError(f"group_by_length names an array that client {visit.client_id!r} does not have: {unknown}")
        if found.ndim != 2:
            raise TypeError(
                f"group_by_length takes an array [examples, tokens] that is 0 after a sequence's end, such as its "
                f"sample_weight; {self.column!r} of client {visit.client_id!r} is {describe(found)}"
            )
        lengths = ((found != 0) * np.arange(1, found.shape[1] + 1)).max(1, initial=0)
        copy = (visit.copy,) if visit.copy else ()
        draws = generator(self.seed, "lengths", visit.number % 2**32, visit.round_number, visit.epoch, *copy)
        order = draws.permutation(len(lengths))
        whole = len(order) - len(order) % self.batch_size
        sorted_ = order[:whole][np.argsort(lengths[order[:whole]], kind="stable")].reshape(-1, self.batch_size)
        order = np.concatenate([sorted_[draws.permutation(len(sorted_))].ravel(), order[whole:]])
        return {name: array[order] for name, array in arrays.items()}

    def sizes(self, before: Sizes) -> Sizes | None:
        """As before."""
        return before


@dataclass(frozen=True)
class Part:
    """A random part of each client's examples, or the rest; both stay in their order."""

    held_out: float
    seed: int
    rest: bool
    varies, keeps_type = False, True

    def __post_init__(self) -> None:
        object.__setattr__(self, "held_out", fraction("held_out", self.held_out))
        object.__setattr__(self, "seed", integer("seed", self.seed, 0))
        if not isinstance(self.rest, bool):
            raise TypeError(f"rest must be True or False; found {describe(self.rest)}")

    def __call__(self, arrays: Arrays, visit: Visit) -> Arrays:
        size = rows(arrays)
        order = generator(self.seed, "split", visit.number % 2**32).permutation(size)
        held_out = int(self._held_out(np.array([size]))[0])
        chosen = np.sort(order[held_out:] if self.rest else order[:held_out])
        return {name: array[chosen] for name, array in arrays.items()}

    def sizes(self, before: Sizes) -> Sizes | None:
        """The fraction of each client's examples, rounded, or what remains."""
        return before - self._held_out(before) if self.rest else self._held_out(before)

    def _held_out(self, sizes: Sizes) -> Sizes:
        held_out: Sizes = np.floor(sizes * self.held_out + 0.5).astype(np.int64)
        return held_out


def rows(arrays: Mapping[str, Any]) -> int:
    """How many examples these arrays hold."""
    return len(next(iter(arrays.values())))


def checked_arrays(value: Any, what: str, lazily: bool = False) -> Arrays:
    """The arrays of a dict, with one row per example in each; with `lazily`, some of them may be `LazyRows`.

    Raises:
        TypeError: if it is no dict of arrays; `what` names it.
        ValueError: if the arrays have different numbers of rows, or there are none.
    """
    if not isinstance(value, Mapping):
        raise TypeError(
            f'{what} must be a dict of arrays [examples, ...], such as {{"x": x, "y": y}}; found {describe(value)}'
        )
    if not value:
        raise ValueError(f"{what} holds no arrays; give it at least one")
    arrays: Arrays = {}
    for name, given in value.items():
        if not isinstance(name, str):
            raise TypeError(f"{what} must have strings for names; found {describe(name)}")
        named = f"{what} must hold arrays of numbers; {name!r}"
        array: Any = LazyRows(given, named) if lazily and is_lazy(given) else own_array(given, named)
        if not array.ndim:
            raise ValueError(f"{what} must hold arrays with one row per example; {name!r} is a scalar, {array.dtype}")
        arrays[name] = array
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name!r} has {length}" for name, length in lengths.items())
        raise ValueError(f"{what} must hold arrays with one row per example, as many in each: {listed}")
    return arrays


class _naming:
    """Adds to an error of a user's function which step called it, and for which client."""

    def __init__(self, step: str, fn: Callable[..., Any], visit: Visit) -> None:
        self._note = f"in the function of {step}, {called(fn)}, for client {visit.client_id!r}"

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if error is not None:
            add_note(error, self._note)


def called(fn: Callable[..., Any]) -> str:
    """A function's name, or that of what is called like one, in quotes."""
    return repr(getattr(fn, "__qualname__", None) or type(fn).__name__)
