"""Values checked against a type and brought into the form that computations take."""

from __future__ import annotations

import collections
import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hansa.types import Struct, StructType, TensorType, Type, infer_type, parse_type, to_type, to_value
from tests.types.strategies import plain_values_of, value_types, values_of


class Point(NamedTuple):
    x: Any
    y: Any


@dataclasses.dataclass
class Data:
    y: Any
    x: Any


class Output(Struct):
    pass


class ArrayLike:
    """As tensors of other frameworks."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return np.ones(3, np.float32)


def check(value: object, notation: str) -> Any:
    return to_value(value, parse_type(notation))


@given(st.data(), value_types())
def test_a_value_in_form_stays_as_it_is(data: st.DataObject, type_: Type) -> None:
    value = data.draw(values_of(type_))
    result = to_value(value, type_)
    assert Struct([(None, result)]) == Struct([(None, value)])
    assert type_.is_assignable_from(infer_type(result))


@given(st.data(), value_types())
def test_plain_python_values_take_the_form_of_the_type(data: st.DataObject, type_: Type) -> None:
    value = data.draw(plain_values_of(type_))
    try:
        result = to_value(value, type_)
    except TypeError:
        # An empty list has no room for the sizes that follow a size of zero.
        assert any(0 in leaf.shape or None in leaf.shape for leaf in type_.components() if isinstance(leaf, TensorType))
    else:
        assert type_.is_assignable_from(infer_type(result))


@pytest.mark.parametrize(
    ("value", "notation", "dtype"),
    [
        (3, "int8", np.int8),
        (3, "float32", np.float32),
        (3, "bfloat16", ml_dtypes.bfloat16),
        (3, "complex64", np.complex64),
        (1.5, "float16", np.float16),
        (1.5, "complex128", np.complex128),
        (float("inf"), "float16", np.float16),
        (True, "bool", np.bool_),
        (2**64 - 1, "uint64", np.uint64),
        (np.float32(1), "float32", np.float32),
        (np.array(1, np.int32), "int32", np.int32),
    ],
)
def test_scalars_become_arrays_of_the_dtype(value: Any, notation: str, dtype: Any) -> None:
    result = check(value, notation)
    assert isinstance(result, np.ndarray)
    assert result.shape == ()
    assert result.dtype == dtype
    assert result == value


def test_arrays_are_passed_on_as_they_are() -> None:
    for array in (np.zeros((5, 3), np.float32), jnp.zeros((5, 3)), np.zeros((0, 3), np.float32)):
        assert check(array, "float32[?,3]") is array


def test_lists_of_numbers_become_arrays() -> None:
    result = check([[1, 2.5], (3, np.float32(4))], "float32[?,2]")
    assert result.dtype == np.float32
    assert result.tolist() == [[1.0, 2.5], [3.0, 4.0]]
    assert check([], "float32[?]").shape == (0,)
    assert check(["a", "bc"], "str[2]").tolist() == ["a", "bc"]


def test_strings_stay_strings() -> None:
    for value in ("abc", np.str_("abc"), np.array("abc")):
        result = check(value, "str")
        assert type(result) is str and result == "abc"


def test_array_likes_of_other_frameworks_become_arrays() -> None:
    result = check(ArrayLike(), "float32[?]")
    assert isinstance(result, np.ndarray) and result.shape == (3,)


def test_traced_values_are_checked_while_tracing() -> None:
    @jax.jit
    def double(x: jax.Array) -> Struct:
        struct = check({"x": x}, "<x=float32[?]>")
        return Struct.of(x=2 * struct.x)

    assert double(np.ones(2, np.float32)) == Struct.of(x=np.array([2.0, 2.0]))
    with pytest.raises(TypeError, match=r"argument\.x: expected float32\[\?\], found int32\[2\]; convert it with"):
        double(np.ones(2, np.int32))


@pytest.mark.parametrize(
    "value",
    [
        {"x": 1, "y": 2.0},
        {"y": 2.0, "x": 1},
        collections.OrderedDict(y=2.0, x=1),
        Point(1, 2.0),
        Data(x=1, y=2.0),
        Struct.of(x=1, y=2.0),
        Struct([(None, 1), ("y", 2.0)]),
        [1, 2.0],
        (1, 2.0),
    ],
)
def test_containers_of_all_kinds_become_structs(value: object) -> None:
    result = check(value, "<x=int32,y=float32>")
    assert type(result) is Struct
    assert result == Struct.of(x=1, y=2.0)
    assert infer_type(result) == parse_type("<x=int32,y=float32>")


def test_the_container_of_the_type_is_what_a_struct_becomes() -> None:
    inner = StructType([("a", TensorType(int))], container=Output)
    result = to_value({"outer": [1]}, StructType([("outer", inner)]))
    assert type(result) is Struct
    assert type(result.outer) is Output


@pytest.mark.parametrize(
    ("value", "notation", "error", "message"),
    [
        (np.zeros((100, 784)), "float32[?,784]", TypeError,
         "argument: expected float32[?,784], found float64[100,784]; convert it with .astype('float32')"),
        (jnp.zeros(3), "float16[3]", TypeError,
         "argument: expected float16[3], found float32[3]; convert it with .astype('float16')"),
        (np.zeros((100, 783), np.float32), "float32[?,784]", TypeError,
         "argument: expected float32[?,784], found float32[100,783]; its axis 1 is of size 783 instead of 784"),
        (np.zeros(3, np.float32), "float32[?,784]", TypeError,
         "argument: expected float32[?,784], found float32[3]; it is of rank 1 instead of 2"),
        (np.zeros(3, ">f4"), "float32[3]", TypeError,
         "argument: expected float32[3], found >f4[3]; its bytes are in another order than this machine's; "
         "convert it with .astype('float32')"),
        (np.array([None]), "str[1]", TypeError,
         "argument: expected str[1], found object[1]; convert it with .astype(str)"),
        (np.float64(1), "float32", TypeError,
         "argument: expected float32, found the float64 1.0; convert it with .astype('float32')"),
        (1.5, "int32", TypeError, "argument: expected int32, found the float 1.5; convert it with int(…) or round(…)"),
        (True, "int32", TypeError, "argument: expected int32, found the bool True; convert it with int(…)"),
        (1, "bool", TypeError, "argument: expected bool, found the int 1; convert it with bool(…)"),
        (1j, "float32", TypeError, "argument: expected float32, found the complex 1j"),
        ("a", "float32", TypeError, "argument: expected float32, found the str 'a'; convert it with float(…)"),
        (1, "str", TypeError, "argument: expected str, found the int 1"),
        (None, "float32", TypeError, "argument: expected float32, found None"),
        (1, "float32[3]", TypeError,
         "argument: expected float32[3], found the int 1; pass an array or list of shape [3]"),
        ({"a": 1}, "float32", TypeError, "argument: expected float32, found <a=int32>"),
        ({"a": None}, "float32", TypeError, "argument: expected float32, found a dict with the keys 'a'"),
        (300, "int8", ValueError, "argument: the int 300 is out of the range of int8, which holds -128 to 127"),
        (-1, "uint8", ValueError, "argument: the int -1 is out of the range of uint8, which holds 0 to 255"),
        (1e300, "float32", ValueError, "argument: the float 1e+300 is out of the range of float32"),
        (70000, "float16", ValueError, "argument: the int 70000 is out of the range of float16"),
        ([1, [2]], "int8[2]", TypeError,
         "argument[1]: the shape (1,) differs from the first one's in the list, (); pad them to one shape"),
        ([[1, 2], [3, 300]], "int8[?,2]", ValueError,
         "argument[1][1]: the int 300 is out of the range of int8, which holds -128 to 127"),
        ([[1.0, 1e39]], "float32[1,2]", ValueError, "argument[0][1]: the float 1e+39 is out of the range of float32"),
        ([1, True], "int8[2]", TypeError, "argument[1]: expected int8, found the bool True; convert it with int(…)"),
        ([1, 2], "int32", TypeError,
         "argument: expected int32, found a list of shape (2,); it is of rank 1 instead of 0"),
        ([np.zeros(2)], "float64[1,2]", TypeError,
         "argument: expected float64[1,2], found a list of shape (1,); it is of rank 1 instead of 2"),
        ([np.float64(1)], "float32[1]", TypeError,
         "argument[0]: expected float32, found the float64 1.0; a list holds Python numbers; "
         "make one array of it with np.stack and .astype('float32')"),
        ({"x": [1, 2, {"y": np.zeros(3)}]}, "<x=<int32,int32,<y=float32[3]>>>", TypeError,
         "argument.x[2].y: expected float32[3], found float64[3]; convert it with .astype('float32')"),
        ({"dense/kernel": 1.5}, "<dense/kernel=int32>", TypeError,
         "argument['dense/kernel']: expected int32, found the float 1.5; convert it with int(…) or round(…)"),
        ({"los": 1.0, "n": 1}, "<loss=float32,n=int32>", TypeError,
         "argument: expected the fields loss, n, but the field 'loss' is missing, and there is no field 'los'; "
         "did you mean 'loss'?"),
        ({"a": 1}, "<int32>", TypeError,
         "argument: the field [0] is named 'a', but in <int32> it is without a name; pass a list or tuple"),
        (Struct([("b", 1), (None, 2)]), "<a=int32,b=int32>", TypeError,
         "argument: the field [0] is named 'b', but in <a=int32,b=int32> it is named 'a'"),
        ([1, 2, 3], "<a=int32>", TypeError,
         "argument: expected <a=int32>, found <int32,int32,int32>; that is 1 fields against 3"),
        ({3: 1}, "<a=int32>", TypeError,
         "argument: the fields of a struct are named by strings, but a dict has the key 3"),
        (np.zeros(2), "<float64,float64>", TypeError,
         "argument: expected <float64,float64>, found float64[2]; "
         "pass a dict, a list or another container of the fields"),
        (1, "int32*", TypeError,
         "argument: a value of the type int32* is not made by to_value, which knows tensors and structs only"),
    ],
)  # fmt: skip
def test_errors_name_the_place_both_sides_and_the_remedy(
    value: object, notation: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        check(value, notation)
    assert str(caught.value) == message


def test_the_caller_says_what_the_value_is() -> None:
    with pytest.raises(TypeError, match=r"^the state\.x: expected int32"):
        to_value({"x": 1.5}, to_type({"x": int}), "the state")


def test_what_a_table_in_lists_is_takes_no_page() -> None:
    with pytest.raises(
        TypeError, match="expected <float32,int32>, found a list of length 300; that is 2 fields"
    ) as error:
        check([[0.5] * 784 for _ in range(300)], "<float32,int32>")
    assert len(str(error.value)) < 200
