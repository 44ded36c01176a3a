"""Calls in this process: one result for every form of data and number of devices, few compilations, clear errors."""

from __future__ import annotations

import gc
import itertools
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hansa
from hansa.compiler.sequences import Columns
from hansa.language.context import runtime as using
from hansa.runtimes.columns import Packed

BATCH = "<x=float32[?,3],y=int32[?]>"
SIZES = [[4, 4, 2], [], [4, 1, 4], [3]]


@hansa.jax_computation("<n=int32,s=float32[3]>", BATCH)
def accumulate(state, batch):
    weights = jnp.cumsum(batch.y) + batch.x.mean()
    return {"n": state.n + batch.x.shape[0], "s": state.s * 0.5 + weights @ batch.x}


@hansa.federated_computation("{" + BATCH + "*}@CLIENTS")
def work(data):
    done = hansa.sequence_reduce(data, OrderedDict(n=0, s=np.zeros(3, np.float32)), accumulate)
    return done.s, hansa.federated_sum(done.n), hansa.federated_sum(done.s)


def clients(sizes: list[list[int]] = SIZES, seed: int = 0) -> list[list[Any]]:
    rng = np.random.default_rng(seed)
    return [
        [
            OrderedDict(x=rng.normal(size=(n, 3)).astype(np.float32), y=rng.integers(0, 5, n).astype(np.int32))
            for n in batches
        ]
        for batches in sizes
    ]


def expected(data: list[list[Any]]) -> tuple[list[np.ndarray], int, np.ndarray]:
    each = []
    for batches in data:
        s = np.zeros(3)
        for batch in batches:
            x = batch["x"].astype(np.float64)
            s = s * 0.5 + (np.cumsum(batch["y"]) + x.mean()) @ x
        each.append(s)
    return each, sum(len(b["y"]) for batches in data for b in batches), np.sum(each, axis=0) if each else np.zeros(3)


def check(result: Any, data: list[list[Any]]) -> None:
    each, n, total = result
    true_each, true_n, true_total = expected(data)
    assert isinstance(each, hansa.ClientValues)
    assert len(each) == len(data)
    for x, y in zip(each, true_each, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5)
    assert int(n) == true_n
    np.testing.assert_allclose(total, true_total, rtol=1e-5, atol=1e-4)


def joined(data: list[list[Any]]) -> tuple[dict[str, np.ndarray], list[int]]:
    parts = [batch for batches in data for batch in batches]
    offsets = np.cumsum([0, *(sum(len(b["y"]) for b in batches) for batches in data)])
    return {key: np.concatenate([part[key] for part in parts]) for key in ("x", "y")}, offsets.tolist()


def test_lists_and_generators_of_irregular_batches() -> None:
    data = clients()
    check(work(data), data)
    check(work([tuple(batches) for batches in data]), data)
    check(work([iter(batches) for batches in data]), data)
    check(work([(batch for batch in batches) for batches in data]), data)
    check(work([[dict(reversed(batch.items())) for batch in batches] for batches in data]), data)
    check(work([[hansa.Struct(batch.items()) for batch in batches] for batches in data]), data)
    check(work([[tuple(batch.values()) for batch in batches] for batches in data]), data)


class Parts(NamedTuple):
    """A client's data with its fields in another order than the type's."""

    y: Any
    x: Any


def test_named_tuples_go_by_name() -> None:
    kind = "{<x=int32*,y=int32*>}@CLIENTS"
    sums = hansa.federated_computation(lambda d: [hansa.sequence_sum(d.x), hansa.sequence_sum(d.y)], kind)
    xs, ys = sums([Parts(y=[100], x=[1, 2]), Parts(y=[], x=[5])])
    assert ([int(x) for x in xs], [int(y) for y in ys]) == ([3, 5], [100, 0])


def test_no_clients_and_clients_without_data() -> None:
    check(work([]), [])
    check(work([[]]), [[]])
    check(work([[], [], []]), [[], [], []])


def test_empty_batches_count_as_none() -> None:
    data = clients([[4, 0, 2], [0]])
    check(work(data), [[b for b in batches if len(b["y"])] for batches in data])


def test_columns_give_the_same_as_lists() -> None:
    data = clients([[4, 4, 2], [], [4], [3]])
    arrays, offsets = joined(data)
    population = hansa.ClientBatches(arrays, offsets, batch_size=4)
    check(work(population), data)
    check(work(population.select([2, 0])), [data[2], data[0]])
    check(work(population.select([0, 0])), [data[0], data[0]])
    check(work(population.select([])), [])
    check(work([population[0], data[1], population[2]]), data[:3])
    first = {key: array[:10] for key, array in arrays.items()}
    check(work([hansa.Batches(first, 4)]), data[:1])


