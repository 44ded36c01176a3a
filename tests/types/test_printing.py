"""How values print in a line."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hansa.types import Struct
from hansa.types.printing import format_value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (10000.0, "10000.0"),
        (0.2936384, "0.293638"),
        (-3.0, "-3.0"),
        (1e20, "1e+20"),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        (10000, "10000"),
        (True, "True"),
        (1 + 2j, "1+2j"),
        ("hi", "'hi'"),
        (None, "None"),
        (np.float32(0.91), "0.91"),
        (np.int64(3), "3"),
        (np.bool_(True), "True"),
        (jnp.bfloat16(1.5), "1.5"),
        (np.arange(3), "[0,1,2]"),
        (np.ones((2, 2), np.float32), "[[1.0,1.0],[1.0,1.0]]"),
        (np.array(["a"]), "['a']"),
        (np.zeros((784, 10), np.float32), "float32[784,10]"),
        (np.zeros((0, 3), np.int8), "int8[0,3]"),
        (np.array(["ab"] * 9), "str[9]"),
        (jax.ShapeDtypeStruct((3,), np.int32), "int32[3]"),
        (jax.random.key(0), "key<fry>"),
        ([1, 2.0, np.arange(2)], "[1,2.0,[0,1]]"),
        ((1,) * 10, "(1,1,1,1,1,1,1,1,… 2 more)"),
        ({"a": np.zeros(100)}, "{'a':float64[100]}"),
    ],
)
def test_values_print_short(value: Any, text: str) -> None:
    assert format_value(value) == text


def test_a_struct_prints_as_its_type_is_written() -> None:
    metrics = Struct.of(accuracy=np.float32(0.91), loss=0.29363798, num_examples=10000.0)
    assert str(metrics) == repr(metrics) == "<accuracy=0.91,loss=0.293638,num_examples=10000.0>"
    weights = Struct([("dense/kernel", np.zeros((784, 10), np.float32)), ("a b", Struct()), (None, 1)])
    assert str(weights) == '<dense/kernel=float32[784,10],"a b"=<>,1>'


def test_a_traced_value_prints_as_its_type() -> None:
    seen = []

    @jax.jit
    def look(struct: Struct) -> Struct:
        seen.append(str(struct))
        return struct

    look(Struct.of(a=1.0, b=np.zeros((3, 2), np.float32)))
    assert seen == ["<a=float32,b=float32[3,2]>"]
