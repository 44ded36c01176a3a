"""Values that come to the server one by one, slices that clients ask for, protected sums and clients' keys."""

from __future__ import annotations

import jax
import numpy as np
import pytest

import hansa
from hansa import CLIENTS, SERVER, Struct

VALUES = [np.array([3.0, 1.0], "float32"), np.array([-2.0, 5.0], "float32"), np.array([0.5, 0.25], "float32")]


RUNTIMES = {
    "whole": {},
    "in chunks of two": {"clients_per_chunk": 2},
    "two at once in chunks of three": {"clients_at_once": 2, "clients_per_chunk": 3},
}


@pytest.fixture(params=RUNTIMES.values(), ids=RUNTIMES, autouse=True)
def runtime(request):
    with hansa.runtime(hansa.InProcessRuntime(**request.param)) as runtime:
        yield runtime


@hansa.jax_computation("float32[2]", "float32[2]")
def digest(state, value):
    return 0.5 * state + value


@hansa.jax_computation("float32[2]")
def double(value):
    return 2 * value


@hansa.federated_computation("float32[2]*")
def digested(values):
    return hansa.sequence_reduce(values, np.zeros(2, "float32"), digest)


def in_order(values):
    state = np.zeros(2, "float32")
    for value in values:
        state = 0.5 * state + value
    return state


def test_collected_values_come_in_the_order_of_the_cohort():
    @hansa.federated_computation("{float32[2]}@CLIENTS")
    def folded(values):
        return hansa.federated_map(digested, hansa.federated_collect(values))

    assert folded.type_signature.compact() == "({float32[2]}@CLIENTS -> float32[2]@SERVER)"
    np.testing.assert_array_equal(folded(VALUES), in_order(VALUES))
    np.testing.assert_array_equal(folded(VALUES[::-1]), in_order(VALUES[::-1]))
    many = list(np.random.default_rng(0).normal(size=(41, 2)).astype("float32"))
    np.testing.assert_allclose(folded(many), in_order(many), rtol=1e-6)
    np.testing.assert_array_equal(folded([]), np.zeros(2))


def test_a_collected_sequence_may_be_the_result():
    @hansa.federated_computation("{<x=float32[2],n=int64>}@CLIENTS")
    def collected(values):
        doubled = hansa.federated_map(double, values.x)
        return {"all": hansa.federated_collect(values), "doubled": hansa.federated_collect(doubled)}

    result = "<all=<x=float32[2],n=int64>*@SERVER,doubled=float32[2]*@SERVER>"
    assert collected.type_signature.result.compact() == result
    rows = [{"x": value, "n": np.int64(2**40 + i)} for i, value in enumerate(VALUES)]
    all_of_them, doubled = collected(rows)
    assert [int(row.n) for row in all_of_them] == [2**40, 2**40 + 1, 2**40 + 2]
    np.testing.assert_array_equal(np.stack([row.x for row in all_of_them]), np.stack(VALUES))
    np.testing.assert_array_equal(np.stack(doubled), 2 * np.stack(VALUES))
    assert collected([]).doubled == []


def test_what_is_equal_at_all_clients_is_collected_once_for_each():
    @hansa.federated_computation("{float32[2]}@CLIENTS", "float32@SERVER")
    def collected(values, number):
        sent = hansa.federated_broadcast(number)
        ones = hansa.federated_collect(sent)
        return ones, hansa.federated_map(hansa.federated_computation("float32*")(hansa.sequence_sum), ones)

    ones, total = collected(VALUES, 1.5)
    assert ones == [1.5, 1.5, 1.5]
    assert total == 4.5


def test_what_is_collected_may_be_mapped_and_sent_back():
    @hansa.federated_computation("float32[2]", "float32[2]*")
    def distance(mine, others):
        @hansa.jax_computation("float32", "float32[2]", "float32[2]")
        def further(most, mine, other):
            return jax.numpy.maximum(most, abs(mine - other).sum())

        return further(0.0, mine, hansa.sequence_reduce(others, np.zeros(2, "float32"), digest))

    @hansa.federated_computation("{float32[2]}@CLIENTS")
    def gossip(values):
        mapped = hansa.sequence_map(double, hansa.federated_collect(values))
        found = hansa.federated_map(distance, [values, hansa.federated_broadcast(mapped)])
        return found, hansa.federated_sum(found)

    expected = [abs(value - 2 * in_order(VALUES)).sum() for value in VALUES]
    found, total = gossip(VALUES)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_allclose(total, sum(expected), rtol=1e-6)


