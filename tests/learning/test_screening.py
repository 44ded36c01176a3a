"""What is finite, against NumPy: arrays of all sizes, and numbers whose squares are beyond float32."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from hansa.learning.screening import finite, finite_difference, stays_finite

SHAPES = [(3,), (50,), (33, 40), (90, 50), (4099,)]

LARGEST = np.finfo(np.float32).max

is_finite, difference, stays = jax.jit(finite), jax.jit(finite_difference), jax.jit(stays_finite)


def arrays(shape: tuple[int, ...], last: float) -> list[np.ndarray]:
    """One array of each shape; that of one of them ends with a number."""
    found = [np.random.default_rng(0).normal(size=each).astype("float32") for each in SHAPES]
    found[SHAPES.index(shape)].reshape(-1)[-1] = last
    return found


@pytest.mark.parametrize("shape", SHAPES)
def test_numbers_whose_squares_overflow_are_finite(shape: tuple[int, ...]):
    large, plain = arrays(shape, LARGEST), arrays(shape, 1.0)
    assert difference(large, plain) and difference(plain, large)
    assert stays(large, plain) and is_finite(large)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_one_number_that_is_not_finite_is_found(shape: tuple[int, ...], number: float):
    bad, plain, large = arrays(shape, number), arrays(shape, 1.0), arrays(shape, LARGEST)
    assert not is_finite(bad) and not difference(bad, plain) and not difference(plain, bad)
    assert not stays(bad, plain) and not stays(bad, large)
    assert stays(plain, bad) and stays(bad, bad)  # what was not finite may stay so


@pytest.mark.parametrize("shape", SHAPES)
def test_a_difference_may_overflow(shape: tuple[int, ...]):
    assert not difference(arrays(shape, LARGEST), arrays(shape, -LARGEST))


def test_what_is_no_float_is_not_looked_at():
    numbers = [np.arange(3), np.ones(5000, bool)]
    assert finite_difference(numbers, numbers) and stays_finite(numbers, numbers)
    assert finite([]) and finite_difference([], []) and stays_finite([], [])