def test_tf_datasets_give_the_same_as_lists() -> None:
    tf = pytest.importorskip("tensorflow")
    data = clients([[4, 4, 2], [4, 4]])
    arrays, offsets = joined(data)
    sets = [
        tf.data.Dataset.from_tensor_slices({k: a[start:stop] for k, a in arrays.items()}).batch(4)
        for start, stop in itertools.pairwise(offsets)
    ]
    check(work(sets), data)


def test_the_number_of_devices_does_not_matter() -> None:
    data = clients(SIZES * 3)
    for devices in (jax.devices()[:1], jax.devices()):
        with using(hansa.InProcessRuntime(devices=devices)):
            check(work(data), data)


def test_cohorts_of_a_population_compile_once() -> None:
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 30, 50)
    arrays = {"x": rng.normal(size=(counts.sum(), 3)).astype(np.float32), "y": np.ones(counts.sum(), np.int32)}
    population = hansa.ClientBatches(arrays, np.cumsum([0, *counts]), batch_size=8)
    runtime = hansa.InProcessRuntime()
    with using(runtime):
        for _ in range(100):
            chosen = rng.choice(50, rng.integers(1, 12), replace=False)
            assert int(work(population.select(chosen))[1]) == counts[chosen].sum()
    assert runtime.compilations == 1


def test_cohorts_that_are_read_anew_compile_at_most_twice() -> None:
    rng = np.random.default_rng(0)
    owners = np.repeat(np.arange(50), rng.integers(1, 30, 50))
    arrays = {"x": rng.normal(size=(len(owners), 3)).astype(np.float32), "y": np.ones(len(owners), np.int32)}
    population = hansa.simulation.ClientData.from_arrays(arrays, owners).shuffle(seed=1).batch(8)
    runtime = hansa.InProcessRuntime()
    with using(runtime):
        for i in range(60):
            chosen = rng.choice(50, rng.integers(1, 12), replace=False)
            assert int(work(population.cohort(chosen, i))[1]) == np.isin(owners, chosen).sum()
    assert runtime.compilations <= 2


