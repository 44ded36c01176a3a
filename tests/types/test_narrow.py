"""Which 64-bit numbers are the same in 32 bits."""

import numpy as np
import pytest

from hansa.types.narrow import misfits, why


@pytest.mark.parametrize(
    ("dtype", "fit", "unfit"),
    [
        ("int64", [2**31 - 1, -(2**31), 0], [2**31, -(2**31) - 1, 2**40]),
        ("uint64", [2**32 - 1, 0], [2**32, 2**64 - 1]),
        (
            "float64",
            [0.1, -2.5, 16777216.0, 2.0**100, np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-30],
            [16777217.0, 1.6e9 + 10, 3e38, 1e39, -1e300, 1e-60],
        ),
        ("complex128", [0.1 + 0.1j, complex(np.nan, 1)], [complex(0, 16777217), complex(1e300, 0)]),
        ("int32", [2**31 - 1], []),
        ("float32", [1e-38], []),
    ],
)
def test_numbers_that_differ_are_found_by_their_row(dtype: str, fit: list[float], unfit: list[float]):
    good = np.array(fit, dtype)
    assert misfits(good).tolist() == []
    for value in unfit:
        array = np.stack([good] * 3)
        array[1, -1] = value
        assert misfits(array).tolist() == [1]
        assert "holds" in why(array[1])
    assert misfits(np.zeros((0, 3), dtype)).tolist() == misfits(np.zeros((3, 0), dtype)).tolist() == []


def test_large_arrays_are_looked_at_in_parts():
    array = np.zeros((3000, 1000), np.float64)
    array[[7, 2999], [999, 0]] = 2**40 + 1
    assert misfits(array).tolist() == [7, 2999]
    assert misfits(array[::-1, ::2]).tolist() == [0]


def test_what_is_said_has_the_value_and_the_bounds():
    assert "holds 1099511627776, but the model computes in 32 bits, and int32 holds -2147483648 to" in why(
        np.int64(2**40)
    )
    assert "holds 1600000010.0, but the model computes in 32 bits, in which that is 1600000000.0; subtract a" in why(
        np.array([1.0, 1.6e9 + 10])
    )
