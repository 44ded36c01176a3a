"""Misuse of values: Python cannot look into what is not there yet."""

from __future__ import annotations

import copy
import json
import math
import pickle
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hansa
from tests.misuse.table import Misuse, Table

misuse = Table()

double = hansa.jax_computation(lambda x: x * 2, "float32")


@misuse("arithmetic", TypeError, "")
def _() -> None:
    @hansa.federated_computation("{float32}@CLIENTS")
    def halved(x: Any) -> Any:
        return x / 2  # wrong


@misuse("arithmetic with a value on the right", TypeError, "")
def _() -> None:
    @hansa.federated_computation("{float32}@CLIENTS")
    def flipped(x: Any) -> Any:
        return 1 - x  # wrong


@misuse("arithmetic with a NumPy array on the left", TypeError, "")
def _() -> None:
    @hansa.federated_computation("{float32[3]}@CLIENTS")
    def shifted(x: Any) -> Any:
        return np.ones(3, np.float32) + x  # wrong


@misuse("arithmetic with a JAX array on the left", TypeError, "")
def _() -> None:
    @hansa.federated_computation("{float32[3]}@CLIENTS")
    def shifted(x: Any) -> Any:
        return jnp.ones(3) + x  # wrong


@misuse("arithmetic of two values", TypeError, "")
def _() -> None:
    @hansa.federated_computation("float32@SERVER", "float32@SERVER")
    def total(x: Any, y: Any) -> Any:
        return x + y  # wrong


@misuse("arithmetic on an unplaced value", TypeError, "")
def _() -> None:
    @hansa.federated_computation("float32")
    def half(x: Any) -> Any:
        return x / 2  # wrong


@misuse("arithmetic on a sequence", TypeError, "")
def _() -> None:
    @hansa.federated_computation("float32*")
    def half(x: Any) -> Any:
        return x / 2  # wrong


@misuse("comparison", TypeError, "")
def _() -> None:
    @hansa.federated_computation("{float32}@CLIENTS")
    def positive(x: Any) -> Any:
        return x > 0  # wrong


@misuse("equality", TypeError, "")
def _() -> None:
    @hansa.federated_computation("int32@SERVER")
    def first(round_number: Any) -> Any:
        return round_number == 0  # wrong


@misuse("an if statement", TypeError, "")
def _() -> None:
    @hansa.federated_computation("bool@SERVER", "float32@SERVER")
    def chosen(flag: Any, x: Any) -> Any:
        if flag:  # wrong
            return x
        return hansa.federated_value(0.0, hansa.SERVER)


@misuse("a while loop", TypeError, "")
def _() -> None:
    @hansa.federated_computation("float32")
    def reduced(x: Any) -> Any:
        while x:  # wrong
            x = double(x)
        return x


@misuse("bool()", TypeError, "")
def _() -> None:
    hansa.federated_computation(lambda x: bool(x), "bool")  # wrong


@misuse("not", TypeError, "")
def _() -> None:
    hansa.federated_computation(lambda x: not x, "bool@SERVER")  # wrong


@misuse("float()", TypeError, "")
def _() -> None:
    hansa.federated_computation(lambda x: float(x), "float32@SERVER")  # wrong


@misuse("int()", TypeError, "")
def _() -> None:
    hansa.federated_computation(lambda x: int(x), "int32@SERVER")  # wrong


@misuse("round()", TypeError, "")
def _() -> None:
    hansa.federated_computation(lambda x: round(x), "float32@SERVER")  # wrong


@misuse("a function of the module math", TypeError, "")
def _() -> None:
    hansa.federated_computation(lambda x: math.sqrt(x), "float32@SERVER")  # wrong


@misuse("range()", TypeError, "")
def _() -> None:
    hansa.federated_computation(lambda n: list(range(n)), "int32@SERVER")  # wrong


@misuse("sum()", TypeError, "")
def _() -> None:
    hansa.federated_computation(lambda x: sum(x), "{float32}@CLIENTS")  # wrong


@misuse("max()", TypeError, "")
def _() -> None:
    hansa.federated_computation(lambda x, y: max(x, y), "float32@SERVER", "float32@SERVER")  # wrong


@misuse("iteration over the clients", TypeError, "")
def _() -> None:
    @hansa.federated_computation("{float32}@CLIENTS")
    def each(x: Any) -> Any:
        return [double(client) for client in x]  # wrong


@misuse("iteration over a sequence", TypeError, "")
def _() -> None:
    @hansa.federated_computation("{float32*}@CLIENTS")
    def each(data: Any) -> Any:
        for batch in data:  # wrong
            return batch


@misuse("unpacking what is no struct", TypeError, "")
def _() -> None:
    @hansa.federated_computation("float32[2]@SERVER")
    def first(pair: Any) -> Any:
        a, _ = pair  # wrong
        return a


@misuse("indexing a client", TypeError, "")
def _() -> None:
    hansa.federated_computation(lambda x: x[0], "{float32}@CLIENTS")  # wrong