def test_ragged_lists_compile_at_most_twice() -> None:
    rng = np.random.default_rng(0)
    runtime = hansa.InProcessRuntime()
    with using(runtime):
        for i in range(100):
            sizes = [[8] * rng.integers(0, 4) + [int(rng.integers(1, 9))] for _ in range(rng.integers(2, 9))]
            data = clients(sizes, seed=i)
            assert int(work(data)[1]) == sum(map(sum, sizes))
    assert runtime.compilations <= 2


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            [[OrderedDict(x=np.ones((2, 3)), y=np.ones(2, np.int32))]],
            r"the argument of 'work'\[0\]\[0\].x: expected float32\[\?,3\], found float64\[2,3\]; convert it",
        ),
        (
            [[], [OrderedDict(x=np.ones((2, 4), np.float32), y=np.ones(2, np.int32))]],
            r"\[1\]\[0\].x: expected float32\[\?,3\], found float32\[2,4\]; its axis 1",
        ),
        ([[OrderedDict(x=np.ones((2, 3), np.float32))]], r"\[0\]\[0\].*the field 'y' is missing"),
        (
            [[OrderedDict(x=np.ones((2, 3), np.float32), y=np.ones(2, np.int32), z=1)]],
            r"\[0\]\[0\].*there is no field 'z'",
        ),
        (
            [[OrderedDict(x=np.ones((2, 3), np.float32), y=np.ones(1, np.int32))]],
            r"\[0\]\[0\] is a batch whose tensors have different numbers of examples: <x=float32\[2,3\],y=int32\[1\]>",
        ),
        (
            OrderedDict(x=1),
            "must be a list with one entry per client.*found a OrderedDict; wrap one client's value in a list",
        ),
        (iter([[]]), "must be a list with one entry per client.*an iterator is one client's sequence"),
        (3, "must be a list with one entry per client"),
        (
            [OrderedDict(x=np.ones((2, 3), np.float32), y=np.ones(2, np.int32))],
            r"\[0\] must be a sequence.*put the one batch in a list",
        ),
        ([5], r"\[0\] must be a sequence.*found the int 5"),
    ],
)
def test_bad_data_is_refused_by_the_place_where_it_is(data: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        work(data)


def test_two_arguments_must_be_of_the_same_clients() -> None:
    add = hansa.jax_computation(lambda a, b: a + b, "int32", "int32")

    @hansa.federated_computation("{int32}@CLIENTS", "{int32}@CLIENTS")
    def total(a, b):
        return hansa.federated_sum(hansa.federated_map(add, [a, b]))

    assert int(total([1, 2], [3, 4])) == 10
    with pytest.raises(
        ValueError, match=r"'total'.b has values of 1 clients, but the argument of 'total'.a has values of 2"
    ):
        total([1, 2], [3])


def test_two_sequences_for_each_client() -> None:
    dot = hansa.jax_computation(lambda a, b: a + b, "float32", "float32")

    @hansa.federated_computation("{float32*}@CLIENTS", "{float32*}@CLIENTS")
    def both(a, b):
        return hansa.federated_map(dot, [hansa.sequence_sum(a), hansa.sequence_sum(b)])

    assert [float(x) for x in both([[1.0], [], [2.0, 3.0]], [[], [4.0, 5.0], [1.0]])] == [1.0, 9.0, 6.0]


def test_results_at_clients_come_in_their_order() -> None:
    identity = hansa.jax_computation(lambda n: [n, n * 10], "int32")
    call = hansa.federated_computation(lambda x: hansa.federated_map(identity, x), "{int32}@CLIENTS")
    values = list(range(20, 0, -1))
    assert [(int(a), int(b)) for a, b in call(values)] == [(n, 10 * n) for n in values]
    assert call([]) == []


def test_literals_strings_and_arguments_pass_through() -> None:
    call = hansa.federated_computation(
        lambda x: {"name": "hansa", "x": x, "n": 3, "sent": hansa.federated_value(2, hansa.CLIENTS)}, "{int32}@CLIENTS"
    )
    result = call([5, 6])
    assert (result.name, [int(x) for x in result.x], int(result.n), int(result.sent)) == ("hansa", [5, 6], 3, 2)


def test_counts_are_exact() -> None:
    total = hansa.federated_computation(lambda n: hansa.federated_sum(n), "{int64}@CLIENTS")
    assert int(total([2**33 + 1, 2**31, 5])) == 2**33 + 2**31 + 6
    small = hansa.federated_computation(lambda n: hansa.federated_sum(n), "{int32}@CLIENTS")
    assert int(small([2**24, 1, 1])) == 2**24 + 2


def test_means_minima_and_maxima() -> None:
    @hansa.federated_computation("{float32[2]}@CLIENTS", "{int32}@CLIENTS")
    def statistics(x, w):
        return hansa.federated_mean(x), hansa.federated_mean(x, w), hansa.federated_min(x), hansa.federated_max(w)

    x = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)
    w = np.array([3, 0, 1, 7, 2], np.int32)
    mean, weighted, lowest, highest = statistics(list(x), list(w))
    np.testing.assert_allclose(mean, x.astype(float).mean(0), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(weighted, w @ x.astype(float) / w.sum(), rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(lowest, x.min(0))
    assert int(highest) == 7
    mean, weighted, lowest, highest = statistics([], [])
    assert [float(v) for v in (*mean, *weighted)] == [0.0] * 4
    assert (float(lowest[0]), int(highest)) == (np.inf, -(2**31))
    assert [float(v) for v in statistics([x[0]], [0])[1]] == [0.0, 0.0]


def test_an_aggregation_of_ones_own_is_reported_once() -> None:
    keep = hansa.jax_computation(lambda s, x: [jnp.maximum(s[0], x), s[1] + 1], "<float32,int32>", "float32")
    join = hansa.jax_computation(
        lambda a, b: [jnp.maximum(a[0], b[0]), a[1] + b[1]], "<float32,int32>", "<float32,int32>"
    )
    report = hansa.jax_computation(lambda s: {"ratio": s[0] - s[1], "count": s[1]}, ["float32", "int32"])
    call = hansa.federated_computation(
        lambda x: hansa.federated_aggregate(x, [-100.0, 0], keep, join, report), "{float32}@CLIENTS"
    )
    result = call([3.0, 9.0, 4.0])
    assert (float(result.ratio), int(result["count"])) == (6.0, 3)
    assert int(call([])["count"]) == 0


def test_clients_have_the_numbers_that_their_data_gives_them() -> None:
    sequence = hansa.federated_computation(
        lambda d: [hansa.federated_client_id(), hansa.sequence_sum(d)], "{int32[2]*}@CLIENTS"
    )

    @hansa.federated_computation("{int32[?]*}@CLIENTS")
    def ids(data):
        size = hansa.jax_computation(lambda s, x: s + x.shape[0], "int32", "int32[?]")
        return hansa.federated_client_id(), hansa.sequence_reduce(data, 0, size)

    population = hansa.ClientBatches(np.arange(6, dtype=np.int32), [0, 1, 3, 6], 2, client_ids=[70, 80, 90])
    found, sizes = ids(population.select([2, 0]))
    assert ([int(i) for i in found], [int(n) for n in sizes]) == ([90, 70], [3, 1])
    found, _ = sequence([[np.ones(2, np.int32)], []])
    assert [int(i) for i in found] == [0, 1]


def test_a_value_of_the_wrong_type_at_the_server_is_refused() -> None:
    call = hansa.federated_computation(lambda x: x, "<a=float32[2],b=int32>@SERVER")
    with pytest.raises(TypeError, match=r"the argument of '<lambda>'.a: expected float32\[2\], found float32\[3\]"):
        call({"a": np.ones(3, np.float32), "b": 1})


def test_an_iterator_is_read_once_for_a_call() -> None:
    def batches() -> Iterator[Any]:
        yield from clients()[0]

    check(work([batches()]), clients()[:1])


def test_sums_and_means_of_narrow_floats_and_large_weights_are_right():
    narrow = hansa.federated_computation(lambda x: hansa.federated_sum(x), "{bfloat16}@CLIENTS")
    one = jnp.bfloat16(1)
    assert float(narrow([one] * 1000)) == 1000
    mean = hansa.federated_computation(lambda x, w: hansa.federated_mean(x, w), "{float32}@CLIENTS", "{int64}@CLIENTS")
    assert mean([3.0, 3.0], [2**62, 2**62]) == 3


def test_what_is_passed_may_be_written_to_after_the_call():
    product = hansa.jax_computation(lambda x: (x @ x @ x @ x)[0], "float32[500,500]")
    for _ in range(4):
        x = np.eye(500, dtype="float32")
        found = product(x)
        x[:] = 0
        assert found[0] == 1


def test_a_client_has_one_id():
    arrays = np.zeros((2, 1), "float32")
    with pytest.raises(ValueError, match="client_ids names 'a' twice"):
        hansa.ClientBatches(arrays, [0, 1, 2], 1, client_ids=["a", "a"])
    with pytest.raises(ValueError, match="client_ids must be one id for each of the 2 clients; found 1"):
        hansa.ClientBatches(arrays, [0, 1, 2], 1, client_ids=["a"])
    with pytest.raises(TypeError, match="row 1 holds"):
        hansa.ClientBatches(arrays, [0, 1, 2], 1, client_ids=[0, 0.5])


def test_arrays_of_clients_may_have_their_fields_in_another_order():
    kind = "{<x=float32[?,1],y=int32[?]>*}@CLIENTS"
    y_of = hansa.jax_computation(lambda n, b: n + b.y.sum(), "int32", "<x=float32[?,1],y=int32[?]>")
    client = hansa.federated_computation(
        lambda s: hansa.sequence_reduce(s, np.int32(0), y_of), "<x=float32[?,1],y=int32[?]>*"
    )
    total = hansa.federated_computation(lambda d: hansa.federated_sum(hansa.federated_map(client, d)), kind)
    arrays = {"y": np.arange(4, dtype="int32"), "x": np.zeros((4, 1), "float32")}
    assert total(hansa.ClientBatches(arrays, [0, 1, 4], 2)) == 6
    assert total([hansa.Batches(arrays, 3)]) == 6


def test_nothing_of_a_call_is_left_to_the_garbage_collector() -> None:
    rows = OrderedDict(x=np.ones((5, 3), np.float32), y=np.ones(5, np.int32))

    def there() -> list[Any]:
        return [each for each in gc.get_objects() if type(each) in (Columns, Packed, hansa.ClientBatches)]

    gc.collect()
    gc.disable()
    try:
        before = there()  # of other tests
        for data in (hansa.ClientBatches(rows, [0, 2, 5], 2), clients()):
            work(data)
        del data
        left = [each for each in there() if not any(each is other for other in before)]
    finally:
        gc.enable()
    assert left == []


@pytest.mark.parametrize("runtime", [hansa.InProcessRuntime(), hansa.InProcessRuntime(clients_per_chunk=2)])
@pytest.mark.parametrize("client", range(5))
def test_the_smallest_and_the_largest_of_numbers_with_nan_are_nan(runtime, client):
    @hansa.federated_computation("{float32[2]}@CLIENTS")
    def reach(x):
        return hansa.federated_min(x), hansa.federated_max(x)

    values = np.arange(10, dtype=np.float32).reshape(5, 2)
    values[client, 1] = np.nan
    with hansa.runtime(runtime):
        lowest, highest = reach(list(values))
    np.testing.assert_array_equal([lowest, highest], [values.min(0), values.max(0)])


def test_an_array_of_jax_is_one_entry_per_client_and_a_masked_one_is_refused() -> None:
    total = hansa.federated_computation(hansa.federated_sum, "{int32}@CLIENTS")
    for runtime in (hansa.InProcessRuntime(), hansa.ReferenceRuntime()):
        with hansa.runtime(runtime):
            assert total(jnp.arange(5, dtype="int32")) == total(np.ma.masked_array(range(5), dtype="int32")) == 10
            with pytest.raises(ValueError, match=r"\[3\]: the value is masked, that is, missing; put a number"):
                total(np.ma.masked_array(range(5), [0, 0, 0, 1, 0], dtype="int32"))
            with pytest.raises(TypeError, match=r"must be a list with one entry per client.*found a dict"):
                total({0: 1, 1: 2})
