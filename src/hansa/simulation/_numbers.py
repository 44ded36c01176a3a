"""What the values of clients are: one rule for arrays that the user has, and for the columns of every reader.

- A value is missing if it is None, NaN, pandas' NA or NaT, or masked. NaN counts as missing wherever it was stored, as
  most formats cannot tell the two apart.
- A column becomes numbers only where that changes no value. Whole numbers of up to 64 bits are integers; among
  fractions they are floats, if float64 holds them.
- Everything else, text, decimals, dates, structs, arrays of several shapes, is for a function of the user's to read,
  which comes before any of these checks; what it gives is checked in turn.
"""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hansa.types.dtypes import as_dtype
from hansa.types.mismatch import describe

Array = npt.NDArray[Any]

Values: TypeAlias = Array | list[Any]
"""A column as it was read: an array of numbers `[rows, ...]`, where a missing float is NaN, or of dates; or else a list
with an element for each row, None where it is missing."""

_EXACT = 2**53
"""Up to here float64 holds every whole number."""


def as_read(values: Any) -> Values:
    """The values of a column, one for each row, as an array of numbers if that is what they are; else as a list.

    Args:
        values: an array, or any iterable.
    """
    if isinstance(values, np.ma.MaskedArray):
        return _unmasked(values)
    if not isinstance(values, np.ndarray):
        values = np.asarray(values) if hasattr(values, "__array__") else list(values)
    if isinstance(values, list):
        return _of_objects(values)
    if values.dtype.kind in "OUST":
        return _of_objects(list(values))
    return _native(values)


def as_numbers(found: Values, what: str) -> Array:
    """The column as numbers, none of which is missing.

    Args:
        found: what `as_read` gave.
        what: what to call the column in messages.

    Raises:
        TypeError: it holds something else than numbers, or several types.
        ValueError: values are missing, or of different shapes.
    """
    if isinstance(found, np.ndarray) and found.dtype.kind not in "mM":
        _check_dtype(found, what)
        check_present(found, what)
        return found
    raise _refusal(list(found), found, what)


def check_present(array: Array, what: str) -> None:
    """Checks that no number is missing.

    Raises:
        ValueError: if one is; the message names the first row.
    """
    if array.dtype.kind not in "fcV" or not array.size:
        return
    with np.errstate(invalid="ignore"):  # which bfloat16 warns of
        if not np.isnan(np.min(array)):
            return
    rows = np.flatnonzero(np.isnan(array).reshape(len(array), -1).any(1))
    raise ValueError(_missing(what, rows.tolist()))


def own_array(given: Any, what: str) -> Array:
    """An array that the user has, as an array of numbers. NaN is left in it; the file of a `np.memmap` is not read.

    Args:
        given: an array, a sparse matrix or array of SciPy, or nested lists.
        what: what to call it in messages.

    Raises:
        TypeError: if it holds something else than numbers.
        ValueError: if values are masked or missing.
    """
    if is_sparse(given):
        given = given.toarray()
    if isinstance(given, np.ma.MaskedArray):
        masked = np.ma.getmaskarray(given)
        if masked.any():
            row = int(np.argwhere(masked)[0][0]) if masked.ndim else 0
            raise ValueError(
                f"{what} is masked in {int(masked.sum())} places, the first of which is in row {row}; say what stands "
                "there, with .filled(value), or leave these rows out"
            )
        given = given.data
    gaps = _gaps(given)
    if gaps:
        raise ValueError(f"{what} has {gaps} missing values; fill them, or leave their rows out")
    if isinstance(given, list | tuple):
        found = as_read(given) if given else np.zeros(0)
        array = found if isinstance(found, np.ndarray) else np.asarray(None)
    else:
        try:
            array = given if isinstance(given, np.ndarray) else np.asarray(given)
        except (ValueError, TypeError, RuntimeError):  # what cannot be an array
            array = np.asarray(None)
    if array.dtype.kind == "f" and type(given).__name__ == "DataFrame":
        _check_columns(given, what)
    if array.dtype.kind in "mM":
        raise TypeError(f"{what} {_no_number(array.dtype)}")
    if array.dtype.kind in "OUST" or array.dtype.names is not None:
        raise TypeError(f"{what} is {describe(given)}; encode text and objects as numbers")
    if isinstance(array, np.matrix):
        array = np.asarray(array)
    array = _native(array)
    _check_dtype(array, what)
    return array


