"""The least type that two types are assignable to."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from hansa.types import Struct, StructType, TensorType, Type, common_type, parse_type
from tests.types.strategies import related, types


@given(st.data(), types())
def test_two_types_below_a_third_have_a_bound_below_it(data: st.DataObject, high: Type) -> None:
    one, other = data.draw(related(high, above=False)), data.draw(related(high, above=False))
    bound = common_type(one, other)
    assert bound.is_assignable_from(one)
    assert bound.is_assignable_from(other)
    assert high.is_assignable_from(bound)


@given(types(), types())
def test_the_bound_does_not_depend_on_the_order(one: Type, other: Type) -> None:
    try:
        bound = common_type(one, other)
    except TypeError:
        with pytest.raises(TypeError):
            common_type(other, one)
    else:
        assert bound == common_type(other, one)


@given(st.data(), types())
def test_the_bound_of_a_type_and_one_above_it_is_that(data: st.DataObject, low: Type) -> None:
    high = data.draw(related(low))
    assume(high.is_assignable_from(low))
    assert common_type(low, high) == high


@pytest.mark.parametrize(
    ("one", "other", "bound"),
    [
        ("int32[3,4]", "int32[3,5]", "int32[3,?]"),
        ("<int32[3]>", "<a=int32[?]>", "<a=int32[?]>"),
        ("int32[3]*", "int32[4]*", "int32[?]*"),
        ("int32@CLIENTS", "{int32}@CLIENTS", "{int32}@CLIENTS"),
        ("(int32[?,3] -> int32[1])", "(int32[2,?] -> int32[2])", "(int32[2,3] -> int32[?])"),
        ("(<a=int32> -> int8)", "(<int32> -> int8)", "(<int32> -> int8)"),
    ],
)
def test_bounds(one: str, other: str, bound: str) -> None:
    assert str(common_type(parse_type(one), parse_type(other))) == bound


@pytest.mark.parametrize(
    ("one", "other", "message"),
    [
        ("int32", "int64", "int32 and int64 have no type in common"),
        ("int32[3]", "int32", "int32[3] and int32 have no type in common"),
        (
            "<a=<b=int32>>",
            "<a=<b=int64>>",
            "<a=<b=int32>> and <a=<b=int64>> have no type in common: at .a.b one has int32, the other int64",
        ),
        (
            "<a=int32>",
            "<b=int32>",
            "<a=int32> and <b=int32> have no type in common: at [0] one has a=int32, the other b=int32",
        ),
        (
            "(int8[2] -> int8)",
            "(int8[3] -> int8)",
            "(int8[2] -> int8) and (int8[3] -> int8) have no type in common: "
            "at (parameter) one has int8[2], the other int8[3]",
        ),
    ],
)
def test_types_without_a_bound_are_named(one: str, other: str, message: str) -> None:
    with pytest.raises(TypeError) as caught:
        common_type(parse_type(one), parse_type(other))
    assert str(caught.value) == message


def test_a_container_that_both_have_is_kept() -> None:
    class Output(Struct):
        pass

    fields = [("a", TensorType(int))]
    bound = common_type(StructType(fields, Output), StructType(fields, Output))
    assert isinstance(bound, StructType) and bound.container is Output
    bound = common_type(StructType(fields, Output), StructType(fields))
    assert isinstance(bound, StructType) and bound.container is None
