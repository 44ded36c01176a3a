"""The batches of a population's clients: of all once, so that cohorts are selections, or of a cohort in a round."""

from __future__ import annotations

import numpy as np

from hansa.simulation._columns import joined
from hansa.simulation._sources import Source
from hansa.simulation._steps import Arrays, Sizes, rows
from hansa.types import identities
from hansa.types.batches import ClientBatches
from hansa.types.batching import Batching
from hansa.types.examples import Examples
from hansa.types.identities import ClientId


def of_everyone(source: Source, batching: Batching) -> ClientBatches | None:
    """The batches of all clients, where these are the same in each round, and in memory or on disk as they are."""
    columns = source.columns
    if columns is None:
        return None
    ids = identities.array(source.client_ids)
    capacity = batching.capacity(columns.counts)
    return ClientBatches._of(
        columns.examples, batching, False, columns.starts, columns.counts, ids, source.numbers, capacity
    )


def capacity(source: Source, batching: Batching) -> int | None:
    """The rows that batches of everybody are computed with; see `Population.batch_capacity`.

    It is the same whenever it is asked for: it does not go by who has been read by now.
    """
    sizes = source.sizes if source.in_memory else source.known_sizes
    return batching.capacity_of_unknown if sizes is None else batching.capacity(sizes)


def of_round(
    source: Source, batching: Batching, positions: Sizes, round_number: int, capacity: int | None
) -> ClientBatches:
    """The batches of the clients at these positions, read now; those of several epochs one after another if they vary.

    Raises:
        ValueError: if a client has more examples in one epoch than in another.
    """
    arrays, stored, sizes = read(source, batching, positions, identities.copies(positions), round_number)
    return of_examples(Examples(arrays, passing=True), source, batching, positions, stored, sizes, capacity)


def of_examples(
    examples: Examples,
    source: Source,
    batching: Batching,
    positions: Sizes,
    stored: Sizes,
    sizes: Sizes,
    capacity: int | None,
) -> ClientBatches:
    """The batches of the clients at these positions, of which each has so many rows, and examples in an epoch."""
    return ClientBatches._of(
        examples,
        batching,
        source.varies,
        np.cumsum(stored) - stored,
        sizes,
        identities.array([source.client_ids[position] for position in positions.tolist()]),
        np.array([source.number(position) for position in positions.tolist()], np.int32),
        batching.capacity_for_some(sizes) if capacity is None else max(capacity, batching.capacity(sizes)),
    )


def read(
    source: Source, batching: Batching, positions: Sizes, copies: Sizes, round_number: int
) -> tuple[Arrays, Sizes, Sizes]:
    """The rows of the clients at these positions, one client's after another's; how many each has, and in one epoch.

    Args:
        source: the population.
        batching: how examples are put into batches.
        positions: of the clients.
        copies: how often each was there before in the round's cohort.
        round_number: the round.

    Raises:
        ValueError: if a client has more examples in one epoch than in another.
    """
    found: list[Arrays] = []
    owners: list[ClientId] = []
    stored, sizes = np.zeros(len(positions), np.int64), np.zeros(len(positions), np.int64)
    for i, (position, copy) in enumerate(zip(positions.tolist(), copies.tolist(), strict=True)):
        epochs = _epochs(source, batching, position, round_number, copy)
        sizes[i] = rows(epochs[0])
        uneven = next((epoch for epoch, arrays in enumerate(epochs) if rows(arrays) != sizes[i]), None)
        if uneven is not None:
            raise ValueError(
                f"client {source.client_ids[position]!r} has {sizes[i]} examples in the first epoch, and "
                f"{rows(epochs[uneven])} in another; filter before shuffle"
            )
        wanted = stored_of(source, batching, sizes[i : i + 1]).item()
        for arrays in epochs:
            taken = min(wanted - int(stored[i]), int(sizes[i]))
            stored[i] += taken
            found.append({name: array[:taken] for name, array in arrays.items()})
            owners.append(source.client_ids[position])
    return joined(found, owners, source.batch_type), stored, sizes


def stored_of(source: Source, batching: Batching, sizes: Sizes) -> Sizes:
    """How many rows there are of clients with so many examples in an epoch."""
    return batching.stored(sizes, unrolled=True) if source.varies else sizes


def _epochs(source: Source, batching: Batching, position: int, round_number: int, copy: int) -> list[Arrays]:
    """A client's examples in each of the epochs that it begins; once, if they are the same in all."""
    turns = batching.epochs if source.varies else 1
    if source.varies and batching.steps is not None:
        known = source.counted
        size = rows(source.epochs(position, round_number, 1, copy)[0]) if known is None else int(known[position])
        turns = int(batching.turns(np.array([size]))[0])
    return source.epochs(position, round_number, turns, copy)
