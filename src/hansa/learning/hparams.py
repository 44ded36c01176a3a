"""Hyper-parameters: numbers that an algorithm names, with their bounds, in the state of its process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from hansa._tracebacks import boundaries
from hansa.types import Struct
from hansa.types.names import unknown


@boundaries
@dataclass(frozen=True)
class Hparam:
    """A hyper-parameter: the number that it is at first, and bounds, which `with_hparams` of a process checks, too.

    Args:
        value: the number: an integer stays one.
        above, least, below, most: what it must be above, at least, below, at most; by default any finite number will
            do.

    Examples:
        >>> finalizer = hansa.learning.Finalizer(
        ...     lambda state, total, num_clients: state._replace(
        ...         model=hansa.learning.arithmetic.moved(state.model, total, state.hparams.rate)
        ...     ),
        ...     hparams={"rate": hansa.learning.Hparam(1.0, above=0)},
        ... )
        >>> process = hansa.learning.build_process(
        ...     model, client_work=hansa.learning.local_training(), finalizer=finalizer
        ... )
        >>> process.with_hparams(process.initialize(), rate=-1)
        Traceback (most recent call last):
        ValueError: rate must be a number above 0, found -1
    """

    value: float
    above: float | None = None
    least: float | None = None
    below: float | None = None
    most: float | None = None

    def checked(self, name: str) -> float:
        """The number, if it is one within the bounds.

        Raises:
            TypeError: if it is no number.
            ValueError: if it is not finite, or out of the bounds; the message says which.

        Examples:
            >>> hansa.learning.Hparam(0.9, least=0, below=1).checked("momentum")
            0.9
        """
        value = self.value
        if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.number):
            raise TypeError(f"{name} must be a number, found {value!r}")
        bounds = {"above": self.above, "at least": self.least, "below": self.below, "at most": self.most}
        said = " and ".join(f"{word} {bound:g}" for word, bound in bounds.items() if bound is not None)
        if not np.isfinite(value):
            raise ValueError(f"{name} must be a finite number{f' {said}' if said else ''}, found {value!r}")
        if not (
            (self.above is None or value > self.above)
            and (self.least is None or value >= self.least)
            and (self.below is None or value < self.below)
            and (self.most is None or value <= self.most)
        ):
            raise ValueError(f"{name} must be a number {said}, found {value!r}")
        return value


Hparams: TypeAlias = Mapping[str, float | Hparam]
"""Hyper-parameters by name: numbers, or such with bounds."""


def checked_hparams(hparams: Hparams | None) -> dict[str, Hparam]:
    """Hyper-parameters with their bounds, each within them.

    Raises:
        TypeError: if one is no number.
        ValueError: if one is not finite, or out of its bounds.
    """
    found = {name: each if isinstance(each, Hparam) else Hparam(each) for name, each in (hparams or {}).items()}
    for name, each in found.items():
        each.checked(name)
    return found


def hparams_of(hparams: Hparams | None) -> Struct:
    """The numbers of hyper-parameters as float32 scalars; integers are int32.

    Raises:
        TypeError, ValueError: as `checked_hparams`.
    """
    found = []
    for name, each in checked_hparams(hparams).items():
        array = np.asarray(each.value)
        found.append((name, array.astype(np.float32 if array.dtype.kind == "f" else np.int32)[()]))
    return Struct(found)


def changed_hparams(known: Struct, bounds: Mapping[str, Hparam], new: Mapping[str, Any]) -> Struct:
    """Hyper-parameters with some others in their places, each of the dtype that it had, and within its bounds.

    Raises:
        ValueError: if there is none of a name, or a number is not finite, or out of its bounds.
        TypeError: if one is no number of the dtype.
    """
    for name in new:
        if name not in known._fields:
            have = unknown(name, known._fields).replace("field", "hyper-parameter")
            raise ValueError(have if len(known) else f"there is no hyper-parameter {name!r}, as this process has none")
    for name, value in new.items():
        replace(bounds.get(name, Hparam(0)), value=value).checked(name)
        if known[name].dtype.kind == "i" and not float(value).is_integer():
            raise TypeError(f"the hyper-parameter {name!r} is an integer, found {value!r}")
    return known._replace(**{name: np.asarray(value, known[name].dtype)[()] for name, value in new.items()})
