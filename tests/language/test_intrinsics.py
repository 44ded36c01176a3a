"""Each operation's type rule, and the error for each way to break it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import hansa
from hansa import CLIENTS, SERVER

double = hansa.jax_computation(lambda x: x * 2, "float32")
widen = hansa.jax_computation(lambda x: [x, 1], "float32")
add = hansa.jax_computation(lambda a, b: a + b, "float32", "float32")
count = hansa.jax_computation(lambda n, x: n + 1, "int32", "float32")
plus = hansa.jax_computation(lambda a, b: a + b, "int32", "int32")
show = hansa.jax_computation(lambda n: n / 2, "int32")
seven = hansa.jax_computation(lambda: 7)
any_double = hansa.jax_computation(lambda x: x * 2)
total_of = hansa.federated_computation(lambda x: hansa.federated_sum(x), "{float32}@CLIENTS")


def mean(x: Any) -> Any:
    return hansa.federated_mean(x)


def weighted_mean(x: Any, w: Any) -> Any:
    return hansa.federated_mean(x, w)


def result(use: Callable[..., Any], *kinds: str) -> str:
    return str(hansa.federated_computation(use, *kinds).type_signature.result)


@pytest.mark.parametrize(
    ("use", "kinds", "expected"),
    [
        (lambda: hansa.federated_value(1, SERVER), [], "int32@SERVER"),
        (lambda: hansa.federated_value([1, 2.5], CLIENTS), [], "<int32,float32>@CLIENTS"),
        (lambda x: hansa.federated_value(x, CLIENTS), ["float32*"], "float32*@CLIENTS"),
        (hansa.federated_broadcast, ["float32@SERVER"], "float32@CLIENTS"),
        (lambda a, b: hansa.federated_broadcast([a, b]), ["float32@SERVER", "int32@SERVER"], "<float32,int32>@CLIENTS"),
        (lambda x: hansa.federated_map(double, x), ["{float32}@CLIENTS"], "{float32}@CLIENTS"),
        (lambda x: hansa.federated_map(double, x), ["float32@CLIENTS"], "{float32}@CLIENTS"),
        (lambda x: hansa.federated_map(widen, x), ["float32@SERVER"], "<float32,int32>@SERVER"),
        (lambda x: hansa.federated_map(any_double, x), ["{int64}@CLIENTS"], "{int64}@CLIENTS"),
        (
            lambda a, b: hansa.federated_map(add, [hansa.federated_broadcast(a), b]),
            ["float32@SERVER", "{float32}@CLIENTS"],
            "{float32}@CLIENTS",
        ),
        (lambda: hansa.federated_eval(seven, SERVER), [], "int32@SERVER"),
        (lambda: hansa.federated_eval(seven, CLIENTS), [], "{int32}@CLIENTS"),
        (lambda a, b: hansa.federated_zip([a, b]), ["{int32}@CLIENTS", "float32@CLIENTS"], "{<int32,float32>}@CLIENTS"),
        (
            lambda a, b: hansa.federated_zip({"a": a, "b": {"c": b}}),
            ["int32@SERVER", "float32@SERVER"],
            "<a=int32,b=<c=float32>>@SERVER",
        ),
        (hansa.federated_sum, ["{<a=float32,b=int64[3]>}@CLIENTS"], "<a=float32,b=int64[3]>@SERVER"),
        (hansa.federated_sum, ["{complex64}@CLIENTS"], "complex64@SERVER"),
        (hansa.federated_min, ["{int32[2]}@CLIENTS"], "int32[2]@SERVER"),
        (hansa.federated_max, ["{bfloat16}@CLIENTS"], "bfloat16@SERVER"),
        (mean, ["{float32[2]}@CLIENTS"], "float32[2]@SERVER"),
        (weighted_mean, ["{complex64}@CLIENTS", "{int32}@CLIENTS"], "complex64@SERVER"),
        (weighted_mean, ["{<a=float32>}@CLIENTS", "{float64}@CLIENTS"], "<a=float32>@SERVER"),
        (lambda x: hansa.federated_aggregate(x, 0, count, plus, show), ["{float32}@CLIENTS"], "float32@SERVER"),
        (hansa.federated_client_id, [], "{int32}@CLIENTS"),
        (lambda s: hansa.sequence_map(widen, s), ["float32*"], "<float32,int32>*"),
        (lambda s: hansa.sequence_map(widen, s), ["{float32*}@CLIENTS"], "{<float32,int32>*}@CLIENTS"),
        (lambda s: hansa.sequence_reduce(s, 0, count), ["float32*"], "int32"),
        (lambda s: hansa.sequence_reduce(s, 0, count), ["{float32*}@CLIENTS"], "{int32}@CLIENTS"),
        (
            lambda s, z: hansa.sequence_reduce(s, hansa.federated_broadcast(z), count),
            ["{float32*}@CLIENTS", "int32@SERVER"],
            "{int32}@CLIENTS",
        ),
        (hansa.sequence_sum, ["<a=int32,b=float32[2]>*"], "<a=int32,b=float32[2]>"),
        (hansa.sequence_sum, ["float32*@SERVER"], "float32@SERVER"),
    ],
)
def test_types_of_results(use: Any, kinds: list[str], expected: str) -> None:
    assert result(use, *kinds) == expected


def test_average_is_another_name_of_mean() -> None:
    assert hansa.federated_average is hansa.federated_mean


@pytest.mark.parametrize(
    ("use", "kinds", "message"),
    [
        (
            hansa.federated_sum,
            ["float32@SERVER"],
            r"federated_sum needs a value at CLIENTS, found float32@SERVER; send it .* hansa.federated_broadcast",
        ),
        (
            hansa.federated_sum,
            ["float32"],
            "federated_sum needs a value at CLIENTS, found float32, which is at no placement; .*or place it with",
        ),
        (
            hansa.federated_sum,
            ["{bool}@CLIENTS"],
            "federated_sum takes numbers, found bool; convert it in a local computation",
        ),
        (hansa.federated_sum, ["{str}@CLIENTS"], "federated_sum takes numbers, found str"),
        (hansa.federated_sum, ["{float32*}@CLIENTS"], r"federated_sum takes numbers, found float32\*; reduce"),
        (
            hansa.federated_sum,
            ["{float32[?]}@CLIENTS"],
            r"federated_sum needs tensors of known size, found float32\[\?\]: .*pad them",
        ),
        (mean, ["{float32[?]}@CLIENTS"], r"federated_mean needs tensors of known size"),
        (hansa.federated_max, ["{complex64}@CLIENTS"], "federated_max takes .*found complex64"),
        (
            mean,
            ["{int32}@CLIENTS"],
            "federated_mean takes floats or complex numbers, found int32; convert it in a local computation",
        ),
        (
            weighted_mean,
            ["{float32}@CLIENTS", "{float32[2]}@CLIENTS"],
            r"weight of federated_mean must be an integer or float scalar .*, found \{float32\[2\]\}@CLIENTS",
        ),
        (
            weighted_mean,
            ["{float32}@CLIENTS", "float32@SERVER"],
            "the weight of federated_mean needs a value at CLIENTS, found float32@SERVER",
        ),
        (
            hansa.federated_broadcast,
            ["{float32}@CLIENTS"],
            r"federated_broadcast needs a value at SERVER, found \{float32\}@CLIENTS; aggregate .* hansa.federated_sum",
        ),
        (
            lambda x: hansa.federated_value(x, SERVER),
            ["{int32}@CLIENTS"],
            r"federated_value needs an unplaced value, found \{int32\}@CLIENTS",
        ),
        (
            lambda x: hansa.federated_value(x, "server"),
            ["int32"],
            "the placement of federated_value must be hansa.CLIENTS or hansa.SERVER, found 'server'",
        ),
        (
            lambda x: hansa.federated_map(lambda y: y, x),
            ["{int32}@CLIENTS"],
            "is the plain Python function '<lambda>'; decorate it with @hansa.jax_computation",
        ),
        (
            lambda x: hansa.federated_map(double, x),
            ["{int32}@CLIENTS"],
            "the function of federated_map, '<lambda>'.*, in its argument: expected float32, found int32",
        ),
        (
            lambda x: hansa.federated_map(x, double),
            ["{float32}@CLIENTS"],
            "federated_map takes the function first and the value second",
        ),
        (
            lambda x: hansa.federated_map(seven, x),
            ["{int32}@CLIENTS"],
            r"takes no parameter, but is to be given int32",
        ),
        (lambda x: hansa.federated_map(total_of, x), ["{float32}@CLIENTS"], "federated_map"),
        (lambda x: hansa.federated_map(double, x), ["float32"], "federated_map needs a federated value, found float32"),
        (lambda: hansa.federated_eval(double, SERVER), [], "is to be given nothing"),
        (lambda x: hansa.federated_zip(x), ["{int32}@CLIENTS"], "which is one value already"),
        (
            lambda a, b: hansa.federated_zip([a, b]),
            ["{int32}@CLIENTS", "int32@SERVER"],
            "needs values at one placement.*broadcast, or aggregate",
        ),
        (
            lambda a: hansa.federated_zip([a, 1]),
            ["{int32}@CLIENTS"],
            "needs federated values only, found int32 among them; place it with hansa.federated_value",
        ),
        (lambda a: hansa.federated_zip([]), ["int32"], "cannot place an empty struct|found <>"),
        (lambda s: hansa.sequence_reduce(s, 0, add), ["float32*"], "the op of sequence_reduce"),
        (lambda s: hansa.sequence_reduce(s, 0.0, count), ["float32*"], "the op of sequence_reduce.*int32.*float32"),
        (lambda s: hansa.sequence_reduce(s, 0, show), ["float32*"], "the op of sequence_reduce"),
        (lambda s: hansa.sequence_reduce(0, s, count), ["float32*"], "sequence_reduce needs a sequence, found int32"),
        (
            lambda s, z: hansa.sequence_reduce(s, z, count),
            ["float32*", "int32@SERVER"],
            "needs an unplaced value, found int32@SERVER",
        ),
        (
            lambda s, z: hansa.sequence_reduce(s, z, count),
            ["{float32*}@CLIENTS", "int32@SERVER"],
            "the zero of sequence_reduce needs a value at CLIENTS.*federated_broadcast",
        ),
        (lambda s: hansa.sequence_map(double, s), ["int32*"], "the function of sequence_map"),
        (hansa.sequence_sum, ["bool*"], "sequence_sum takes numbers, found bool"),
        (hansa.sequence_sum, ["float32[?]*"], r"sequence_sum needs tensors of known size, found float32\[\?\]"),
        (
            lambda x: hansa.federated_aggregate(x, 0.0, count, plus, show),
            ["{float32}@CLIENTS"],
            "the accumulate of federated_aggregate",
        ),
        (
            lambda x: hansa.federated_aggregate(x, 0, count, add, show),
            ["{float32}@CLIENTS"],
            "the merge of federated_aggregate",
        ),
        (
            lambda x: hansa.federated_aggregate(x, 0, count, plus, double),
            ["{float32}@CLIENTS"],
            "the report of federated_aggregate",
        ),
    ],
)
def test_misuse_is_refused_with_the_types_and_the_remedy(use: Any, kinds: list[str], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        hansa.federated_computation(use, *kinds)


def test_intrinsics_need_a_computation_around_them() -> None:
    with pytest.raises(
        TypeError, match=r"federated_sum works only inside a @hansa.federated_computation, and none is being traced"
    ):
        hansa.federated_sum([1, 2])


def test_intrinsics_do_not_belong_in_a_local_computation() -> None:
    with pytest.raises(
        TypeError,
        match=r"hansa.federated_sum is used in the local computation '<lambda>'.*move it to the federated_computation",
    ):
        hansa.jax_computation(lambda x: hansa.federated_sum(x), "float32")


def test_a_local_computation_calls_others_but_no_federated_ones() -> None:
    quadruple = hansa.jax_computation(lambda x: double(double(x)), "float32")
    assert float(quadruple(1.5)) == 6.0
    with pytest.raises(
        TypeError, match=r"is not a local computation; compose the two in a @hansa.federated_computation"
    ):
        hansa.jax_computation(lambda x: total_of(x), "float32")


def test_a_local_computation_called_in_another_gets_its_structs() -> None:
    norm = hansa.jax_computation(lambda a, b: a.x * a.x + b, "<x=float32>", "float32")
    outer = hansa.jax_computation(lambda x: norm({"x": x}, jnp.float32(1)), "float32")
    assert float(outer(3.0)) == 10.0


def test_the_line_that_wrote_a_node_is_kept() -> None:
    computation = hansa.federated_computation(lambda x: hansa.federated_sum(x), "{float32}@CLIENTS")
    assert __file__ in computation.result.where


def test_unplaced_computations_are_called_on_values_directly() -> None:
    twice = hansa.federated_computation(lambda x: double(double(x)), "float32")
    assert float(twice(1.5)) == 6.0
    assert float(hansa.federated_computation(lambda: double(1.5))()) == 3.0
    np.testing.assert_array_equal(hansa.federated_computation(lambda: np.arange(3, dtype=np.int32))(), [0, 1, 2])
