"""Which columns of a table become which arrays of examples: selection, stacking and conversion of columns.

A table is anything with named columns, one value per example. How it is stored, and which rows are a client's, is not
known here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hansa.types import names
from hansa.types.mismatch import describe

Features: TypeAlias = Sequence[str] | Mapping[str, str | Sequence[str]]
"""The arrays of examples: names of columns, or by name of the array a column, or columns that it stacks."""

Convert: TypeAlias = Mapping[str, Any]
"""By name of the array, the dtype that it is cast to, or a function from values to an array with a row for each."""


@dataclass(frozen=True)
class Selection:
    """What of a table becomes arrays.

    Attributes:
        table: what to call the table in messages.
        groups: by name of the array, its column, or the columns that are stacked along a last axis.
        convert: by name of the array, a NumPy dtype or a function.
    """

    table: str
    groups: Mapping[str, str | tuple[str, ...]]
    convert: Mapping[str, Any]

    @property
    def columns(self) -> list[str]:
        """The columns that are needed, each once."""
        chosen = (group if isinstance(group, tuple) else (group,) for group in self.groups.values())
        return list(dict.fromkeys(column for group in chosen for column in group))

    def dtype_of(self, column: str) -> np.dtype[Any] | None:
        """The dtype that every array made of this column is cast to; None if there is none, or more than one."""
        wanted = [self.convert.get(name) for name, group in self.groups.items() if column in _several(group)]
        alike = all(isinstance(dtype, np.dtype) and dtype == wanted[0] for dtype in wanted)
        return wanted[0] if wanted and alike else None

    def takes_text(self, column: str) -> bool:
        """Whether a function of the user's reads this column, which may then hold text."""
        return any(callable(self.convert.get(name)) for name, group in self.groups.items() if column in _several(group))

    def arrays(self, values: Callable[[str], Any]) -> dict[str, Any]:
        """The arrays `[examples, ...]` of one client, or of all.

        Args:
            values: gives the values of a column: an array, or a list.

        Raises:
            TypeError, ValueError: if they are not numbers of one shape, or cannot be converted.
        """
        read = {column: as_numbers(values(column), f"column {column!r} of {self.table}") for column in self.columns}
        return {name: self._array(name, group, read) for name, group in self.groups.items()}

    def _array(self, name: str, group: str | tuple[str, ...], read: Mapping[str, Any]) -> Any:
        conversion = self.convert.get(name)
        what = f"{name!r}, of column {group!r} of {self.table}," if isinstance(group, str) else f"{name!r}"
        text = [column for column in _several(group) if isinstance(read[column], list)]
        if text and (not callable(conversion) or isinstance(group, tuple)):
            raise TypeError(
                f"column {text[0]!r} of {self.table} holds text; leave it out of features, or make numbers of it with "
                f"convert={{{name!r}: function}}, where the function gets a list of values"
            )
        found = read[group] if isinstance(group, str) else self._stacked(name, group, read)
        if callable(conversion):
            return _made(conversion(found), len(found), name)
        return found if conversion is None else cast(found, conversion, what)

    def _stacked(self, name: str, group: tuple[str, ...], read: Mapping[str, Any]) -> Any:
        arrays = [read[column] for column in group]
        dtype = self.convert.get(name)
        if isinstance(dtype, np.dtype):
            arrays = [cast(array, dtype, f"column {column!r}") for column, array in zip(group, arrays, strict=True)]
        for column, array in zip(group, arrays, strict=True):
            if array.dtype != arrays[0].dtype:
                common = np.result_type(*arrays)
                raise TypeError(
                    f"{name!r} is to be made of columns of one dtype, but in {self.table} {group[0]!r} holds "
                    f"{arrays[0].dtype} and {column!r} {array.dtype}; say which with convert={{{name!r}: '{common}'}}"
                )
            if array.shape != arrays[0].shape:
                raise ValueError(
                    f"{name!r} is to be made of columns of one shape, but in {self.table} {group[0]!r} has shape "
                    f"{list(arrays[0].shape)} and {column!r} {list(array.shape)}"
                )
        return np.stack(arrays, axis=-1)


def _made(value: Any, rows: int, name: str) -> npt.NDArray[Any]:
    """What a function of `convert` returned, as an array; checked, as only the user knows what it does."""
    array = value if isinstance(value, np.ndarray) else np.asarray(value)
    if array.dtype.kind not in "biufcV" or array.shape[:1] != (rows,):
        raise ValueError(
            f"the function convert[{name!r}] must return an array of numbers with a row for each of the {rows} values "
            f"that it gets; found {describe(value)}"
        )
    return array


def select(
    table: str,
    columns: Sequence[str],
    features: Features | None,
    convert: Convert | None,
    client: str | None = None,
) -> Selection:
    """What of a table becomes arrays, checked against the columns that it has.

    Args:
        table: what to call the table in messages.
        columns: all its columns.
        features: the arrays; by default every column but `client` by its own name.
        convert: casts and functions, by name of the array.
        client: the column that says whose each row is.

    Raises:
        TypeError: if an argument is of another form.
        ValueError: if a column or an array that is named is not there.
    """
    if client is not None:
        _known(client, columns, table)
    if features is None:
        features = [column for column in columns if column != client]
        if not features:
            raise ValueError(f"{table} has no column besides {client!r}, so its clients have no data")
    if isinstance(features, str) or not isinstance(features, Mapping | Sequence):
        raise TypeError(
            "features must be a list of columns, or a dict such as {'x': ['a', 'b'], 'y': 'label'}; found "
            f"{describe(features)}"
        )
    given = features if isinstance(features, Mapping) else {column: column for column in features}
    if not given:
        raise ValueError("features names no array; leave it out to have every column")
    groups: dict[str, str | tuple[str, ...]] = {}
    for name, group in given.items():
        if not isinstance(name, str) or not (isinstance(group, str) or (isinstance(group, Sequence) and group)):
            raise TypeError(
                f"features must give, by name, a column or a list of columns; found {describe(group)} for {name!r}"
            )
        groups[name] = group if isinstance(group, str) else tuple(group)
        for column in _several(groups[name]):
            _known(column, columns, table)
    return Selection(table, groups, _conversions(convert or {}, groups))


