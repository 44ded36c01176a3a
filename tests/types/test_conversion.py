"""Types from specs, and types of values."""

from __future__ import annotations

import collections
import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hansa.types import Struct, StructType, TensorType, Type, infer_type, to_type
from tests.types.strategies import types, value_types, values_of


class Batch(NamedTuple):
    x: TensorType("float32", [None, 784])  # type: ignore[valid-type]
    y: np.int32
    z: "float32[?]*"  # type: ignore[valid-type]  # noqa: F722


@dataclasses.dataclass
class Pair:
    first: Any
    second: int


class Output(Struct):
    pass


class TensorShape:
    """As TensorFlow's: iterable, but neither a list nor a tuple."""

    def __init__(self, *sizes: int | None) -> None:
        self._sizes = sizes

    def __iter__(self) -> Any:
        return iter(self._sizes)


@dataclasses.dataclass
class DType:
    """As TensorFlow's."""

    name: str
    as_numpy_dtype: Any


@dataclasses.dataclass
class Spec:
    shape: Any
    dtype: Any


@dataclasses.dataclass
class DatasetSpec:
    element_spec: Any


TF_FLOAT = DType("float32", np.float32)


@given(types())
def test_a_type_is_its_own_type_and_its_notation_is_too(type_: Type) -> None:
    assert to_type(type_) is type_
    assert to_type(str(type_)) == type_


@pytest.mark.parametrize(
    ("spec", "notation"),
    [
        (np.float32, "float32"),
        (np.dtype("int8"), "int8"),
        (jnp.bfloat16, "bfloat16"),
        (int, "int32"),
        (float, "float32"),
        (bool, "bool"),
        (str, "str"),
        (TF_FLOAT, "float32"),
        (DType("string", object), "str"),
        ((np.float32, [None, 784]), "float32[?,784]"),
        ((np.float32, ()), "float32"),
        (("float32", (3,)), "float32[3]"),
        ((TF_FLOAT, TensorShape(None, 3)), "float32[?,3]"),
        ((np.float32, np.int32), "<float32,int32>"),
        ([np.float32, [3]][:1], "<float32>"),
        ((np.float32, [int]), "<float32,<int32>>"),
        (("int32", "int32*"), "<int32,int32*>"),
        ((), "<>"),
        ({"b": int, "a": [float, (bool, [2])]}, "<b=int32,a=<float32,bool[2]>>"),
        (collections.OrderedDict(x="int32[3]"), "<x=int32[3]>"),
        (Batch(int, float, "int32*"), "<x=int32,y=float32,z=int32*>"),
        (Batch, "<x=float32[?,784],y=int32,z=float32[?]*>"),
        (Pair((int, [3]), float), "<first=int32[3],second=float32>"),
        (Struct.of(shape=int, element_spec=str), "<shape=int32,element_spec=str>"),
        (jax.ShapeDtypeStruct((3,), jnp.bfloat16), "bfloat16[3]"),
        (Spec((None, 3), "float16"), "float16[?,3]"),
        (Spec(TensorShape(None), TF_FLOAT), "float32[?]"),
        (np.zeros((2, 3)), "float64[2,3]"),
        (DatasetSpec({"x": Spec((None, 3), np.int8)}), "<x=int8[?,3]>*"),
    ],
)
def test_specs_of_all_kinds_are_read(spec: object, notation: str) -> None:
    assert to_type(spec).compact() == notation


def test_a_dataclass_is_read_by_its_annotations() -> None:
    @dataclasses.dataclass
    class Example:
        x: np.float32
        y: "int"  # noqa: UP037

    assert str(to_type(Example)) == "<x=float32,y=int32>"


