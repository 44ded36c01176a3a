"""Whether numbers of 64 bits are the same in 32 bits, in which JAX computes unless it is told otherwise.

Integers must be in the range of 32 bits. Floats are rounded, as everybody expects of float32 (0.1 is not exact in 64
bits either), but only where that is no more than rounding: float32 tells whole numbers apart up to 2**24, so a larger
number that it does not hold exactly (a time in seconds, an id) is refused, and so is one that would become 0 or
infinity.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

_WHOLE = 2.0**24
_AT_ONCE = 1 << 18
"""Elements that are looked at in one go, so that little memory is used."""

HALVES = {"int64": "int32", "uint64": "uint32", "float64": "float32", "complex128": "complex64"}
"""What 32-bit JAX computes with in place of 64-bit dtypes."""


def misfits(array: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """The rows (positions of the first axis) with a number that is not the same in 32 bits, int64 [rows], ascending."""
    none = np.zeros(0, np.int64)
    if array.dtype.name not in HALVES or not array.size:
        return none
    if array.dtype.kind in "iu":
        limits = np.iinfo(HALVES[array.dtype.name])
        if limits.min <= array.min() and array.max() <= limits.max:
            return none
    step = max(1, _AT_ONCE // (array.size // len(array)))
    found = [none]
    for first in range(0, len(array), step):
        unfit = _unfit(array[first : first + step])
        if unfit.any():
            found.append(first + np.flatnonzero(unfit.reshape(len(unfit), -1).any(1)))
    return np.concatenate(found)


def why(row: Any) -> str:
    """What of a row, an array or a scalar, does not fit, and what to write."""
    values = np.atleast_1d(row)
    value = values[_unfit(values)][0]
    name = HALVES[values.dtype.name]
    if values.dtype.kind in "iu":
        limits = np.iinfo(name)
        return (
            f"holds {value}, but the model computes in 32 bits, and {name} holds {limits.min} to {limits.max}; number "
            "these values anew, from 0, or make several smaller numbers of each"
        )
    with np.errstate(all="ignore"):
        rounded = value.astype(name)
    return (
        f"holds {value}, but the model computes in 32 bits, in which that is {rounded}; subtract a constant first, "
        "such as the time at which all begins, or scale the values; where rounding is meant, convert them with "
        f".astype({name!r})"
    )


def _unfit(values: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    if values.dtype.kind in "iu":
        limits = np.iinfo(HALVES[values.dtype.name])
        return (values < limits.min) | (values > limits.max)
    if values.dtype.kind == "c":
        return _unfit(values.real) | _unfit(values.imag)
    with np.errstate(all="ignore"):
        rounded = values.astype(np.float32)
    unfit: npt.NDArray[np.bool_] = (rounded != values) & ((np.abs(values) >= _WHOLE) | (rounded == 0))
    return unfit
