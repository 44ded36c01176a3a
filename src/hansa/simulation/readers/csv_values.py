"""What the text in a column of a CSV file is: the type that it looks like, and its values in a type.

| type | looks like | missing |
|---|---|---|
| `int64` and other integers | `-12` | one of `MISSING`, marked apart |
| `bool` | `true`, `True`, `TRUE`, `1`, and `false` … | likewise |
| `float64`, `float32` | `1.5`, `1e-3`, `inf` | one of `MISSING`, NaN |
| `date`, `time` | `2024-01-31`, `2024-01-31 12:30:00.5`, perhaps with a zone | one of `MISSING`, NaT |
| `str` | everything else | nothing is |

White space around numbers is let be. A number is written in ASCII without `_`, an integer without `+`.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

MISSING = frozenset(
    ["", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "N/A", "NA", "NULL"],
) | {"NaN", "n/a", "nan", "null"}
_BOOLS = {
    "true": True,
    "True": True,
    "TRUE": True,
    "1": True,
    "false": False,
    "False": False,
    "FALSE": False,
    "0": False,
}
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d(?:[ T]\d\d(?::\d\d(?::\d\d(\.\d{1,9})?)?)?)?)((?<!-\d\d)Z|(?<!-\d\d)([+-])(\d\d):?(\d\d)?)?",
    re.ASCII,
)
_NANOSECOND_YEARS = ("1678", "2262")
STORED = {"date": "datetime64[D]", "time": "datetime64[ns]", "seconds": "datetime64[s]", "str": "object"}
"""By type, the dtype of its values, where it is not called the same."""


@dataclass(frozen=True)
class Cells:
    """Values of a column.

    Attributes:
        values: [rows], of the type's dtype; Python's strings where it is text.
        missing: bool [rows]; None where nothing is missing that NaN or NaT does not stand for.
    """

    values: npt.NDArray[Any]
    missing: npt.NDArray[np.bool_] | None = None

    def take(self, rows: Any) -> Cells:
        """Those of some rows."""
        return Cells(self.values[rows], None if self.missing is None else self.missing[rows])

    def read(self) -> Any:
        """The values as `columns.Selection` takes them: an array, or a list where some are missing or text."""
        if self.missing is None or not self.missing.any():
            return self.values.tolist() if self.values.dtype.hasobject else self.values
        return [None if gone else value for value, gone in zip(self.values.tolist(), self.missing, strict=True)]


def joined(parts: Sequence[Cells], kind: str) -> Cells:
    """The values of all these, one after another."""
    values = np.concatenate([np.empty(0, stored_dtype(kind)), *(part.values for part in parts)])
    if all(part.missing is None for part in parts):
        return Cells(values)
    masks = [np.zeros(len(part.values), np.bool_) if part.missing is None else part.missing for part in parts]
    return Cells(values, np.concatenate(masks))


def stored_dtype(kind: str) -> np.dtype[Any]:
    """The dtype of a type's values."""
    return np.dtype(STORED.get(kind, kind))


def looks_like(texts: Sequence[str]) -> str:
    """The type of the values that these are; of nothing but missing ones, float64."""
    present = texts if MISSING.isdisjoint(texts) else [text for text in texts if text not in MISSING]
    for kind in ("int64", "bool", "date", "seconds", "time", "float64"):
        if not present:
            return "float64"
        try:
            _present(present, kind)
        except (ValueError, OverflowError):
            continue
        return kind
    return "str"


def parsed(texts: Sequence[str], kind: str) -> Cells:
    """The values in a type.

    Raises:
        NotOfType: one is of another type.
    """
    if kind == "str":
        return Cells(_objects(texts))
    with contextlib.suppress(ValueError, OverflowError):
        return Cells(_present(texts, kind))
    missing = np.fromiter((text in MISSING for text in texts), np.bool_, len(texts))
    values = np.zeros(len(texts), stored_dtype(kind))
    try:
        values[~missing] = _present([text for text in texts if text not in MISSING], kind)
    except (ValueError, OverflowError):
        raise NotOfType(next(row for row, text in enumerate(texts) if not _is(text, kind))) from None
    if values.dtype.kind in "fM":
        values[missing] = np.nan if values.dtype.kind == "f" else np.array("NaT", values.dtype)
        return Cells(values)
    return Cells(values, missing)


class NotOfType(ValueError):
    """A value is of another type than its column's; `row` says which."""

    def __init__(self, row: int) -> None:
        super().__init__(row)
        self.row = row


def _is(text: str, kind: str) -> bool:
    try:
        return text in MISSING or len(_present([text], kind)) == 1
    except (ValueError, OverflowError):
        return False


def _present(texts: Sequence[str], kind: str) -> npt.NDArray[Any]:
    """Values of which none is missing.

    Raises:
        ValueError, OverflowError: one is of another type.
    """
    if kind == "bool":
        try:
            return np.fromiter(map(_BOOLS.__getitem__, map(str.strip, texts)), np.bool_, len(texts))
        except KeyError:
            raise ValueError from None
    if kind in STORED:
        return _times(texts, kind)
    whole = "".join(texts)
    dtype = np.dtype(kind)
    if not whole.isascii() or "_" in whole or ("+" in whole and dtype.kind != "f"):
        raise ValueError
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            return np.fromiter(map(float, texts), np.float64, len(texts)).astype(dtype)
    if dtype.itemsize == 8:
        return np.fromiter(map(int, texts), dtype, len(texts))
    return _narrow(np.fromiter(map(int, texts), np.int64, len(texts)), dtype)


def _narrow(values: npt.NDArray[np.int64], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    made = values.astype(dtype)
    if (made != values).any():
        raise OverflowError
    return made


def _times(texts: Sequence[str], kind: str) -> npt.NDArray[Any]:
    if kind == "date":
        if not all(map(_DATE.fullmatch, texts)):
            raise ValueError
        return np.array(texts, "datetime64[D]")
    found = [_TIME.fullmatch(text) for text in texts]
    zones = {match is None or match[3] is not None for match in found}
    if None in found or len(zones) > 1:
        raise ValueError
    matches = [match for match in found if match is not None]
    if kind == "seconds" and any(match[2] for match in matches):
        raise ValueError
    written = [match[1] for match in matches]
    if kind == "time" and not all(_NANOSECOND_YEARS[0] <= text[:4] < _NANOSECOND_YEARS[1] for text in written):
        raise ValueError
    minutes = [int(f"{match[4]}1") * (int(match[5]) * 60 + int(match[6] or 0)) if match[4] else 0 for match in matches]
    times: npt.NDArray[Any] = np.array(written, STORED[kind]) - np.array(minutes, "timedelta64[m]")
    return times


def _objects(texts: Sequence[str]) -> npt.NDArray[Any]:
    made = np.empty(len(texts), object)
    made[:] = texts
    return made
