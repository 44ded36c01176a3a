"""The table of the clients that have taken part: from who they are to numbers from 0, which only grows."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from hansa.types.identities import ClientId


class ClientTable:
    """Clients by number, in the order in which they came. A client keeps its number.

    Args:
        client_ids: those that are in it.
    """

    def __init__(self, client_ids: Iterable[ClientId] = ()) -> None:
        self._ids: list[ClientId] = list(client_ids)
        self._numbers = {client_id: number for number, client_id in enumerate(self._ids)}

    def __len__(self) -> int:
        return len(self._ids)

    def numbers(self, client_ids: Iterable[ClientId], add: bool = False) -> npt.NDArray[np.int32]:
        """The numbers of some clients; -1 for who is not in the table, unless they are to be added."""
        if add:
            for client_id in client_ids:
                if self._numbers.setdefault(client_id, len(self._ids)) == len(self._ids):
                    self._ids.append(client_id)
        return np.array([self._numbers.get(client_id, -1) for client_id in client_ids], np.int32)

    def ids(self, numbers: npt.NDArray[np.integer]) -> list[ClientId]:
        """Who the clients of these numbers are."""
        return [self._ids[number] for number in numbers.tolist()]
