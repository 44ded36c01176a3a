"""Checks of the arguments that populations, partitioners and samplers share."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hansa.types.mismatch import describe


def integer(name: str, value: Any, least: int) -> int:
    """The argument `name` as an int of at least `least`.

    Raises:
        TypeError: if it is no integer.
        ValueError: if it is less.
    """
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} must be an integer of {least} or more; found {describe(value)}")
    if value < least:
        raise ValueError(f"{name} must be an integer of {least} or more; found {value}")
    return int(value)


def number(name: str, value: Any, above: float, most: float = np.inf, *, inclusive: bool = False) -> float:
    """The argument `name` as a float more than `above` (or equal to it, if `inclusive`) and at most `most`."""
    least = f"{above:g} or more" if inclusive else f"more than {above:g}"
    wanted = f"{name} must be a number, {least}" + ("" if most == np.inf else f" and at most {most:g}")
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(f"{wanted}; found {describe(value)}")
    if not (above <= value if inclusive else above < value) or not value <= most or not np.isfinite(value):
        raise ValueError(f"{wanted}; found {value}")
    return float(value)


def fraction(name: str, value: Any) -> float:
    """The argument `name` as a float between 0 and 1, neither of them."""
    share = number(name, value, 0.0, 1.0)
    if share == 1:
        raise ValueError(f"{name} must be a fraction, less than 1; found {value}")
    return share


def counts(sizes: Any, clients: int) -> npt.NDArray[np.int64]:
    """The argument `sizes`, int64 [clients].

    Raises:
        ValueError: if it is not one number of examples for each client.
    """
    known = np.asarray(sizes)
    if known.shape != (clients,) or known.dtype.kind not in "iu" or (known < 0).any():
        raise ValueError(
            f"sizes must be one number of examples for each of the {clients} clients, none negative; found "
            f"{describe(known)}"
        )
    return known.astype(np.int64)


def cohort_size_of(value: Any, clients: int, *, name: str = "cohort_size", replace: bool = False) -> int:
    """How many clients a cohort size is: an integer, or a fraction of the population as a float, rounded, but not to 0.

    Args:
        value: 10 clients, or a tenth of them, 0.1; 1.0 is all, and 1 is one.
        clients: how many there are.
        name: the argument's name.
        replace: whether there may be more in a cohort than there are.

    Raises:
        TypeError, ValueError: if it is neither.
    """
    if isinstance(value, float | np.floating):
        share = float(value)
        if not 0 < share <= 1:
            whole = f"; for {share:.0f} clients write {share:.0f}" if share >= 1 and share.is_integer() else ""
            raise ValueError(
                f"{name} is a number of clients as an integer, or a fraction of them as a float of more than 0 and at "
                f"most 1.0; found {value!r}{whole}"
            )
        return min(clients, max(1, int(share * clients + 0.5)))
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer):
        raise TypeError(
            f"{name} must be a number of clients, such as 10, or a fraction of them, such as 0.1; found "
            f"{describe(value)}"
        )
    if value < 1 or (value > clients and not replace):
        most = "1 or more" if replace else f"from 1 to the number of clients, {clients}"
        raise ValueError(f"{name} must be {most}; found {value}")
    return int(value)


def positions_within(name: str, value: Any, clients: int, replace: bool = False) -> npt.NDArray[np.int64]:
    """The argument `name` as positions of clients, different ones unless `replace`; int64 [cohort].

    Raises:
        TypeError: if they are no integers.
        IndexError: if one is not that of a client.
        ValueError: if one is there twice.
    """
    found = np.asarray(value)
    if not found.size and found.ndim == 1:
        return np.zeros(0, np.int64)
    if found.ndim != 1 or found.dtype.kind not in "iu":
        raise TypeError(
            f"{name} must be a list of positions, integers from 0 to {clients - 1}; found {describe(value)}; "
            "the population's positions([…]) gives those of identities"
        )
    chosen = found.astype(np.int64)
    outside = chosen[(chosen < 0) | (chosen >= clients)]
    if outside.size:
        raise IndexError(f"{name} has the position {outside[0]}, but there are {clients} clients, 0 to {clients - 1}")
    values, counts = np.unique(chosen, return_counts=True)
    if (counts > 1).any() and not replace:
        raise ValueError(
            f"{name} has the position {values[counts > 1][0]} twice; a client takes part in a round once, unless "
            "replace=True says that copies of it may"
        )
    return chosen


def function(name: str, fn: Any) -> Any:
    """A function of one client's arrays, or the error about what is none."""
    if not callable(fn):
        raise TypeError(f"{name} takes a function of one client's arrays; found {describe(fn)}")
    return fn
