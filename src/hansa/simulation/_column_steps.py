"""Steps on columns: which arrays the examples have, of which dtype, and on which scale. They are made of data alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hansa.simulation._numbers import Array
from hansa.simulation._selection import conversions, grouped, select
from hansa.simulation._steps import Arrays, Sizes, Visit
from hansa.simulation._values import integer
from hansa.types import names
from hansa.types.identities import distinct
from hansa.types.mismatch import describe


@dataclass(frozen=True)
class Choose:
    """Some of the arrays, by other names or several in one, cast to dtypes; as a reader chooses columns of a table."""

    features: Any
    convert: Any = field(default_factory=dict)
    varies, keeps_type = False, False

    def __post_init__(self) -> None:
        groups = grouped(self.features)
        found = conversions(self.convert, groups)
        own = next((name for name, conversion in found.items() if not isinstance(conversion, np.dtype)), None)
        if own is not None:
            raise TypeError(f"convert[{own!r}] must be a dtype, such as 'float32'; for a function there is map")
        for name, dtype in found.items():
            if dtype.kind not in "biufcV" or dtype.names is not None:
                raise TypeError(f"convert[{name!r}] must be a dtype of numbers, such as 'float32'; found {dtype}")
        for name, group in groups.items():
            columns = group if isinstance(group, tuple) else (group,)
            other = next((column for column in columns if not isinstance(column, str)), None)
            if other is not None:
                raise TypeError(f"features[{name!r}] must be names of arrays; found {describe(other)}")
        object.__setattr__(self, "features", {name: _listed(group) for name, group in groups.items()})
        object.__setattr__(self, "convert", {name: dtype.name for name, dtype in found.items()})

    def __call__(self, arrays: Arrays, visit: Visit) -> Arrays:
        what = f"the examples of client {visit.client_id!r}"
        return select(what, list(arrays), self.features, self.convert).arrays(arrays.__getitem__)

    def sizes(self, before: Sizes) -> Sizes | None:
        """As before."""
        return before


@dataclass(frozen=True)
class Scale:
    """A column less a constant, divided by another: numbers, or arrays of them that go with a row."""

    column: str
    subtract: Any = 0.0
    divide: Any = 1.0
    varies, keeps_type = False, False

    def __post_init__(self) -> None:
        if not isinstance(self.column, str):
            raise TypeError(f"scale takes the name of an array of the examples; found {describe(self.column)}")
        object.__setattr__(self, "subtract", _constants("subtract", self.subtract))
        object.__setattr__(self, "divide", _constants("divide", self.divide))
        if not np.all(self.divide):
            raise ValueError(f"divide must have no 0 in it, for {self.column!r}; leave it out where nothing is divided")

    def __call__(self, arrays: Arrays, visit: Visit) -> Arrays:
        if self.column not in arrays:
            unknown = names.unknown(self.column, list(arrays))
            raise ValueError(f"scale names an array that client {visit.client_id!r} does not have: {unknown}")
        return {**arrays, self.column: self._scaled(arrays[self.column], visit)}

    def sizes(self, before: Sizes) -> Sizes | None:
        """As before."""
        return before

    def _scaled(self, array: Array, visit: Visit) -> Array:
        """In float64, and rounded once, so that the order of operations and their precision are in no bit of it."""
        what = f"scale of {self.column!r} of client {visit.client_id!r}"
        if array.dtype.kind not in "biuf":
            raise TypeError(f"{what}, which is {array.dtype}: it takes integers, bools and floats")
        constants = {"subtract": np.array(self.subtract), "divide": np.array(self.divide)}
        for name, constant in constants.items():
            if not _goes_with(constant.shape, array.shape[1:]):
                raise ValueError(
                    f"{what}: {name} is of the shape {list(constant.shape)}, and a row of {list(array.shape[1:])}; "
                    "give a number, or an array that goes with a row"
                )
        dtype = array.dtype if array.dtype.kind == "f" else np.dtype(np.float32)
        try:
            with np.errstate(over="raise", invalid="ignore"):
                wide = (array.astype(np.float64) - constants["subtract"]) / constants["divide"]
                made: Array = wide.astype(dtype, copy=False)
                return made
        except FloatingPointError:
            raise ValueError(f"{what} makes a number that {dtype} does not hold; divide by more") from None


@dataclass(frozen=True)
class FlipLabels:
    """Label c becomes num_classes - 1 - c, for some clients."""

    column: str
    num_classes: int
    clients: Any
    varies, keeps_type = False, True

    def __post_init__(self) -> None:
        if not isinstance(self.column, str):
            raise TypeError(f"flip_labels takes the name of an array of the examples; found {describe(self.column)}")
        object.__setattr__(self, "num_classes", integer("num_classes", self.num_classes, least=2))
        object.__setattr__(self, "clients", [] if self.clients in ([], ()) else list(distinct(self.clients, "clients")))
        object.__setattr__(self, "_flipping", frozenset(self.clients))

    def __call__(self, arrays: Arrays, visit: Visit) -> Arrays:
        if visit.client_id not in self._flipping:  # type: ignore[attr-defined]
            return arrays
        if self.column not in arrays:
            unknown = names.unknown(self.column, list(arrays))
            raise ValueError(f"flip_labels names an array that client {visit.client_id!r} does not have: {unknown}")
        labels = arrays[self.column]
        what = f"flip_labels of {self.column!r} of client {visit.client_id!r}"
        if labels.dtype.kind not in "iu":
            raise TypeError(f"{what}, which is {labels.dtype}: it takes integers, the classes from 0")
        if labels.size and not (labels.min() >= 0 and labels.max() < self.num_classes):
            raise ValueError(f"{what}: labels must be from 0 to {self.num_classes - 1}, which num_classes says")
        flipped = (self.num_classes - 1 - labels.astype(np.int64)).astype(labels.dtype)
        return {**arrays, self.column: flipped}

    def sizes(self, before: Sizes) -> Sizes | None:
        """As before."""
        return before


def _listed(group: str | tuple[str, ...]) -> str | list[str]:
    return group if isinstance(group, str) else list(group)


def _constants(name: str, value: Any) -> Any:
    """A number, or lists of numbers, of float64."""
    try:
        array = np.asarray(value)
    except ValueError:  # lists of unequal lengths
        array = np.asarray(None)
    if array.dtype.kind not in "iuf":
        raise TypeError(
            f"{name} must be a number, or an array of numbers that goes with a row; found {describe(value)}"
        )
    wide = array.astype(np.float64)
    if not wide.size or not np.isfinite(wide).all():
        raise ValueError(f"{name} must be finite numbers; found {describe(value) if wide.ndim else value}")
    return wide.tolist()


def _goes_with(constant: tuple[int, ...], row: tuple[int, ...]) -> bool:
    try:
        return np.broadcast_shapes(constant, row) == row
    except ValueError:
        return False
