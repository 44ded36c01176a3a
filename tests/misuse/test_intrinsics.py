"""Misuse of the operations: wrong placements, wrong types, wrong functions, wrong places."""

from __future__ import annotations

from typing import Any

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


@misuse(
    "federated_broadcast of a value at the clients",
    TypeError,
    r"federated_broadcast needs a value at SERVER, found \{float32\}@CLIENTS; aggregate it first, with "
    "hansa.federated_sum or another",
)
def _() -> None:
    made(lambda x: hansa.federated_broadcast(x), AT_CLIENTS)  # wrong


@misuse(
    "federated_broadcast of an unplaced value",
    TypeError,
    "federated_broadcast needs a value at SERVER, found float32, which is at no placement; take it as a "
    r"parameter of type 'float32@SERVER', or place it with hansa.federated_value\(value, hansa.SERVER\)",
)
def _() -> None:
    made(lambda x: hansa.federated_broadcast(x), "float32")  # wrong


@misuse(
    "federated_broadcast of a number",
    TypeError,
    r"federated_broadcast needs a value at SERVER, found float32, .*place it with hansa.federated_value\(value, "
    r"hansa.SERVER\)",
)
def _() -> None:
    made(lambda: hansa.federated_broadcast(1.0))  # wrong


@misuse(
    "federated_sum at the server",
    TypeError,
    "federated_sum needs a value at CLIENTS, found float32@SERVER; send it there with hansa.federated_broadcast",
)
def _() -> None:
    made(lambda x: hansa.federated_sum(x), AT_SERVER)  # wrong


@misuse(
    "federated_sum of an unplaced value",
    TypeError,
    "federated_sum needs a value at CLIENTS, found float32, which is at no placement; take it as a parameter "
    r"of type '\{float32\}@CLIENTS', or place it with hansa.federated_value\(value, hansa.CLIENTS\)",
)
def _() -> None:
    made(lambda x: hansa.federated_sum(x), "float32")  # wrong


@misuse(
    "federated_sum of a Python list",
    TypeError,
    "federated_sum needs a value at CLIENTS, found <float32,float32>, which is at no placement; take it as a parameter",
)
def _() -> None:
    made(lambda: hansa.federated_sum([1.0, 2.0]))  # wrong


@misuse(
    "federated_min at the server",
    TypeError,
    "federated_min needs a value at CLIENTS, found float32@SERVER; send it there with hansa.federated_broadcast",
)
def _() -> None:
    made(lambda x: hansa.federated_min(x), AT_SERVER)  # wrong


@misuse(
    "federated_max at the server",
    TypeError,
    "federated_max needs a value at CLIENTS, found float32@SERVER; send it there with hansa.federated_broadcast",
)
def _() -> None:
    made(lambda x: hansa.federated_max(x), AT_SERVER)  # wrong


@misuse(
    "federated_mean at the server",
    TypeError,
    "federated_mean needs a value at CLIENTS, found float32@SERVER; send it there with hansa.federated_broadcast",
)
def _() -> None:
    made(lambda x: hansa.federated_mean(x), AT_SERVER)  # wrong


@misuse(
    "federated_mean with a weight at the server",
    TypeError,
    "the weight of federated_mean needs a value at CLIENTS, found float32@SERVER; send it there with "
    "hansa.federated_broadcast",
)
def _() -> None:
    made(lambda x, w: hansa.federated_mean(x, w), AT_CLIENTS, AT_SERVER)  # wrong


@misuse(
    "federated_mean with a number for a weight",
    TypeError,
    "the weight of federated_mean needs a value at CLIENTS, found float32, .*place it with "
    r"hansa.federated_value\(value, hansa.CLIENTS\)",
)
def _() -> None:
    made(lambda x: hansa.federated_mean(x, 2.0), AT_CLIENTS)  # wrong


@misuse(
    "federated_aggregate at the server",
    TypeError,
    "federated_aggregate needs a value at CLIENTS, found float32@SERVER; send it there with hansa.federated_broadcast",
)
def _() -> None:
    made(lambda x: hansa.federated_aggregate(x, 0, count, plus, half), AT_SERVER)  # wrong


@misuse(
    "federated_aggregate with a placed zero",
    TypeError,
    "the zero of federated_aggregate needs an unplaced value, found int32@SERVER; each worker starts from it",
)
def _() -> None:
    made(lambda x, z: hansa.federated_aggregate(x, z, count, plus, half), AT_CLIENTS, "int32@SERVER")  # wrong


@misuse(
    "federated_collect at the server",
    TypeError,
    "federated_collect needs a value at CLIENTS, found float32@SERVER; send it there with hansa.federated_broadcast",
)
def _() -> None:
    made(lambda x: hansa.federated_collect(x), AT_SERVER)  # wrong


@misuse(
    "federated_secure_sum at the server",
    TypeError,
    "federated_secure_sum needs a value at CLIENTS, found int32@SERVER; send it there with hansa.federated_broadcast",
)
def _() -> None:
    made(lambda x: hansa.federated_secure_sum(x, 8), "int32@SERVER")  # wrong


