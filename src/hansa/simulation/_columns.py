"""The examples of many clients in one array per name, and the check that they are all of one type."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hansa.simulation._steps import Arrays, Sizes, rows
from hansa.types import Type, infer_type
from hansa.types.examples import Examples
from hansa.types.identities import ClientId
from hansa.types.values import how_to_cast


@dataclass(frozen=True)
class Columns:
    """The examples of clients as one array per name.

    Attributes:
        arrays: arrays `[examples, ...]`.
        examples: the same, as the runtime keeps them on its devices.
        starts: int64 [clients], each client's first row.
        counts: int64 [clients], each client's number of rows.
    """

    arrays: Arrays
    examples: Examples
    starts: Sizes
    counts: Sizes

    def choose(self, positions: Sizes) -> Columns:
        """The columns of some of the clients, which share the arrays and their place on the devices."""
        return Columns(self.arrays, self.examples, self.starts[positions], self.counts[positions])

    def rows_of(self, position: int) -> Arrays:
        """One client's rows, which share the memory of the arrays."""
        start = int(self.starts[position])
        stop = start + int(self.counts[position])
        return {name: array[start:stop] for name, array in self.arrays.items()}


def of_clients(clients: Sequence[Arrays], client_ids: Sequence[ClientId]) -> Columns:
    """The columns of these clients' arrays, which are to be of the type of the first one's; copies them.

    Raises:
        TypeError: if a client's arrays have other names, dtypes or shapes; the message says whose.
    """
    counts = np.array([rows(arrays) for arrays in clients], np.int64)
    arrays = joined(clients, client_ids, Examples(clients[0]).kind)
    return Columns(arrays, Examples(arrays), np.cumsum(counts) - counts, counts)


def joined(clients: Sequence[Arrays], client_ids: Sequence[ClientId], kind: Type) -> Arrays:
    """The rows of clients one after another.

    Args:
        clients: each one's arrays.
        client_ids: whose they are.
        kind: the type of the population's batches.

    Raises:
        TypeError: if a client's arrays have other names, dtypes or shapes; the message says whose.
    """
    for client_id, arrays in zip(client_ids, clients, strict=True):
        check_kind(arrays, client_id, kind)
    names = kind.names  # type: ignore[attr-defined]
    nothing = {name: np.zeros((0, *kind[name].shape[1:]), kind[name].dtype) for name in names}  # type: ignore[index]
    return {name: np.concatenate([nothing[name], *(arrays[name] for arrays in clients)]) for name in names}


def check_kind(arrays: Arrays, client_id: ClientId, kind: Type, others: str = "the first client") -> None:
    """Checks that a client's examples are of the type of the population's, in whatever order of names.

    Args:
        arrays: the examples.
        client_id: whose they are.
        kind: the type of the population's batches.
        others: what has this type.

    Raises:
        TypeError: if they are not; the message says what differs.
    """
    names = kind.names  # type: ignore[attr-defined]
    if set(arrays) != set(names):
        raise TypeError(
            f"client {client_id!r} has the arrays {', '.join(map(repr, arrays))}, but {others} has "
            f"{', '.join(map(repr, names))}; give all clients the same ones"
        )
    for name in names:
        expected = kind[name]  # type: ignore[index]
        found = infer_type(arrays[name])
        if not expected.is_assignable_from(found):
            alike = found.dtype == expected.dtype  # type: ignore[attr-defined]
            remedy = "pad or crop it to one shape" if alike else how_to_cast(arrays[name], expected.dtype)
            raise TypeError(
                f"client {client_id!r} has {name!r} of type {found}, but {others}'s are {expected}; {remedy}"
            )