def test_clients_get_the_slices_they_ask_for():
    @hansa.jax_computation("<table=float32[5,2],scale=float32>", "int32")
    def row(source, key):
        return {"row": source.scale * source.table[key], "key": key}

    @hansa.jax_computation("float32[2]", "<row=float32[2],key=int32>")
    def add(total, found):
        return total + found.row * (found.key + 1)

    @hansa.federated_computation("{int32[3]}@CLIENTS", "<table=float32[5,2],scale=float32>@SERVER")
    def sums(keys, source):
        slices = hansa.federated_select(keys, 5, source, row)
        assert slices.type_signature.compact() == "{<row=float32[2],key=int32>*}@CLIENTS"
        return hansa.sequence_reduce(slices, np.zeros(2, "float32"), add)

    table = np.random.default_rng(1).normal(size=(5, 2)).astype("float32")
    keys = np.array([[0, 4, 2], [1, 1, 1], [-3, 17, 3]], "int32")
    found = sums(list(keys), {"table": table, "scale": 2.0})
    clipped = keys.clip(0, 4)
    np.testing.assert_allclose(np.stack(found), (2 * table[clipped] * (clipped + 1)[..., None]).sum(1), rtol=1e-5)


def test_one_key_gives_one_slice_without_a_sequence():
    row = hansa.jax_computation(lambda source, key: {"row": source.scale * source.table[key], "key": key})
    total = hansa.jax_computation(lambda found: found.row.sum() + found.key)

    @hansa.federated_computation("{int32}@CLIENTS", "<table=float32[5,2],scale=float32>@SERVER")
    def totals(key, source):
        found = hansa.federated_select(key, 5, source, row)
        assert found.type_signature.compact() == "{<row=float32[2],key=int32>}@CLIENTS"
        return hansa.federated_map(total, found), found

    table = np.arange(10, dtype="float32").reshape(5, 2)
    expected = [2 * table[key].sum() + key for key in (4, 0, 4)]
    found, rows = totals([4, -1, 7], {"table": table, "scale": 2.0})
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert [int(one.key) for one in rows] == [4, 0, 4]
    explained = str(hansa.explain(totals))
    assert "receives   one slice of source: <row=float32[2],key=int32>, 12 bytes" in explained
    assert "reports    key: int32, 4 bytes -> select at the server" in explained


def test_nothing_may_stand_beside_what_clients_have():
    """An empty struct is wherever what it stands beside is."""
    work = hansa.jax_computation(lambda value, own: {"value": value + 1, "own": own})

    @hansa.federated_computation("{float32}@CLIENTS", "{<>}@CLIENTS")
    def step(values, own):
        done = hansa.federated_map(work, [values, {}])
        assert done.type_signature.compact() == "{<value=float32,own=<>>}@CLIENTS"
        at_server = hansa.federated_zip({"sum": hansa.federated_sum(done.value), "rest": {"a": []}})
        return {"sum": at_server, "own": done.own, "passed": own}

    found = step([1.0, 2.0], [hansa.Struct(), hansa.Struct()])
    assert float(found.sum.sum) == 5.0 and found.sum.rest.a == hansa.Struct()
    assert list(found.own) == list(found.passed) == [hansa.Struct(), hansa.Struct()]
    with pytest.raises(TypeError, match="cannot place an empty struct"):
        hansa.federated_computation(lambda: hansa.federated_zip([[], {}]))


def test_the_number_of_slices_may_be_a_value_of_the_server():
    @hansa.jax_computation("int32[6]", "int32")
    def element(vector, key):
        return vector[key]

    @hansa.federated_computation("{int32[2]}@CLIENTS", "int32@SERVER", "int32[6]@SERVER")
    def largest(keys, count, vector):
        slices = hansa.federated_select(keys, count, vector, element)
        return hansa.federated_max(hansa.sequence_sum(slices))

    keys = [np.array([0, 5], "int32"), np.array([2, 2], "int32")]
    assert largest(keys, 6, np.arange(6, dtype="int32")) == 5
    assert largest(keys, 3, np.arange(6, dtype="int32")) == 4


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "uint32", "int64"])
def test_protected_sums_keep_each_number_in_its_range(dtype):
    @hansa.federated_computation(f"{{{dtype}[3]}}@CLIENTS")
    def bounded(values):
        return hansa.federated_secure_sum(values, 10), hansa.federated_secure_sum_bitwidth(values, 4)

    values = np.array([[3, 10, 100], [0, 1, 11], [7, 2, 15]], dtype)
    if dtype.startswith("int"):
        values[1, 0] = -5
    to_ten, to_four_bits = bounded(list(values))
    np.testing.assert_array_equal(to_ten, values.clip(0, 10).sum(0))
    np.testing.assert_array_equal(to_four_bits, values.clip(0, 15).sum(0))
    assert to_ten.dtype == dtype


