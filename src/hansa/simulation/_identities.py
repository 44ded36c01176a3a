"""Where each client of a population stands, and whose each example is. What an id may be: `hansa.types.identities`."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from hansa._warnings import warn
from hansa.types.identities import ClientId, clients_among, column
from hansa.types.mismatch import describe

_COMPARED = 10_000


class IdentityIndex:
    """The positions of identities, found without going through those of a range."""

    def __init__(self, client_ids: Sequence[ClientId]) -> None:
        self._ids = client_ids

    @cached_property
    def _places(self) -> dict[ClientId, int]:
        return {client_id: position for position, client_id in enumerate(self._ids)}

    def __getitem__(self, client_id: Any) -> int:
        ids = self._ids
        place = self._place(client_id)
        if place is not None:
            return place
        twin = str(client_id) if isinstance(client_id, int) else int(client_id) if _is_integer(client_id) else None
        if twin is not None and self._place(twin) is not None:
            hint = f"did you mean {twin!r}, {'a string' if isinstance(twin, str) else 'an integer'}?"
        else:
            names = [other for other in ids[:_COMPARED] if isinstance(other, str)]
            nearest = difflib.get_close_matches(client_id, names, n=1) if isinstance(client_id, str) else []
            known = f"the {len(ids)} clients are {ids[0]!r} to {ids[-1]!r}" if len(ids) > 1 else f"it is {ids[0]!r}"
            hint = f"did you mean {nearest[0]!r}?" if nearest else known
        raise KeyError(f"there is no client {client_id!r}; {hint}")

    def _place(self, client_id: Any) -> int | None:
        if isinstance(client_id, bool | np.bool_) or not isinstance(client_id, str | int | np.integer):
            return None
        if isinstance(self._ids, range):
            return (
                self._ids.index(int(client_id)) if not isinstance(client_id, str) and client_id in self._ids else None
            )
        return self._places.get(client_id)  # type: ignore[arg-type]  # NumPy's integers are found as Python's


def _is_integer(client_id: Any) -> bool:
    return isinstance(client_id, str) and client_id.isascii() and client_id.removeprefix("-").isdigit()


@dataclass(frozen=True)
class Owners:
    """Whose each example is.

    Attributes:
        client_ids: who has examples, in ascending order.
        index: int64 [examples], the client's position among these; -1 for nobody.
        missing: how many of those of nobody have no id at all, and not -1.
    """

    client_ids: list[ClientId]
    index: npt.NDArray[np.int64]
    missing: int


def owners_of(client_of: Any, size: int, what: str = "client_of") -> Owners:
    """Whose each of `size` examples is.

    Raises:
        TypeError, ValueError: if `client_of` does not say so for each, or holds something that is no id.
    """
    shape = np.shape(client_of) if hasattr(client_of, "shape") or np.isscalar(client_of) else (_length(client_of),)
    if shape != (size,):
        raise ValueError(
            f"{what} must say for each of the {size} examples whose it is, an array [{size}]; found "
            + (f"one of shape {list(shape)}" if shape and None not in shape else describe(client_of))
            + _dealing(client_of, size)
        )
    owners = column(client_of, what)
    if owners.dtype.kind == "i":
        values, coded = np.unique(owners, return_inverse=True)
        found: list[ClientId] = values.tolist()
    else:
        listed = owners.tolist()
        found = [owner for owner in dict.fromkeys(listed) if owner is not None]
        codes: dict[ClientId | None, int] = {owner: code for code, owner in enumerate(found)}
        codes[None] = len(found)
        coded = np.fromiter(map(codes.__getitem__, listed), np.int64, size)
    client_ids = clients_among(found, what)
    places = {client_id: place for place, client_id in enumerate(client_ids)}
    place_of_code = np.array([*(places.get(owner, -1) for owner in found), -1], np.int64)
    return Owners(client_ids, place_of_code[coded], int(np.count_nonzero(coded == len(found))))


def say_left_out(count: int, size: int, first: int | None, what: str) -> None:
    """Warns of rows that are nobody's, if there are any; `first` is the first of them, where it has a number."""
    if count:
        place = "" if first is None else f", the first of which is row {first}"
        warn(
            f"{what} has no client for {count} of {size} rows{place}; these are nobody's and are left out. Give them "
            "an id if they are somebody's, or drop them before to be rid of this warning",
        )


def _dealing(value: Any, size: int) -> str:
    """What deals out examples, where a number of clients is given in place of whose they are."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        return ""
    return f"; hansa.simulation.partition_iid({size}, clients={value}, seed=0) deals them out"


def _length(value: Any) -> int | None:
    return len(value) if hasattr(value, "__len__") else None