def is_sparse(value: Any) -> bool:
    """Whether this is a sparse matrix or array of SciPy, which has not to be installed."""
    return type(value).__module__.startswith("scipy.sparse") and hasattr(value, "toarray")


def cast(found: Values, dtype: np.dtype[Any], what: str) -> Array:
    """The column in a dtype: to integers only where that changes no value, to floats by rounding, within their range.

    Raises:
        TypeError, ValueError: if it holds no numbers, values are missing, or one would be another; the message names
            the first.
    """
    if isinstance(found, list) and found and all(isinstance(value, decimal.Decimal) for value in found):
        whole = dtype.kind in "iu" and all(value == value.to_integral_value() for value in found if value.is_finite())
        found = as_read([int(value) if whole and value.is_finite() else float(value) for value in found])
    array = as_numbers(found, what)
    if array.dtype == dtype:
        return array
    with np.errstate(invalid="ignore", over="ignore"):
        made = array.real.astype(dtype) if array.dtype.kind == "c" and dtype.kind != "c" else array.astype(dtype)
    exact = dtype.kind in "iub" or (array.dtype.kind == "c" and dtype.kind != "c")
    changed = made != array if exact else np.isinf(made) & ~np.isinf(array)
    if changed.any():
        raise ValueError(f"{what} cannot be converted to {dtype}: it holds {array[changed].ravel()[0]}")
    return made


def as_one_dtype(arrays: Sequence[Array]) -> list[Array]:
    """The arrays as float64, if whole numbers in some and fractions in others are all that tells their dtypes apart and
    it holds them all; else as they are."""
    dtypes = {array.dtype for array in arrays}
    if np.dtype(np.float64) not in dtypes or not dtypes <= {np.dtype(np.int64), np.dtype(np.uint64), np.dtype(float)}:
        return list(arrays)
    if any(array.dtype.kind in "iu" and array.size and np.abs(array.astype(float)).max() >= _EXACT for array in arrays):
        return list(arrays)
    return [array.astype(np.float64, copy=False) for array in arrays]


def is_missing(value: Any) -> bool:
    """Whether a value stands for a missing one: None, NaN, pandas' NA or NaT, NumPy's NaT or masked."""
    if value is None or value is np.ma.masked or type(value).__name__ in ("NAType", "NaTType"):
        return True
    if isinstance(value, decimal.Decimal):
        return value.is_nan()
    if isinstance(value, float | np.inexact):
        return bool(value != value)
    return isinstance(value, np.datetime64 | np.timedelta64) and bool(np.isnat(value))


def _gaps(given: Any) -> int:
    """How many values are missing in what tells them from NaN: lists, and columns of pandas, Polars and Arrow."""
    if isinstance(given, list | tuple):
        return sum(is_missing(value) and not isinstance(value, float | np.floating) for value in given)
    if hasattr(given, "isna") and not isinstance(getattr(given, "dtype", None), np.dtype):
        return int(np.sum(given.isna()))
    count = getattr(given, "null_count", 0)
    count = count() if callable(count) else count
    return count if isinstance(count, int) else 0


def _check_columns(frame: Any, what: str) -> None:
    """Checks that whole numbers of a frame stay what they are among floats."""
    for name in frame.columns:
        column = np.asarray(frame[name])
        if column.dtype.kind in "iu" and np.abs(column.astype(np.float64)).max(initial=0) >= _EXACT:
            raise ValueError(
                f"{what} has whole numbers in its column {name!r} that float64, which the other columns make of them, "
                "does not hold; give each dtype an array of its own"
            )


