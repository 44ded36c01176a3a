"""The two forms of a sum, against `math.fsum` and rational numbers."""

import math
from fractions import Fraction
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hansa.compiler.sums import bins, weights, wide

FLOATS = st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False)


@partial(jax.jit, static_argnums=1)
def _wide_sums(columns, limits):
    state = wide.zero(columns.shape[1:], limits)
    return wide.rounded(jax.lax.scan(lambda s, row: (wide.add(s, row, limits), None), state, columns)[0], limits)


def widely(columns, limits=wide.ANY):
    """The sums over the first axis."""
    with jax.enable_x64(True):
        return np.asarray(_wide_sums(np.asarray(columns, np.float64), limits))


class TestWide:
    @given(st.lists(FLOATS, min_size=1, max_size=12))
    def test_the_sum_of_any_floats_is_rounded_once(self, column):
        padded = np.array(column + [0.0] * (12 - len(column)))[:, None]
        try:
            expected = math.fsum(column)
        except OverflowError:
            expected = math.inf if sum(map(Fraction, column)) > 0 else -math.inf
        found = widely(padded)[0]
        if 0 < abs(expected) < np.finfo(float).tiny:
            assert abs(found) <= np.finfo(float).tiny  # of which XLA makes zero
        else:
            assert found == expected

    @pytest.mark.parametrize("sign", [1, -1])
    def test_in_the_middle_of_two_it_is_the_even_one_and_the_least_bit_counts(self, sign):
        half = 2.0**-53
        rows = [[1, 1, 1, 1 + 2 * half, 1], [half, half, half, half, 0], [0, 2.0**-900, -(2.0**-900), 0, 2.0**-900]]
        expected = [1, 1 + 2 * half, 1, 1 + 4 * half, 1]
        assert widely(sign * np.array(rows)).tolist() == [sign * x for x in expected]

    def test_what_cancels_leaves_what_is_left(self):
        rng = np.random.default_rng(0)
        rows = rng.normal(size=(40, 30)) * 10.0 ** rng.integers(-250, 250, (40, 30))
        rest = rng.normal(size=(3, 30)) * 1e-250
        assert widely([*rows, *-rows[::-1], *rest]).tolist() == [math.fsum(column) for column in rest.T]

    def test_a_carry_goes_through_all_words(self):
        rows = np.array([[2.0**1000], [-(2.0**-1000)], [2.0**-1000], [-(2.0**1000)], [3.0]])
        for order in ([0, 1, 2, 3, 4], [0, 1, 4, 2, 3], [1, 3, 0, 4, 2], [3, 2, 0, 1, 4]):
            assert widely(rows[order]).tolist() == [3.0]
        assert widely(rows[[0, 1]])[0] == 2.0**1000 and widely(rows[[3, 2]])[0] == -(2.0**1000)

    def test_nan_and_infinity_are_as_in_floats(self):
        rows = [[np.inf, -np.inf, np.inf, np.nan, 1, np.inf], [1, 2, -np.inf, 1, 2, np.nan]]
        np.testing.assert_array_equal(widely(rows), [np.inf, -np.inf, np.nan, np.nan, 3, np.nan])

    @pytest.mark.parametrize("limits", [wide.SINGLE, wide.PRODUCT], ids=["single", "product"])
    def test_a_range_for_what_is_narrower(self, limits):
        rng = np.random.default_rng(1)
        rows = (rng.normal(size=(60, 50)) * 10.0 ** rng.integers(-37, 37, (60, 50))).astype(np.float32)
        assert widely(rows, limits).tolist() == [math.fsum(column) for column in rows.T.astype(float)]


@partial(jax.jit, static_argnums=(2, 3))
def _binned(values, factors, split, integers):
    def step(state, given):
        sums, known = state
        value, weight = given
        return (bins.add(sums, value, weight, split), weights.known(known, weight)), None

    start = bins.zero(values.shape[1:], split), jax.tree.map(jnp.asarray, weights.none_yet(integers))
    (sums, known), _ = jax.lax.scan(step, start, (values, factors))
    return bins.rounded(sums), bins.lost(bins.exponents([sums]), known, split)


