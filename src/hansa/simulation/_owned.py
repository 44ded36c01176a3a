"""A population of the examples of all clients together, and of an array or a column that says whose each is."""

from __future__ import annotations

from typing import Any

import numpy as np

from hansa.simulation._identities import owners_of, say_left_out
from hansa.simulation._sources import ArraySource
from hansa.simulation._steps import checked_arrays, rows
from hansa.types.identities import distinct


def by_owner(arrays: Any, client_of: Any, client_ids: Any = None, table: str | None = None) -> ArraySource:
    """The clients of arrays `[examples, ...]`.

    Args:
        arrays: the arrays, by name.
        client_of: [examples], whose each example is.
        client_ids: the clients in their order; by default those that have examples, in ascending order.
        table: what to call `client_of` in messages, if it is a column of a table. Then -1 in it is told, too: in an
            array that was made for this, someone wrote it on purpose.

    Raises:
        TypeError, ValueError: if the arrays differ in length, or `client_of` is no such array, or nobody has any.
    """
    what = table or "client_of"
    checked = checked_arrays(arrays, "arrays", lazily=True)
    size = rows(checked)
    owners = owners_of(client_of, size, what)
    ids, index = owners.client_ids if client_ids is None else distinct(client_ids), owners.index
    if not len(ids):
        raise ValueError(f"{what} gives no example to any client, so there are no clients")
    if client_ids is not None:
        places = {client_id: position for position, client_id in enumerate(ids)}
        unknown = [client_id for client_id in owners.client_ids if client_id not in places]
        if unknown:
            raise ValueError(
                f"{what} names the client {unknown[0]!r}, who is not in client_ids; add it, or give its "
                "examples to nobody (-1 or None)"
            )
        index = np.array([*(places[client_id] for client_id in owners.client_ids), -1], np.int64)[index]
    owned = np.flatnonzero(index >= 0)
    left_out = size - len(owned)
    if table or owners.missing:
        say_left_out(left_out, size, int(np.argmax(index < 0)), what)
    counts = np.bincount(index[owned], minlength=len(ids)).astype(np.int64)
    order = owned[np.argsort(index[owned], kind="stable")]
    first = int(order[0]) if len(order) else 0
    starts = np.cumsum(counts) - counts
    if np.array_equal(order, np.arange(first, first + len(order))):
        return ArraySource(checked, ids, None, starts + first, counts, left_out)
    return ArraySource(checked, ids, order, starts, counts, left_out)