def _conversions(convert: Convert, groups: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(convert, Mapping):
        raise TypeError(f"convert must be a dict such as {{'x': 'float32', 'y': function}}; found {describe(convert)}")
    checked = {}
    for name, conversion in convert.items():
        if name not in groups:
            raise ValueError(f"convert names an array that is not there: {names.unknown(name, list(groups))}")
        if not callable(conversion) or isinstance(conversion, type):
            try:
                conversion = np.dtype(conversion)
            except TypeError:
                raise TypeError(
                    f"convert[{name!r}] must be a dtype such as 'float32', or a function from values to an "
                    f"array with a row for each; found {describe(conversion)}"
                ) from None
        checked[name] = conversion
    return checked


def _known(column: str, columns: Sequence[str], table: str) -> None:
    if column not in columns:
        hint = names.suggestion(column, columns) or ";"
        raise ValueError(f"{table} has no column {column!r}{hint} the columns are: {names.listing(columns)}")


def _several(group: str | tuple[str, ...]) -> tuple[str, ...]:
    return group if isinstance(group, tuple) else (group,)


def cast(array: npt.NDArray[Any], dtype: np.dtype[Any], what: str) -> npt.NDArray[Any]:
    """The array in another dtype; to integers only where that changes no value.

    Raises:
        ValueError: if it would; the message names the first such value.
    """
    if array.dtype == dtype:
        return array
    with np.errstate(invalid="ignore"):
        made = array.astype(dtype)
    if dtype.kind in "iub" and (changed := np.flatnonzero(made.ravel() != array.ravel())).size:
        raise ValueError(f"{what} cannot be converted to {dtype}: it holds {array.ravel()[changed[0]]}")
    return made


def as_numbers(values: Any, what: str) -> npt.NDArray[Any] | list[Any]:
    """The values of a column as an array `[rows, ...]` of numbers, or as a list if they are text.

    Args:
        values: an array or a list, one element per row, of numbers, of arrays or lists of one shape, or of text.
        what: what to call the column in messages.

    Raises:
        TypeError: the values are of several types, or neither numbers nor text.
        ValueError: values are missing, or of different shapes.
    """
    array = values if isinstance(values, np.ndarray) else _objects(values)
    if array.dtype.kind in "biufcV":
        return array
    if array.dtype.kind == "O":
        return _of_objects(array, what)
    if array.dtype.kind in "US":
        texts: list[Any] = array.tolist()
        return texts
    raise TypeError(f"{what} holds {array.dtype}, which is no number; convert it, or leave it out of features")


def _objects(values: Iterable[Any]) -> npt.NDArray[Any]:
    listed = list(values)
    array = np.empty(len(listed), object)
    for row, value in enumerate(listed):
        array[row] = value
    return array


def _of_objects(array: npt.NDArray[Any], what: str) -> npt.NDArray[Any] | list[Any]:
    if not len(array):
        raise ValueError(f"{what} has no rows, so its type is unknown")
    missing = [row for row, value in enumerate(array) if is_missing(value)]
    if missing:
        raise ValueError(f"{what} has no value in {len(missing)} rows, the first of which is row {missing[0]}; fill it")
    first = _sort_of(array[0])
    for row, value in enumerate(array):
        if _sort_of(value) != first:
            raise TypeError(
                f"{what} mixes types: row 0 is {describe(array[0])}, row {row} {describe(value)}; make them the same"
            )
    if first in ("str", "bytes"):
        return list(array)
    elements: list[Any] = [np.asarray(value) for value in array]
    elements = [as_numbers(element, what) if element.dtype.kind == "O" else element for element in elements]
    elements = [np.asarray(element) for element in elements]
    for row, element in enumerate(elements):
        if element.shape != elements[0].shape:
            raise ValueError(
                f"{what} has rows of different shapes: row 0 is {list(elements[0].shape)}, row {row} "
                f"{list(element.shape)}; pad or crop them to one"
            )
    stacked = np.stack(elements)
    if stacked.dtype.kind not in "biufcV":
        raise TypeError(f"{what} holds {describe(array[0])}, which is no number; leave it out of features")
    return stacked


def is_missing(value: Any) -> bool:
    """Whether a value stands for a missing one: None, NaN, or pandas' NA."""
    return value is None or type(value).__name__ == "NAType" or (isinstance(value, float) and value != value)


def _sort_of(value: Any) -> str:
    """What may not be mixed in a column: text, bytes, sequences, numbers, each by itself."""
    if isinstance(value, str | bytes):
        return type(value).__name__
    if isinstance(value, np.ndarray | list | tuple):
        return "sequence"
    return "number" if isinstance(value, int | float | complex | np.number | np.bool_) else type(value).__name__
