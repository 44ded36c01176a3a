"""Whose each row of a table is: the rows of every client, kept as runs, so a sorted table costs little."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hansa.simulation._numbers import is_missing

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
    """

    client_ids: list[Hashable]
    sizes: Integers
    starts: Integers
    lengths: Integers
    first_run: Integers

    def runs(self, position: int) -> tuple[Integers, Integers]:
        """First rows and lengths of one client's runs."""
        chosen = slice(int(self.first_run[position]), int(self.first_run[position + 1]))
        return self.starts[chosen], self.lengths[chosen]

    def of(self, position: int) -> Integers:
        """One client's rows, int64 [rows], ascending."""
        starts, lengths = self.runs(position)
        return np.repeat(starts - np.cumsum(lengths) + lengths, lengths) + np.arange(int(lengths.sum()))


def group(parts: Iterable[Any], what: str) -> Rows:
    """The rows of every client.

    Args:
        parts: the column of clients, one stretch of rows after another: arrays of integers, of which negative ones
            stand for nobody, or of strings, in which None stands for nobody.
        what: what to call the column in messages.

    Raises:
        TypeError: if the column holds anything else, or both.
        ValueError: if it is empty, or no row is anybody's.
    """
    codes: dict[Hashable, int] = {}
    runs: list[tuple[Integers, Integers, Integers]] = []
    row = 0
    for part in parts:
        owners = identities(part, what)
        if not len(owners):
            continue
        firsts = np.flatnonzero(np.concatenate([[True], owners[1:] != owners[:-1]]))
        lengths = np.diff(np.concatenate([firsts, [len(owners)]]))
        ids = owners[firsts].tolist()
        coded = np.fromiter(
            (-1 if owner is None or owner == -1 else codes.setdefault(owner, len(codes)) for owner in ids), np.int64
        )
        runs.append((coded, firsts + row, lengths))
        row += len(owners)
    if not codes:
        raise ValueError(f"{what} " + ("names no client" if row else "has no rows, so there are no clients"))
    if len({isinstance(owner, str) for owner in codes}) > 1:
        raise TypeError(f"{what} mixes integers and strings; make them all strings")
    coded, starts, lengths = (np.concatenate(column) for column in zip(*runs, strict=True))
    order = sorted(codes)  # type: ignore[type-var]
    rank = np.empty(len(codes) + 1, np.int64)
    rank[[codes[owner] for owner in order]] = np.arange(len(order))
    rank[-1] = len(order)  # nobody comes last
    ranked = rank[coded]
    by_client = np.argsort(ranked, kind="stable")
    ranked = ranked[by_client]
    bounds = np.searchsorted(ranked, np.arange(len(order) + 1))
    owned = by_client[: bounds[-1]]
    sizes = np.bincount(ranked[: bounds[-1]], lengths[owned], len(order)).astype(np.int64)
    return Rows(order, sizes, starts[owned], lengths[owned], bounds.astype(np.int64))


def identities(part: Any, what: str) -> npt.NDArray[Any]:
    """The clients' identities in a column: int64 [rows] with -1 for nobody, or strings with None, object [rows].

    Raises:
        TypeError: if it holds anything else, or both.
    """
    array = np.asarray(part)
    if array.dtype.kind == "f":  # integers of which some are missing, in many tables
        missing = np.isnan(array)
        if not (np.mod(array[~missing], 1) == 0).all():
            raise TypeError(f"{what} must hold integers or strings, the clients' identities; found {array.dtype}")
        array = np.where(missing, -1, array).astype(np.int64)
    if array.dtype.kind in "iu":
        if array.dtype.kind == "u" and array.size and array.max() > np.iinfo(np.int64).max:
            raise TypeError(f"{what} holds {array.max()}, which does not fit in int64; make the ids strings")
        return np.maximum(array.astype(np.int64), -1)
    objects: npt.NDArray[Any] = array.astype(object)
    if array.dtype.kind == "O":
        missing = np.fromiter(map(is_missing, objects), np.bool_, len(objects))
        present = objects[~missing]
        if all(isinstance(owner, int | np.integer) and not isinstance(owner, bool) for owner in present):
            numbers = np.full(len(objects), -1, np.int64)
            numbers[~missing] = np.maximum(present.astype(np.int64), -1)
            return numbers
        objects[missing] = None
    other = next((owner for owner in objects if owner is not None and not isinstance(owner, str)), None)
    if other is not None:
        kind = array.dtype if array.dtype.kind != "O" else type(other).__name__
        raise TypeError(f"{what} must hold integers or strings, the clients' identities; found {kind}, as in {other!r}")
    return objects
