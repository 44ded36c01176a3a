"""`IterativeProcess`: a state must fit from each computation to the next."""

import numpy as np
import pytest

import hansa

start = hansa.jax_computation(lambda: np.float32(1))
double = hansa.jax_computation(lambda x: 2 * x, np.float32)
step = hansa.jax_computation(lambda x, y: (x + y, x * y), np.float32, np.float32)


def test_a_state_alone_or_first_among_others():
    process = hansa.utils.IterativeProcess(start, double)
    assert process.next(process.next(process.initialize())) == 4
    process = hansa.templates.IterativeProcess(start, step)
    state, product = process.next(process.initialize(), 3.0)
    assert (state, product) == (4, 3)
    assert "initialize: ( -> float32)" in repr(process)


@pytest.mark.parametrize(
    ("initialize", "next_", "message"),
    [
        (lambda: 1, double, "initialize must be a computation"),
        (double, double, "initialize takes no parameter"),
        (start, start, "next takes the state"),
        (hansa.jax_computation(lambda: np.int32(1)), double, "(?s)state.*float32.*int32"),
        (start, hansa.jax_computation(lambda x: x > 0, np.float32), "must return the state"),
        (
            start,
            hansa.jax_computation(lambda x: (x > 0, x), np.float32),
            "(?s)the first that it returns.*float32.*bool",
        ),
    ],
)
def test_states_that_do_not_fit_are_refused(initialize, next_, message):
    with pytest.raises(TypeError, match=message):
        hansa.utils.IterativeProcess(initialize, next_)