def _native(array: Array) -> Array:
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _unmasked(values: np.ma.MaskedArray[Any, Any]) -> Values:
    if not np.ma.getmaskarray(values).any():
        return as_read(values.data)
    if values.dtype.kind in "fc":
        return _native(values.filled(np.nan))
    return _of_objects(values.tolist())


def _check_dtype(array: Array, what: str) -> None:
    if array.dtype.names is not None:
        raise TypeError(f"{what} holds structs with the fields {', '.join(array.dtype.names)}; {_APART}")
    try:
        as_dtype(array.dtype)
    except TypeError as error:
        raise TypeError(f"{what} holds {array.dtype}: {error}") from None


def _of_objects(values: list[Any]) -> Values:
    """An array of these values if they are numbers, or arrays or lists of numbers of one shape; else a list."""
    missing = [is_missing(value) for value in values]
    if any(missing):
        present = [value for value, gone in zip(values, missing, strict=True) if not gone]
        if present and all(isinstance(value, float | np.floating) for value in present):
            return np.array([np.nan if gone else value for value, gone in zip(values, missing, strict=True)])
        return [None if gone else value for value, gone in zip(values, missing, strict=True)]
    if all(isinstance(value, np.ndarray | list | tuple) for value in values):
        made = _stacked([_row(value) for value in values])
    else:
        made = _scalars(values)
    return values if made is None else made


def _scalars(values: list[Any]) -> Array | None:
    sorts = {_sort_of(value) for value in values}
    if sorts == {"date"} and all(isinstance(value, np.datetime64 | np.timedelta64) for value in values):
        return np.array(values)
    if len(sorts) != 1 or sorts & {"text", "date"} or not sorts <= {"bool", "number"}:
        return None
    if sorts == {"bool"} or any(isinstance(value, complex | np.complexfloating) for value in values):
        return np.array(values)
    if all(isinstance(value, np.generic) for value in values) and len({value.dtype for value in values}) == 1:
        return np.array(values)
    if any(isinstance(value, float | np.floating) for value in values):
        return np.array(values, np.float64) if all(map(_is_exact, values)) else None
    least, most = min(values), max(values)
    if least >= -(2**63) and most < 2**63:
        return np.array(values, np.int64)
    return np.array(values, np.uint64) if least >= 0 and most < 2**64 else None


def _is_exact(value: Any) -> bool:
    """Whether float64 holds it."""
    if isinstance(value, float | np.floating) or -_EXACT <= value <= _EXACT:
        return True
    try:
        return bool(int(float(value)) == int(value))
    except OverflowError:
        return False


def _row(value: Any) -> Array | None:
    """A row of a column as an array of numbers; None if it is something else."""
    if isinstance(value, np.ma.MaskedArray) and np.ma.getmaskarray(value).any():
        return None
    try:
        array = np.asarray(value.tolist() if isinstance(value, np.ndarray) and value.dtype == object else value)
    except (ValueError, TypeError, OverflowError):  # lists of unequal lengths
        return None
    if array.dtype.kind not in "biufcV":
        return None
    if array.dtype == np.float64 and not isinstance(value, np.ndarray) and array.size and np.abs(array).max() >= _EXACT:
        exact = _scalars(list(_leaves(value)))  # NumPy makes floats of integers beyond 63 bits, too
        return None if exact is None else exact.reshape(array.shape)
    return _native(array)


def _leaves(value: Any) -> Iterable[Any]:
    return [leaf for part in value for leaf in _leaves(part)] if isinstance(value, list | tuple) else [value]


def _stacked(rows: list[Array | None]) -> Array | None:
    """The rows as one array, if they are of one shape and, perhaps as `as_one_dtype`, of one dtype."""
    if not rows or any(row is None or row.shape != rows[0].shape for row in rows):  # type: ignore[union-attr]
        return None
    alike = as_one_dtype([row for row in rows if row is not None])
    return np.stack(alike) if len({row.dtype for row in alike}) == 1 else None


_APART = "leave it out of features, or give convert a function that makes numbers of a list of them"


