"""Clients whose data is not in this process, as a value for `{T}@CLIENTS`: a reference to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hansa._tracebacks import boundaries
from hansa.types import identities
from hansa.types.identities import ClientId
from hansa.types.mismatch import describe

_MOST_SHOWN = 3


@boundaries
class Elsewhere:
    """Clients whose data is elsewhere, such as on their devices: their ids, or how many they are.

    It stands where the clients' values would, in a call and in `hansa.program.train`, and goes to the runtime as it is.
    A runtime that reaches such clients says so by an attribute, `reaches_elsewhere = True`; others refuse it.

    Args:
        clients: their ids, all strings or all integers, each once; or how many they are to be, of whom the runtime
            says who.

    Attributes:
        client_ids: who they are; None where that is the runtime's to say.

    Raises:
        TypeError, ValueError: if `clients` is neither.

    Examples:
        >>> everybody = hansa.Elsewhere(["ann", "bo", "cy"])
        >>> everybody, len(everybody)
        (Elsewhere(3 clients: 'ann', 'bo', 'cy'), 3)
        >>> everybody.cohort([2, 0])
        Elsewhere(2 clients: 'cy', 'ann')
        >>> hansa.Elsewhere(100)
        Elsewhere(100 clients)
    """

    client_ids: Sequence[ClientId] | None

    def __init__(self, clients: Sequence[ClientId] | npt.NDArray[Any] | int) -> None:
        if isinstance(clients, int | np.integer) and not isinstance(clients, bool):
            if clients < 0:
                raise ValueError(f"clients must be ids, or how many there are, 0 or more; found {clients}")
            self.client_ids, self._number = None, int(clients)
        else:
            self.client_ids = identities.distinct(clients, "clients")
            self._number = len(self.client_ids)

    def cohort(self, clients: npt.ArrayLike, round_number: int = 0, *, replace: bool = False) -> Elsewhere:
        """Those at these positions; so many, where it is the runtime's to say who.

        Args:
            clients: their positions, each once.
            round_number: of the round; nothing depends on it.
            replace: whether a client may be there several times.

        Raises:
            TypeError, IndexError, ValueError: if they are no such positions.

        Examples:
            >>> hansa.Elsewhere(100).cohort([3, 14, 15])
            Elsewhere(3 clients)
        """
        positions = np.asarray(clients, dtype=np.int64 if not np.size(clients) else None)
        if positions.ndim != 1 or positions.dtype.kind not in "iu":
            raise TypeError(f"clients must be a list of positions; found {describe(clients)}")
        outside = positions[(positions < 0) | (positions >= len(self))]
        if outside.size:
            raise IndexError(f"there are {len(self)} clients, 0 to {len(self) - 1}; found {outside[0]}")
        if not replace and len(np.unique(positions)) < len(positions):
            raise ValueError("a client is there twice; give each position once, or replace=True for copies")
        made = Elsewhere(len(positions))
        if self.client_ids is not None:
            made.client_ids = [self.client_ids[position] for position in positions.tolist()]
        return made

    def __len__(self) -> int:
        return self._number

    def __repr__(self) -> str:
        ids = [] if self.client_ids is None else [repr(each) for each in self.client_ids[:_MOST_SHOWN]]
        more = [f"and {len(self) - _MOST_SHOWN} more"] if len(ids) < len(self) and ids else []
        named = f": {', '.join([*ids, *more])}" if ids else ""
        return f"Elsewhere({len(self)} client{'' if len(self) == 1 else 's'}{named})"
