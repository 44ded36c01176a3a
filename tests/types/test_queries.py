"""What a type contains, and whether it can be added up."""

from __future__ import annotations

import pytest

from hansa.types import (
    SequenceType,
    TensorType,
    contains,
    is_federated,
    is_fully_defined,
    is_inexact,
    is_integer,
    is_numeric,
    is_tensor_structure,
    parse_type,
    tensor_leaves,
)


@pytest.mark.parametrize(
    ("notation", "numeric", "integer", "inexact"),
    [
        ("int32", True, True, False),
        ("uint8[3]", True, True, False),
        ("bfloat16", True, False, True),
        ("<a=float32[?],b=<complex64>>", True, False, True),
        ("<int32,float32>", True, False, False),
        ("<>", True, True, True),
        ("bool", False, False, False),
        ("<int32,str>", False, False, False),
        ("int32*", False, False, False),
        ("int32@SERVER", False, False, False),
        ("( -> int32)", False, False, False),
    ],
)
def test_kinds_of_numbers(notation: str, numeric: bool, integer: bool, inexact: bool) -> None:
    type_ = parse_type(notation)
    assert (is_numeric(type_), is_integer(type_), is_inexact(type_)) == (numeric, integer, inexact)


def test_leaves_and_components() -> None:
    type_ = parse_type("(<x=float32[?],y=int32>* -> {<a=str>}@CLIENTS)")
    assert [str(leaf) for leaf in tensor_leaves(type_)] == ["float32[?]", "int32", "str"]
    assert contains(type_, lambda component: isinstance(component, SequenceType))
    assert contains(type_, lambda component: component == type_)
    assert not contains(type_, lambda component: component == TensorType("int8"))


def test_further_questions() -> None:
    assert is_federated(parse_type("<a=<int32@SERVER>>")) and not is_federated(parse_type("int32*"))
    assert is_fully_defined(parse_type("<int32[3]>*")) and not is_fully_defined(parse_type("<int32[?]>*"))
    assert is_tensor_structure(parse_type("<a=<str>>")) and not is_tensor_structure(parse_type("<int32*>"))
