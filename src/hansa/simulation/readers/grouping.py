"""Whose each row of a table is: the rows of every client, kept as runs, so a sorted table costs little."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hansa.simulation._identities import say_left_out
from hansa.types.identities import ClientId, clients_among, column

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Rows:
    """The rows of every client of a table.

    Attributes:
        client_ids: the clients, in ascending order.
        sizes: int64 [clients], rows per client.
        starts: int64 [runs], the first row of each run, grouped by client and ascending within.
        lengths: int64 [runs].
        first_run: int64 [clients + 1]; client `i` has the runs `first_run[i]` to `first_run[i + 1]`.
        left_out: how many rows are nobody's.
    """

    client_ids: list[ClientId]
    sizes: Integers
    starts: Integers
    lengths: Integers
    first_run: Integers
    left_out: int = 0

    def runs(self, position: int) -> tuple[Integers, Integers]:
        """First rows and lengths of one client's runs."""
        chosen = slice(int(self.first_run[position]), int(self.first_run[position + 1]))
        return self.starts[chosen], self.lengths[chosen]

    def of(self, position: int) -> Integers:
        """One client's rows, int64 [rows], ascending."""
        starts, lengths = self.runs(position)
        return np.repeat(starts - np.cumsum(lengths) + lengths, lengths) + np.arange(int(lengths.sum()))


Meaning: TypeAlias = Callable[[list[Any], str], list[Any]]
"""What the different ids of a column are, given all of them and what to call the column: others, or None for nobody."""


def as_they_are(ids: list[Any], what: str) -> list[Any]:
    """The ids of a column that has types."""
    return ids


def group(parts: Iterable[Any], what: str, meaning: Meaning = as_they_are, in_order: bool = True) -> Rows:
    """The rows of every client. Says, as a warning, how many are nobody's.

    Args:
        parts: the column of clients, one stretch of rows after another; or a pair of what stands there in each of some
            runs of rows, and their lengths.
        what: what to call the column in messages.
        meaning: what its ids are, where it is read as text.
        in_order: whether the rows are in the order of what the user has, so that messages can say which.

    Raises:
        TypeError, ValueError: if the column holds what are no ids, or is empty, or no row is anybody's.
    """
    codes: dict[ClientId | None, int] = {}
    runs: list[tuple[Integers, Integers, Integers]] = []
    row = 0
    for part in parts:
        values, lengths = part if isinstance(part, tuple) else (part, None)
        owners = column(values, what, row if in_order else None)
        if not len(owners):
            continue
        if lengths is None:
            firsts = np.flatnonzero(np.concatenate([[True], owners[1:] != owners[:-1]]))
            lengths = np.diff(np.concatenate([firsts, [len(owners)]]))
            owners = owners[firsts]
        else:
            firsts = np.cumsum(lengths) - lengths
        ids = owners.tolist()
        coded = np.fromiter((codes.setdefault(owner, len(codes)) for owner in ids), np.int64)
        runs.append((coded, firsts + row, lengths))
        row += int(lengths.sum())
    found = meaning([owner for owner in codes if owner is not None], what)
    order = clients_among([owner for owner in found if owner is not None], what)
    if not order:
        raise ValueError(f"{what} " + ("names no client" if row else "has no rows, so there are no clients"))
    coded, starts, lengths = (np.concatenate(each) for each in zip(*runs, strict=True))
    places = {client_id: place for place, client_id in enumerate(order)}
    rank = np.full(len(codes), len(order), np.int64)  # nobody comes last
    rank[[code for owner, code in codes.items() if owner is not None]] = [places.get(o, len(order)) for o in found]
    ranked = rank[coded]
    by_client = np.argsort(ranked, kind="stable")
    ranked = ranked[by_client]
    bounds = np.searchsorted(ranked, np.arange(len(order) + 1))
    owned, nobodys = by_client[: bounds[-1]], by_client[bounds[-1] :]
    sizes = np.bincount(ranked[: bounds[-1]], lengths[owned], len(order)).astype(np.int64)
    left_out = int(lengths[nobodys].sum())
    say_left_out(left_out, row, int(starts[nobodys].min(initial=row)) if in_order else None, what)
    return Rows(order, sizes, starts[owned], lengths[owned], bounds.astype(np.int64), left_out)
