"""Misuse of types, of their notation, and of processes."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest

import hansa
from hansa import CLIENTS, SERVER
from hansa.templates import AggregationProcess, IterativeProcess, MeasuredOutput, chain_measured_processes
from tests.misuse.table import Misuse, Table

misuse = Table()


@misuse(
    "an unknown dtype in the notation",
    ValueError,
    r"this is no type: there is no dtype 'flaot32'; did you mean 'float32'\?\n  <x=flaot32,y=int32>\n   {3}\^",
)
def _() -> None:
    hansa.to_type("<x=flaot32,y=int32>")  # wrong


@misuse("an unknown dtype", TypeError, r"Hansa has no dtype datetime64\[s\]; there are bool, int8")
def _() -> None:
    hansa.to_type(np.dtype("datetime64[s]"))  # wrong


@misuse("a dtype that stands for several", TypeError, "floating stands for several dtypes; name one, such as float32")
def _() -> None:
    hansa.to_type(np.floating)  # wrong


@misuse(
    "strings as objects",
    TypeError,
    r"Hansa has no dtype object; strings are of dtype str: convert them with .astype\(str\)",
)
def _() -> None:
    hansa.to_type(np.array(["a"], object))  # wrong


@misuse(
    "a struct that is not closed",
    ValueError,
    r"this is no type: expected ',' or '>', found the end\n  <x=float32,y=int32\n   {18}\^",
)
def _() -> None:
    hansa.to_type("<x=float32,y=int32")  # wrong


@misuse(
    "a shape that is not closed",
    ValueError,
    r"this is no type: expected ',' or ']', found the end\n  float32\[3\n   {9}\^",
)
def _() -> None:
    hansa.to_type("float32[3")  # wrong


@misuse(
    "a shape in round brackets",
    ValueError,
    r"this is no type: expected the end of the type, '\*' or '@', found '\('\n  float32\(3\)\n   {7}\^",
)
def _() -> None:
    hansa.to_type("float32(3)")  # wrong


@misuse(
    "a size that is no number",
    ValueError,
    r"this is no type: expected a size, that is a number or '\?', found 'None'\n  float32\[None,784\]\n   {8}\^",
)
def _() -> None:
    hansa.to_type("float32[None,784]")  # wrong


@misuse(
    "a negative size",
    ValueError,
    r"this is no type: expected a size, that is a number or '\?', found '-1'\n  float32\[\-1\]\n   {8}\^",
)
def _() -> None:
    hansa.to_type("float32[-1]")  # wrong


@misuse(
    "an unknown placement",
    ValueError,
    r"this is no type: expected the placement CLIENTS or SERVER, found 'CLIENT'\n  \{float32\}@CLIENT\n   {10}\^",
)
def _() -> None:
    hansa.to_type("{float32}@CLIENT")  # wrong


@misuse(
    "a placement in small letters",
    ValueError,
    r"this is no type: expected the placement CLIENTS or SERVER, found 'server'\n  float32@server\n   {8}\^",
)
def _() -> None:
    hansa.to_type("float32@server")  # wrong


@misuse(
    "braces without a placement",
    ValueError,
    r"this is no type: expected '@' and a placement after \{…\}, found the end\n  \{float32\}\n   {9}\^",
)
def _() -> None:
    hansa.to_type("{float32}")  # wrong


@misuse(
    "a function without a result",
    ValueError,
    r"this is no type: expected a type, found '\)'\n  \(int32\ \->\ \)\n   {10}\^",
)
def _() -> None:
    hansa.to_type("(int32 -> )")  # wrong


@misuse(
    "more after the type",
    ValueError,
    r"this is no type: expected the end of the type, '\*' or '@', found 'int32'\n  int32\ int32\n   {6}\^",
)
def _() -> None:
    hansa.to_type("int32 int32")  # wrong


@misuse("an empty string", ValueError, "this is no type: expected a type, found the end")
def _() -> None:
    hansa.to_type("")  # wrong


@misuse(
    "a name twice in a struct",
    ValueError,
    r"this is no type: two fields have the name 'x'; the names of a struct differ from each other\n  "
    r"<x=int32,x=float32>\n  \^",
)
def _() -> None:
    hansa.to_type("<x=int32,x=float32>")  # wrong


@misuse("a nested sequence", TypeError, r"a sequence cannot hold a sequence; found int32\*")
def _() -> None:
    hansa.SequenceType(hansa.SequenceType("int32"))  # wrong


@misuse(
    "a nested sequence in the notation",
    ValueError,
    r"this is no type: a sequence cannot hold a sequence; found int32\* in <x=int32\*>\n  <x=int32\*>\*\n  \^",
)
def _() -> None:
    hansa.to_type("<x=int32*>*")  # wrong


@misuse(
    "a federated type in a federated type",
    TypeError,
    r"a federated value cannot hold a federated value; found \{int32\}@CLIENTS",
)
def _() -> None:
    hansa.FederatedType(hansa.FederatedType("int32", CLIENTS), SERVER)  # wrong


@misuse(
    "a federated type in a federated type in the notation",
    ValueError,
    r"this is no type: a federated value cannot hold a federated value; found int32@SERVER in <int32@SERVER>\n  "
    r"\{<int32@SERVER>\}@CLIENTS\n  \^",
)
def _() -> None:
    hansa.to_type("{<int32@SERVER>}@CLIENTS")  # wrong


@misuse("a federated type in a sequence", TypeError, "a sequence cannot hold a federated value; found int32@SERVER")
def _() -> None:
    hansa.SequenceType("int32@SERVER")  # wrong


@misuse(
    "a function in a federated type", TypeError, r"a federated value cannot hold a function; found \(int32 -> int32\)"
)
def _() -> None:
    hansa.FederatedType(hansa.FunctionType("int32", "int32"), SERVER)  # wrong


@misuse("a federated type without a placement", TypeError, "missing 1 required positional argument: 'placement'")
def _() -> None:
    hansa.FederatedType("int32")  # wrong


@misuse(
    "a federated type at a string", TypeError, "a federated type has the placement CLIENTS or SERVER; found 'SERVER'"
)
def _() -> None:
    hansa.FederatedType("int32", "SERVER")  # wrong


@misuse("a number for a type", TypeError, "the int 784 is no type;.* a type is written as one of")
def _() -> None:
    hansa.to_type(784)  # wrong


@misuse("a number for a shape", TypeError, r"at \[1\]: the int 784 is no type;.* a type is written as one of")
def _() -> None:
    hansa.to_type((np.float32, 784))  # wrong


@misuse("None for a type", TypeError, "at .y: None is no type;.* a type is written as one of")
def _() -> None:
    hansa.to_type({"x": np.float32, "y": None})  # wrong


@misuse(
    "a type in a decorator that is none", TypeError, r"at \[1\]: the int 3 is no type;.* a type is written as one of"
)
def _() -> None:
    hansa.jax_computation(lambda x: x, [np.float32, 3])  # wrong


@misuse("a class that is no type", TypeError, "the class .*Point is no type;.* a type is written as one of")
def _() -> None:
    class Point:
        x: float

    hansa.to_type(Point)  # wrong


@misuse(
    "a NamedTuple with an annotation that is no type",
    TypeError,
    "at .x: the class Any is no type;.* a type is written as one of",
)
def _() -> None:
    class Point(NamedTuple):
        x: Any

    hansa.to_type(Point)  # wrong


@misuse(
    "a field of a type that is not there",
    KeyError,
    "there is no field 'lable'; did you mean 'label'. the fields are: image, label",
)
def _() -> None:
    hansa.to_type("<image=float32,label=int32>")["lable"]  # wrong


@misuse(
    "the type of an object",
    TypeError,
    r"at .y\[1\]: <object object .*> of type object has no type; a value is a number",
)
def _() -> None:
    hansa.infer_type({"x": 1, "y": [2, object()]})  # wrong


@misuse("the type of bytes", TypeError, "the bytes b'abc' has no type; decode text to a str")
def _() -> None:
    hansa.infer_type(b"abc")  # wrong


@misuse(
    "a field of a struct that is not there",
    AttributeError,
    "there is no field 'acuracy'; did you mean 'accuracy'. the fields are: accuracy, loss",
)
def _() -> None:
    _ = hansa.Struct([("accuracy", 0.9), ("loss", 0.1)]).acuracy  # wrong


@misuse(
    "setting a field of a struct",
    AttributeError,
    r"a struct is immutable; make a changed one with _replace\(accuracy=…\)",
)
def _() -> None:
    hansa.Struct([("accuracy", 0.9)]).accuracy = 1.0  # wrong


zero = hansa.federated_computation(lambda: hansa.federated_value(0.0, SERVER))


def next_of(use: Any, *types: str) -> Any:
    return hansa.federated_computation(use, *types)


@misuse(
    "a process whose next takes another state",
    TypeError,
    "the state that `initialize` returns and `next` takes: expected int32, found float32.*int32@SERVER.*float32@SERVER",
)
def _() -> None:
    IterativeProcess(zero, next_of(lambda s, x: (s, x), "int32@SERVER", "{float32}@CLIENTS"))  # wrong


@misuse(
    "a process whose next returns another state",
    TypeError,
    "the state that `next` returns, first, and takes: expected float32, found int32.*float32@SERVER.*int32@SERVER",
)
def _() -> None:
    integer = hansa.jax_computation(lambda x: x.astype("int32"))
    step = next_of(lambda s: (hansa.federated_map(integer, s), s), "float32@SERVER")
    IterativeProcess(zero, step)  # wrong


@misuse(
    "a process with swapped computations",
    TypeError,
    r"initialize must take no parameter, found the type \(float32@SERVER -> .*; close over what it needs instead",
)
def _() -> None:
    IterativeProcess(next_of(lambda s: (s, s), "float32@SERVER"), zero)  # wrong


@misuse(
    "a process of called computations",
    TypeError,
    "initialize must be a computation, found .*0.0.*; pass the computation itself, without calling it",
)
def _() -> None:
    IterativeProcess(zero(), next_of(lambda s: (s, s), "float32@SERVER"))  # wrong


@misuse(
    "a state of another process",
    TypeError,
    r"the argument of '<lambda>'.s.w: expected float32\[2\], found the float32 1.0; it is of rank 0 instead of 1",
)
def _() -> None:
    other = hansa.federated_computation(lambda: hansa.federated_value({"w": 1.0, "rounds": 1}, SERVER))
    step = next_of(lambda s, x: (s, hansa.federated_mean(x)), "<w=float32[2],rounds=int32>@SERVER", "{float32}@CLIENTS")
    step(other(), [1.0])  # wrong


@misuse(
    "what next returned in place of the state",
    TypeError,
    r"the argument of '<lambda>'.s: expected float32, found <float32,float32>; its part \[0\] is one: pass that",
)
def _() -> None:
    step = next_of(lambda s, x: (s, hansa.federated_mean(x)), "float32@SERVER", "{float32}@CLIENTS")
    output = IterativeProcess(zero, step).next(1.0, [1.0])
    step(output, [2.0])  # wrong


@misuse(
    "an aggregation that does not aggregate",
    TypeError,
    "the result that `next` of an AggregationProcess returns must be one value at the server, float32@SERVER, "
    r"found \{float32\}@CLIENTS; aggregate it, with hansa.federated_sum",
)
def _() -> None:
    step = next_of(lambda s, x: MeasuredOutput(s, x, s), "float32@SERVER", "{float32}@CLIENTS")
    AggregationProcess(zero, step)  # wrong


@misuse(
    "a chain whose processes do not fit",
    TypeError,
    r"the value of the process 'mean', which is the result of the process 'clip': expected \{float32\}@CLIENTS, "
    "found float32@SERVER",
)
def _() -> None:
    one = next_of(lambda s, x: MeasuredOutput(s, hansa.federated_sum(x), s), "float32@SERVER", "{float32}@CLIENTS")
    process = AggregationProcess(zero, one)
    chain_measured_processes(clip=process, mean=process)  # wrong


@pytest.mark.parametrize("case", misuse.parameters)
def test_the_error_says_what_to_do(case: Misuse) -> None:
    case.check()
