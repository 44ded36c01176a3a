"""The sum of squares by which a norm is bounded, for each dtype, against NumPy in its widest."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest

from hansa.network.boundary import _square

DTYPES = [
    "float16",
    "float32",
    "float64",
    "complex64",
    "complex128",
    "int8",
    "uint8",
    "int64",
    "uint64",
    ml_dtypes.bfloat16,
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_squares_are_added_up_in_float64(dtype):
    rng = np.random.default_rng(4)
    numbers = np.abs(rng.normal(size=10_007) * 50) + (1j * rng.normal(size=10_007) if "complex" in str(dtype) else 0)
    array = numbers.astype(dtype)
    wide = array.astype(np.clongdouble)
    assert _square(array) == pytest.approx(float((wide.real**2 + wide.imag**2).sum()), rel=1e-12)


def test_what_is_not_finite_is_seen_and_what_is_large_is_not_taken_for_it():
    assert math.isnan(_square(np.array([1, np.nan], np.float16)))
    assert _square(np.array([3e38, 3e38], np.float32)) == pytest.approx(1.8e77)  # beyond float32
    assert _square(np.array([1e300], np.float64)) == math.inf  # the caller then looks at each number
    assert _square(np.zeros(0, np.float32)) == 0.0
