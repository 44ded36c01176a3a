"""`Value`s: access to fields works as on a struct; all else is refused with what to write instead."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import pytest

import hansa

CLIENT_STRUCT = "{<a=float32,b=<int32,int32>>}@CLIENTS"


def inside(kind: str, use: Callable[[Any], Any]) -> Any:
    """What `use` returns for a value of the type while a computation is traced."""
    found = []

    def body(value: Any) -> Any:
        found.append(use(value))
        return value

    hansa.federated_computation(body, kind)
    return found[0]


def test_fields_are_reached_by_name_index_attribute_and_unpacking() -> None:
    def use(value: Any) -> list[str]:
        a, b = value
        members = (value.a, value["b"], value[1][0], value[-2], a, b)
        return [f"{v.type_signature}" for v in members] + [str(len(value))]

    inner = "{<int32,int32>}@CLIENTS"
    at_clients = ["{float32}@CLIENTS", inner, "{int32}@CLIENTS", "{float32}@CLIENTS", "{float32}@CLIENTS", inner, "2"]
    assert inside(CLIENT_STRUCT, use) == at_clients
    assert inside("<a=float32,b=<int32,int32>>@SERVER", use)[2] == "int32@SERVER"
    assert inside("<a=float32,b=<int32,int32>>", use)[2] == "int32"


@pytest.mark.parametrize(
    "cut", [slice(1, 3), slice(None), slice(-2, None), slice(None, None, -2), slice(5, 9), slice(2)]
)
@pytest.mark.parametrize("kind", ["{}", "{}@SERVER", "{{{}}}@CLIENTS", "{}@CLIENTS"])
def test_a_slice_of_a_struct_is_the_struct_of_these_fields(kind: str, cut: slice) -> None:
    members = ["a=float32", "int32", "c=<int32>", "float32"]
    value = hansa.Struct([("a", 1.0), (None, 2), ("c", hansa.Struct([(None, 3)])), (None, 4.0)])
    each = kind == "{{{}}}@CLIENTS"
    computation = hansa.federated_computation(lambda value: value[cut], kind.format(f"<{','.join(members)}>"))
    found = computation([value, value] if each else value)
    if each and not members[cut]:
        each, kind = False, "{}@CLIENTS"  # of nothing, all have the same
    assert computation.type_signature.result.compact() == kind.format(f"<{','.join(members[cut])}>")
    assert found == ([value[cut], value[cut]] if each else value[cut])


def test_a_slice_can_be_mapped() -> None:
    added = hansa.jax_computation(lambda b, c: b - c)
    computation = hansa.federated_computation(
        lambda value: hansa.federated_sum(hansa.federated_map(added, value[1:])), "{<a=int32,b=int32,c=int32>}@CLIENTS"
    )
    assert computation([{"c": 3, "b": 2, "a": 1}, [10, 20, 40]]) == -21


@pytest.mark.parametrize(
    ("kind", "use", "error", "message"),
    [
        (CLIENT_STRUCT, lambda v: v.aa, AttributeError, "no field 'aa'; did you mean 'a'"),
        (CLIENT_STRUCT, lambda v: v["c"], KeyError, "has no field 'c'"),
        (CLIENT_STRUCT, lambda v: v[2], IndexError, "has 2 fields, there is none at index 2"),
        (
            "float32@SERVER",
            lambda v: v.x,
            AttributeError,
            "float32@SERVER is no struct, and has no 'x'.*hansa.federated_map",
        ),
        ("float32@SERVER", lambda v: v[0], TypeError, "cannot be indexed.*jax_computation"),
        (
            "int32*",
            lambda v: list(v),
            TypeError,
            r"int32\* is no struct, and cannot be iterated over.*hansa.sequence_reduce",
        ),
        ("int32*", lambda v: len(v), TypeError, "no length while the computation is traced"),
        ("int32", lambda v: setattr(v, "x", 1), AttributeError, "immutable: cannot set 'x'; build a new struct"),
    ],
)
def test_wrong_access_is_refused(kind: str, use: Callable[[Any], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        inside(kind, use)


@pytest.mark.parametrize(
    "operation",
    [
        operator.add,
        operator.sub,
        operator.mul,
        operator.truediv,
        operator.floordiv,
        operator.mod,
        operator.pow,
        operator.matmul,
        operator.lt,
        operator.ge,
        operator.eq,
        operator.ne,
        operator.and_,
        operator.lshift,
    ],
)
def test_arithmetic_and_comparisons_are_refused_on_either_side(operation: Any) -> None:
    for use in (lambda v: operation(v, 1), lambda v: operation(1, v)):
        with pytest.raises(
            TypeError, match=r"on a value of type \{int32\}@CLIENTS.*hansa.federated_map.*jax_computation"
        ):
            inside("{int32}@CLIENTS", use)


@pytest.mark.parametrize("use", [lambda v: -v, abs, operator.invert, float, int, lambda v: [1, 2][v]])
def test_unary_operations_and_conversions_are_refused(use: Any) -> None:
    with pytest.raises(TypeError, match=r"only local computations see data; call a @hansa.jax_computation on it"):
        inside("int32", use)


def test_a_value_decides_nothing_in_python() -> None:
    for use in (lambda v: 1 if v else 2, lambda v: v and 1, lambda v: not v):
        with pytest.raises(TypeError, match=r"bool@SERVER is not known while.*jnp.where or jax.lax.cond"):
            inside("bool@SERVER", use)


def test_a_value_of_another_computation_cannot_be_captured() -> None:
    def outer(x: Any) -> Any:
        hansa.federated_computation(lambda y: [x, y], "int32")
        return x

    with pytest.raises(
        TypeError,
        match=r"a value of the federated computation 'outer', made at .*, but is used in .*cannot capture.*pass it",
    ):
        hansa.federated_computation(outer, "int32")


def test_a_value_that_outlives_its_computation_is_refused() -> None:
    kept = []
    hansa.federated_computation(lambda x: kept.append(x) or x, "int32")
    with pytest.raises(TypeError, match=r"cannot capture"):
        hansa.federated_computation(lambda y: [kept[0], y], "int32")


def test_python_data_and_values_mix_in_results() -> None:
    mixed = hansa.federated_computation(lambda x: {"x": x, "pair": [x, 1.5], "name": "hansa"}, "int32")
    assert mixed.type_signature.compact() == "(int32 -> <x=int32,pair=<int32,float32>,name=str>)"