@misuse(
    "federated_secure_sum_bitwidth at the server",
    TypeError,
    "federated_secure_sum_bitwidth needs a value at CLIENTS, found int32@SERVER; send it there with "
    "hansa.federated_broadcast",
)
def _() -> None:
    made(lambda x: hansa.federated_secure_sum_bitwidth(x, 8), "int32@SERVER")  # wrong


@misuse(
    "federated_secure_sum with a bound at the clients",
    TypeError,
    r"the max_input of federated_secure_sum needs a value at SERVER, found \{int32\}@CLIENTS; aggregate it "
    "first, with hansa.federated_sum or another",
)
def _() -> None:
    made(lambda x, b: hansa.federated_secure_sum(x, b), "{int32}@CLIENTS", "{int32}@CLIENTS")  # wrong


@misuse(
    "federated_client_key of a key at the clients",
    TypeError,
    r"the key of federated_client_key needs a value at SERVER, found \{uint32\[2\]\}@CLIENTS; aggregate it "
    "first, with hansa.federated_sum or another",
)
def _() -> None:
    made(lambda key: hansa.federated_client_key(key), "{uint32[2]}@CLIENTS")  # wrong


@misuse(
    "federated_select with keys at the server",
    TypeError,
    r"the client_keys of federated_select needs a value at CLIENTS, found int32\[3\]@SERVER; send it there with "
    "hansa.federated_broadcast",
)
def _() -> None:
    made(lambda k, t: hansa.federated_select(k, 10, t, row), "int32[3]@SERVER", "float32[10]@SERVER")  # wrong


@misuse(
    "federated_select of a value at the clients",
    TypeError,
    r"the server_value of federated_select needs a value at SERVER, found \{float32\[10\]\}@CLIENTS; aggregate "
    "it first, with hansa.federated_sum or another",
)
def _() -> None:
    made(lambda k, t: hansa.federated_select(k, 10, t, row), "{int32[3]}@CLIENTS", "{float32[10]}@CLIENTS")  # wrong


@misuse(
    "federated_select with max_key at the clients",
    TypeError,
    r"the max_key of federated_select needs a value at SERVER, found \{int32\}@CLIENTS; aggregate it first, "
    "with hansa.federated_sum or another",
)
def _() -> None:
    @hansa.federated_computation("{int32[3]}@CLIENTS", "{int32}@CLIENTS", "float32[10]@SERVER")
    def chosen(keys: Any, most: Any, table: Any) -> Any:
        return hansa.federated_select(keys, most, table, row)  # wrong


@misuse(
    "federated_map of an unplaced value",
    TypeError,
    "federated_map needs a federated value, found float32, which is at no placement; place it with "
    "hansa.federated_value",
)
def _() -> None:
    made(lambda x: hansa.federated_map(double, x), "float32")  # wrong


@misuse(
    "federated_map of values at two placements",
    TypeError,
    r"federated_map needs values at one placement, found <\{float32\}@CLIENTS,float32@SERVER>; bring those at "
    "the server to the clients with hansa.federated_broadcast, or aggregate",
)
def _() -> None:
    made(lambda x, y: hansa.federated_map(add, [x, y]), AT_CLIENTS, AT_SERVER)  # wrong


@misuse(
    "federated_map of a value and a number",
    TypeError,
    "federated_map needs federated values only, found float32 among them; place it with hansa.federated_value",
)
def _() -> None:
    made(lambda x: hansa.federated_map(add, [x, 1.0]), AT_CLIENTS)  # wrong


@misuse(
    "federated_zip of values at two placements",
    TypeError,
    r"federated_zip needs values at one placement, found <x=\{float32\}@CLIENTS,y=float32@SERVER>; bring .* "
    "hansa.federated_broadcast",
)
def _() -> None:
    made(lambda x, y: hansa.federated_zip({"x": x, "y": y}), AT_CLIENTS, AT_SERVER)  # wrong


@misuse(
    "federated_zip of one value",
    TypeError,
    r"federated_zip takes a struct of federated values, found \{float32\}@CLIENTS, which is one value already; "
    "pass a list",
)
def _() -> None:
    made(lambda x: hansa.federated_zip(x), AT_CLIENTS)  # wrong


@misuse("federated_zip of several arguments", TypeError, "takes 1 positional argument but 2 were given")
def _() -> None:
    made(lambda x, y: hansa.federated_zip(x, y), AT_CLIENTS, AT_CLIENTS)  # wrong


@misuse(
    "federated_zip of nothing",
    TypeError,
    r"federated_zip cannot place an empty struct; use hansa.federated_value\(\[\], hansa.SERVER",
)
def _() -> None:
    made(lambda: hansa.federated_zip([]))  # wrong


@misuse(
    "federated_zip of a value and a number",
    TypeError,
    "federated_zip needs federated values only, found int32 among them; place it with hansa.federated_value",
)
def _() -> None:
    made(lambda x: hansa.federated_zip([x, 1]), AT_CLIENTS)  # wrong


