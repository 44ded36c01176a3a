"""Protected sums never wrap, tell how much was clipped, and take a bound for each tensor."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
import pytest

import hansa
from hansa.types import Struct

RUNTIMES = [hansa.InProcessRuntime(), hansa.InProcessRuntime(clients_per_chunk=2), hansa.ReferenceRuntime()]
NAMES = ["whole", "in chunks", "reference"]


@pytest.fixture(params=RUNTIMES, ids=NAMES)
def runtime(request):
    with hansa.runtime(request.param):
        yield request.param


def summed(kind, bound):
    return hansa.federated_computation(lambda x: hansa.federated_secure_sum(x, bound), f"{{{kind}}}@CLIENTS")


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"])
def test_a_sum_is_right_up_to_the_last_client_that_fits_and_refused_from_there(dtype, runtime):
    bound = int(np.iinfo(dtype).max) // 5
    total = summed(dtype, bound)
    values = [np.array(bound + 1, dtype)] * 6
    found = total(values[:5])
    assert found.dtype == dtype and int(found) == 5 * bound
    wider = {"int8": "int16", "uint8": "uint16", "int16": "int32", "uint16": "uint32", "int32": "int64"}
    wider |= {"uint32": "uint64", "int64": "uint64"}
    remedy = f"convert the values to {wider[dtype]} in a local" if dtype in wider else "give a smaller bound"
    with pytest.raises(
        ValueError, match=rf"6 clients with values of up to {bound} may add up to {6 * bound}.*{remedy}"
    ):
        total(values)


@pytest.mark.parametrize("bound", [2**63, 2**64 - 1])
def test_a_bound_may_be_as_large_as_uint64_holds(bound, runtime):
    @hansa.federated_computation("{uint64}@CLIENTS", "uint64@SERVER")
    def total(x, most):
        return hansa.federated_secure_sum(x, bound), hansa.federated_secure_sum(x, most)

    for value in (3, bound - 1, 2**64 - 1):
        assert list(map(int, total([np.uint64(value)], np.uint64(bound)))) == [min(value, bound)] * 2


def test_a_bound_that_the_dtype_does_not_hold_is_refused_where_it_is_written():
    with pytest.raises(
        ValueError, match=r"max_input .* allows values of up to 256, and uint8 holds no more than 255; "
    ):
        summed("uint8", 256)
    with pytest.raises(ValueError, match=r"up to 128 at \.b, and int8 .* convert the values to int16"):
        summed("<a=int32,b=int8>", 128)
    with pytest.raises(
        ValueError, match=r"bitwidth .* allows .* 4611686018427387903, and int32 .* convert .* to int64"
    ):
        hansa.federated_computation(lambda x: hansa.federated_secure_sum_bitwidth(x, 62), "{int32}@CLIENTS")
    summed("uint8", 255)


def test_what_the_error_says_to_write_makes_the_sum_fit(runtime):
    largest = 2**31 - 1
    with pytest.raises(ValueError, match=r"to int64 in a local computation first, with jax.enable_x64\(True\)"):
        summed("int32", largest)([largest] * 3)

    @hansa.jax_computation("int32")
    def converted(x):
        with jax.enable_x64(True):
            return x.astype("int64")

    @hansa.federated_computation("{int32}@CLIENTS")
    def total(x):
        return hansa.federated_secure_sum(hansa.federated_map(converted, x), largest)

    assert total([largest] * 3) == 3 * largest


def test_no_work_is_done_before_a_sum_is_refused():
    worked = []

    def seen(x):
        worked.append(int(x))
        return x

    @hansa.federated_computation("{int8}@CLIENTS")
    def total(x):
        work = hansa.jax_computation(lambda x: jax.pure_callback(seen, jax.ShapeDtypeStruct((), np.int8), x))
        return hansa.federated_secure_sum(hansa.federated_map(work, x), 100)

    with pytest.raises(ValueError, match="convert the values to int16"):
        total([np.int8(3)] * 2)
    assert not worked
    assert total([np.int8(3)]) == 3 and worked == [3]


def test_a_bound_at_the_server_is_looked_at_before_the_call(runtime):
    @hansa.federated_computation("{int16}@CLIENTS", "<most=int32,spare=float32>@SERVER")
    def total(x, state):
        doubled = hansa.federated_map(hansa.jax_computation(lambda state: 2 * state.most), state)
        return hansa.federated_secure_sum(x, doubled)

    assert total([np.int16(9000), np.int16(7), np.int16(-1)], {"most": 5000, "spare": 0.0}) == 9007
    with pytest.raises(ValueError, match=r"3 clients with values of up to 12000 may add up to 36000.* to int32"):
        total([np.int16(9000), np.int16(7), np.int16(-1)], {"most": 6000, "spare": 0.0})
    with pytest.raises(ValueError, match="the bound must not be negative, and the server has -6"):
        total([np.int16(9000)] * 2, {"most": -3, "spare": 0.0})


def test_a_bound_that_the_round_makes_may_be_as_large_as_its_dtype():
    def adaptive(kind, bound):
        @hansa.federated_computation(f"{{{kind}}}@CLIENTS", f"{{{bound}}}@CLIENTS")
        def total(x, reach):
            return hansa.federated_secure_sum(x, hansa.federated_max(reach))

        return total

    assert adaptive("int64", "int32")([70, 3], [np.int32(5), np.int32(50)]) == 53
    with pytest.raises(ValueError, match=r"2 clients with values of up to 2147483647 .* convert the values to int64"):
        adaptive("int32", "int32")([70, 3], [np.int32(5), np.int32(50)])


@pytest.mark.parametrize(
    "bounds", [{"b": 9, "a": {"x": 3, "y": 200}}, ({"x": 3, "y": 200}, 9), Struct([("a", [3, 200]), ("b", 9)])]
)
def test_a_bound_for_each_tensor(bounds, runtime):
    @hansa.federated_computation("{<a=<x=int8[2],y=int32>,b=uint16>}@CLIENTS")
    def total(x):
        return hansa.federated_secure_sum(x, bounds, count_clipped=True)

    rng = np.random.default_rng(3)
    x, y, b = rng.integers(-9, 9, (5, 2), "int8"), rng.integers(-300, 300, 5, "int32"), rng.integers(0, 20, 5, "uint16")
    found = total([{"a": {"x": x[i], "y": y[i]}, "b": b[i]} for i in range(5)])
    expected = [x.clip(0, 3), y.clip(0, 200), b.clip(0, 9)]
    np.testing.assert_array_equal(found.sum.a.x, expected[0].sum(0))
    assert (found.sum.a.y, found.sum.b) == (expected[1].sum(), expected[2].sum())
    assert found.num_clipped == sum(int((raw != kept).sum()) for raw, kept in zip((x, y, b), expected, strict=True))


def test_bits_and_server_bounds_for_each_tensor(runtime):
    @hansa.federated_computation("{<a=int32,b=int32>}@CLIENTS", "<a=int32,b=int8>@SERVER")
    def total(x, most):
        return hansa.federated_secure_sum_bitwidth(x, {"b": 2, "a": 5}), hansa.federated_secure_sum(x, most)

    bits, bounded = total([{"a": 100, "b": 100}, {"a": 1, "b": 1}], {"a": 50, "b": np.int8(7)})
    assert bits == Struct([("a", 32), ("b", 4)])
    assert bounded == Struct([("a", 51), ("b", 8)])

    @hansa.federated_computation("{<a=int32,b=int32>}@CLIENTS", "int8@SERVER", "int32@SERVER")
    def swapped(x, b, a):
        return hansa.federated_secure_sum(x, {"b": b, "a": a})

    assert swapped([{"a": 100, "b": 100}, {"a": 1, "b": 1}], np.int8(7), 50) == Struct([("a", 51), ("b", 8)])


@pytest.mark.parametrize(
    ("bound", "message"),
    [
        ({"a": 3}, "max_input .*: expected the fields a, b, but the field 'b' is missing"),
        ({"a": 3, "c": 3}, "max_input"),
        ({"a": 3, "b": 2.5}, "max_input"),
        ({"a": 3, "b": -1}, r"must not be negative, found -1 at \.b"),
        ({"a": 3, "b": True}, "max_input"),
        (True, "max_input"),
        (None, "max_input"),
        ("10", "max_input"),
        ([[1, 2], 3], "max_input"),
        (np.arange(2), "max_input"),
    ],
)
def test_bounds_of_another_form_are_refused(bound, message):
    with pytest.raises((TypeError, ValueError), match=message):
        summed("<a=int32,b=uint8>", bound)


def test_the_count_is_one_more_protected_sum():
    counted = hansa.federated_computation(
        lambda x: hansa.federated_secure_sum(x, 10, count_clipped=True), "{int32[3]}@CLIENTS"
    )
    assert counted.type_signature.result.compact() == "<sum=int32[3]@SERVER,num_clipped=int64@SERVER>"
    text = str(hansa.explain(counted))
    assert text.count("secure_sum at the server, protected") == 2
    assert "8 bytes -> secure_sum at the server, protected" in text


def test_a_file_keeps_the_bounds(tmp_path: Path):
    @hansa.federated_computation("{int8}@CLIENTS", "int8@SERVER")
    def total(x, most):
        return hansa.federated_secure_sum(x, 40), hansa.federated_secure_sum(x, most, count_clipped=True)

    hansa.save(total, tmp_path / "total.hansa")
    loaded = hansa.load(tmp_path / "total.hansa")
    values = [np.int8(50), np.int8(-50), np.int8(5)]
    for computation in (total, loaded):
        plain, counted = computation(values, np.int8(10))
        assert (plain, counted.sum, counted.num_clipped) == (45, 15, 2)
        with pytest.raises(ValueError, match="4 clients with values of up to 40 may add up to 160"):
            computation([*values, np.int8(1)], np.int8(10))
        with pytest.raises(ValueError, match="3 clients with values of up to 50 may add up to 150"):
            computation(values, np.int8(50))


@pytest.mark.parametrize(
    "kind", ["<a=int32,c=int32>@SERVER", "<int32,int32,int32>@SERVER", "<a=int32,b=float32>@SERVER"]
)
def test_server_bounds_of_another_form_are_refused(kind):
    with pytest.raises(TypeError, match=r"expected an integer for each tensor of <a=int32,b=uint8>, like"):
        hansa.federated_computation(
            lambda x, most: hansa.federated_secure_sum(x, most), "{<a=int32,b=uint8>}@CLIENTS", kind
        )


@pytest.mark.parametrize(
    "runtime", [hansa.InProcessRuntime(), hansa.ReferenceRuntime()], ids=lambda r: type(r).__name__
)
def test_a_range_may_begin_below_zero(runtime):
    @hansa.federated_computation("{<a=int32[2],b=int64>}@CLIENTS", "int32@SERVER")
    def totals(values, low):
        fixed = hansa.federated_secure_sum(values, {"a": 5, "b": 100}, {"a": -7, "b": 10}, count_clipped=True)
        moving = hansa.federated_secure_sum(values, 5, low)
        return {"fixed": fixed, "moving": moving}

    given = [{"a": np.int32([-9, 3]), "b": np.int64(7)}, {"a": np.int32([4, 50]), "b": np.int64(-200)}]
    with hansa.runtime(runtime):
        found = totals(given, -3)
    np.testing.assert_array_equal(found.fixed.sum.a, [-3, 8])
    assert found.fixed.sum.b == 20 and found.fixed.num_clipped == 4
    np.testing.assert_array_equal(found.moving.a, [1, 8])
    assert found.moving.b == 2


def test_a_sum_of_negative_numbers_does_not_wrap_around_either():
    @hansa.federated_computation("{int32}@CLIENTS")
    def total(values):
        return hansa.federated_secure_sum(values, 0, -(2**30))

    assert total([-(2**30)]) == -(2**30)
    for runtime in (hansa.InProcessRuntime(), hansa.ReferenceRuntime()):
        with hansa.runtime(runtime), pytest.raises(ValueError, match=r"2 clients .* int64"):
            total([-(2**30)] * 2)


@pytest.mark.parametrize(
    ("kind", "low", "high", "message"),
    [
        ("int32", 5, 3, "max_input must be no less than the min_input; found 5 to 3"),
        ("uint32", -1, 3, "holds no number below 0"),
        ("int32", -(2**40), 3, "int32 holds no more than"),
    ],
)
def test_a_range_that_is_none_is_refused(kind, low, high, message):
    with pytest.raises(ValueError, match=message):
        hansa.federated_computation(f"{{{kind}}}@CLIENTS")(lambda x: hansa.federated_secure_sum(x, high, low))
