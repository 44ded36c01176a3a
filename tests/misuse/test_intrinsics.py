"""Misuse of the operations: wrong placements, wrong types, wrong functions, wrong places."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import hansa
from hansa import CLIENTS, SERVER
from tests.misuse.table import Misuse, Table

misuse = Table()

AT_CLIENTS, AT_SERVER = "{float32}@CLIENTS", "float32@SERVER"
double = hansa.jax_computation(lambda x: x * 2, "float32")
add = hansa.jax_computation(lambda a, b: a + b, "float32", "float32")
count = hansa.jax_computation(lambda n, x: n + 1, "int32", "float32")
plus = hansa.jax_computation(lambda a, b: a + b, "int32", "int32")
half = hansa.jax_computation(lambda n: n / 2, "int32")
seven = hansa.jax_computation(lambda: 7)
row = hansa.jax_computation(lambda table, i: table[i], "float32[10]", "int32")
total = hansa.federated_computation(lambda x: hansa.federated_sum(x), AT_CLIENTS)


def made(use: Any, *types: str) -> Any:
    return hansa.federated_computation(use, *types)


# Placements


@misuse("federated_broadcast of a value at the clients", TypeError, "")
def _() -> None:
    made(lambda x: hansa.federated_broadcast(x), AT_CLIENTS)  # wrong


@misuse("federated_broadcast of an unplaced value", TypeError, "")
def _() -> None:
    made(lambda x: hansa.federated_broadcast(x), "float32")  # wrong


@misuse("federated_broadcast of a number", TypeError, "")
def _() -> None:
    made(lambda: hansa.federated_broadcast(1.0))  # wrong


@misuse("federated_sum at the server", TypeError, "")
def _() -> None:
    made(lambda x: hansa.federated_sum(x), AT_SERVER)  # wrong


@misuse("federated_sum of an unplaced value", TypeError, "")
def _() -> None:
    made(lambda x: hansa.federated_sum(x), "float32")  # wrong


@misuse("federated_sum of a Python list", TypeError, "")
def _() -> None:
    made(lambda: hansa.federated_sum([1.0, 2.0]))  # wrong


@misuse("federated_min at the server", TypeError, "")
def _() -> None:
    made(lambda x: hansa.federated_min(x), AT_SERVER)  # wrong


@misuse("federated_max at the server", TypeError, "")
def _() -> None:
    made(lambda x: hansa.federated_max(x), AT_SERVER)  # wrong


@misuse("federated_mean at the server", TypeError, "")
def _() -> None:
    made(lambda x: hansa.federated_mean(x), AT_SERVER)  # wrong


@misuse("federated_mean with a weight at the server", TypeError, "")
def _() -> None:
    made(lambda x, w: hansa.federated_mean(x, w), AT_CLIENTS, AT_SERVER)  # wrong


@misuse("federated_mean with a number for a weight", TypeError, "")
def _() -> None:
    made(lambda x: hansa.federated_mean(x, 2.0), AT_CLIENTS)  # wrong


@misuse("federated_aggregate at the server", TypeError, "")
def _() -> None:
    made(lambda x: hansa.federated_aggregate(x, 0, count, plus, half), AT_SERVER)  # wrong


@misuse("federated_aggregate with a placed zero", TypeError, "")
def _() -> None:
    made(lambda x, z: hansa.federated_aggregate(x, z, count, plus, half), AT_CLIENTS, "int32@SERVER")  # wrong


@misuse("federated_collect at the server", TypeError, "")
def _() -> None:
    made(lambda x: hansa.federated_collect(x), AT_SERVER)  # wrong


@misuse("federated_secure_sum at the server", TypeError, "")
def _() -> None:
    made(lambda x: hansa.federated_secure_sum(x, 8), "int32@SERVER")  # wrong


@misuse("federated_secure_sum_bitwidth at the server", TypeError, "")
def _() -> None:
    made(lambda x: hansa.federated_secure_sum_bitwidth(x, 8), "int32@SERVER")  # wrong


@misuse("federated_secure_sum with a bound at the clients", TypeError, "")
def _() -> None:
    made(lambda x, b: hansa.federated_secure_sum(x, b), "{int32}@CLIENTS", "{int32}@CLIENTS")  # wrong


@misuse("federated_client_key of a key at the clients", TypeError, "")
def _() -> None:
    made(lambda key: hansa.federated_client_key(key), "{uint32[2]}@CLIENTS")  # wrong


@misuse("federated_select with keys at the server", TypeError, "")
def _() -> None:
    made(lambda k, t: hansa.federated_select(k, 10, t, row), "int32[3]@SERVER", "float32[10]@SERVER")  # wrong


@misuse("federated_select of a value at the clients", TypeError, "")
def _() -> None:
    made(lambda k, t: hansa.federated_select(k, 10, t, row), "{int32[3]}@CLIENTS", "{float32[10]}@CLIENTS")  # wrong


@misuse("federated_select with max_key at the clients", TypeError, "")
def _() -> None:
    @hansa.federated_computation("{int32[3]}@CLIENTS", "{int32}@CLIENTS", "float32[10]@SERVER")
    def chosen(keys: Any, most: Any, table: Any) -> Any:
        return hansa.federated_select(keys, most, table, row)  # wrong


@misuse("federated_map of an unplaced value", TypeError, "")
def _() -> None:
    made(lambda x: hansa.federated_map(double, x), "float32")  # wrong


@misuse("federated_map of values at two placements", TypeError, "")
def _() -> None:
    made(lambda x, y: hansa.federated_map(add, [x, y]), AT_CLIENTS, AT_SERVER)  # wrong


@misuse("federated_map of a value and a number", TypeError, "")
def _() -> None:
    made(lambda x: hansa.federated_map(add, [x, 1.0]), AT_CLIENTS)  # wrong


@misuse("federated_zip of values at two placements", TypeError, "")
def _() -> None:
    made(lambda x, y: hansa.federated_zip({"x": x, "y": y}), AT_CLIENTS, AT_SERVER)  # wrong


@misuse("federated_zip of one value", TypeError, "")
def _() -> None:
    made(lambda x: hansa.federated_zip(x), AT_CLIENTS)  # wrong


@misuse("federated_zip of several arguments", TypeError, "")
def _() -> None:
    made(lambda x, y: hansa.federated_zip(x, y), AT_CLIENTS, AT_CLIENTS)  # wrong


@misuse("federated_zip of nothing", TypeError, "")
def _() -> None:
    made(lambda: hansa.federated_zip([]))  # wrong


@misuse("federated_zip of a value and a number", TypeError, "")
def _() -> None:
    made(lambda x: hansa.federated_zip([x, 1]), AT_CLIENTS)  # wrong


@misuse("federated_zip of a number", TypeError, "")
def _() -> None:
    made(lambda: hansa.federated_zip(1))  # wrong


@misuse("federated_value of a placed value", TypeError, "")
def _() -> None:
    made(lambda x: hansa.federated_value(x, SERVER), AT_CLIENTS)  # wrong


@misuse("federated_value of a broadcast value", TypeError, "")
def _() -> None:
    made(lambda x: hansa.federated_value(x, CLIENTS), AT_SERVER)  # wrong


@misuse("federated_value at a string", TypeError, "")
def _() -> None:
    made(lambda: hansa.federated_value(1, "SERVER"))  # wrong


@misuse("federated_value with swapped arguments", TypeError, "")
def _() -> None:
    made(lambda: hansa.federated_value(SERVER, 1))  # wrong


@misuse("federated_value of an object", TypeError, "")
def _() -> None:
    made(lambda: hansa.federated_value(object(), SERVER))  # wrong


@misuse("federated_eval at a string", TypeError, "")
def _() -> None:
    made(lambda: hansa.federated_eval(seven, "CLIENTS"))  # wrong


@misuse("federated_eval without a placement", TypeError, "")
def _() -> None:
    made(lambda: hansa.federated_eval(seven))  # wrong


@misuse("sequence_map of what is no sequence", TypeError, "")
def _() -> None:
    made(lambda x: hansa.sequence_map(double, x), AT_CLIENTS)  # wrong


@misuse("sequence_sum of what is no sequence", TypeError, "")
def _() -> None:
    made(lambda x: hansa.sequence_sum(x), AT_CLIENTS)  # wrong


@misuse("sequence_reduce of what is no sequence", TypeError, "")
def _() -> None:
    made(lambda x: hansa.sequence_reduce(x, 0, count), AT_CLIENTS)  # wrong


@misuse("sequence_reduce of a sequence at the clients from a zero at the server", TypeError, "")
def _() -> None:
    made(lambda s, z: hansa.sequence_reduce(s, z, count), "{float32*}@CLIENTS", "int32@SERVER")  # wrong


@misuse("sequence_reduce of an unplaced sequence from a placed zero", TypeError, "")
def _() -> None:
    made(lambda s, z: hansa.sequence_reduce(s, z, count), "float32*", "int32@SERVER")  # wrong


# Types


@misuse("federated_sum of bools", TypeError, "")
def _() -> None:
    made(lambda x: hansa.federated_sum(x), "{<a=int32,b=bool>}@CLIENTS")  # wrong


@misuse("federated_sum of strings", TypeError, "")
def _() -> None:
    made(lambda x: hansa.federated_sum(x), "{str}@CLIENTS")  # wrong


@misuse("federated_sum of sequences", TypeError, "")
def _() -> None:
    made(lambda x: hansa.federated_sum(x), "{float32*}@CLIENTS")  # wrong


@misuse("federated_sum of tensors of unknown size", TypeError, "")
def _() -> None:
    made(lambda x: hansa.federated_sum(x), "{float32[?]}@CLIENTS")  # wrong


@misuse("federated_max of complex numbers", TypeError, "")
def _() -> None:
    made(lambda x: hansa.federated_max(x), "{complex64}@CLIENTS")  # wrong


@misuse("federated_min of bools", TypeError, "")
def _() -> None:
    made(lambda x: hansa.federated_min(x), "{bool}@CLIENTS")  # wrong


@misuse("federated_mean of integers", TypeError, "")
def _() -> None:
    made(lambda x: hansa.federated_mean(x), "{<a=float32,b=int32>}@CLIENTS")  # wrong


@misuse("federated_mean with a weight of bools", TypeError, "")
def _() -> None:
    made(lambda x, w: hansa.federated_mean(x, w), AT_CLIENTS, "{bool}@CLIENTS")  # wrong


@misuse("federated_mean with a weight that is a vector", TypeError, "")
def _() -> None:
    made(lambda x, w: hansa.federated_mean(x, w), AT_CLIENTS, "{float32[1]}@CLIENTS")  # wrong


@misuse("federated_mean with a weight that is a struct", TypeError, "")
def _() -> None:
    made(lambda x, w: hansa.federated_mean(x, w), AT_CLIENTS, "{<n=float32>}@CLIENTS")  # wrong


@misuse("sequence_sum of bools", TypeError, "")
def _() -> None:
    made(lambda s: hansa.sequence_sum(s), "bool*")  # wrong


@misuse("federated_collect of sequences", TypeError, "")
def _() -> None:
    made(lambda x: hansa.federated_collect(x), "{float32*}@CLIENTS")  # wrong


@misuse("federated_collect of strings", TypeError, "")
def _() -> None:
    made(lambda x: hansa.federated_collect(x), "{str}@CLIENTS")  # wrong


@misuse("federated_collect of tensors of unknown size", TypeError, "")
def _() -> None:
    made(lambda x: hansa.federated_collect(x), "{float32[?]}@CLIENTS")  # wrong


@misuse("federated_select with a single key", TypeError, "")
def _() -> None:
    made(lambda k, t: hansa.federated_select(k, 10, t, row), "{int32}@CLIENTS", "float32[10]@SERVER")  # wrong


@misuse("federated_select with keys of int64", TypeError, "")
def _() -> None:
    made(lambda k, t: hansa.federated_select(k, 10, t, row), "{int64[3]}@CLIENTS", "float32[10]@SERVER")  # wrong


@misuse("federated_select with any number of keys", TypeError, "")
def _() -> None:
    made(lambda k, t: hansa.federated_select(k, 10, t, row), "{int32[?]}@CLIENTS", "float32[10]@SERVER")  # wrong


@misuse("federated_select with a float for max_key", TypeError, "")
def _() -> None:
    made(lambda k, t: hansa.federated_select(k, 10.0, t, row), "{int32[3]}@CLIENTS", "float32[10]@SERVER")  # wrong


@misuse("federated_select with max_key zero", ValueError, "")
def _() -> None:
    made(lambda k, t: hansa.federated_select(k, 0, t, row), "{int32[3]}@CLIENTS", "float32[10]@SERVER")  # wrong


@misuse("federated_select with a function of another table", TypeError, "")
def _() -> None:
    made(lambda k, t: hansa.federated_select(k, 9, t, row), "{int32[3]}@CLIENTS", "float32[9]@SERVER")  # wrong


@misuse("federated_select with a function of the key alone", TypeError, "")
def _() -> None:
    made(lambda k, t: hansa.federated_select(k, 9, t, half), "{int32[3]}@CLIENTS", "float32[9]@SERVER")  # wrong


@misuse("federated_secure_sum of floats", TypeError, "")
def _() -> None:
    made(lambda x: hansa.federated_secure_sum(x, 10), AT_CLIENTS)  # wrong


@misuse("federated_secure_sum with a negative bound", ValueError, "")
def _() -> None:
    made(lambda x: hansa.federated_secure_sum(x, -1), "{int32}@CLIENTS")  # wrong


@misuse("federated_secure_sum with a float bound", TypeError, "")
def _() -> None:
    made(lambda x: hansa.federated_secure_sum(x, 10.0), "{int32}@CLIENTS")  # wrong


@misuse("federated_secure_sum_bitwidth of floats", TypeError, "")
def _() -> None:
    made(lambda x: hansa.federated_secure_sum_bitwidth(x, 8), AT_CLIENTS)  # wrong


@misuse("federated_secure_sum_bitwidth with no bits", ValueError, "")
def _() -> None:
    made(lambda x: hansa.federated_secure_sum_bitwidth(x, 0), "{int32}@CLIENTS")  # wrong


@misuse("federated_secure_sum_bitwidth with too many bits", ValueError, "")
def _() -> None:
    made(lambda x: hansa.federated_secure_sum_bitwidth(x, 63), "{int32}@CLIENTS")  # wrong


@misuse("federated_secure_sum_bitwidth with half a bit", ValueError, "")
def _() -> None:
    made(lambda x: hansa.federated_secure_sum_bitwidth(x, 7.5), "{int32}@CLIENTS")  # wrong


@misuse("federated_client_key of a float", TypeError, "")
def _() -> None:
    made(lambda key: hansa.federated_client_key(key), "float32@SERVER")  # wrong


@misuse("federated_client_key of a seed at the server", TypeError, "")
def _() -> None:
    made(lambda seed: hansa.federated_client_key(seed), "int32@SERVER")  # wrong


# Functions


@misuse("federated_map with a function of another type", TypeError, "")
def _() -> None:
    made(lambda x: hansa.federated_map(double, x), "{int32}@CLIENTS")  # wrong


@misuse("federated_map with a function of fewer parameters", TypeError, "")
def _() -> None:
    made(lambda x, y: hansa.federated_map(double, [x, y]), AT_CLIENTS, AT_CLIENTS)  # wrong


@misuse("federated_map with a function of more parameters", TypeError, "")
def _() -> None:
    made(lambda x: hansa.federated_map(add, x), AT_CLIENTS)  # wrong


@misuse("federated_map with a function of one parameter where several are given", TypeError, "")
def _() -> None:
    made(lambda x, y: hansa.federated_map(add, x, y), AT_CLIENTS, AT_CLIENTS)  # wrong


@misuse("federated_map with a function without parameters", TypeError, "")
def _() -> None:
    made(lambda x: hansa.federated_map(seven, x), AT_CLIENTS)  # wrong


@misuse("federated_map with a plain Python function", TypeError, "")
def _() -> None:
    made(lambda x: hansa.federated_map(np.sqrt, x), AT_CLIENTS)  # wrong


@misuse("federated_map with a lambda", TypeError, "")
def _() -> None:
    made(lambda x: hansa.federated_map(lambda v: v * 2, x), AT_CLIENTS)  # wrong


@misuse("federated_map with swapped arguments", TypeError, "")
def _() -> None:
    made(lambda x: hansa.federated_map(x, double), AT_CLIENTS)  # wrong


@misuse("federated_map with a swapped plain function", TypeError, "")
def _() -> None:
    made(lambda x: hansa.federated_map(x, lambda v: v * 2), AT_CLIENTS)  # wrong


@misuse("federated_map with the result of a call", TypeError, "")
def _() -> None:
    made(lambda x: hansa.federated_map(seven(), x), AT_CLIENTS)  # wrong


@misuse("federated_map with a federated function", TypeError, "")
def _() -> None:
    made(lambda x: hansa.federated_map(total, x), AT_CLIENTS)  # wrong


@misuse("federated_map with a function that aggregates", TypeError, "")
def _() -> None:
    aggregating = hansa.federated_computation(lambda x: hansa.federated_sum(x))
    made(lambda x: hansa.federated_map(aggregating, x), AT_CLIENTS)  # wrong


@misuse("federated_map with a string", TypeError, "")
def _() -> None:
    made(lambda x: hansa.federated_map("double", x), AT_CLIENTS)  # wrong


@misuse("federated_map with None", TypeError, "")
def _() -> None:
    made(lambda x: hansa.federated_map(None, x), AT_CLIENTS)  # wrong


@misuse("federated_eval of a function with a parameter", TypeError, "")
def _() -> None:
    made(lambda: hansa.federated_eval(double, SERVER))  # wrong


@misuse("federated_eval of a function with a parameter and no types", TypeError, "")
def _() -> None:
    untyped = hansa.jax_computation(lambda x: x)
    made(lambda: hansa.federated_eval(untyped, SERVER))  # wrong


@misuse("federated_eval of a plain Python function", TypeError, "")
def _() -> None:
    made(lambda: hansa.federated_eval(lambda: 7, SERVER))  # wrong


@misuse("federated_eval of a federated computation", TypeError, "")
def _() -> None:
    placed = hansa.federated_computation(lambda: hansa.federated_value(1, SERVER))
    made(lambda: hansa.federated_eval(placed, SERVER))  # wrong


@misuse("sequence_map with a function of another type", TypeError, "")
def _() -> None:
    made(lambda s: hansa.sequence_map(double, s), "int32*")  # wrong


@misuse("sequence_map with swapped arguments", TypeError, "")
def _() -> None:
    made(lambda s: hansa.sequence_map(s, double), "float32*")  # wrong


@misuse("sequence_map with a plain Python function", TypeError, "")
def _() -> None:
    made(lambda s: hansa.sequence_map(lambda x: x, s), "float32*")  # wrong


@misuse("sequence_map with a function that returns a sequence", TypeError, "")
def _() -> None:
    nested = hansa.federated_computation(lambda x: x, "float32*")
    made(lambda s: hansa.sequence_map(nested, s), "float32*")  # wrong


@misuse("sequence_reduce from a float zero with a function of int32", TypeError, "")
def _() -> None:
    made(lambda s: hansa.sequence_reduce(s, 0.0, count), "float32*")  # wrong


@misuse("sequence_reduce from an int zero with a function of float32", TypeError, "")
def _() -> None:
    made(lambda s: hansa.sequence_reduce(s, 0, add), "{float32*}@CLIENTS")  # wrong


@misuse("sequence_reduce whose function returns another type", TypeError, "")
def _() -> None:
    changing = hansa.jax_computation(lambda n, x: n + x, "int32", "float32")
    made(lambda s: hansa.sequence_reduce(s, 0, changing), "float32*")  # wrong


@misuse("sequence_reduce whose untyped function returns another type", TypeError, "")
def _() -> None:
    changing = hansa.jax_computation(lambda n, x: n + x)
    made(lambda s: hansa.sequence_reduce(s, 0, changing), "float32*")  # wrong


@misuse("sequence_reduce whose function returns another struct", TypeError, "")
def _() -> None:
    changing = hansa.jax_computation(lambda state, x: {"n": state.n + 1}, "<n=int32,sum=float32>", "float32")
    made(lambda s: hansa.sequence_reduce(s, {"n": 0, "sum": 0.0}, changing), "float32*")  # wrong


@misuse("sequence_reduce from a zero that lacks a field", TypeError, "")
def _() -> None:
    step = hansa.jax_computation(lambda state, x: state, "<n=int32,sum=float32>", "float32")
    made(lambda s: hansa.sequence_reduce(s, {"n": 0}, step), "float32*")  # wrong


@misuse("sequence_reduce with zero and function swapped", TypeError, "")
def _() -> None:
    made(lambda s: hansa.sequence_reduce(s, count, 0), "float32*")  # wrong


@misuse("sequence_reduce whose function takes the element first", TypeError, "")
def _() -> None:
    turned = hansa.jax_computation(lambda x, n: n + 1, "float32", "int32")
    made(lambda s: hansa.sequence_reduce(s, 0, turned), "float32*")  # wrong


@misuse("federated_aggregate whose accumulate returns another type", TypeError, "")
def _() -> None:
    changing = hansa.jax_computation(lambda n, x: n + x, "int32", "float32")
    made(lambda x: hansa.federated_aggregate(x, 0, changing, plus, half), AT_CLIENTS)  # wrong


@misuse("federated_aggregate from a float zero", TypeError, "")
def _() -> None:
    made(lambda x: hansa.federated_aggregate(x, 0.0, count, plus, half), AT_CLIENTS)  # wrong


@misuse("federated_aggregate with a merge of other states", TypeError, "")
def _() -> None:
    made(lambda x: hansa.federated_aggregate(x, 0, count, add, half), AT_CLIENTS)  # wrong


@misuse("federated_aggregate with a report of another state", TypeError, "")
def _() -> None:
    made(lambda x: hansa.federated_aggregate(x, 0, count, plus, double), AT_CLIENTS)  # wrong


@misuse("federated_aggregate without a report", TypeError, "")
def _() -> None:
    made(lambda x: hansa.federated_aggregate(x, 0, count, plus), AT_CLIENTS)  # wrong


@misuse("federated_aggregate with a plain merge", TypeError, "")
def _() -> None:
    made(lambda x: hansa.federated_aggregate(x, 0, count, lambda a, b: a + b, half), AT_CLIENTS)  # wrong


# Places


@misuse("an operation outside of a computation", TypeError, "")
def _() -> None:
    hansa.federated_sum([1.0, 2.0])  # wrong


@misuse("a sequence operation outside of a computation", TypeError, "")
def _() -> None:
    hansa.sequence_sum([1.0, 2.0])  # wrong


@misuse("an operation in a local computation", TypeError, "")
def _() -> None:
    hansa.jax_computation(lambda x: hansa.federated_sum(x), "float32")  # wrong


@misuse("a sequence operation in a local computation", TypeError, "")
def _() -> None:
    hansa.jax_computation(lambda x: hansa.sequence_sum(x), "float32")  # wrong


@misuse("a federated computation called in a local one", TypeError, "")
def _() -> None:
    hansa.jax_computation(lambda x: total(x), "float32")  # wrong


@misuse("a local computation called on a value at the clients", TypeError, "")
def _() -> None:
    made(lambda x: double(x), AT_CLIENTS)  # wrong


@misuse("a local computation without types called on a value at the clients", TypeError, "")
def _() -> None:
    untyped = hansa.jax_computation(lambda x: x * 2)
    made(lambda x: untyped(x), AT_CLIENTS)  # wrong


@misuse("a local computation called on placed and unplaced values", TypeError, "")
def _() -> None:
    made(lambda x: add(x, 1.0), AT_SERVER)  # wrong


@misuse("a federated computation called on a value elsewhere", TypeError, "")
def _() -> None:
    made(lambda x: total(x), AT_SERVER)  # wrong


@misuse("a result that is a computed sequence", TypeError, "", later=True)
def _() -> None:
    doubled = made(lambda s: hansa.sequence_map(double, s), "float32*")  # wrong
    doubled([1.0, 2.0])


@misuse("a result at the clients that is a computed sequence", TypeError, "", later=True)
def _() -> None:
    doubled = made(lambda s: hansa.sequence_map(double, s), "{float32*}@CLIENTS")  # wrong
    doubled([[1.0], [2.0]])


@pytest.mark.parametrize("case", misuse.parameters)
def test_the_error_says_what_to_do(case: Misuse) -> None:
    case.check()
