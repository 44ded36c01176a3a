"""Batches are those that `tf.data` makes of the same steps, whatever the kind of sequence and wherever it is kept."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hansa
from hansa.simulation import ClientData
from hansa.types.batching import Batching

SIZES = [5, 0, 3, 8, 1, 12]
WAYS: list[dict[str, Any]] = [
    {"epochs": epochs, "drop_remainder": drop, "across_epochs": across}
    for epochs, drop, across in itertools.product((1, 3), (False, True), (False, True))
] + [
    {"steps": steps, "drop_remainder": drop, "across_epochs": across}
    for steps, drop, across in itertools.product((1, 7), (False, True), (False, True))
]
IDS = [", ".join(f"{name}={value}" for name, value in way.items()) for way in WAYS]


def by_hand(epochs: Iterator[list[int]], batch_size: int, way: dict[str, Any]) -> list[list[int]]:
    """The batches of a client; `epochs` are without an end, each perhaps in another order."""
    steps, across, drop = way.get("steps"), way["across_epochs"], way["drop_remainder"]
    first = next(epochs)
    if not first or (drop and not across and len(first) < batch_size):
        return []
    turns = way.get("epochs", 1 + (steps or 0) * batch_size)
    every = itertools.islice(itertools.chain([first], epochs), turns)
    runs = [list(itertools.chain.from_iterable(every))] if across else every
    batches = (run[i : i + batch_size] for run in runs for i in range(0, len(run), batch_size))
    return list(itertools.islice((b for b in batches if len(b) == batch_size or not drop), steps))


def listed(batches: Any) -> list[list[int]]:
    return [np.asarray(batch).tolist() for batch in batches]


@pytest.mark.parametrize("way", WAYS, ids=IDS)
def test_by_hand_is_what_tf_data_does(way: dict[str, Any]) -> None:
    tf = pytest.importorskip("tensorflow")
    for size in SIZES:
        data = tf.data.Dataset.range(size)
        epochs = way.get("epochs")  # None: without an end
        if way["across_epochs"]:
            data = data.repeat(epochs).batch(4, drop_remainder=way["drop_remainder"])
        else:
            data = data.batch(4, drop_remainder=way["drop_remainder"]).repeat(epochs)
        if "steps" in way:
            data = data.take(way["steps"])
        expected = [batch.tolist() for batch in data.as_numpy_iterator()]
        assert by_hand(itertools.repeat(list(range(size))), 4, way) == expected


def in_order(batch):
    import jax.numpy as jnp

    # Tells batches apart by their sizes and by what is in them.
    return jnp.sum(batch * (1 + jnp.arange(batch.shape[0]))) * 100 + batch.shape[0]


@hansa.jax_computation("int32", "int32[?]")
def add(state, batch):
    return (state * 31 + in_order(batch)) % 1_000_003


@hansa.jax_computation("int32", "<x=int32[?]>")
def add_named(state, batch):
    return add(state, batch.x)


digests = hansa.federated_computation(lambda data: hansa.sequence_reduce(data, 0, add), "{int32[?]*}@CLIENTS")
named_digests = hansa.federated_computation(
    lambda data: hansa.sequence_reduce(data, 0, add_named), "{<x=int32[?]>*}@CLIENTS"
)


def digest(batches: list[list[int]]) -> int:
    found = 0
    for batch in batches:
        found = (found * 31 + sum((i + 1) * x for i, x in enumerate(batch)) * 100 + len(batch)) % 1_000_003
    return found


@pytest.mark.parametrize("way", WAYS, ids=IDS)
def test_every_sequence_has_these_batches(way: dict[str, Any], tmp_path: Path) -> None:
    offsets = np.concatenate([[0], np.cumsum(SIZES)])
    rows = np.random.default_rng(0).integers(0, 100, offsets[-1]).astype(np.int32)
    own = [rows[start:stop] for start, stop in itertools.pairwise(offsets)]
    expected = [by_hand(itertools.repeat(mine.tolist()), 4, way) for mine in own]
    on_disk = np.memmap(tmp_path / "rows", np.int32, "w+", shape=rows.shape)
    on_disk[:] = rows
    options = {name: value for name, value in way.items() if name != "epochs"}
    epochs = way.get("epochs", 1)
    population = hansa.ClientBatches(rows, offsets, 4, **way)
    alone = [hansa.Batches(mine, 4, **way) for mine in own]
    client_of = np.repeat(np.arange(len(SIZES)), SIZES)
    data = ClientData.from_arrays({"x": rows}, client_of, range(len(SIZES))).repeat(epochs).batch(4, **options)
    cohort = data.cohort(np.arange(len(SIZES)))
    assert [listed(batches) for batches in population] == expected
    assert [listed(batches) for batches in alone] == expected
    assert [[batch.x.tolist() for batch in batches] for batches in cohort] == expected
    assert [len(batches) for batches in alone] == [len(batches) for batches in expected]
    totals = [sum(map(len, batches)) for batches in expected]
    assert population.totals.tolist() == [batches.total for batches in alone] == data.sizes.tolist() == totals
    wanted = [digest(batches) for batches in expected]
    order = [3, 0, 5]
    for given_data in (population, hansa.ClientBatches(on_disk, offsets, 4, **way), alone):
        assert [int(found) for found in digests(given_data)] == wanted
    assert [int(found) for found in digests(population.select(order))] == [wanted[i] for i in order]
    with hansa.runtime(hansa.ReferenceRuntime()):
        assert [int(found) for found in digests(population.select(order))] == [wanted[i] for i in order]


@pytest.mark.parametrize("way", WAYS, ids=IDS)
def test_shuffled_epochs_are_gone_through_one_after_another(way: dict[str, Any]) -> None:
    options = {name: value for name, value in way.items() if name != "epochs"}
    clients = {f"client {i}": {"x": np.arange(size, dtype=np.int32) + 100 * i} for i, size in enumerate(SIZES)}
    for data in (
        ClientData.from_clients(clients),
        ClientData.from_function(list(clients), clients.__getitem__),
        ClientData.from_function(list(clients), clients.__getitem__, SIZES),
    ):
        shuffled = data.shuffle(3)
        cohort = shuffled.repeat(way.get("epochs", 1)).batch(4, **options).cohort(np.arange(len(SIZES)), 2)
        expected = []
        for position in range(len(SIZES)):
            epochs = shuffled._source.epochs(position, 2, 60)
            assert SIZES[position] < 5 or epochs[0]["x"].tolist() != epochs[1]["x"].tolist()
            expected.append(by_hand(iter([epoch["x"].tolist() for epoch in epochs]), 4, way))
        assert [[batch.x.tolist() for batch in batches] for batches in cohort] == expected
        assert [int(found) for found in named_digests(cohort)] == [digest(batches) for batches in expected]


@given(st.lists(st.integers(0, 9), min_size=1, max_size=4), st.integers(1, 5), st.sampled_from(WAYS), st.booleans())
def test_rows_that_are_stored_are_those_that_batches_need(
    sizes: list[int], batch_size: int, way: dict[str, Any], unrolled: bool
) -> None:
    batching, own = Batching(batch_size, **way), np.array(sizes)
    starts, lengths, batches = batching.lay_out(np.zeros(len(sizes), np.int64), own, unrolled)
    assert lengths.sum() == batching.examples(own).sum()
    ends = np.array_split(starts + lengths, np.cumsum(batches)[:-1])
    stored = batching.stored(own, unrolled).tolist()
    for size, turns, rows, end in zip(sizes, batching.turns(own).tolist(), stored, ends, strict=True):
        assert end.max(initial=0) <= rows <= (size * turns if unrolled else size + batch_size - 1)


def test_what_does_not_go_together_is_refused() -> None:
    data = ClientData.from_clients({0: {"x": np.arange(3)}})
    for run in (
        lambda: data.repeat(2).batch(2, steps=5),
        lambda: data.batch(2, steps=5).repeat(2),
        lambda: hansa.Batches(np.zeros(4), 2, 2, steps=5),
    ):
        with pytest.raises(ValueError, match="steps=5 says how many batches each client has, and 2 epochs say it too"):
            run()
    with pytest.raises(ValueError, match="give epochs, and not steps"):
        hansa.ClientBatches(np.zeros(4), [0, 4], 2, unrolled=True, steps=3)
    with pytest.raises(ValueError, match="steps must be an integer of 1 or more; found 0"):
        data.batch(2, steps=0)
    with pytest.raises(TypeError, match="drop_remainder must be True or False; found the int 1"):
        data.batch(2, drop_remainder=1)  # type: ignore[arg-type]


def test_how_batches_are_made_is_shown() -> None:
    data = ClientData.from_clients({0: {"x": np.arange(3)}}).batch(2, steps=5, across_epochs=True, drop_remainder=True)
    assert "in batches of 2, 5 steps, across epochs, short ones dropped: <x=" in repr(data)
    assert repr(data.cohort([0])).startswith(
        "ClientBatches(1 clients, 3 examples in batches of 2, 5 steps, across epochs,"
    )