def binned(values, factors, split=bins.NARROW, integers=True, order=None):
    """The sums over the first axis, and whether something may be lost."""
    values = np.asarray(values)
    order = np.arange(len(values)) if order is None else order
    with jax.enable_x64(True):
        found, lost = _binned(values[order], np.asarray(factors, np.float64)[order], split, integers)
    return np.asarray(found), bool(lost)


def rationally(values, factors):
    return [
        float(sum(Fraction(float(x)) * Fraction(float(w)) for x, w in zip(column, factors, strict=True)))
        for column in np.asarray(values).T
    ]


class TestBins:
    @given(st.data())
    def test_it_is_exact_or_says_that_it_may_not_be(self, data):
        number = data.draw(st.sampled_from([1, 2, 8]))
        low = data.draw(st.integers(-20, 3))
        high = data.draw(st.integers(low, 12))
        exponents = st.integers(low, high)
        values = np.array(
            [[data.draw(st.integers(-(2**24), 2**24)) * 2.0 ** (data.draw(exponents) - 24)] for _ in range(number)]
        ).astype(np.float32)
        largest = data.draw(st.sampled_from([1, 600, 2**20, 2**40]))
        factors = [data.draw(st.integers(0, largest)) for _ in range(number)]
        found, lost = binned(values, factors)
        assert lost or found.tolist() == rationally(values, factors)

    def test_usual_values_and_weights_lose_nothing_in_any_order(self):
        rng = np.random.default_rng(2)
        values = (rng.normal(size=(100, 40)) * 10.0 ** rng.integers(-6, 1, (100, 40))).astype(np.float32)
        factors = rng.integers(1, 1000, 100)
        expected = rationally(values, factors)
        for seed in range(4):
            found, lost = binned(values, factors, order=np.random.default_rng(seed).permutation(100))
            assert not lost and found.tolist() == expected

    @pytest.mark.parametrize(
        ("values", "factors"),
        [
            ([[3e38], [1.0]], [1, 1]),
            ([[1e-30], [1.0]], [1, 1]),
            ([[np.inf], [1.0]], [1, 1]),
            ([[np.nan], [1.0]], [0, 0]),
            ([[1.0], [1.0]], [2**40 + 1, 1]),
            ([[1.0], [1.0]], [np.nan, 1]),
            ([[1.0], [1.0]], [np.inf, 1]),
            ([[1e8], [1.0]], [1000, 1]),
        ],
    )
    def test_what_does_not_fit_is_told(self, values, factors):
        assert binned(np.array(values, np.float32), factors)[1]

    def test_fractions_as_weights(self):
        values, factors = np.array([[0.5], [0.25], [-3.0]], np.float32), np.array([0.1, 0.7, 1e-3], np.float32)
        found, lost = binned(values, factors, integers=False)
        assert not lost and found.tolist() == rationally(values, factors)
        assert binned(values, np.array([0.1, 0.7, 1e-3]), integers=False)[1]  # of 53 bits

    def test_float64_has_a_part_more(self):
        rng = np.random.default_rng(3)
        values = rng.normal(size=(30, 20)) * 10.0 ** rng.integers(-6, 2, (30, 20))
        factors = rng.integers(1, 1000, 30)
        found, lost = binned(values, factors, bins.DOUBLE)
        assert not lost and found.tolist() == rationally(values, factors)
        assert binned([[1e-20], [1.0]], [1, 1], bins.DOUBLE)[1]

    def test_nothing_but_zeros_is_exact_whatever_the_weights(self):
        found, lost = binned(np.zeros((3, 2), np.float32), [0, 2**50 + 1, 5])
        assert not lost and found.tolist() == [0, 0]