@misuse("slicing a tensor", TypeError, "")
def _() -> None:
    hansa.federated_computation(lambda x: x[:2], "float32[3]@SERVER")  # wrong


@misuse("slicing a struct", TypeError, "")
def _() -> None:
    hansa.federated_computation(lambda x: x[:2], "<int32,int32,int32>")  # wrong


@misuse("an index out of range", IndexError, "")
def _() -> None:
    hansa.federated_computation(lambda x: x[2], "<a=int32,b=float32>@SERVER")  # wrong


@misuse("an index that is no integer", TypeError, "")
def _() -> None:
    hansa.federated_computation(lambda x: x[1.0], "<a=int32,b=float32>")  # wrong


@misuse("an unknown field", AttributeError, "")
def _() -> None:
    hansa.federated_computation(lambda batch: batch.lable, "<image=float32[784],label=int32>")  # wrong


@misuse("an unknown field that no name is near to", AttributeError, "")
def _() -> None:
    hansa.federated_computation(lambda batch: batch.weights, "<image=float32[784],label=int32>")  # wrong


@misuse("an unknown key", KeyError, "")
def _() -> None:
    hansa.federated_computation(lambda batch: batch["lable"], "{<image=float32[784],label=int32>}@CLIENTS")  # wrong


@misuse("a field of what is no struct", AttributeError, "")
def _() -> None:
    hansa.federated_computation(lambda x: x.loss, "{float32}@CLIENTS")  # wrong


@misuse("a field of the elements of a sequence", AttributeError, "")
def _() -> None:
    hansa.federated_computation(lambda data: data.x, "{<x=float32[?]>*}@CLIENTS")  # wrong


@misuse("an array's method", AttributeError, "")
def _() -> None:
    hansa.federated_computation(lambda x: x.sum(), "{float32[3]}@CLIENTS")  # wrong


@misuse("an array's shape", AttributeError, "")
def _() -> None:
    hansa.federated_computation(lambda x: x.shape, "{float32[3]}@CLIENTS")  # wrong


@misuse("len()", TypeError, "")
def _() -> None:
    hansa.federated_computation(lambda x: len(x), "{float32}@CLIENTS")  # wrong


@misuse("len() of a sequence", TypeError, "")
def _() -> None:
    hansa.federated_computation(lambda data: len(data), "float32*")  # wrong


@misuse("in", TypeError, "")
def _() -> None:
    hansa.federated_computation(lambda x: 3 in x, "{int32}@CLIENTS")  # wrong


@misuse("in a struct", TypeError, "")
def _() -> None:
    hansa.federated_computation(lambda x: "a" in x, "<a=int32>")  # wrong


@misuse("a call", TypeError, "")
def _() -> None:
    hansa.federated_computation(lambda x: x(1), "{float32}@CLIENTS")  # wrong


@misuse("a format", TypeError, "")
def _() -> None:
    hansa.federated_computation(lambda x: f"loss {x:.3f}", "float32@SERVER")  # wrong


@misuse("an assignment to a field", AttributeError, "")
def _() -> None:
    @hansa.federated_computation("<a=int32>")
    def changed(x: Any) -> Any:
        x.a = 1  # wrong
        return x


@misuse("an assignment to an item", TypeError, "")
def _() -> None:
    @hansa.federated_computation("<a=int32>")
    def changed(x: Any) -> Any:
        x["a"] = 1  # wrong
        return x


@misuse("deleting a field", AttributeError, "")
def _() -> None:
    @hansa.federated_computation("<a=int32>")
    def changed(x: Any) -> Any:
        del x.a  # wrong
        return x


@misuse("in-place arithmetic", TypeError, "")
def _() -> None:
    @hansa.federated_computation("float32@SERVER")
    def grown(x: Any) -> Any:
        x += 1  # wrong
        return x


@misuse("a function of jax.numpy", TypeError, "")
def _() -> None:
    hansa.federated_computation(lambda x: jnp.sqrt(x), "{float32}@CLIENTS")  # wrong


@misuse("jnp.sum", TypeError, "")
def _() -> None:
    hansa.federated_computation(lambda x: jnp.sum(x), "{float32[3]}@CLIENTS")  # wrong


@misuse("jnp.asarray", TypeError, "")
def _() -> None:
    hansa.federated_computation(lambda x: jnp.asarray(x), "float32[3]@SERVER")  # wrong


@misuse("jnp.stack", TypeError, "")
def _() -> None:
    hansa.federated_computation(lambda x, y: jnp.stack([x, y]), "float32", "float32")  # wrong


@misuse("a function of jax.lax", TypeError, "")
def _() -> None:
    hansa.federated_computation(lambda x: jax.lax.exp(x), "float32@SERVER")  # wrong


@misuse("jnp.where", TypeError, "")
def _() -> None:
    hansa.federated_computation(lambda x: jnp.where(x, 1, 0), "bool@SERVER")  # wrong