@misuse(
    "federated_zip of a number",
    TypeError,
    "federated_zip needs federated values only, found int32 among them; place it with hansa.federated_value",
)
def _() -> None:
    made(lambda: hansa.federated_zip(1))  # wrong


@misuse(
    "federated_value of a placed value",
    TypeError,
    r"federated_value needs an unplaced value, found \{float32\}@CLIENTS; it has a placement already",
)
def _() -> None:
    made(lambda x: hansa.federated_value(x, SERVER), AT_CLIENTS)  # wrong


@misuse(
    "federated_value of a broadcast value",
    TypeError,
    "federated_value needs an unplaced value, found float32@SERVER; send it to the clients with "
    "hansa.federated_broadcast",
)
def _() -> None:
    made(lambda x: hansa.federated_value(x, CLIENTS), AT_SERVER)  # wrong


@misuse(
    "federated_value at a string",
    TypeError,
    "the placement of federated_value must be hansa.CLIENTS or hansa.SERVER, found 'SERVER'",
)
def _() -> None:
    made(lambda: hansa.federated_value(1, "SERVER"))  # wrong


@misuse(
    "federated_value with swapped arguments",
    TypeError,
    "the placement of federated_value must be hansa.CLIENTS or hansa.SERVER, found 1",
)
def _() -> None:
    made(lambda: hansa.federated_value(SERVER, 1))  # wrong


@misuse(
    "federated_value of an object",
    TypeError,
    "the value of federated_value: <object object .*> of type object has no type; a value is a number, a string",
)
def _() -> None:
    made(lambda: hansa.federated_value(object(), SERVER))  # wrong


@misuse(
    "federated_eval at a string",
    TypeError,
    "the placement of federated_eval must be hansa.CLIENTS or hansa.SERVER, found 'CLIENTS'",
)
def _() -> None:
    made(lambda: hansa.federated_eval(seven, "CLIENTS"))  # wrong


@misuse("federated_eval without a placement", TypeError, "missing 1 required positional argument: 'placement'")
def _() -> None:
    made(lambda: hansa.federated_eval(seven))  # wrong


@misuse(
    "sequence_map of what is no sequence",
    TypeError,
    r"sequence_map needs a sequence, found \{float32\}@CLIENTS; a sequence is a parameter of a type like "
    r"'\{float32\*\}@CLIENTS'",
)
def _() -> None:
    made(lambda x: hansa.sequence_map(double, x), AT_CLIENTS)  # wrong


@misuse(
    "sequence_sum of what is no sequence",
    TypeError,
    r"sequence_sum needs a sequence, found \{float32\}@CLIENTS; a sequence is a parameter of a type like "
    r"'\{float32\*\}@CLIENTS'",
)
def _() -> None:
    made(lambda x: hansa.sequence_sum(x), AT_CLIENTS)  # wrong


@misuse(
    "sequence_reduce of what is no sequence",
    TypeError,
    r"sequence_reduce needs a sequence, found \{float32\}@CLIENTS; a sequence is a parameter of a type like "
    r"'\{float32\*\}@CLIENTS'",
)
def _() -> None:
    made(lambda x: hansa.sequence_reduce(x, 0, count), AT_CLIENTS)  # wrong


@misuse(
    "sequence_reduce of a sequence at the clients from a zero at the server",
    TypeError,
    "the zero of sequence_reduce needs a value at CLIENTS, found int32@SERVER; send it there with "
    "hansa.federated_broadcast",
)
def _() -> None:
    made(lambda s, z: hansa.sequence_reduce(s, z, count), "{float32*}@CLIENTS", "int32@SERVER")  # wrong


@misuse(
    "sequence_reduce of an unplaced sequence from a placed zero",
    TypeError,
    "the zero of sequence_reduce for an unplaced sequence needs an unplaced value, found int32@SERVER; reduce "
    "in a computation that is mapped over both, with hansa.federated_map",
)
def _() -> None:
    made(lambda s, z: hansa.sequence_reduce(s, z, count), "float32*", "int32@SERVER")  # wrong


@misuse(
    "federated_sum of bools",
    TypeError,
    "federated_sum takes numbers, found bool at .b of <a=int32,b=bool>; convert it in a local computation, "
    r"with .astype\('int32'\)",
)
def _() -> None:
    made(lambda x: hansa.federated_sum(x), "{<a=int32,b=bool>}@CLIENTS")  # wrong


@misuse(
    "federated_sum of strings",
    TypeError,
    "federated_sum takes numbers, found str; text does not go through computations; give each text a number",
)
def _() -> None:
    made(lambda x: hansa.federated_sum(x), "{str}@CLIENTS")  # wrong


@misuse(
    "federated_sum of sequences",
    TypeError,
    r"federated_sum takes numbers, found float32\*; reduce the sequence first, with hansa.sequence_reduce",
)
def _() -> None:
    made(lambda x: hansa.federated_sum(x), "{float32*}@CLIENTS")  # wrong


