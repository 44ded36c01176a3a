"""The decorators: what they make of a Python function, and what they refuse."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest

import hansa
from hansa.language.computation import Computation

DECORATORS = [hansa.federated_computation, hansa.jax_computation]


def signature(computation: Computation) -> str:
    return computation.type_signature.compact()


def test_a_function_without_parameters_is_a_computation_at_once() -> None:
    hello = hansa.federated_computation(lambda: "Hello, World!")
    assert signature(hello) == "( -> str)"
    assert hello() == "Hello, World!"
    assert signature(hansa.jax_computation(lambda: 1.0)) == "( -> float32)"


def test_one_parameter_has_the_type_that_is_given() -> None:
    assert signature(hansa.jax_computation(lambda x: x * 2, np.float32)) == "(float32 -> float32)"
    assert (
        signature(hansa.jax_computation(lambda x: x.sum(0), (np.float32, [None, 3]))) == "(float32[?,3] -> float32[3])"
    )
    assert (
        signature(hansa.federated_computation(lambda x: x, "{int32}@CLIENTS")) == "({int32}@CLIENTS -> {int32}@CLIENTS)"
    )


def test_several_parameters_are_one_struct_named_by_them() -> None:
    @hansa.jax_computation("<w=float32[2]>", "<x=float32[?,2]>")
    def batch_loss(model, batch):
        return jnp.mean(batch.x @ model.w)

    assert signature(batch_loss) == "(<model=<w=float32[2]>,batch=<x=float32[?,2]>> -> float32)"
    assert float(batch_loss({"w": np.ones(2, np.float32)}, {"x": np.ones((3, 2), np.float32)})) == 2.0
    assert float(batch_loss(batch={"x": np.ones((1, 2), np.float32)}, model={"w": np.ones(2, np.float32)})) == 2.0


def test_one_struct_type_spreads_over_several_parameters() -> None:
    add = hansa.jax_computation(lambda a, b: a + b, [np.int32, np.int32])
    assert signature(add) == "(<int32,int32> -> int32)"
    assert int(add(1, 2)) == 3


def test_a_computation_without_types_is_traced_once_for_each_type() -> None:
    traced = []

    @hansa.jax_computation
    def double(x):
        traced.append(x.dtype)
        return x * 2

    assert int(double(3)) == 6
    assert float(double(1.5)) == 3.0
    assert int(double(4)) == 8
    assert len(traced) == 2
    assert int(hansa.federated_computation(lambda x: double(x), np.int32)(5)) == 10


def test_structs_arrive_with_access_by_name_index_and_attribute() -> None:
    @hansa.jax_computation("<a=int32,b=<int32,int32>>")
    def use(value):
        first, second = value["b"]
        return value.a + 10 * value[1][0] + 100 * second + 0 * first

    assert int(use(OrderedDict(a=1, b=[2, 3]))) == 321


class Pair(NamedTuple):
    x: Any
    y: Any


@dataclass
class Data:
    x: Any
    y: Any


@pytest.mark.parametrize(
    "make", [lambda x, y: {"x": x, "y": y}, Pair, Data, lambda x, y: hansa.Struct([("x", x), ("y", y)])]
)
def test_any_container_may_be_returned(make: Any) -> None:
    assert (
        signature(hansa.jax_computation(lambda v: make(v, [v, 1]), "float32"))
        == "(float32 -> <x=float32,y=<float32,int32>>)"
    )
    assert (
        signature(hansa.federated_computation(lambda v: make(v, [v, 1]), "float32"))
        == "(float32 -> <x=float32,y=<float32,int32>>)"
    )


@pytest.mark.parametrize("decorator", DECORATORS)
@pytest.mark.parametrize(
    ("function", "types", "message"),
    [
        (lambda x=1: x, ["int32"], "'x' of '<lambda>' has a default.*close over the value"),
        (lambda *x: x, ["int32"], r"takes \*x.*name them one by one"),
        (lambda **x: x, ["int32"], r"takes \*\*x.*name them one by one"),
        (lambda *, x: x, ["int32"], "'x' of '<lambda>' is keyword-only; make it positional"),
        (lambda *, x=1: x, ["int32"], "'<lambda>' has no parameters, but is given one type: int32"),
        (lambda x: None, ["int32"], "returned None.*is a `return` missing"),
        (lambda x, y: x, ["int32"], r"has 2 parameters \(x, y\), but is given one type: int32"),
        (lambda: 1, ["int32"], r"has no parameters, but is given one type"),
        (hansa.jax_computation(lambda: 1), [], "is a computation already; decorate a Python function"),
    ],
)
def test_what_cannot_be_a_computation_is_refused_with_the_reason(
    decorator: Any, function: Any, types: Any, message: str
) -> None:
    with pytest.raises(TypeError, match=message):
        decorator(function, *types)


@pytest.mark.parametrize("decorator", DECORATORS)
def test_empty_parentheses_are_as_good_as_none(decorator: Any) -> None:
    assert decorator()(lambda: 2)() == decorator(lambda: 2)() == 2
    assert decorator()(lambda x: x)(3) == 3


def test_a_local_computation_is_made_of_tensors_only() -> None:
    with pytest.raises(TypeError, match=r"takes and returns tensors and structs of tensors, not int32\*"):
        hansa.jax_computation(lambda x: x, "int32*")
    with pytest.raises(TypeError, match="tensors and structs of tensors, not"):
        hansa.jax_computation(lambda x: x, "{int32}@CLIENTS")
    with pytest.raises(TypeError, match=r"returned <object object .*: a local computation must return arrays"):
        hansa.jax_computation(lambda x: object(), "int32")
    with pytest.raises(TypeError, match="named by strings, but a dict has the key 1"):
        hansa.jax_computation(lambda x: {1: x}, "int32")


def test_calls_with_wrong_arguments_say_which_there_are() -> None:
    two = hansa.jax_computation(lambda a, b: a + b, "int32", "int32")
    none = hansa.jax_computation(lambda: 1)
    one = hansa.jax_computation(lambda a: a, "int32")
    for call, message in [
        (lambda: two(1, 2, 3), r"takes 2 arguments \(a, b\), 3 were given"),
        (lambda: two(1, c=2), r"takes 2 arguments \(a, b\); it has none called 'c'"),
        (lambda: two(1), r"takes 2 arguments \(a, b\); b is missing"),
        (lambda: two(b=1), r"takes 2 arguments \(a, b\); a is missing"),
        (lambda: two(1, a=2), r"takes 2 arguments \(a, b\); 'a' is given twice"),
        (lambda: two(1, 2, c=3), "it has none called 'c'"),
        (lambda: none(1), "takes no arguments, one was given"),
        (lambda: one(1, 2), "takes one argument, of type int32; 2 were given"),
        (lambda: hansa.jax_computation(lambda a, b: a)(1), "takes 2 arguments, one was given"),
    ]:
        with pytest.raises(TypeError, match=message):
            call()


def test_64_bit_parameters_make_64_bit_arithmetic() -> None:
    triple = hansa.jax_computation(lambda n: n * 3 + 1, np.int64)
    assert signature(triple) == "(int64 -> int64)"
    assert int(triple(2**60 + 1)) == (2**60 + 1) * 3 + 1
    assert int(hansa.jax_computation(lambda n: n + 1, np.int64)(2**53)) == 2**53 + 1
    halves = hansa.jax_computation(lambda x: x + 1e-12, np.float64)
    assert float(halves(1.0)) == 1.0 + 1e-12


def test_32_bit_parameters_keep_32_bit_arithmetic_also_beside_64_bit_ones() -> None:
    assert signature(hansa.jax_computation(lambda x: jnp.arange(3) * x, "float32")) == "(float32 -> float32[3])"
    both = hansa.jax_computation(lambda w, n: {"w": w * 0.5, "n": n + 1}, "float32", "int64")
    assert signature(both) == "(<w=float32,n=int64> -> <w=float32,n=int64>)"
    result = both(1.0, 2**40)
    assert (float(result.w), int(result.n)) == (0.5, 2**40 + 1)


def test_jax_stays_as_the_user_has_it() -> None:
    hansa.jax_computation(lambda n: n + 1, np.int64)(1)
    assert jnp.arange(3).dtype == np.int32


def test_a_local_computation_called_by_another_keeps_its_type() -> None:
    inner = hansa.jax_computation(lambda s: s.b * 10 + s.a, "<b=float32,a=float32>")
    outer = hansa.jax_computation(lambda x, y: inner({"a": y, "b": x}), "float32", "float32")
    assert outer(1.0, 2.0) == inner({"b": 1.0, "a": 2.0}) == 12
    with pytest.raises(TypeError, match=r"float32.*int32|int32.*float32"):
        hansa.jax_computation(lambda x: hansa.jax_computation(lambda i: i, "int32")(x), "float32")


def test_a_local_computation_of_strings_is_refused() -> None:
    with pytest.raises(TypeError, match=r"'length' takes <text=str,n=int32>, but strings cannot be computed with"):

        @hansa.jax_computation("<text=str,n=int32>")
        def length(x):
            return x.n