def _no_number(dtype: np.dtype[Any]) -> str:
    since = "times" if dtype.kind == "m" else "(times - np.datetime64('2020-01-01'))"
    return (
        f"holds {dtype}, which is no number; make numbers of it by a function, such as lambda times: {since} / "
        "np.timedelta64(1, 'D'), or leave it out"
    )


def _missing(what: str, rows: list[int]) -> str:
    return (
        f"{what} has no value in {len(rows)} rows, the first of which is row {rows[0]}; fill it, or leave these rows "
        "out; a function in convert may do so: it gets NaN in place of a missing float, and None of anything else"
    )


def _refusal(values: list[Any], found: Values, what: str) -> Exception:
    """Why these values are no numbers."""
    if not values:
        return ValueError(f"{what} has no rows, so its type is unknown")
    rows = [row for row, value in enumerate(values) if _misses(value)]
    if rows:
        return ValueError(_missing(what, rows))
    if isinstance(found, np.ndarray):
        return TypeError(f"{what} {_no_number(found.dtype)}")
    sort = _sort_of(values[0])
    for row, value in enumerate(values):
        if _sort_of(value) != sort:
            return TypeError(
                f"{what} mixes types: row 0 is {describe(values[0])}, row {row} {describe(value)}; make them the same, "
                "or give convert a function that does"
            )
    if sort == "decimal":
        return TypeError(
            f"{what} holds decimals, such as {values[0]}; say what becomes of them with convert: a dtype such as "
            "'float64', which rounds to some 15 digits, or a function, which gets a list of decimals"
        )
    if sort == "sequence":
        return _uneven(values, what)
    if sort == "number":
        huge = next((value for value in values if not _is_exact(value) or abs(value) >= 2**63), values[0])
        return ValueError(
            f"{what} holds {huge}, which neither 64 bits hold nor, beside fractions, float64; give convert a function "
            "that makes smaller numbers of a list of them"
        )
    return TypeError(f"{what} holds {_PLURAL.get(sort, describe(values[0]) + ', which is no number')}; {_APART}")


_PLURAL = {"text": "text", "struct": "structs", "date": "dates or times"}


def _uneven(values: list[Any], what: str) -> Exception:
    rows = [_row(value) for value in values]
    for number, row in enumerate(rows):
        if row is None:
            return TypeError(
                f"{what} has in row {number} {_shown(values[number])}, which is no array of numbers; {_APART}"
            )
    first = rows[0]
    assert first is not None
    for number, row in enumerate(rows):
        assert row is not None
        if row.shape != first.shape:
            return ValueError(
                f"{what} has rows of different shapes: row 0 is {list(first.shape)}, row {number} {list(row.shape)}; "
                "pad or crop them to one, for example by a function in convert, which gets a list of them"
            )
    other = next((n for n, row in enumerate(rows) if row is not None and row.dtype != first.dtype), 0)
    return TypeError(
        f"{what} has rows of different types: row 0 is {describe(first)}, row {other} {describe(rows[other])}; give "
        "convert a function that makes them the same"
    )


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:59] + "…"


def _misses(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(map(_misses, value))
    if isinstance(value, np.ma.MaskedArray):
        return bool(np.ma.getmaskarray(value).any())
    if isinstance(value, np.ndarray):
        return value.dtype == object and any(map(_misses, value.ravel()))
    return is_missing(value)


def _sort_of(value: Any) -> str:
    """What may not be mixed in a column."""
    if isinstance(value, str | bytes):
        return "text"
    if isinstance(value, np.ndarray | list | tuple):
        return "sequence"
    if isinstance(value, bool | np.bool_):
        return "bool"
    if isinstance(value, np.datetime64 | np.timedelta64 | datetime.date | datetime.time | datetime.timedelta):
        return "date"
    if isinstance(value, decimal.Decimal):
        return "decimal"
    if isinstance(value, Mapping):
        return "struct"
    # np.timedelta64 is an np.signedinteger, and is a date above.
    return "number" if isinstance(value, int | float | complex | np.number) else type(value).__name__
