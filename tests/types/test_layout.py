"""A long type is laid out in lines that show its structure, and is still the same type."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hansa.types import CLIENTS, FederatedType, StructType, Type, parse_type
from hansa.types.layout import lay_out
from tests.types.strategies import types

TYPE = (
    "(<state=<weights=<float32[64,128],float32[128]>,n=int32>@SERVER,"
    "data={<x=float32[?,64]>*}@CLIENTS> -> int32@SERVER)"
)
LAID_OUT = """(
  <
    state=<weights=<float32[64,128],float32[128]>,n=int32>@SERVER,
    data={<x=float32[?,64]>*}@CLIENTS
  > ->
  int32@SERVER
)"""


def test_a_type_is_printed_in_lines_that_show_its_structure_where_it_is_longer_than_one():
    type_ = parse_type(TYPE)
    assert str(type_) == LAID_OUT
    assert f"{type_}" == type_.compact() == lay_out(TYPE, 200) == TYPE
    assert repr(type_) == f"to_type({TYPE!r})"
    assert f"{parse_type('int32'):>8}" == "   int32"


@given(types(), st.integers(1, 60))
@example(parse_type("( -> {bfloat16}@CLIENTS)"), 19)
def test_a_laid_out_type_is_the_same_type(type_: Type, width: int):
    laid_out = lay_out(type_.compact(), width)
    assert parse_type(laid_out) == type_
    assert "".join(laid_out.split()) == "".join(type_.compact().split())
    if "\n" not in laid_out:
        # Tensors, empty structs and functions without a parameter have nothing to break at.
        assert len(laid_out) < width or not set('<({"') & set(laid_out.replace("<>", "").replace("( ->", ""))


def long_type(size: int, **others: str) -> FederatedType:
    """A state of forty layers, the last of them of some size."""
    fields = [(f"layer_{number}/kernel", "float32[784,10]") for number in range(40)]
    state = StructType([*fields, ("last", f"float32[{size}]"), *others.items()])
    return FederatedType(state, CLIENTS, all_equal=True)


def test_of_two_long_types_the_lines_that_differ_are_shown_after_the_place():
    with pytest.raises(TypeError) as raised:
        long_type(3).check_assignable_from(long_type(4), "the state")
    assert str(raised.value).splitlines() == [
        "the state.last: expected float32[3], found float32[4]",
        "  in full, - is expected and + is found:",
        "      ...",
        "        layer_38/kernel=float32[784,10],",
        "        layer_39/kernel=float32[784,10],",
        "    -   last=float32[3]",
        "    +   last=float32[4]",
        "      >@CLIENTS",
    ]


def test_fields_that_are_missing_in_a_long_type_are_named_without_all_the_others():
    with pytest.raises(TypeError) as raised:
        long_type(3, rate="float32").check_assignable_from(long_type(3), "the state")
    lines = str(raised.value).splitlines()
    assert lines[0] == "the state: two types that differ; missing: rate"
    assert [line for line in lines[2:] if line.strip()[0] in "-+"] == ["    -   rate=float32"]
