"""Parameters of function type: they are called, mapped and passed on, and only functions of their type are taken."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import hansa

double = hansa.jax_computation(lambda x: 2 * x, "int32")
successor = hansa.jax_computation(lambda x: x + 1)
composed = hansa.federated_computation(lambda x: double(double(x)), "int32")
FUNCTIONS = [(double, lambda x: 2 * x), (successor, lambda x: x + 1), (composed, lambda x: 4 * x)]
RUNTIMES = [hansa.InProcessRuntime(), hansa.ReferenceRuntime()]


@hansa.federated_computation("(int32 -> int32)", "int32")
def twice(function: Any, x: Any) -> Any:
    """The function, twice."""
    return function(function(x))


@hansa.federated_computation("(int32 -> int32)", "{int32}@CLIENTS")
def total(function: Any, values: Any) -> Any:
    return hansa.federated_sum(hansa.federated_map(function, values))


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize(("function", "python"), FUNCTIONS)
def test_a_function_is_called_and_mapped(function: Any, python: Any, runtime: Any) -> None:
    with hansa.runtime(runtime):
        assert twice(function, 3) == twice(x=3, function=function) == python(python(3))
        assert twice({"x": 3, "function": function}) == python(python(3))
        assert total(function, [1, 2, 3]) == sum(map(python, [1, 2, 3]))


def test_its_type_has_the_function_and_its_name_is_the_users() -> None:
    assert twice.type_signature.compact() == "(<function=(int32 -> int32),x=int32> -> int32)"
    assert twice.__doc__ == "The function, twice."


@pytest.mark.parametrize(("function", "python"), FUNCTIONS)
def test_a_function_is_passed_on_to_another_computation(function: Any, python: Any) -> None:
    @hansa.federated_computation("<x={int32}@CLIENTS,f=(int32 -> int32)>")
    def both(argument: Any) -> Any:
        return total(argument.f, argument.x), total(successor, argument.x)

    expected = [sum(map(python, [1, 5])), 8]
    assert list(both(x=[1, 5], f=function)) == expected
    assert list(both({"f": function, "x": [1, 5]})) == expected


def test_functions_may_take_placed_values_or_nothing() -> None:
    @hansa.federated_computation("({float32}@CLIENTS -> float32@SERVER)", "( -> float32)", "{float32}@CLIENTS")
    def shifted(aggregate: Any, start: Any, values: Any) -> Any:
        return aggregate(values), hansa.federated_eval(start, hansa.SERVER)

    mean = hansa.federated_computation(lambda v: hansa.federated_mean(v), "{float32}@CLIENTS")
    highest = hansa.federated_computation(lambda v: hansa.federated_max(v), "{float32}@CLIENTS")
    start = hansa.jax_computation(lambda: 7.0)
    assert list(shifted(mean, start, [1.0, 4.0])) == [2.5, 7.0]
    assert list(shifted(highest, start, [1.0, 4.0])) == [4.0, 7.0]


def test_a_computation_of_functions_alone() -> None:
    apply = hansa.federated_computation(lambda f: f(20), "(int32 -> int32)")
    assert apply(double) == 40


def test_without_declared_types_the_function_brings_its_own() -> None:
    apply = hansa.federated_computation(lambda f, x: f(x))
    assert apply(double, 21) == 42
    assert hansa.federated_computation(lambda x: apply(double, x), "int32")(4) == 8
    with pytest.raises(TypeError, match="argument 0 of '<lambda>' is '<lambda>', which has no declared types"):
        apply(successor, 21)


def test_a_result_has_the_names_of_the_declared_type() -> None:
    pair = hansa.jax_computation(lambda x: (x, 2 * x), "float32[?]")

    @hansa.federated_computation("(float32[3] -> <a=float32[?],b=float32[?]>)", "float32[3]")
    def second(function: Any, x: Any) -> Any:
        return function(x).b

    np.testing.assert_array_equal(second(pair, np.arange(3, dtype=np.float32)), [0, 2, 4])


def test_it_is_traced_once_for_each_function() -> None:
    traced = []

    @hansa.federated_computation("(int32 -> int32)")
    def seven(function: Any) -> Any:
        traced.append(function)
        return function(7)

    assert [seven(double), seven(double), seven(composed)] == [14, 14, 28]
    assert traced[1:] == [double, composed]
    assert seven.specialize(double)() == 14
    assert len(traced) == 3


def test_what_is_left_with_functions_given_is_explained_and_saved(tmp_path: Any) -> None:
    given = total.specialize(double)
    assert given.type_signature.compact() == "({int32}@CLIENTS -> int32@SERVER)"
    assert given([1, 2]) == 6
    assert "total" in str(hansa.explain(given))
    hansa.save(given, tmp_path / "total.hansa")
    assert hansa.load(tmp_path / "total.hansa")([1, 2]) == 6
    for refused in (lambda: hansa.explain(total), lambda: hansa.save(total, tmp_path / "no.hansa")):
        with pytest.raises(TypeError, match=r"'total' takes functions, .* with total.specialize\(…\)"):
            refused()


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: x, "the argument of 'twice'.function is the plain Python function '<lambda>'; decorate it"),
        (3, "the argument of 'twice'.function must be a computation, found the int 3"),
        (
            hansa.jax_computation(lambda x: x, "float32"),
            "the argument of 'twice'.function, '<lambda>' .* in its argument: expected float32, found int32",
        ),
        (
            hansa.jax_computation(lambda x: x * 0.5, "int32"),
            "what the argument of 'twice'.function, '<lambda>', returns: expected int32, found float32",
        ),
        (hansa.jax_computation(lambda: 1), "'<lambda>'.* takes no parameter, but is to be given int32"),
        (twice, "the argument of 'twice'.function, 'twice'.*in its argument: expected <function="),
    ],
)
def test_a_function_of_another_type_is_refused(function: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        twice(function, 3)


def test_functions_of_functions_are_refused_where_they_are_declared() -> None:
    with pytest.raises(TypeError, match=r"neither takes nor returns one: \(\(int32 -> int32\) -> int32\)"):
        hansa.federated_computation(lambda f: 1, "((int32 -> int32) -> int32)")
    with pytest.raises(TypeError, match="close over functions instead of passing them"):
        hansa.jax_computation(lambda f, x: f(x), "(int32 -> int32)", "int32")
    with pytest.raises(TypeError, match="must be a value, found the function 'f'"):
        hansa.federated_computation(lambda f, x: f, "(int32 -> int32)", "int32")
    with pytest.raises(TypeError, match="'total' takes 1 functions, found 2"):
        total.specialize(double, double)


def test_a_local_computation_may_close_over_a_function_that_was_given() -> None:
    with pytest.raises(TypeError, match="calls 'f', which is not a local computation; compose the two"):
        hansa.federated_computation(
            lambda f, x: hansa.jax_computation(lambda y: jnp.sin(f(y)))(x), "<f=(float32 -> float32),x=float32>"
        )
