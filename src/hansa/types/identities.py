"""Who a client is: the one rule for ids that every reader and `ClientBatches` follow, and the number of each client.

- An id is a string, taken as it is, or an integer of any size. The ids of a population are all strings or all integers.
- Nobody is what is missing (None, NaN, pandas' NA and NaT, a masked value), a string without a character other than
  white space, and the integer -1. Where other negative integers are ids, -1 could be one, too, and is refused.
- Text of a file without types (CSV) is integers if every id is written as one; else strings. See `ids_of_text`.
- A float is the integer that it equals, below the size from which one float stands for several integers.
- Everything else is refused: other floats, bools, bytes, dates, tuples.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Collection, Mapping, Sequence, Set
from decimal import Decimal
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hansa.types.mismatch import describe

ClientId: TypeAlias = str | int
NOBODY = -1

_INT32 = np.iinfo(np.int32)
_INT64 = np.iinfo(np.int64)
_LARGEST_DECIMAL = 10**100
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,99}", re.ASCII)
_WHOLE_FLOAT = re.compile(r"(0|-?[1-9][0-9]{0,99})\.0", re.ASCII)
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?", re.ASCII)
_MISSING = frozenset(["NA", "N/A", "NaN", "nan", "null", "NULL", "None", "<NA>", "#N/A", "NaT"])
_RULE = "must hold integers or strings, the clients' ids"


def column(values: Any, what: str, first_row: int | None = 0) -> npt.NDArray[Any]:
    """The ids in a column of a table, or in a list: whose each row is.

    Args:
        values: an array or a list, with an entry for each row.
        what: what to call it in messages.
        first_row: the number of its first row, for messages; None if the rows are not in an order that the user knows.

    Returns:
        int64 [rows]; or objects [rows], where there are strings, or larger integers, or a None for a missing id. The
        integer -1 is still there; `clients_among` says whether it is nobody.

    Raises:
        TypeError: it holds something else, or both strings and integers; the message says in which row.
        ValueError: it holds floats that are no ids.
    """
    array = _array(values, what)
    if array.ndim != 1:
        raise TypeError(f"{what} {_RULE}, one for each row; found {describe(values)}")
    if array.dtype.kind in "iu":
        fits = array.dtype.kind == "i" or not array.size or array.max() <= _INT64.max
        return array.astype(np.int64 if fits else object, copy=False)
    if array.dtype.kind == "f":
        return _of_floats(array, what, first_row)
    if array.dtype.kind not in "OTU":
        raise TypeError(f"{what} {_RULE}; found {array.dtype}{_remedy(array.dtype.kind)}")
    return _of_objects(array.tolist(), what, first_row)


def ids_of_text(texts: list[str], what: str) -> list[ClientId | None]:
    """What the different ids are in a file that knows only text.

    They are integers if each is written as Python writes one, or a whole float (`5.0`, which tables make of integers
    where some are missing); else strings. Beside integers, what other programs write for a missing id is None.

    Raises:
        TypeError, ValueError: if all are numbers, but not all of one of these forms.
    """
    written = [text for text in texts if text.strip() and text not in _MISSING]
    if not written or not all(map(_NUMBER.fullmatch, written)):
        return list(texts)
    for form in (_INTEGER, _WHOLE_FLOAT):
        if all(map(form.fullmatch, written)):
            values = [int(text.removesuffix(".0")) for text in written]
            if form is _WHOLE_FLOAT:
                column([float(value) for value in values], what)
            known = dict(zip(written, values, strict=True))
            return [known.get(text) for text in texts]
    other = next((text for text in written if not text.lstrip("+-").isdigit()), None)
    if other is None:  # such as 007
        return list(texts)
    raise TypeError(
        f"{what} {_RULE}; found {other!r}, a number that is no integer, or is written in another way than the other "
        "ids; say column_types={'the column': 'str'} if ids are to be the strings that they are written as"
    )


def clients_among(found: Collection[ClientId], what: str) -> list[ClientId]:
    """The clients among the different ids of a column, in ascending order; without nobody.

    Raises:
        TypeError: if there are both strings and integers.
        ValueError: if it cannot be known whether -1 is a client.
    """
    kinds = {isinstance(client_id, str) for client_id in found}
    if len(kinds) > 1:
        text = next(client_id for client_id in found if isinstance(client_id, str))
        number = next(client_id for client_id in found if not isinstance(client_id, str))
        raise TypeError(f"{what} mixes strings and integers, such as {text!r} and {number!r}; make them all strings")
    ids = sorted(found)
    if kinds == {False} and NOBODY in found:
        if ids[0] != NOBODY:
            raise ValueError(
                f"{what} holds -1, which stands for nobody, and other negative ids, such as {ids[0]}; write None "
                "instead of -1 if it is nobody, or make all ids strings if it is a client"
            )
        ids.remove(NOBODY)
    return ids


def distinct(client_ids: Any, name: str = "client_ids") -> Sequence[ClientId]:
    """The ids of a population, given as the argument `name`; those of a range are not gone through.

    Raises:
        TypeError, ValueError: if one is no id, or nobody, or there twice, or there are none.
    """
    if isinstance(client_ids, str | bytes | Mapping) or not (
        hasattr(client_ids, "__len__") and hasattr(client_ids, "__getitem__")
    ):
        raise TypeError(f"{name} must be a sequence of ids, such as a list; found {describe(client_ids)}")
    if not len(client_ids):
        raise ValueError(f"{name} is empty; a population has at least one client")
    if isinstance(client_ids, range):
        if NOBODY in client_ids:
            raise ValueError(f"{name} has -1, which stands for nobody; number the clients from 0")
        return client_ids
    found = column(client_ids, name)
    ids: list[ClientId] = found.tolist()
    different = set(ids)
    _check_somebody(ids, different, client_ids, name)
    if len(different) < len(ids):
        seen: set[ClientId] = set()
        twice = next(client_id for client_id in ids if client_id in seen or seen.add(client_id))  # type: ignore[func-returns-value]
        raise ValueError(f"{name} names {twice!r} twice; every client has an id of its own")
    return ids


def asked_for(client_ids: Any, name: str) -> npt.NDArray[Any]:
    """Ids that are given by hand as the argument `name`, as an array [clients]; none is nobody's.

    Raises:
        TypeError, ValueError: if it is no list of ids, or one is no id, or nobody's.
    """
    found = column(client_ids, name)
    ids = found.tolist()
    _check_somebody(ids, set(ids), client_ids, name)
    return found


def _check_somebody(ids: Sequence[Any], different: set[Any], given: Sequence[Any], name: str) -> None:
    """Checks that no id is missing or -1."""
    if None in different or NOBODY in different:
        place = next(place for place, client_id in enumerate(ids) if client_id in (None, NOBODY))
        raise ValueError(
            f"entry {place} of {name} is {list(given)[place]!r}, which stands for nobody; every client has an id"
        )


def array(client_ids: Sequence[ClientId]) -> npt.NDArray[Any]:
    """Ids as an array [clients]: int64, or objects where they are strings or larger integers."""
    if isinstance(client_ids, range):
        return np.arange(client_ids.start, client_ids.stop, client_ids.step)
    return column(list(client_ids), "client_ids")


def numbers(client_ids: Sequence[ClientId]) -> npt.NDArray[np.int32]:
    """The number of each client, which makes its random draws its own; int32 [clients], all different.

    An integer of 32 bits is its own number. The number of another id is a checksum of it, of 31 bits. So it is a
    function of the id: it does not depend on where the client stands, nor on who else there is. The one exception is
    two ids of the same checksum in one population (among a million ids, some hundred pairs): there the second in
    ascending order has another number, and this depends on both being there.
    """
    if isinstance(client_ids, range):
        bounds = (client_ids[0], client_ids[-1]) if len(client_ids) else (0, 0)
        if _INT32.min <= min(bounds) and max(bounds) <= _INT32.max:
            return np.arange(client_ids.start, client_ids.stop, client_ids.step, dtype=np.int32)
    ids = list(client_ids)
    own = np.fromiter((not isinstance(i, str) and _INT32.min <= i <= _INT32.max for i in ids), np.bool_, len(ids))
    made = np.fromiter((i if mine else _checksum(i) for i, mine in zip(ids, own, strict=True)), np.int32, len(ids))
    values, counts = np.unique(made, return_counts=True)
    if len(values) == len(made):
        return made
    taken = set(values.tolist())
    for value in values[counts > 1].tolist():
        sharing = np.flatnonzero(made == value).tolist()
        for place in sorted(sharing, key=lambda place: (not own[place], ids[place]))[1:]:
            made[place] = _free(ids[place], taken)
    return made


def number_among(client_id: ClientId, taken: set[int]) -> int:
    """The number of a client that comes to others, whose numbers are taken, and which is taken after that.

    It is that of `numbers`, but that of two ids of the same checksum the one that comes later has another number.
    """
    own = int(numbers([client_id])[0])
    if own in taken:
        return _free(client_id, taken)
    taken.add(own)
    return own


def of_copies(chosen: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """The numbers of a cohort in which a client may be several times: each further copy has another number.

    Args:
        chosen: int32 [cohort], the number of each entry's client.

    Returns:
        int32 [cohort], all different. That of a copy is made of the client's number and how often it was there before.
    """
    if len(np.unique(chosen)) == len(chosen):
        return chosen
    made, taken = chosen.copy(), set(chosen.tolist())
    before = copies(chosen)
    for place in np.flatnonzero(before).tolist():
        made[place] = _free(int(chosen[place]), taken, int(before[place]))
    return made


def copies(chosen: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """For each entry, how often the same one was there before; int64 [entries]."""
    order = np.argsort(chosen, kind="stable")
    ordered = chosen[order]
    first = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))[: len(chosen)]
    counts = np.diff(np.concatenate([first, [len(chosen)]]))
    before = np.empty(len(chosen), np.int64)
    before[order] = np.arange(len(chosen)) - np.repeat(first, counts)
    return before


def _checksum(client_id: ClientId, attempt: int = 0) -> int:
    text = str(client_id) if not attempt else f"{client_id}\0{attempt}"
    return zlib.crc32(text.encode("utf-8", "surrogatepass")) & _INT32.max


def _free(client_id: ClientId, taken: set[int], attempt: int = 1) -> int:
    """A number for a client whose own one is taken, or for a copy of it."""
    while (number := _checksum(client_id, attempt)) in taken:
        attempt += 1
    taken.add(number)
    return number


def _array(values: Any, what: str) -> npt.NDArray[Any]:
    """The values as an array of one axis, without making one type of several."""
    if isinstance(values, np.ma.MaskedArray):
        objects = np.ma.getdata(values).astype(object)
        objects[np.ma.getmaskarray(values)] = None
        return objects
    if isinstance(getattr(values, "dtype", None), np.dtype):
        return np.asarray(values)
    if isinstance(values, str | bytes | Mapping | Set) or not hasattr(values, "__len__"):
        raise TypeError(f"{what} {_RULE}, one for each row; found {describe(values)}")
    return _objects(list(values))


def _objects(listed: list[Any]) -> npt.NDArray[Any]:
    objects = np.empty(len(listed), object)
    if set(map(type, listed)) <= {str, int, type(None)}:
        objects[:] = listed
        return objects
    for row, value in enumerate(listed):  # NumPy would look into lists
        objects[row] = value
    return objects


def _of_floats(array: npt.NDArray[Any], what: str, first_row: int | None) -> npt.NDArray[Any]:
    missing = np.isnan(array)
    with np.errstate(invalid="ignore"):
        wrong = ~missing & ((np.mod(array, 1) != 0) | (np.abs(array) >= _beyond(array.dtype)))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        _read(array[row].item(), what, _row(first_row, row), _beyond(array.dtype))
    if not missing.any():
        return array.astype(np.int64)
    owners = np.where(missing, 0, array).astype(np.int64).astype(object)
    owners[missing] = None
    return owners


def _beyond(dtype: Any) -> int:
    """From here on, one float of this dtype stands for several integers."""
    bits: int = min(int(np.finfo(dtype).nmant) + 1, 62)
    return 1 << bits


def _of_objects(listed: list[Any], what: str, first_row: int | None) -> npt.NDArray[Any]:
    kinds = set(map(type, listed))
    if kinds <= {str, type(None)}:
        return _objects([owner if owner and owner.strip() else None for owner in listed])
    if kinds != {int}:
        listed = [_read(value, what, _row(first_row, row)) for row, value in enumerate(listed)]
        texts = [isinstance(owner, str) for owner in listed if owner is not None]
        if any(texts) and not all(texts):
            rows = [row for row, owner in enumerate(listed) if owner is not None]
            text, number = rows[texts.index(True)], rows[texts.index(False)]
            raise TypeError(
                f"{what} {_RULE}, and not both; {_row(first_row, text)} holds {describe(listed[text])}, "
                f"{_row(first_row, number)} {describe(listed[number])}; make them all strings"
            )
        if any(texts) or None in listed:
            return _objects(listed)
    if not listed or (_INT64.min <= min(listed) and max(listed) <= _INT64.max):
        return np.array(listed, np.int64)
    return _objects(listed)


def _row(first_row: int | None, row: int) -> str:
    return "a row" if first_row is None else f"row {first_row + row}"


def _read(value: Any, what: str, row: str, beyond: int | None = None) -> ClientId | None:
    """One id; None for nobody's. From `beyond` on, a float stands for several integers."""
    if isinstance(value, np.ndarray) and not value.ndim and value is not np.ma.masked:
        value = value[()]
    missing = value is None or value is np.ma.masked or type(value).__name__ in ("NAType", "NaTType")
    if missing or (isinstance(value, np.datetime64) and np.isnat(value)):
        return None
    if isinstance(value, str):
        return str.__str__(value) if value.strip() else None
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return int(value)
    if isinstance(value, float | np.floating | Decimal):
        if value.is_nan() if isinstance(value, Decimal) else value != value:
            return None
        if isinstance(value, Decimal):
            beyond, hint = _LARGEST_DECIMAL, "make the ids strings"
        else:
            beyond = beyond or _beyond(type(value))
            hint = f"from {beyond} on one float stands for several integers: read the ids as integers or as text"
        if -beyond < value < beyond and value == int(value):
            return int(value)
        if -beyond < value < beyond or not np.isfinite(float(value)):
            raise TypeError(f"{what} {_RULE}; {row} holds {value!r}, no whole number; make the ids strings")
        raise ValueError(f"{what} {_RULE}; {row} holds {value!r}; {hint}")
    kind = "S" if isinstance(value, bytes | bytearray) else "b" if isinstance(value, bool | np.bool_) else ""
    raise TypeError(f"{what} {_RULE}; {row} holds {describe(value)}{_remedy(kind)}")


def _remedy(kind: str) -> str:
    return {
        "S": "; decode the bytes to strings",
        "b": "; write a string or an integer for each of the two",
        "M": "; write dates as strings",
    }.get(kind, "; make strings of them")
