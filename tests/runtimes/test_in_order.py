"""What is no sum is folded in the cohort's order: leaves of 16 clients, a fixed tree above, wherever clients work."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

import hansa
from hansa.runtimes.inprocess import runtime as inprocess

RNG = np.random.default_rng(3)


@hansa.jax_computation("int32", "int32")
def accumulate(state, value):
    return state * 31 + value


@hansa.jax_computation("int32", "int32")
def merge(a, b):
    return a * 7 + b * 3


@hansa.jax_computation("int32")
def report(state):
    return state + 1


@hansa.federated_computation("{int32}@CLIENTS")
def folded(values):
    """Which client comes where can be told from the result; sums and what clients keep stand beside it."""
    doubled = hansa.federated_map(hansa.jax_computation(lambda x: 2 * x, "int32"), values)
    first = hansa.federated_aggregate(doubled, np.int32(0), accumulate, merge, report)
    moved = hansa.federated_map(
        hansa.jax_computation(lambda x, by: x - by, "int32", "int32"), [doubled, hansa.federated_broadcast(first)]
    )
    return {
        "first": first,
        "sum": hansa.federated_sum(values),
        "second": hansa.federated_aggregate(moved, np.int32(0), accumulate, merge, report),
        "moved": moved,
    }


def by_hand(values):
    """Leaves of 16 one after another; two neighbours of one size are merged, and in the end what is left, the last
    first."""
    leaves = []
    for first in range(0, max(len(values), 1), 16):
        state = np.int32(0)
        for value in values[first : first + 16]:
            state = state * np.int32(31) + value
        leaves.append((1, state))

    def joined(a, b):
        return a[0] + b[0], a[1] * np.int32(7) + b[1] * np.int32(3)

    held: list[Any] = []
    for leaf in leaves:
        held.append(leaf)
        while len(held) > 1 and held[-1][0] == held[-2][0]:
            held[-2:] = [joined(*held[-2:])]
    while len(held) > 1:
        held[-2:] = [joined(*held[-2:])]
    return held[0][1] + np.int32(1)


def expected(values):
    with np.errstate(over="ignore"):
        first = by_hand(2 * values)
        moved = 2 * values - first
        return {"first": first, "sum": values.sum(dtype=np.int32), "second": by_hand(moved), "moved": list(moved)}


def values_of(clients):
    return RNG.integers(-(2**31), 2**31, clients).astype(np.int32)


WAYS = {
    "one device": lambda: hansa.InProcessRuntime(jax.devices()[:1]),
    "all devices": hansa.InProcessRuntime,
    "several at once": lambda: hansa.InProcessRuntime(clients_at_once=4),
    "chunks of 7": lambda: hansa.InProcessRuntime(clients_per_chunk=7),
    "chunks of 32": lambda: hansa.InProcessRuntime(clients_per_chunk=32),
    "reference": hansa.ReferenceRuntime,
}


@pytest.mark.parametrize("way", WAYS)
def test_every_runtime_folds_in_the_same_order(way):
    with hansa.runtime(WAYS[way]()):
        for clients in (100, 1, 16, 17, 32, 49):
            values = values_of(clients)
            assert dict(folded(list(values))._asdict()) == expected(values), clients


def test_of_no_clients_it_is_the_report_of_zero():
    for way in ("all devices", "reference"):
        with hansa.runtime(WAYS[way]()):
            assert folded([]).first == 1


def test_clients_with_much_work_change_nothing():
    sizes = RNG.permutation(40)
    data = hansa.ClientBatches(np.arange(sizes.sum(), dtype=np.int32), np.cumsum([0, *sizes]), batch_size=8)
    add = hansa.jax_computation(lambda total, batch: total + batch.sum(dtype=np.int32), "int32", "int32[?]")

    @hansa.federated_computation("{int32[?]*}@CLIENTS")
    def of_sequences(data):
        total = hansa.sequence_reduce(data, np.int32(0), add)
        return hansa.federated_aggregate(total, np.int32(0), accumulate, merge, report)

    each = np.split(np.arange(sizes.sum()), np.cumsum(sizes)[:-1])
    with np.errstate(over="ignore"):
        right = by_hand(np.array([part.sum() for part in each], np.int32))
    for way in ("all devices", "chunks of 7"):
        with hansa.runtime(WAYS[way]()):
            assert of_sequences(data) == right


def test_no_more_contributions_are_in_memory_than_there_is_room_for(monkeypatch):
    monkeypatch.setattr(inprocess, "_CONTRIBUTIONS", 40)  # bytes, of ten clients
    runtime, chunks = hansa.InProcessRuntime(), []
    pack = runtime._on.pack
    monkeypatch.setattr(
        runtime._on, "pack", lambda *args, turns=None: chunks.append(args[3]) or pack(*args, turns=turns)
    )
    values = values_of(64)
    with hansa.runtime(runtime):
        assert folded(list(values)).second == expected(values)["second"]
    assert {len(chunk) for chunk in chunks} == {0, 10, 4}
    assert all(np.array_equal(chunk, np.sort(chunk)) and np.ptp(chunk) < 10 for chunk in chunks if len(chunk))


def test_stages_that_fold_leaves_and_merge_them_in_order_have_the_same():
    stage = hansa.Stages(folded).clients[0]
    values = values_of(50)
    leaves = [stage.fold(stage.zero(), [], [[x] for x in values[i : i + 16]]).state for i in range(0, 50, 16)]
    assert stage.report(stage.merge(*leaves))[0] == expected(values)["first"]
    one_by_one = stage.zero()
    for value in values[:16]:
        one_by_one = stage.accumulate(one_by_one, stage.work([], [value]).contributions)
    assert stage.report(one_by_one)[0] == expected(values[:16])["first"]
