"""The five types: their constraints, their fields, equality, and what is assignable to what."""

from __future__ import annotations

import copy
import pickle

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hansa.types import (
    CLIENTS,
    SERVER,
    FederatedType,
    FunctionType,
    Placement,
    SequenceType,
    Struct,
    StructType,
    TensorType,
    Type,
    parse_type,
    to_type,
)
from hansa.types.layout import WIDTH
from tests.types.strategies import related, types

INT = TensorType("int32")
FLOATS = TensorType("float32", [None, 784])


def test_a_placement_prints_its_name() -> None:
    assert str(CLIENTS) == repr(CLIENTS) == CLIENTS.name == "CLIENTS"
    assert Placement("SERVER") is SERVER


def test_a_tensor_type_keeps_its_dtype_and_shape() -> None:
    assert FLOATS.dtype == np.dtype(np.float32)
    assert FLOATS.shape == (None, 784)
    assert TensorType(ml_dtypes.bfloat16).dtype == np.dtype(ml_dtypes.bfloat16)
    assert TensorType(int) == INT
    assert TensorType(str) == TensorType(np.dtype("U7"))


@pytest.mark.parametrize(
    ("shape", "error", "message"),
    [
        (784, TypeError, r"a shape is a tuple of sizes, such as \(784,\); found 784"),
        ([1.5], TypeError, r"a size is an integer, or None where it is unknown; found 1.5"),
        ([True], TypeError, r"a size is an integer"),
        ([2, -1], ValueError, r"found -1 in the shape \(2, -1\)"),
    ],
)
def test_a_tensor_type_refuses_what_is_no_shape(shape: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        TensorType("int32", shape)  # type: ignore[arg-type]


def test_a_struct_type_gives_its_fields_by_index_name_and_iteration() -> None:
    struct = StructType([("x", INT), (None, FLOATS)])
    assert struct[0] == struct["x"] == INT
    assert struct[-1] == FLOATS
    assert struct.names == ("x", None)
    assert list(struct) == [INT, FLOATS]
    assert len(struct) == 2
    with pytest.raises(KeyError, match="there is no field 'y'"):
        struct["y"]


def test_members_may_be_given_as_specs() -> None:
    assert StructType([("x", int), (None, (np.float32, [None, 784]))]) == StructType([("x", INT), (None, FLOATS)])
    assert SequenceType("float32[?,784]") == SequenceType(FLOATS)
    assert FunctionType(None, int) == FunctionType(None, INT)
    assert FederatedType(int, SERVER) == FederatedType(INT, SERVER)


def test_the_empty_struct_type_is_not_false() -> None:
    assert StructType([])


def test_a_struct_type_refuses_a_name_twice_and_members_that_are_no_types() -> None:
    with pytest.raises(ValueError, match="two fields have the name 'x'"):
        StructType([("x", INT), ("x", INT)])
    with pytest.raises(TypeError, match=r"the float 1\.5 is no type"):
        StructType([("x", 1.5)])
    with pytest.raises(TypeError, match="a subclass of Struct"):
        StructType([], container=dict)  # type: ignore[arg-type]


def test_the_container_takes_no_part_in_equality() -> None:
    class Output(Struct):
        pass

    plain, special = StructType([("x", INT)]), StructType([("x", INT)], Output)
    assert plain == special
    assert hash(plain) == hash(special)
    assert str(plain) == str(special)
    assert special.container is Output


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: SequenceType(SequenceType(INT)), r"a sequence cannot hold a sequence; found int32\*$"),
        (
            lambda: SequenceType(StructType([("f", FunctionType(None, INT))])),
            r"a sequence cannot hold a function; found \( -> int32\) in <f=\( -> int32\)>",
        ),
        (lambda: SequenceType(FederatedType(INT, SERVER)), "a sequence cannot hold a federated value"),
        (
            lambda: FederatedType(FederatedType(INT, SERVER), CLIENTS),
            "cannot hold a federated value; found int32@SERVER",
        ),
        (lambda: FederatedType(FunctionType(None, INT), CLIENTS), "a federated value cannot hold a function"),
        (lambda: FederatedType(INT, "CLIENTS"), "has the placement CLIENTS or SERVER; found 'CLIENTS'"),
    ],
)
def test_what_a_type_must_not_hold_is_refused(build: object, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        build()  # type: ignore[operator]


def test_a_federated_type_is_all_equal_at_the_server_by_default() -> None:
    assert FederatedType(INT, SERVER).all_equal
    assert not FederatedType(INT, CLIENTS).all_equal
    assert FederatedType(INT, CLIENTS, all_equal=True).all_equal


def test_types_are_immutable() -> None:
    with pytest.raises(AttributeError):
        INT.shape = (3,)  # type: ignore[misc]


@given(types())
def test_types_are_hashable_and_equal_by_structure(type_: Type) -> None:
    for twin in (copy.deepcopy(type_), pickle.loads(pickle.dumps(type_)), parse_type(str(type_))):
        assert twin == type_
        assert hash(twin) == hash(type_)


@given(types(), types())
def test_types_are_equal_just_if_their_notations_are(one: Type, other: Type) -> None:
    assert (one == other) == (str(one) == str(other))


@given(types())
def test_the_repr_evaluates_to_the_type(type_: Type) -> None:
    assert eval(repr(type_), {"to_type": to_type}) == type_


@given(types())
def test_assignability_is_reflexive(type_: Type) -> None:
    assert type_.is_assignable_from(type_)


@given(st.data(), types())
def test_assignability_is_transitive(data: st.DataObject, low: Type) -> None:
    middle = data.draw(related(low))
    high = data.draw(related(middle))
    assert middle.is_assignable_from(low)
    assert high.is_assignable_from(middle)
    assert high.is_assignable_from(low)


@given(st.data(), types(), st.booleans())
def test_assignability_is_antisymmetric(data: st.DataObject, one: Type, above: bool) -> None:
    other = data.draw(related(one, above))
    assert (one.is_assignable_from(other) and other.is_assignable_from(one)) == (one == other)


@given(types(), types())
def test_the_check_raises_just_if_the_source_is_not_assignable(target: Type, source: Type) -> None:
    if target.is_assignable_from(source):
        target.check_assignable_from(source)
    else:
        with pytest.raises(TypeError) as caught:
            target.check_assignable_from(source)
        message = str(caught.value)
        if max(len(target.compact()), len(source.compact())) <= WIDTH:
            assert target.compact() in message
            assert source.compact() in message
        else:
            assert "in full, - is expected and + is found:\n" in message


@pytest.mark.parametrize(
    ("target", "source", "assignable"),
    [
        ("float32[?,784]", "float32[100,784]", True),
        ("float32[100]", "float32[?]", False),
        ("float32[?]", "float32[?,?]", False),
        ("float32", "int32", False),
        ("<a=int32>", "<int32>", True),
        ("<int32>", "<a=int32>", False),
        ("<a=int32>", "<b=int32>", False),
        ("<int32,int32>", "<int32>", False),
        ("<int32>", "int32", False),
        ("float32[?]*", "float32[3]*", True),
        ("{int32}@CLIENTS", "int32@CLIENTS", True),
        ("int32@CLIENTS", "{int32}@CLIENTS", False),
        ("{int32}@CLIENTS", "{int32}@SERVER", False),
        ("int32@SERVER", "int32", False),
        ("(int32[3] -> int32[?])", "(int32[?] -> int32[3])", True),
        ("(int32[?] -> int32)", "(int32[3] -> int32)", False),
        ("( -> int32)", "(int32 -> int32)", False),
        ("( -> int32)", "( -> int32)", True),
    ],
)
def test_assignability_follows_the_rules(target: str, source: str, assignable: bool) -> None:
    assert parse_type(target).is_assignable_from(parse_type(source)) is assignable


@pytest.mark.parametrize(
    ("target", "source", "message"),
    [
        ("int32", "<int32>", "state: expected int32, found <int32>"),
        ("int32", "int64", "state: expected int32, found int64; dtypes are never cast implicitly"),
        ("int32[3]", "int32[?]",
         "state: expected int32[3], found int32[?]; an unknown size does not go to a known one"),
        (
            "<model=<dense/kernel=float32[784,10],b=int32[?]>,s=int32>",
            "<model=<dense/kernel=float64[784,10],b=int32[5]>,s=int32>",
            "state.model['dense/kernel']: expected float32[784,10], found float64[784,10]; "
            "dtypes are never cast implicitly\n"
            "  expected, in full: <model=<dense/kernel=float32[784,10],b=int32[?]>,s=int32>\n"
            "  found, in full:    <model=<dense/kernel=float64[784,10],b=int32[5]>,s=int32>",
        ),
        ("<a=int32,b=int32>", "<a=int32,c=int32,d=int32>",
         "state: expected <a=int32,b=int32>, found <a=int32,c=int32,d=int32>; missing: b, surplus: c, d"),
        ("<a=int32,b=int32>", "<b=int32,a=int32>",
         "state: expected <a=int32,b=int32>, found <b=int32,a=int32>; the fields are the same, but in another order"),
        (
            "<int32>",
            "<a=int32>",
            "state[0]: expected int32, found a=int32; a field with a name does not go to one without\n"
            "  expected, in full: <int32>\n"
            "  found, in full:    <a=int32>",
        ),
        (
            "<<a=int8,b=int8>,<int8,int8>>",
            "<<a=int16,b=int16>,<int16,int16>>",
            "state[0].a: expected int8, found int16; dtypes are never cast implicitly\n"
            "  and [0].b: expected int8, found int16; dtypes are never cast implicitly\n"
            "  and [1][0]: expected int8, found int16; dtypes are never cast implicitly\n"
            "  and 1 more\n"
            "  expected, in full: <<a=int8,b=int8>,<int8,int8>>\n"
            "  found, in full:    <<a=int16,b=int16>,<int16,int16>>",
        ),
        (
            "{int32}@CLIENTS",
            "{int64}@CLIENTS",
            "state: expected int32, found int64; dtypes are never cast implicitly\n"
            "  expected, in full: {int32}@CLIENTS\n"
            "  found, in full:    {int64}@CLIENTS",
        ),
        ("int32@CLIENTS", "{int32}@CLIENTS",
         "state: expected int32@CLIENTS, found {int32}@CLIENTS; its members at the clients need not be equal"),
        (
            "(int32 -> int32)",
            "( -> int32)",
            "state(parameter): expected int32, found no parameter\n"
            "  expected, in full: (int32 -> int32)\n"
            "  found, in full:    ( -> int32)",
        ),
    ],
)  # fmt: skip
def test_the_message_leads_to_the_place_where_types_part(target: str, source: str, message: str) -> None:
    with pytest.raises(TypeError) as caught:
        parse_type(target).check_assignable_from(parse_type(source), "state")
    assert str(caught.value) == message