def test_the_bound_of_a_protected_sum_may_be_a_value_of_the_server():
    @hansa.federated_computation("{<a=int32,b=int64>}@CLIENTS", "int64@SERVER")
    def bounded(values, most):
        return hansa.federated_secure_sum(values, most)

    rows = [{"a": 2**30, "b": 2**40}, {"a": 7, "b": np.int64(2**41)}]
    assert bounded(rows, 2**30 - 1) == Struct([("a", 2**30 + 6), ("b", 2**31 - 2)])
    assert bounded(rows, 5) == Struct([("a", 10), ("b", 10)])
    with pytest.raises(ValueError, match=r"must not be negative, and the server has -1"):
        bounded(rows, -1)


@hansa.jax_computation("uint32[2]")
def draw(key):
    return jax.random.normal(jax.random.wrap_key_data(key))


def test_each_client_has_a_key_of_its_own_wherever_it_stands():
    @hansa.federated_computation("{int32*}@CLIENTS", "uint32[2]@SERVER")
    def draws(data, key):
        return hansa.federated_map(draw, hansa.federated_client_key(key)), hansa.federated_sum(hansa.sequence_sum(data))

    population = hansa.ClientBatches(np.arange(8, dtype="int32"), [0, 2, 4, 6, 8], 2)
    key = jax.random.key_data(jax.random.key(3))
    expected = [float(jax.random.normal(jax.random.fold_in(jax.random.key(3), i))) for i in range(4)]
    elements = hansa.federated_computation("{int32[?]*}@CLIENTS", "uint32[2]@SERVER")(
        lambda data, key: hansa.federated_map(draw, hansa.federated_client_key(key))
    )
    np.testing.assert_allclose(elements(population, key), expected, rtol=1e-6)
    np.testing.assert_allclose(elements(population.select([2, 0]), key), [expected[2], expected[0]], rtol=1e-6)
    found, total = draws([[1], [2, 3], []], key)
    np.testing.assert_allclose(found, expected[:3], rtol=1e-6)
    assert total == 6


def test_a_seed_makes_a_key():
    @hansa.federated_computation("{float32}@CLIENTS")
    def draws(data):
        return hansa.federated_map(draw, hansa.federated_client_key(3))

    expected = [float(jax.random.normal(jax.random.fold_in(jax.random.key(3), i))) for i in range(2)]
    np.testing.assert_allclose(draws([0.0, 0.0]), expected, rtol=1e-6)


def test_several_rounds_in_one_computation():
    @hansa.jax_computation("float32", "float32")
    def difference(value, centre):
        return (value - centre) ** 2

    @hansa.federated_computation("{float32}@CLIENTS")
    def moments(values):
        mean = hansa.federated_mean(values)
        squares = hansa.federated_map(difference, [values, hansa.federated_broadcast(mean)])
        variance = hansa.federated_mean(squares)
        again = hansa.federated_map(difference, [squares, hansa.federated_broadcast(variance)])
        return {
            "mean": mean,
            "variance": variance,
            "squares": squares,
            "largest": hansa.federated_max(again),
            "all": hansa.federated_collect(again),
            "counted": hansa.federated_sum(hansa.federated_value(1, CLIENTS)),
            "constant": hansa.federated_value(2.5, SERVER),
        }

    data = np.array([1.0, 4.0, 6.0, 2.0, 7.5], "float32")
    found = moments(list(data))
    squares = (data - data.mean()) ** 2
    np.testing.assert_allclose(found.mean, data.mean(), rtol=1e-6)
    np.testing.assert_allclose(found.variance, data.var(), rtol=1e-6)
    np.testing.assert_allclose(found.squares, squares, rtol=1e-6)
    np.testing.assert_allclose(found.all, (squares - data.var()) ** 2, rtol=1e-5)
    np.testing.assert_allclose(found.largest, ((squares - data.var()) ** 2).max(), rtol=1e-5)
    assert (found.counted, found.constant) == (5, 2.5)