def test_a_subclass_of_struct_is_the_container() -> None:
    for type_ in (to_type(Output.of(a=int)), infer_type(Output.of(a=1))):
        assert type_ == to_type({"a": int})
        assert isinstance(type_, StructType)
        assert type_.container is Output


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        (3.0, TypeError, "the float 3.0 is no type; a type is written as one of"),
        (None, TypeError, "None is no type"),
        (object, TypeError, "the class object is no type"),
        (
            (np.int32, 3),
            TypeError,
            "at [1]: the int 3 is no type; the shape of a tensor is a list or tuple, such as [3]",
        ),
        ({"a": {"b/c": [1.5]}}, TypeError, "at .a['b/c'][0]: the float 1.5 is no type"),
        ({3: int}, TypeError, "the fields of a struct are named by strings, but a dict has the key 3"),
        ({"a": {3: int}}, TypeError, "at .a: the fields of a struct"),
        (
            {"a": "in32*"},
            ValueError,
            "at .a: this is no type: there is no dtype 'in32'; did you mean 'int32'?\n  in32*\n",
        ),
        ((np.int32, [-1]), ValueError, "a size is at least zero, or None where it is unknown; found -1"),
        ([np.dtype(object)], TypeError, "at [0]: Hansa has no dtype object"),
        (Spec(None, np.int32), TypeError, "leaves its dtype or its rank open"),
        (DatasetSpec(DatasetSpec(int)), TypeError, "a sequence cannot hold a sequence; found int32*"),
        (collections.namedtuple("Bare", "x"), TypeError, "the fields of Bare have no annotations"),
    ],
)
def test_what_is_no_spec_is_named_with_its_place(spec: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        to_type(spec)
    assert message in str(caught.value)


def test_an_annotation_that_cannot_be_evaluated_is_named() -> None:
    @dataclasses.dataclass
    class Broken:
        x: "nowhere.to_be_found"  # type: ignore[name-defined]  # noqa: F821, UP037

    with pytest.raises(TypeError, match=r"at \.x: the annotation .nowhere.to_be_found. of .*Broken is neither"):
        to_type(Broken)


@pytest.mark.parametrize(
    ("value", "notation"),
    [
        (1, "int32"),
        (-(2**31), "int32"),
        (2**31, "int64"),
        (1.5, "float32"),
        (1j, "complex64"),
        (True, "bool"),
        ("a", "str"),
        (np.float64(1), "float64"),
        (np.bool_(True), "bool"),
        (np.str_("a"), "str"),
        (np.array(["a", "bc"]), "str[2]"),
        (np.zeros((2, 3), np.int8), "int8[2,3]"),
        (jnp.ones(3, jnp.bfloat16), "bfloat16[3]"),
        ([1, (2.0, "x")], "<int32,<float32,str>>"),
        ({"b": 1, "a": np.float16(2)}, "<b=int32,a=float16>"),
        (Batch(1, 2.0, True), "<x=int32,y=float32,z=bool>"),
        (Pair(1, 2), "<first=int32,second=int32>"),
        (Struct([("dtype", 1), ("shape", 2), (None, [])]), "<dtype=int32,shape=int32,<>>"),
        (Spec(TensorShape(2), TF_FLOAT), "float32[2]"),
    ],
)
def test_values_have_types(value: object, notation: str) -> None:
    assert infer_type(value).compact() == notation


def test_traced_values_have_types() -> None:
    seen = []

    @jax.jit
    def look(x: Any) -> Any:
        seen.append(str(infer_type({"x": x})))
        return x

    look(np.zeros((3, 2), np.int16))
    assert seen == ["<x=int16[3,2]>"]


@given(st.data(), value_types())
def test_a_value_of_a_type_has_a_type_assignable_to_it(data: st.DataObject, type_: Type) -> None:
    assert type_.is_assignable_from(infer_type(data.draw(values_of(type_))))


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (2**63, ValueError, "the integer 9223372036854775808 does not fit 64 bits"),
        ({"a": [None]}, TypeError, "at .a[0]: None has no type; leave it out"),
        (b"x", TypeError, "the bytes b'x' has no type; decode text to a str"),
        (np.array([None]), TypeError, "Hansa has no dtype object"),
        (jax.random.key(0), TypeError, "pass a key as numbers, by jax.random.key_data"),
        (int, TypeError, "expected a value, found the class <class 'int'>"),
        (TensorType(int), TypeError, "expected a value, found the type int32"),
        (object(), TypeError, "of type object has no type"),
    ],
)
def test_what_has_no_type_is_named_with_its_place(value: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        infer_type(value)
    assert message in str(caught.value)