@misuse(
    "federated_sum of tensors of unknown size",
    TypeError,
    r"federated_sum needs tensors of known size, found float32\[\?\]: .*; pad them to one size",
)
def _() -> None:
    made(lambda x: hansa.federated_sum(x), "{float32[?]}@CLIENTS")  # wrong


@misuse(
    "federated_max of complex numbers",
    TypeError,
    "federated_max takes integers or floats, found complex64; take its real part or its absolute value",
)
def _() -> None:
    made(lambda x: hansa.federated_max(x), "{complex64}@CLIENTS")  # wrong


@misuse(
    "federated_min of bools",
    TypeError,
    "federated_min takes integers or floats, found bool; convert it in a local computation, with "
    r".astype\('int32'\)",
)
def _() -> None:
    made(lambda x: hansa.federated_min(x), "{bool}@CLIENTS")  # wrong


@misuse(
    "federated_mean of integers",
    TypeError,
    "federated_mean takes floats or complex numbers, found int32 at .b of <a=float32,b=int32>; convert it .* "
    r"with .astype\('float32'\)",
)
def _() -> None:
    made(lambda x: hansa.federated_mean(x), "{<a=float32,b=int32>}@CLIENTS")  # wrong


@misuse(
    "federated_mean with a weight of bools",
    TypeError,
    r"the weight of federated_mean must be an integer or float scalar at the clients, found \{bool\}@CLIENTS; "
    "make one of it in a local computation",
)
def _() -> None:
    made(lambda x, w: hansa.federated_mean(x, w), AT_CLIENTS, "{bool}@CLIENTS")  # wrong


@misuse(
    "federated_mean with a weight that is a vector",
    TypeError,
    r"must be an integer or float scalar at the clients, found \{float32\[1\]\}@CLIENTS; make one of it",
)
def _() -> None:
    made(lambda x, w: hansa.federated_mean(x, w), AT_CLIENTS, "{float32[1]}@CLIENTS")  # wrong


@misuse(
    "federated_mean with a weight that is a struct",
    TypeError,
    r"must be an integer or float scalar at the clients, found \{<n=float32>\}@CLIENTS; make one of it",
)
def _() -> None:
    made(lambda x, w: hansa.federated_mean(x, w), AT_CLIENTS, "{<n=float32>}@CLIENTS")  # wrong


@misuse(
    "sequence_sum of bools",
    TypeError,
    r"sequence_sum takes numbers, found bool; convert it in a local computation, with .astype\('int32'\)",
)
def _() -> None:
    made(lambda s: hansa.sequence_sum(s), "bool*")  # wrong


@misuse(
    "federated_collect of sequences",
    TypeError,
    r"federated_collect needs tensors of known size, or structs of them, found float32\*; reduce the sequence "
    "first",
)
def _() -> None:
    made(lambda x: hansa.federated_collect(x), "{float32*}@CLIENTS")  # wrong


@misuse(
    "federated_collect of strings",
    TypeError,
    "federated_collect needs tensors of known size, or structs of them, found str; text does not go",
)
def _() -> None:
    made(lambda x: hansa.federated_collect(x), "{str}@CLIENTS")  # wrong


@misuse(
    "federated_collect of tensors of unknown size",
    TypeError,
    r"federated_collect needs tensors of known size, .* found float32\[\?\]; pad it to one size",
)
def _() -> None:
    made(lambda x: hansa.federated_collect(x), "{float32[?]}@CLIENTS")  # wrong


@misuse(
    "federated_select with a matrix of keys",
    TypeError,
    "the client_keys of federated_select must be a vector of int32 keys, of known length, .* such as "
    r"\{int32\[8\]\}@CLIENTS, or one key, \{int32\}@CLIENTS; found \{int32\[2,2\]\}@CLIENTS",
)
def _() -> None:
    made(lambda k, t: hansa.federated_select(k, 10, t, row), "{int32[2,2]}@CLIENTS", "float32[10]@SERVER")  # wrong


@misuse(
    "federated_select with keys of int64",
    TypeError,
    r"must be a vector of int32 keys, of known length, .* such as \{int32\[8\]\}@CLIENTS, .*; found "
    r"\{int64\[3\]\}@CLIENTS",
)
def _() -> None:
    made(lambda k, t: hansa.federated_select(k, 10, t, row), "{int64[3]}@CLIENTS", "float32[10]@SERVER")  # wrong


@misuse(
    "federated_select with any number of keys",
    TypeError,
    r"must be a vector of int32 keys, of known length, .* such as \{int32\[8\]\}@CLIENTS, .*; found "
    r"\{int32\[\?\]\}@CLIENTS",
)
def _() -> None:
    made(lambda k, t: hansa.federated_select(k, 10, t, row), "{int32[?]}@CLIENTS", "float32[10]@SERVER")  # wrong


@misuse(
    "federated_select with a float for max_key",
    TypeError,
    r"the max_key of federated_select: expected int32, found the float 10.0; convert it with int\(…\)",
)
def _() -> None:
    made(lambda k, t: hansa.federated_select(k, 10.0, t, row), "{int32[3]}@CLIENTS", "float32[10]@SERVER")  # wrong


