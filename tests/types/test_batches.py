"""Batches of arrays are those that a loop over the epochs and examples makes."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hansa


def by_hand(rows: list[int], batch_size: int) -> list[list[int]]:
    return [rows[first : first + batch_size] for first in range(0, len(rows), batch_size)]


@given(st.lists(st.integers(0, 7), min_size=1, max_size=5), st.integers(1, 4), st.integers(1, 3), st.booleans())
def test_no_batch_crosses_epochs(sizes: list[int], batch_size: int, epochs: int, unrolled: bool) -> None:
    stored = [size * epochs if unrolled else size for size in sizes]
    offsets = np.concatenate([[0], np.cumsum(stored)])
    rows = np.arange(offsets[-1])
    clients = hansa.ClientBatches(rows, offsets, batch_size, epochs=epochs, unrolled=unrolled)
    assert clients.totals.tolist() == [size * epochs for size in sizes]
    for i, size in enumerate(sizes):
        own = rows[offsets[i] : offsets[i + 1]].tolist()
        each = [own[epoch * size : (epoch + 1) * size] if unrolled else own for epoch in range(epochs)]
        expected = [batch for one in each for batch in by_hand(one, batch_size)]
        alone = hansa.Batches(rows[offsets[i] : offsets[i + 1]], batch_size, epochs, unrolled)
        for batches in (clients[i], alone, clients.select([i])[0]):
            assert [batch.tolist() for batch in batches] == expected
            assert len(batches) == len(expected)
            assert batches.total == size * epochs


@hansa.jax_computation("int32[?]")
def in_order(batch):
    import jax.numpy as jnp

    # Tells batches apart by their sizes and by what is in them.
    return jnp.sum(batch * (1 + jnp.arange(batch.shape[0]))) * 10 + batch.shape[0]


@hansa.federated_computation("{int32[?]*}@CLIENTS")
def digests(data):
    return hansa.sequence_sum(hansa.sequence_map(in_order, data))


@pytest.mark.parametrize("runtime", [hansa.InProcessRuntime(), hansa.ReferenceRuntime()], ids=["compiled", "reference"])
@pytest.mark.parametrize("unrolled", [False, True])
def test_runtimes_go_through_every_epoch(runtime, unrolled: bool, tmp_path) -> None:
    sizes, epochs, batch_size = [5, 0, 2, 7], 3, 3
    stored = [size * epochs if unrolled else size for size in sizes]
    offsets = np.concatenate([[0], np.cumsum(stored)])
    rows = np.random.default_rng(0).integers(0, 100, offsets[-1]).astype(np.int32)
    expected = []
    for size, start, stop in zip(sizes, offsets[:-1], offsets[1:], strict=True):
        own = rows[start:stop].tolist()
        each = [own[epoch * size : (epoch + 1) * size] if unrolled else own for epoch in range(epochs)]
        batches = [batch for one in each for batch in by_hand(one, batch_size)]
        expected.append(sum(sum((i + 1) * x for i, x in enumerate(b)) * 10 + len(b) for b in batches))
    on_disk = np.memmap(tmp_path / "rows", np.int32, "w+", shape=rows.shape)
    on_disk[:] = rows
    columns = hansa.ClientBatches(rows, offsets, batch_size, epochs=epochs, unrolled=unrolled)
    mapped = hansa.ClientBatches(on_disk, offsets, batch_size, epochs=epochs, unrolled=unrolled)
    lists = [hansa.Batches(rows[a:b], batch_size, epochs, unrolled) for a, b in itertools.pairwise(offsets)]
    with hansa.runtime(runtime):
        for data in (columns, lists, mapped):
            assert [int(digest) for digest in digests(data)] == expected


def test_epochs_are_told() -> None:
    batches = hansa.ClientBatches(np.zeros(6), [0, 4, 6], 2, epochs=2, unrolled=True)
    assert repr(batches) == "ClientBatches(2 clients, 3 examples in batches of 2, 2 epochs: float64[?]*)"
    assert repr(batches[0]) == "Batches(2 examples in batches of 2, 2 epochs: float64[?]*)"


def test_rows_that_are_not_whole_epochs_are_refused() -> None:
    with pytest.raises(ValueError, match="client 1 has 3 rows"):
        hansa.ClientBatches(np.zeros(7), [0, 4, 7], 2, epochs=2, unrolled=True)
    with pytest.raises(ValueError, match="same number of rows"):
        hansa.Batches(np.zeros(7), 2, epochs=2, unrolled=True)
    with pytest.raises(ValueError, match="epochs must be a positive integer, found 0"):
        hansa.Batches(np.zeros(7), 2, epochs=0)
