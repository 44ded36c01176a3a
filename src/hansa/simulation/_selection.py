"""Which columns of a table become which arrays of examples: selection, stacking and conversion of columns.

A table is anything with named columns, one value per example. How it is stored, and which rows are a client's, is not
known here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hansa.simulation._numbers import Values, as_numbers, as_read, cast, check_present, own_array
from hansa.types import names
from hansa.types.mismatch import describe

Features: TypeAlias = Sequence[str] | Mapping[str, str | Sequence[str]]
"""The arrays of examples: names of columns, or by name of the array a column, or columns that it stacks."""

Convert: TypeAlias = Mapping[str, Any]
"""By name of the array, the dtype that it is cast to, or a function from values to an array with a row for each.

A function gets a column as it was read: an array where it holds numbers, in which NaN stands for a missing float, or
dates; a list where it holds anything else, such as text, or has missing values that are no floats, which are None. Of
several columns it gets one array `[examples, columns]`, of Python's objects if they are of several dtypes.
"""


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

    def is_converted(self, column: str) -> bool:
        """Whether every array made of this column is made by a function of the user's, which may read anything."""
        made = [self.convert.get(name) for name, group in self.groups.items() if column in _several(group)]
        return all(map(callable, made))

    def told(self) -> dict[str, Any] | None:
        """The same as JSON has it; None if a function of the user's converts an array."""
        if any(map(callable, self.convert.values())):
            return None
        dtypes = {name: dtype.str for name, dtype in self.convert.items()}
        return {"table": self.table, "groups": dict(self.groups), "convert": dtypes}

    @classmethod
    def of_told(cls, told: Mapping[str, Any]) -> Selection:
        """What `told` has told, through JSON."""
        groups = {name: group if isinstance(group, str) else tuple(group) for name, group in told["groups"].items()}
        return cls(told["table"], groups, {name: np.dtype(dtype) for name, dtype in told["convert"].items()})

    def of_client(self, client_id: Hashable) -> Selection:
        """The same, with a client to name in messages."""
        return replace(self, table=f"{self.table}, client {client_id!r},")

    def arrays(self, values: Callable[[str], Any]) -> dict[str, Any]:
        """The arrays `[examples, ...]` of one client, or of all.

        Args:
            values: gives the values of a column: an array, or a list.

        Raises:
            TypeError, ValueError: if they are not numbers of one shape, or are missing, or cannot be converted.
        """
        read = {column: as_read(values(column)) for column in self.columns}
        return {name: self._array(name, group, read) for name, group in self.groups.items()}

    def _array(self, name: str, group: str | tuple[str, ...], read: Mapping[str, Values]) -> Any:
        conversion = self.convert.get(name)
        if callable(conversion):
            found = read[group] if isinstance(group, str) else _side_by_side([read[column] for column in group])
            return self._made(conversion(found), len(found), name)
        if isinstance(group, tuple):
            return self._stacked(name, group, read)
        if conversion is None:
            return as_numbers(read[group], self._called(group))
        return cast(read[group], conversion, f"{name!r}, of {self._called(group).rstrip(',')},")

    def _called(self, column: str) -> str:
        return f"column {column!r} of {self.table}"

    def _stacked(self, name: str, group: tuple[str, ...], read: Mapping[str, Values]) -> Any:
        dtype = self.convert.get(name)
        arrays = [
            as_numbers(read[column], self._called(column))
            if dtype is None
            else cast(read[column], dtype, self._called(column))
            for column in group
        ]
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

    def _made(self, value: Any, rows: int, name: str) -> npt.NDArray[Any]:
        """What a function of `convert` returned, as an array; checked, as only the user knows what it does."""
        what = (
            f"the function convert[{name!r}] must return an array of numbers with a row for each of the {rows} values "
            f"that it gets; found {describe(value)}"
        )
        try:
            array = own_array(value, "which")
        except (TypeError, ValueError) as error:
            raise ValueError(f"{what}, {error}") from None
        if array.shape[:1] != (rows,):
            raise ValueError(what)
        check_present(array, f"what convert[{name!r}] makes of {self.table}")
        return array


def _side_by_side(columns: list[Values]) -> npt.NDArray[Any]:
    """Columns as a function gets them, [rows, columns, ...]: of their dtype if it is one, else of Python's objects."""
    arrays = [column for column in columns if isinstance(column, np.ndarray)]
    if len(arrays) == len(columns) and len({(array.dtype, array.shape) for array in arrays}) == 1:
        return np.stack(arrays, axis=-1)
    table = np.empty((len(columns[0]), len(columns)), object)
    for index, column in enumerate(columns):
        for row, value in enumerate(column.tolist() if isinstance(column, np.ndarray) and column.ndim == 1 else column):
            table[row, index] = value
    return table


def no_number(table: str, column: str, what: str, kind: object) -> TypeError:
    """What to say of a column that holds no numbers, such as `text`, of a type, and is left to no function."""
    return TypeError(
        f"column {column!r} of {table} holds {what} ({kind}); leave it out of features, or give convert a function "
        f"that makes numbers of {'an array' if what == 'dates or times' else 'a list'} of them"
    )


def without_rows(arrays: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    """The arrays of a client without rows, whose values have no types of their own: as another's, but for the rows."""
    return {name: array[:0] for name, array in arrays.items()}


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
    known = Counter(columns)
    if client is not None:
        _check_column(client, known, table)
    if features is None:
        features = [column for column in columns if column != client]
        if not features:
            raise ValueError(
                f"{table} has no column{f' besides {client!r}' if client else ''}, so its clients have no data"
            )
    groups = grouped(features)
    for group in groups.values():
        for column in _several(group):
            _check_column(column, known, table)
    return Selection(table, groups, conversions(convert or {}, groups))


def grouped(features: Any) -> dict[str, str | tuple[str, ...]]:
    """By name of the array its column, or the columns that are stacked.

    Raises:
        TypeError, ValueError: if `features` does not say that.
    """
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
    return groups


def conversions(convert: Convert, groups: Mapping[str, Any]) -> dict[str, Any]:
    """By name of the array, the NumPy dtype or the function that `convert` gives.

    Raises:
        TypeError, ValueError: if it gives something else, or for an array that is not in `groups`.
    """
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


def _check_column(column: str, known: Counter[str], table: str) -> None:
    """Checks that a column is there, and once."""
    if column not in known:
        hint = names.suggestion(column, list(known)) or ";"
        raise ValueError(f"{table} has no column {column!r}{hint} the columns are: {names.listing(list(known))}")
    if known[column] > 1:
        raise ValueError(f"{table} has {known[column]} columns called {column!r}; rename them")


def _several(group: str | tuple[str, ...]) -> tuple[str, ...]:
    return group if isinstance(group, tuple) else (group,)