@misuse("federated_select with max_key zero", ValueError, "the max_key of federated_select must be at least 1, found 0")
def _() -> None:
    made(lambda k, t: hansa.federated_select(k, 0, t, row), "{int32[3]}@CLIENTS", "float32[10]@SERVER")  # wrong


@misuse(
    "federated_select with a function of another table",
    TypeError,
    r"the select_fn of federated_select, '<lambda>' \(made at .*test_intrinsics.py:\d+\), in its "
    r"argument.table: expected float32\[10\], found float32\[9\]",
)
def _() -> None:
    made(lambda k, t: hansa.federated_select(k, 9, t, row), "{int32[3]}@CLIENTS", "float32[9]@SERVER")  # wrong


@misuse(
    "federated_select with a function of the key alone",
    TypeError,
    r"the select_fn of federated_select, '<lambda>' \(made at .*test_intrinsics.py:\d+\), in its argument: "
    r"expected int32, found <float32\[9\],int32>",
)
def _() -> None:
    made(lambda k, t: hansa.federated_select(k, 9, t, half), "{int32[3]}@CLIENTS", "float32[9]@SERVER")  # wrong


@misuse(
    "federated_secure_sum of floats",
    TypeError,
    "federated_secure_sum takes integers, found float32; scale it and round it to an integer in a local computation",
)
def _() -> None:
    made(lambda x: hansa.federated_secure_sum(x, 10), AT_CLIENTS)  # wrong


@misuse(
    "federated_secure_sum with a negative bound",
    ValueError,
    "the max_input of federated_secure_sum must not be negative, found -1",
)
def _() -> None:
    made(lambda x: hansa.federated_secure_sum(x, -1), "{int32}@CLIENTS")  # wrong


@misuse(
    "federated_secure_sum with a float bound",
    TypeError,
    "the max_input of federated_secure_sum must be a non-negative integer, an integer scalar at the server, or a "
    "struct of one for each tensor of int32; found float32",
)
def _() -> None:
    made(lambda x: hansa.federated_secure_sum(x, 10.0), "{int32}@CLIENTS")  # wrong


@misuse(
    "federated_secure_sum_bitwidth of floats",
    TypeError,
    "federated_secure_sum_bitwidth takes integers, found float32; scale it and round it to an integer",
)
def _() -> None:
    made(lambda x: hansa.federated_secure_sum_bitwidth(x, 8), AT_CLIENTS)  # wrong


@misuse(
    "federated_secure_sum_bitwidth with no bits",
    ValueError,
    "the bitwidth of federated_secure_sum_bitwidth must be a number of bits from 1 to 62, found 0",
)
def _() -> None:
    made(lambda x: hansa.federated_secure_sum_bitwidth(x, 0), "{int32}@CLIENTS")  # wrong


@misuse(
    "federated_secure_sum_bitwidth with too many bits", ValueError, "must be a number of bits from 1 to 62, found 63"
)
def _() -> None:
    made(lambda x: hansa.federated_secure_sum_bitwidth(x, 63), "{int32}@CLIENTS")  # wrong


@misuse("federated_secure_sum_bitwidth with half a bit", ValueError, "must be a number of bits from 1 to 62, found 7.5")
def _() -> None:
    made(lambda x: hansa.federated_secure_sum_bitwidth(x, 7.5), "{int32}@CLIENTS")  # wrong


@misuse(
    "federated_client_key of a float",
    TypeError,
    r"the key of federated_client_key: expected uint32\[2\], found float32",
)
def _() -> None:
    made(lambda key: hansa.federated_client_key(key), "float32@SERVER")  # wrong


@misuse(
    "federated_client_key of a seed at the server",
    TypeError,
    r"the key of federated_client_key: expected uint32\[2\], found int32",
)
def _() -> None:
    made(lambda seed: hansa.federated_client_key(seed), "int32@SERVER")  # wrong


@misuse(
    "federated_map with a function of another type",
    TypeError,
    r"the function of federated_map, '<lambda>' \(made at .*test_intrinsics.py:\d+\), in its argument: expected "
    "float32, found int32; dtypes are never cast",
)
def _() -> None:
    made(lambda x: hansa.federated_map(double, x), "{int32}@CLIENTS")  # wrong


@misuse(
    "federated_map with a function of fewer parameters",
    TypeError,
    r"the function of federated_map, '<lambda>' \(made at .*test_intrinsics.py:\d+\), in its argument: expected "
    "float32, found <float32,float32>",
)
def _() -> None:
    made(lambda x, y: hansa.federated_map(double, [x, y]), AT_CLIENTS, AT_CLIENTS)  # wrong


@misuse(
    "federated_map with a function of more parameters",
    TypeError,
    r"the function of federated_map, '<lambda>' \(made at .*test_intrinsics.py:\d+\), in its argument: expected "
    "<a=float32,b=float32>, found float32",
)
def _() -> None:
    made(lambda x: hansa.federated_map(add, x), AT_CLIENTS)  # wrong


