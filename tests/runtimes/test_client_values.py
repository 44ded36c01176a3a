"""What clients have after a call: one object, read as a list of values, that may be passed on."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

import hansa
from hansa.types import rows as rows_of_clients
from hansa.types.rows import Rows

IDS = ["ann", "bo", "cy", "di", "eve"]
DATA = hansa.ClientBatches(np.arange(12, dtype=np.float32), [0, 3, 3, 8, 9, 12], 4, IDS)
RUNTIMES = {
    "whole": hansa.InProcessRuntime,
    "in chunks": lambda: hansa.InProcessRuntime(clients_per_chunk=2),
    "several at once on one device": lambda: hansa.InProcessRuntime(jax.devices()[:1], clients_at_once=2),
    "reference": hansa.ReferenceRuntime,
}

add = hansa.jax_computation(lambda total, batch: total + batch.sum(), "float32", "float32[?]")
twice = hansa.jax_computation(lambda x: {"x": x, "pair": (2 * x, x.astype("int32"))}, "float32")
away = hansa.jax_computation(lambda x, mean: {"off": x.x - mean, "more": x.pair[0]})


@hansa.federated_computation("{float32[?]*}@CLIENTS")
def two_stages(data: Any) -> Any:
    """What is kept in the first stage is read in the second, and both give what stays with each."""
    sums = hansa.federated_map(twice, hansa.sequence_reduce(data, np.float32(0), add))
    mean = hansa.federated_broadcast(hansa.federated_mean(sums.x))
    return {"sums": sums, "away": hansa.federated_map(away, [sums, mean]), "both": hansa.federated_zip([sums, sums.x])}


@hansa.federated_computation("{<x=float32,pair=<float32,int32>>}@CLIENTS", "{float32[?]*}@CLIENTS")
def again(values: Any, data: Any) -> Any:
    """What was kept is passed on with the data of the same clients."""
    more = hansa.federated_map(add, [values.x, hansa.federated_value(np.ones(2, np.float32), hansa.CLIENTS)])
    return more, hansa.federated_sum(values.pair[1])


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_what_clients_have_is_read_as_a_list_and_passed_on(runtime: str) -> None:
    with hansa.runtime(RUNTIMES[runtime]()):
        result = two_stages(DATA)
        more, total = again(result.sums, DATA)
        fewer, _ = again(result.sums.select([3, 0]), DATA.select([3, 0]))
    sums = [3.0, 0.0, 25.0, 8.0, 30.0]
    mean = np.mean(sums)
    assert [(each.x, each.pair[0], each.pair[1]) for each in result.sums] == [(x, 2 * x, int(x)) for x in sums]
    np.testing.assert_allclose([each.off for each in result.away], np.array(sums) - mean, rtol=1e-6)
    assert [(pair[0].x, pair[1]) for pair in result.both] == [(x, x) for x in sums]
    assert (more, total, list(fewer)) == ([x + 2 for x in sums], 66, [10, 5])
    assert list(result.sums.client_ids) == IDS and len(result.sums) == 5


def test_it_compares_and_prints_as_the_list_of_its_values() -> None:
    values = two_stages(DATA).sums
    listed = list(values)
    assert values == listed and repr(values) == repr(listed)
    assert str(hansa.Struct.of(a=values)) == str(hansa.Struct.of(a=listed))
    assert listed == values and values != listed[:-1] and hansa.Struct.of(a=values) == hansa.Struct.of(a=listed)
    assert values[1:4] == listed[1:4] and values[-1] == listed[-1] and values.select([]) == []
    np.testing.assert_array_equal(values.stacked().pair[1], [3, 0, 25, 8, 30])
    with pytest.raises(IndexError, match="there are 5 clients; 5 was asked for"):
        values[5]
    for index in ("ann", True, 1.0, [0, 1]):
        with pytest.raises(TypeError, match=r"numbered from 0 by their places, found .*; use select"):
            values[index]


def test_values_of_other_clients_than_the_data_are_refused_by_name() -> None:
    values = two_stages(DATA).sums
    with pytest.raises(ValueError, match=r"values has other clients .* client 'cy', and the data of client 'di'"):
        again(values.select([2, 3]), DATA.select([3, 3]))
    assert len(again(list(values), DATA)[0]) == 5


def test_rows_that_nobody_has_are_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_of_clients, "_IDLE", 0)
    rows = Rows((), np.zeros(0, np.int32), np.zeros(0, np.int32))
    expected = np.full(40, -1.0)
    rng = np.random.default_rng(0)
    for turn in range(60):
        entries = rng.choice(40, 7, replace=False)
        values = rng.normal(size=(7, 3))
        expected[entries] = values[:, 2]
        before, old = rows, [rows.at(entry)[0][2] for entry in np.flatnonzero(rows.block >= 0)]
        rows = rows.replaced(entries, Rows.of([values], 7))
        rows = rows.merged(rows.sparse())
        assert old == [before.at(entry)[0][2] for entry in np.flatnonzero(before.block >= 0)], turn
        live = np.flatnonzero(rows.block >= 0)
        assert [rows.at(entry)[0][2] for entry in live] == expected[live].tolist()
        assert sum(block.size for block in rows.blocks) <= 2 * len(live)


def test_rows_of_ever_other_clients_do_not_lie_in_ever_more_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_of_clients, "_MOST_BLOCKS", 6)
    rows = Rows((), np.zeros(0, np.int32), np.zeros(0, np.int32))
    for first in range(0, 90, 3):
        rows = rows.replaced(first + np.arange(3), Rows.of([first + np.arange(3.0)], 3))
        rows = rows.merged(rows.sparse())
        assert len(rows.blocks) <= 6
    assert [rows.at(entry)[0] for entry in range(90)] == list(range(90))