@misuse("a function that jax.jit compiled", TypeError, "")
def _() -> None:
    jitted = jax.jit(lambda x: x * 2)
    hansa.federated_computation(lambda x: jitted(x), "{float32}@CLIENTS")  # wrong


@misuse("jax.tree.map with arithmetic", TypeError, "")
def _() -> None:
    hansa.federated_computation(lambda x: jax.tree.map(lambda leaf: leaf * 2, x), "<a=float32>@SERVER")  # wrong


@misuse("np.asarray", TypeError, "")
def _() -> None:
    hansa.federated_computation(lambda x: np.asarray(x), "float32[3]@SERVER")  # wrong


@misuse("np.asarray of a struct", TypeError, "")
def _() -> None:
    hansa.federated_computation(lambda x: np.asarray(x), "<float32,float32>@SERVER")  # wrong


@misuse("a function of NumPy", TypeError, "")
def _() -> None:
    hansa.federated_computation(lambda x: np.exp(x), "float32@SERVER")  # wrong


@misuse("np.mean", TypeError, "")
def _() -> None:
    hansa.federated_computation(lambda x: np.mean(x), "{float32[3]}@CLIENTS")  # wrong


@misuse("a function of TensorFlow", TypeError, "")
def _() -> None:
    tf = pytest.importorskip("tensorflow")
    hansa.federated_computation(lambda x: tf.sqrt(x), "float32@SERVER")  # wrong


@misuse("pickling", TypeError, "")
def _() -> None:
    hansa.federated_computation(lambda x: pickle.dumps(x), "float32@SERVER")  # wrong


@misuse("copying", TypeError, "")
def _() -> None:
    hansa.federated_computation(lambda x: copy.deepcopy(x), "float32@SERVER")  # wrong


@misuse("JSON", TypeError, "")
def _() -> None:
    hansa.federated_computation(lambda x: json.dumps({"loss": x}), "float32@SERVER")  # wrong


@misuse("capturing a value of the computation around", TypeError, "")
def _() -> None:
    @hansa.federated_computation("{float32}@CLIENTS", "float32@SERVER")
    def outer(x: Any, factor: Any) -> Any:
        @hansa.federated_computation("{float32}@CLIENTS")  # wrong
        def inner(y: Any) -> Any:
            return hansa.federated_mean(y), factor

        return inner(x)


@misuse("capturing a value in a local computation", TypeError, "")
def _() -> None:
    @hansa.federated_computation("{float32}@CLIENTS", "float32@SERVER")
    def outer(x: Any, factor: Any) -> Any:
        scale = hansa.jax_computation(lambda y: y * factor, "float32")  # wrong
        return hansa.federated_map(scale, x)


@misuse("returning a captured value from a local computation", TypeError, "")
def _() -> None:
    @hansa.federated_computation("{float32}@CLIENTS", "float32@SERVER")
    def outer(x: Any, factor: Any) -> Any:
        scale = hansa.jax_computation(lambda y: [y, factor], "float32")  # wrong
        return hansa.federated_map(scale, x)


@misuse("a value kept for another computation", TypeError, "", later=True)
def _() -> None:
    kept = []

    @hansa.federated_computation("{float32}@CLIENTS")
    def mean(x: Any) -> Any:
        kept.append(hansa.federated_mean(x))  # wrong
        return kept[0]

    hansa.federated_computation(lambda: kept[0])


@misuse("a value passed to a call outside of all computations", TypeError, "", later=True)
def _() -> None:
    kept = []

    @hansa.federated_computation("{float32}@CLIENTS")
    def mean(x: Any) -> Any:
        kept.append(hansa.federated_mean(x))  # wrong
        return kept[0]

    double(kept[0])


@misuse("a value in a struct passed to a call outside", TypeError, "", later=True)
def _() -> None:
    kept = []

    @hansa.federated_computation("{float32}@CLIENTS")
    def mean(x: Any) -> Any:
        kept.append(hansa.federated_mean(x))  # wrong
        return kept[0]

    hansa.jax_computation(lambda x: x["a"])({"a": kept[0]})


@pytest.mark.parametrize("case", misuse.parameters)
def test_the_error_says_what_to_do(case: Misuse) -> None:
    case.check()


def test_a_value_prints_as_its_type() -> None:
    shown = []

    @hansa.federated_computation("{float32}@CLIENTS")
    def mean(x: Any) -> Any:
        shown.extend([f"{x}", str(x), repr(x)])
        return hansa.federated_mean(x)

    assert shown == ["Value({float32}@CLIENTS)"] * 3


def test_values_are_told_apart_by_identity() -> None:
    found = []

    @hansa.federated_computation("float32", "float32")
    def both(x: Any, y: Any) -> Any:
        found.append(({x: 1, y: 2}[x], len({x, y})))
        return x, y

    assert found == [(1, 2)]