@misuse(
    "federated_map with a function of one parameter where several are given",
    TypeError,
    "takes 2 positional arguments but 3 were given",
)
def _() -> None:
    made(lambda x, y: hansa.federated_map(add, x, y), AT_CLIENTS, AT_CLIENTS)  # wrong


@misuse(
    "federated_map with a function without parameters",
    TypeError,
    r"the function of federated_map, '<lambda>' \(made at .*test_intrinsics.py:\d+\), takes no parameter, but "
    "is to be given float32; give it one, or use hansa.federated_eval",
)
def _() -> None:
    made(lambda x: hansa.federated_map(seven, x), AT_CLIENTS)  # wrong


@misuse(
    "federated_map with a plain Python function",
    TypeError,
    "the function of federated_map is the plain Python function 'sqrt'; decorate it with @hansa.jax_computation",
)
def _() -> None:
    made(lambda x: hansa.federated_map(np.sqrt, x), AT_CLIENTS)  # wrong


@misuse(
    "federated_map with a lambda",
    TypeError,
    "the function of federated_map is the plain Python function '<lambda>'; decorate it with @hansa.jax_computation",
)
def _() -> None:
    made(lambda x: hansa.federated_map(lambda v: v * 2, x), AT_CLIENTS)  # wrong


@misuse(
    "federated_map with swapped arguments",
    TypeError,
    "federated_map takes the function first and the value second; they are swapped here",
)
def _() -> None:
    made(lambda x: hansa.federated_map(x, double), AT_CLIENTS)  # wrong


@misuse(
    "federated_map with a swapped plain function",
    TypeError,
    "federated_map takes the function first and the value second; they are swapped here",
)
def _() -> None:
    made(lambda x: hansa.federated_map(x, lambda v: v * 2), AT_CLIENTS)  # wrong


@misuse(
    "federated_map with the result of a call",
    TypeError,
    "the function of federated_map must be a computation, found a value of type int32; pass the computation "
    "itself, without calling it",
)
def _() -> None:
    made(lambda x: hansa.federated_map(seven(), x), AT_CLIENTS)  # wrong


@misuse(
    "federated_map with a federated function",
    TypeError,
    r"the function of federated_map, '<lambda>' \(made at .*test_intrinsics.py:\d+\), takes placed values, of "
    r"type \{float32\}@CLIENTS, but is to be given float32 at each member; call it on the value itself",
)
def _() -> None:
    made(lambda x: hansa.federated_map(total, x), AT_CLIENTS)  # wrong


@misuse(
    "federated_map with a function that aggregates",
    TypeError,
    "federated_sum needs a value at CLIENTS, found float32, which is at no placement",
)
def _() -> None:
    aggregating = hansa.federated_computation(lambda x: hansa.federated_sum(x))
    made(lambda x: hansa.federated_map(aggregating, x), AT_CLIENTS)  # wrong


@misuse(
    "federated_map with a string",
    TypeError,
    "the function of federated_map must be a computation, found the str 'double'; pass a function decorated "
    "with @hansa.jax_computation",
)
def _() -> None:
    made(lambda x: hansa.federated_map("double", x), AT_CLIENTS)  # wrong


@misuse(
    "federated_map with None",
    TypeError,
    "the function of federated_map must be a computation, found None; pass a function decorated",
)
def _() -> None:
    made(lambda x: hansa.federated_map(None, x), AT_CLIENTS)  # wrong


@misuse(
    "federated_eval of a function with a parameter",
    TypeError,
    r"the function of federated_eval, '<lambda>' \(made at .*test_intrinsics.py:\d+\), takes a parameter of "
    "type float32, but is to be given nothing; close over",
)
def _() -> None:
    made(lambda: hansa.federated_eval(double, SERVER))  # wrong


@misuse(
    "federated_eval of a function with a parameter and no types",
    TypeError,
    r"the function of federated_eval, '<lambda>' \(made at .*test_intrinsics.py:\d+\), takes one argument, but "
    "is to be given nothing; close over",
)
def _() -> None:
    untyped = hansa.jax_computation(lambda x: x)
    made(lambda: hansa.federated_eval(untyped, SERVER))  # wrong


@misuse(
    "federated_eval of a plain Python function",
    TypeError,
    "the function of federated_eval is the plain Python function '<lambda>'; decorate it with @hansa.jax_computation",
)
def _() -> None:
    made(lambda: hansa.federated_eval(lambda: 7, SERVER))  # wrong


@misuse(
    "federated_eval of a federated computation",
    TypeError,
    r"the function of federated_eval, '<lambda>' \(made at .*test_intrinsics.py:\d+\), returns the placed value "
    "int32@SERVER; call it on its own",
)
def _() -> None:
    placed = hansa.federated_computation(lambda: hansa.federated_value(1, SERVER))
    made(lambda: hansa.federated_eval(placed, SERVER))  # wrong


@misuse(
    "sequence_map with a function of another type",
    TypeError,
    r"the function of sequence_map, '<lambda>' \(made at .*test_intrinsics.py:\d+\), in its argument: expected "
    "float32, found int32",
)
def _() -> None:
    made(lambda s: hansa.sequence_map(double, s), "int32*")  # wrong


