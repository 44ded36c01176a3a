"""Who the clients are: their identities, where each stands, and whose each example is."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Hashable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from hansa.types.mismatch import describe

_COMPARED = 10_000


class IdentityIndex:
    """The positions of identities, found without going through those of a range."""

    def __init__(self, client_ids: Sequence[Hashable]) -> None:
        self._ids = client_ids

    @cached_property
    def _places(self) -> dict[Hashable, int]:
        return {client_id: position for position, client_id in enumerate(self._ids)}

    def __getitem__(self, client_id: Any) -> int:
        ids = self._ids
        if isinstance(ids, range):
            if isinstance(client_id, int | np.integer) and client_id in ids:
                return ids.index(int(client_id))
        elif isinstance(client_id, Hashable) and client_id in self._places:
            return self._places[client_id]
        names = [other for other in ids[:_COMPARED] if isinstance(other, str)]
        nearest = difflib.get_close_matches(client_id, names, n=1) if isinstance(client_id, str) else []
        known = f"the {len(ids)} clients are {ids[0]!r} to {ids[-1]!r}" if len(ids) > 1 else f"the client is {ids[0]!r}"
        hint = f"did you mean {nearest[0]!r}?" if nearest else known
        raise KeyError(f"there is no client {client_id!r}; {hint}")


def owners_of(client_of: Any, size: int) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
    """Whose each example is, as integers or strings, and whether it is anybody's."""
    owners = np.asarray(client_of)
    if owners.shape != (size,):
        raise ValueError(
            f"client_of must say for each of the {size} examples whose it is, an array [{size}]; found one of shape "
            f"{list(owners.shape)}"
        )
    if owners.dtype.kind in "iu":
        return owners, owners >= 0
    if owners.dtype.kind == "U":
        return owners, np.ones(size, np.bool_)
    if owners.dtype.kind in "OT":
        owned = np.array([owner is not None for owner in owners], np.bool_)
        kinds = {type(owner) for owner in owners[owned]}
        if kinds <= {str, np.str_}:
            return owners, owned
        if all(issubclass(kind, int | np.integer) and kind is not bool for kind in kinds):
            numbers = np.array([-1 if owner is None else owner for owner in owners], np.int64)
            return numbers, numbers >= 0
        raise TypeError(
            f"client_of must hold all integers or all strings, with None for nobody; found elements of the types "
            f"{', '.join(sorted(kind.__name__ for kind in kinds))}"
        )
    raise TypeError(
        f"client_of must be integers or strings, one per example, with -1 or None for nobody; found {describe(owners)}"
    )


def unique(client_ids: Any, name: str = "client_ids") -> Sequence[Hashable]:
    """The identities, given as the argument `name`, as a sequence; those of a range are not gone through."""
    if isinstance(client_ids, str) or not hasattr(client_ids, "__len__") or not hasattr(client_ids, "__getitem__"):
        raise TypeError(f"{name} must be a sequence of identities, such as a list; found {describe(client_ids)}")
    if not len(client_ids):
        raise ValueError(f"{name} is empty; a population has at least one client")
    if isinstance(client_ids, range):
        return client_ids
    ids: Sequence[Hashable] = client_ids.tolist() if isinstance(client_ids, np.ndarray) else client_ids
    if len(set(ids)) < len(ids):
        twice = Counter(ids).most_common(1)[0][0]
        raise ValueError(f"{name} names {twice!r} twice; every client has an identity of its own")
    return ids
