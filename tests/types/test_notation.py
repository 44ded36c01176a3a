"""The notation is read back to the type that printed it, and errors point at their place."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hansa.types import (
    CLIENTS,
    SERVER,
    FederatedType,
    FunctionType,
    SequenceType,
    StructType,
    TensorType,
    Type,
    parse_type,
)
from tests.types.strategies import types

INT = TensorType("int32")


@given(types())
def test_a_type_is_read_back_from_its_notation(type_: Type) -> None:
    for text in (str(type_), type_.compact(), eval(repr(type_), {"to_type": lambda notation: notation})):
        assert parse_type(text) == type_


@given(types(), st.data())
def test_white_space_does_not_matter(type_: Type, data: st.DataObject) -> None:
    spaced = type_.compact()
    for mark in "<,*@{}()[]":  # not the > of an arrow
        if '"' not in spaced:
            spaced = spaced.replace(mark, data.draw(st.sampled_from([f" {mark} ", f"\n{mark}", mark])))
    assert parse_type(f" {spaced}\t") == type_


@given(st.text(alphabet='<>,=*@{}()[]"?-> aint32CLIENTS', max_size=30))
def test_any_text_is_read_or_refused_with_a_value_error(text: str) -> None:
    try:
        type_ = parse_type(text)
    except ValueError as error:
        assert str(error).endswith("^")
    else:
        assert parse_type(str(type_)) == type_


@pytest.mark.parametrize(
    ("notation", "type_"),
    [
        ("int32", INT),
        ("str", TensorType(str)),
        ("bfloat16[?,784]", TensorType("bfloat16", [None, 784])),
        ("<>", StructType([])),
        ("<int32,a=int32>", StructType([(None, INT), ("a", INT)])),
        ("<lstm/lstm_cell/kernel:0=int32>", StructType([("lstm/lstm_cell/kernel:0", INT)])),
        ('<"a b"=int32,""=int32,"x\\"<"=int32>', StructType([("a b", INT), ("", INT), ('x"<', INT)])),
        ("<int32=int32>", StructType([("int32", INT)])),
        ("int32*", SequenceType(INT)),
        ("(int32 -> int32)", FunctionType(INT, INT)),
        ("( -> <a=int32>@SERVER)", FunctionType(None, FederatedType(StructType([("a", INT)]), SERVER))),
        ("{int32*}@CLIENTS", FederatedType(SequenceType(INT), CLIENTS)),
        ("int32@CLIENTS", FederatedType(INT, CLIENTS, all_equal=True)),
        ("int32*@SERVER", FederatedType(SequenceType(INT), SERVER)),
        ("{int32}@SERVER", FederatedType(INT, SERVER, all_equal=False)),
    ],
)
def test_the_notation_of_each_type(notation: str, type_: Type) -> None:
    assert type_.compact() == f"{type_}" == notation
    assert parse_type(notation) == type_


@pytest.mark.parametrize(
    "notation",
    [
        "{<x=float32[?,784],y=int32[?,1]>*}@CLIENTS",
        "(<x=float32[?,784]> -> float32)",
        "( -> <model=<trainable=<dense/bias=float32[512],dense/kernel=float32[784,512],dense_1/bias=float32[10],"
        "dense_1/kernel=float32[512,10]>,non_trainable=<>>,optimizer_state=<int64>>@SERVER)",
        "(<<model=<int32>>@SERVER,{<x=float32[?,784]>*}@CLIENTS> -> <<model=<int32>>@SERVER,<loss=float32>@SERVER>)",
    ],
)
def test_notations_of_the_field_print_as_they_were_read(notation: str) -> None:
    assert parse_type(notation).compact() == notation


def test_an_arrow_needs_no_space() -> None:
    assert parse_type("(int32->int32)") == parse_type("(->int32)").__class__(INT, INT)


@pytest.mark.parametrize(
    ("text", "message", "caret"),
    [
        ("", "expected a type, found the end", 0),
        ("flot32", "there is no dtype 'flot32'; did you mean 'float32'?", 0),
        ("int32 int32", "expected the end of the type, '*' or '@', found 'int32'", 6),
        ("<a=int32 b=int32>", "expected ',' or '>', found 'b'", 9),
        ("<a=>", "expected a type, found '>'", 3),
        ('<"a b" int32>', "expected '=' and a type after the name, found 'int32'", 7),
        ('<"a b=int32>', "expected the closing '\"' of a name", 1),
        ('<"\\q"=int32>', "expected a name as a JSON string", 1),
        ("<a=int32,b=<c=int8,c=int8>>", "two fields have the name 'c'", 11),
        ("float32[a]", "expected a size, that is a number or '?', found 'a'", 8),
        ("float32[3", "expected ',' or ']', found the end", 9),
        ("int32[?]**", "a sequence cannot hold a sequence", 0),
        ("(int32)", "expected '->', '*' or '@', found ')'", 6),
        ("( -> int32", "expected ')', '*' or '@', found the end", 10),
        ("{int32}", "expected '@' and a placement after {…}, found the end", 7),
        ("{int32}@CLIENT", "expected the placement CLIENTS or SERVER, found 'CLIENT'", 8),
        ("{int32@SERVER}@CLIENTS", "a federated value cannot hold a federated value", 0),
    ],
)
def test_an_error_says_what_was_expected_and_where(text: str, message: str, caret: int) -> None:
    with pytest.raises(ValueError) as caught:
        parse_type(text)
    first, line, pointer = str(caught.value).split("\n")
    assert first.startswith("this is no type: ")
    assert message in first
    assert line == f"  {text}"
    assert pointer == "  " + " " * caret + "^"


def test_a_long_line_is_cut_around_the_place() -> None:
    fields = ",".join(f"field_{index}=int32" for index in range(100))
    with pytest.raises(ValueError) as caught:
        parse_type(f"<{fields},oops,{fields}>")
    _, line, pointer = str(caught.value).split("\n")
    assert line.startswith("  …") and line.endswith("…") and len(line) < 130
    assert line[pointer.index("^") :].startswith("oops")