@misuse(
    "sequence_map with swapped arguments",
    TypeError,
    "sequence_map takes the function first and the value second; they are swapped here",
)
def _() -> None:
    made(lambda s: hansa.sequence_map(s, double), "float32*")  # wrong


@misuse(
    "sequence_map with a plain Python function",
    TypeError,
    "the function of sequence_map is the plain Python function '<lambda>'; decorate it with @hansa.jax_computation",
)
def _() -> None:
    made(lambda s: hansa.sequence_map(lambda x: x, s), "float32*")  # wrong


@misuse(
    "sequence_reduce from a float zero with a function of int32",
    TypeError,
    r"the zero of sequence_reduce, which '<lambda>' \(made at .*test_intrinsics.py:\d+\), the op of "
    "sequence_reduce, takes for the state: expected int32, found float32; .*in Python, 0 is int32 and 0.0 is "
    "float32",
)
def _() -> None:
    made(lambda s: hansa.sequence_reduce(s, 0.0, count), "float32*")  # wrong


@misuse(
    "sequence_reduce from an int zero with a function of float32",
    TypeError,
    r"the zero of sequence_reduce, which '<lambda>' \(made at .*test_intrinsics.py:\d+\), .* takes for the "
    "state: expected float32, found int32; .*in Python, 0 is int32 and 0.0 is float32",
)
def _() -> None:
    made(lambda s: hansa.sequence_reduce(s, 0, add), "{float32*}@CLIENTS")  # wrong


@misuse(
    "sequence_reduce whose function returns another type",
    TypeError,
    r"the state that '<lambda>' \(made at .*test_intrinsics.py:\d+\), the op of sequence_reduce, returns: "
    "expected int32, found float32",
)
def _() -> None:
    changing = hansa.jax_computation(lambda n, x: n + x, "int32", "float32")
    made(lambda s: hansa.sequence_reduce(s, 0, changing), "float32*")  # wrong


@misuse(
    "sequence_reduce whose untyped function returns another type",
    TypeError,
    r"the state that '<lambda>' \(made at .*test_intrinsics.py:\d+\), the op of sequence_reduce, returns: "
    "expected int32, found float32",
)
def _() -> None:
    changing = hansa.jax_computation(lambda n, x: n + x)
    made(lambda s: hansa.sequence_reduce(s, 0, changing), "float32*")  # wrong


@misuse(
    "sequence_reduce whose function returns another struct",
    TypeError,
    r"the state that '<lambda>' \(made at .*test_intrinsics.py:\d+\), the op of sequence_reduce, returns: "
    "expected <n=int32,sum=float32>, found <n=int32>; missing: sum",
)
def _() -> None:
    changing = hansa.jax_computation(lambda state, x: {"n": state.n + 1}, "<n=int32,sum=float32>", "float32")
    made(lambda s: hansa.sequence_reduce(s, {"n": 0, "sum": 0.0}, changing), "float32*")  # wrong


@misuse(
    "sequence_reduce from a zero that lacks a field",
    TypeError,
    r"the zero of sequence_reduce, which '<lambda>' \(made at .*test_intrinsics.py:\d+\), .*: expected "
    "<n=int32,sum=float32>, found <n=int32>; missing: sum$",
)
def _() -> None:
    step = hansa.jax_computation(lambda state, x: state, "<n=int32,sum=float32>", "float32")
    made(lambda s: hansa.sequence_reduce(s, {"n": 0}, step), "float32*")  # wrong


@misuse(
    "sequence_reduce with zero and function swapped",
    TypeError,
    "the zero of sequence_reduce must be a value, found the function '<lambda>'; call it, or pass it where a "
    "function goes",
)
def _() -> None:
    made(lambda s: hansa.sequence_reduce(s, count, 0), "float32*")  # wrong


@misuse(
    "sequence_reduce whose function takes the element first",
    TypeError,
    r"the zero of sequence_reduce, which '<lambda>' \(made at .*test_intrinsics.py:\d+\), .* takes for the "
    "state: expected float32, found int32",
)
def _() -> None:
    turned = hansa.jax_computation(lambda x, n: n + 1, "float32", "int32")
    made(lambda s: hansa.sequence_reduce(s, 0, turned), "float32*")  # wrong


@misuse(
    "federated_aggregate whose accumulate returns another type",
    TypeError,
    r"the state that '<lambda>' \(made at .*test_intrinsics.py:\d+\), the accumulate of federated_aggregate, "
    "returns: expected int32, found float32",
)
def _() -> None:
    changing = hansa.jax_computation(lambda n, x: n + x, "int32", "float32")
    made(lambda x: hansa.federated_aggregate(x, 0, changing, plus, half), AT_CLIENTS)  # wrong


@misuse(
    "federated_aggregate from a float zero",
    TypeError,
    r"the zero of federated_aggregate, which '<lambda>' \(made at .*test_intrinsics.py:\d+\), the accumulate of "
    "federated_aggregate, takes for the state: expected int32, found float32; .*0.0 is float32",
)
def _() -> None:
    made(lambda x: hansa.federated_aggregate(x, 0.0, count, plus, half), AT_CLIENTS)  # wrong


