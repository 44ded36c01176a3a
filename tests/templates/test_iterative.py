"""`IterativeProcess`: a state must fit from each computation to the next."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import hansa

start = hansa.jax_computation(lambda: np.float32(1))
double = hansa.jax_computation(lambda x: 2 * x, np.float32)
step = hansa.jax_computation(lambda x, y: (x + y, x * y), np.float32, np.float32)


def test_a_state_alone_or_first_among_others() -> None:
    process = hansa.utils.IterativeProcess(start, double)
    assert process.next(process.next(process.initialize())) == 4
    process = hansa.templates.IterativeProcess(start, step)
    state, product = process.next(process.initialize(), 3.0)
    assert (state, product) == (4, 3)
    assert repr(process) == "IterativeProcess(state: float32)"
    assert str(process.state_type) == "float32"


def test_there_is_one_iterative_process() -> None:
    assert hansa.utils.IterativeProcess is hansa.templates.IterativeProcess


def test_a_next_without_declared_types_takes_the_state() -> None:
    process = hansa.templates.IterativeProcess(start, hansa.jax_computation(lambda x: 2 * x))
    assert process.next.type_signature.compact() == "(float32 -> float32)"
    assert process.next(process.initialize()) == 2


@pytest.mark.parametrize(
    ("initialize", "next_", "message"),
    [
        (lambda: 1, double, r"initialize must be a computation, found the Python function '<lambda>'; decorate it"),
        (3, double, "initialize must be a computation, found 3"),
        (double, double, r"initialize must take no parameter, found the type \(float32 -> float32\)"),
        (start, start, r"next must take the state, of type float32, .*found the type \( -> float32\)"),
        (
            start,
            hansa.jax_computation(lambda x, y: x),
            "next must have declared types, but '<lambda>' takes its types from its arguments",
        ),
        (
            hansa.jax_computation(lambda: np.int32(1)),
            double,
            "the state that `initialize` returns and `next` takes: expected float32, found int32",
        ),
        (
            start,
            hansa.jax_computation(lambda x: x > 0, np.float32),
            "next must return the state, .* the state that it takes is float32, but it returns bool",
        ),
        (
            start,
            hansa.jax_computation(lambda x: (x > 0, x), np.float32),
            "the state that `next` returns, first, and takes: expected float32, found bool",
        ),
    ],
)
def test_states_that_do_not_fit_are_refused(initialize: Any, next_: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        hansa.utils.IterativeProcess(initialize, next_)