@misuse(
    "federated_aggregate with a merge of other states",
    TypeError,
    r"the merge of federated_aggregate, '<lambda>' \(made at .*test_intrinsics.py:\d+\), in its argument.a: "
    "expected float32, found int32",
)
def _() -> None:
    made(lambda x: hansa.federated_aggregate(x, 0, count, add, half), AT_CLIENTS)  # wrong


@misuse(
    "federated_aggregate with a report of another state",
    TypeError,
    r"the report of federated_aggregate, '<lambda>' \(made at .*test_intrinsics.py:\d+\), in its argument: "
    "expected float32, found int32",
)
def _() -> None:
    made(lambda x: hansa.federated_aggregate(x, 0, count, plus, double), AT_CLIENTS)  # wrong


@misuse("federated_aggregate without a report", TypeError, "missing 1 required positional argument: 'report'")
def _() -> None:
    made(lambda x: hansa.federated_aggregate(x, 0, count, plus), AT_CLIENTS)  # wrong


@misuse(
    "federated_aggregate with a plain merge",
    TypeError,
    "the merge of federated_aggregate is the plain Python function '<lambda>'; decorate it with @hansa.jax_computation",
)
def _() -> None:
    made(lambda x: hansa.federated_aggregate(x, 0, count, lambda a, b: a + b, half), AT_CLIENTS)  # wrong


@misuse(
    "an operation outside of a computation",
    TypeError,
    "hansa.federated_sum works only inside a @hansa.federated_computation, and none is being traced here; "
    "write a function",
)
def _() -> None:
    hansa.federated_sum([1.0, 2.0])  # wrong


@misuse(
    "a sequence operation outside of a computation",
    TypeError,
    "hansa.sequence_sum works only inside a @hansa.federated_computation",
)
def _() -> None:
    hansa.sequence_sum([1.0, 2.0])  # wrong


@misuse(
    "an operation in a local computation",
    TypeError,
    "hansa.federated_sum is used in the local computation '<lambda>': .*; move it to the federated_computation",
)
def _() -> None:
    hansa.jax_computation(lambda x: hansa.federated_sum(x), "float32")  # wrong


@misuse(
    "a sequence operation in a local computation",
    TypeError,
    "hansa.sequence_sum is used in the local computation '<lambda>': .*; move it to the federated_computation",
)
def _() -> None:
    hansa.jax_computation(lambda x: hansa.sequence_sum(x), "float32")  # wrong


@misuse(
    "a federated computation called in a local one",
    TypeError,
    "the local computation '<lambda>' calls '<lambda>', which is not a local computation; compose the two in a "
    "@hansa.federated_computation",
)
def _() -> None:
    hansa.jax_computation(lambda x: total(x), "float32")  # wrong


@misuse(
    "a local computation called on a value at the clients",
    TypeError,
    r"the argument of '<lambda>' must be unplaced, float32, found \{float32\}@CLIENTS; "
    r".*hansa.federated_map\(fn, value\)",
)
def _() -> None:
    made(lambda x: double(x), AT_CLIENTS)  # wrong


@misuse(
    "a local computation without types called on a value at the clients",
    TypeError,
    r"a local computation takes and returns tensors and structs of tensors, not \{float32\}@CLIENTS; map it "
    "over placed values with hansa.federated_map",
)
def _() -> None:
    untyped = hansa.jax_computation(lambda x: x * 2)
    made(lambda x: untyped(x), AT_CLIENTS)  # wrong


@misuse(
    "a local computation called on placed and unplaced values",
    TypeError,
    "must be unplaced, <a=float32,b=float32>, found <a=float32@SERVER,b=float32>; .*hansa.federated_map",
)
def _() -> None:
    made(lambda x: add(x, 1.0), AT_SERVER)  # wrong


@misuse(
    "a federated computation called on a value elsewhere",
    TypeError,
    r"the argument of '<lambda>': expected \{float32\}@CLIENTS, found float32@SERVER",
)
def _() -> None:
    made(lambda x: total(x), AT_SERVER)  # wrong


@misuse(
    "a result that is a computed sequence",
    TypeError,
    r"'<lambda>' returns a value of type float32\* \(made at .*\): .*; reduce it with hansa.sequence_reduce",
    later=True,
)
def _() -> None:
    doubled = made(lambda s: hansa.sequence_map(double, s), "float32*")  # wrong
    doubled([1.0, 2.0])


@misuse(
    "a result at the clients that is a computed sequence",
    TypeError,
    r"'<lambda>' returns a value of type \{float32\*\}@CLIENTS \(made at .*\): .*; reduce it",
    later=True,
)
def _() -> None:
    doubled = made(lambda s: hansa.sequence_map(double, s), "{float32*}@CLIENTS")  # wrong
    doubled([[1.0], [2.0]])


@pytest.mark.parametrize("case", misuse.parameters)
def test_the_error_says_what_to_do(case: Misuse) -> None:
    case.check()
