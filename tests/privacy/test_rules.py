"""Aggregators with noise: sensitivity, the moving bound, the noise, and what they refuse."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import hansa
from hansa.language.skellam import skellam
from hansa.privacy import Adaptive, Matrix

SECRET = bytes(32)
TINY = 1e-9


def mean_of(rule, values, weights=None, state=None):
    aggregation = rule(f"float32[{len(values[0])}]")
    first = aggregation.initialize() if state is None else state
    weights = [1.0] * len(values) if weights is None else weights
    return aggregation.next(first, [np.float32(value) for value in values], weights)


def clipped(value, bound):
    return value * min(1.0, bound / max(np.linalg.norm(value), 1e-30))


FIXED = hansa.privacy.gaussian(0.5, TINY, 4)
CAPPED = FIXED.weighing(hansa.privacy.capped(10))
OF_FIXED, OF_CAPPED = FIXED("float32[3]"), CAPPED("float32[3]")


@settings(max_examples=15, deadline=None)
@given(
    values=st.lists(st.lists(st.floats(-1e6, 1e6, width=32), min_size=3, max_size=3), min_size=1, max_size=5),
    weights=st.lists(st.floats(0, 1e6, width=32), min_size=5, max_size=5),
)
def test_one_client_changes_the_mean_by_no_more_than_the_bound_over_the_cohort(values, weights):
    rows = np.zeros((5, 3), np.float32)
    rows[: len(values)] = values
    for aggregation, factors in ((OF_FIXED, np.float32(weights) > 0), (OF_CAPPED, np.minimum(np.float32(weights), 1))):
        found = [
            np.asarray(aggregation.next(aggregation.initialize(), list(rows), list(kept)).result, np.float64)
            for kept in (np.float32(weights), np.float32([0.0, *weights[1:]]))
        ]
        assert np.linalg.norm(found[0] - found[1]) <= 0.5 / 4 + 1e-5
        expected = sum(clipped(np.float64(row) * factor, 0.5) for row, factor in zip(rows, factors, strict=True)) / 4
        np.testing.assert_allclose(found[0], expected, atol=1e-5)


@pytest.mark.slow
def test_each_tensor_is_within_its_part_of_the_bound():
    rule = hansa.privacy.gaussian(1.0, TINY, 2, per_layer=True)
    aggregation = rule("<a=float32[2],b=float32[2]>")
    value = {"a": np.float32([30.0, 40.0]), "b": np.float32([0.3, 0.4])}
    found = aggregation.next(aggregation.initialize(), [value], [1.0]).result
    np.testing.assert_allclose(found.a, np.array([0.6, 0.8]) / math.sqrt(2) / 2, atol=1e-5)
    np.testing.assert_allclose(found.b, np.array([0.15, 0.2]), atol=1e-5)


@pytest.mark.parametrize(("stddev", "cohort", "of_update"), [(1.0, 100, 1.0050378), (0.5, 50, 0.5025189)])
def test_the_noise_is_split_between_the_update_and_the_count(stddev, cohort, of_update):
    parts = Adaptive().split(stddev, cohort)
    assert stddev / parts[0] == pytest.approx(of_update, abs=1e-7)
    assert stddev / (2 * parts[1]) == pytest.approx(cohort / 20)
    assert math.hypot(*parts) == pytest.approx(1)


@pytest.fixture(scope="module")
def moving():
    """A function of norms: the bound after each of some rounds."""
    rules = {}

    def bounds(norms, rounds, quantile=0.5):
        if quantile not in rules:
            clip = Adaptive(quantile=quantile, rate=0.2, start=0.1, count_stddev=1e-4)
            rules[quantile] = hansa.privacy.gaussian(clip, TINY, len(norms))("float32[2]")
        aggregation, found = rules[quantile], []
        state = aggregation.initialize()
        values = [np.float32([norm, 0.0]) for norm in norms]
        for _ in range(rounds):
            state = aggregation.next(state, values, [1.0] * len(norms)).state
            found.append(float(state.clipping_norm))
        return found

    return bounds


def test_the_bound_follows_the_norms_as_in_the_paper(moving):
    ones = moving(np.ones(20), 30)
    np.testing.assert_allclose([ones[0], ones[22], ones[23]], [0.110517, 0.997418, 1.102318], rtol=2e-5)
    small = moving(np.full(20, 0.01), 24)
    np.testing.assert_allclose([small[0], small[23]], [0.090484, 0.009072], rtol=2e-4)


@pytest.mark.whole
def test_the_bound_ends_at_the_quantile():
    norms = np.exp(np.linspace(-2, 2, 101))
    for quantile, expected in ((0.1, 0.1992), (0.5, 1.0004), (0.9, 4.9549)):
        clip = Adaptive(quantile=quantile, count_stddev=1e-4)
        aggregation = hansa.privacy.gaussian(clip, TINY, len(norms))("float32[2]")
        state = aggregation.initialize()
        for _ in range(200):
            values = [np.float32([norm, 0.0]) for norm in norms]
            state = aggregation.next(state, values, [1.0] * len(norms)).state
        assert float(state.clipping_norm) == pytest.approx(expected, rel=1e-3)


@pytest.mark.slow
def test_a_client_that_is_not_finite_moves_neither_the_mean_nor_the_bound():
    clip = Adaptive(start=2.0, count_stddev=1e-4)
    aggregation = hansa.privacy.gaussian(clip, TINY, 2)("float32[2]")
    good = [np.float32([0.6, 0.8]), np.float32([3.0, 4.0])]
    found = aggregation.next(aggregation.initialize(), [*good, np.float32([np.nan, 0.0])], [1.0] * 3)
    np.testing.assert_allclose(found.result, (good[0] + good[1] * 2 / 5) / 2, atol=1e-4)
    assert float(found.state.clipping_norm) == pytest.approx(2.0, rel=1e-3)


@pytest.mark.slow
def test_noise_has_the_size_that_is_measured():
    size = 20_000
    for clip in (0.5, Adaptive(start=0.5)):
        output = mean_of(hansa.privacy.gaussian(clip, 1.5, 40), [np.zeros(size)] * 2)
        stddev = float(output.measurements.noise_stddev)
        of_update = 1.0 if clip == 0.5 else clip.split(1.5, 40)[0]
        assert stddev == pytest.approx(1.5 * 0.5 / 40 / of_update, rel=1e-5)
        assert np.std(output.result) == pytest.approx(stddev, rel=4 / math.sqrt(2 * size))


@pytest.mark.slow
def test_correlated_noise_is_that_of_the_matrix_and_its_draws_are_made_again():
    rounds, size = 6, 3000
    rule = hansa.privacy.matrix(1.0, 1.0, 1, rounds=rounds, separation=3, terms=4, power=0.5)
    aggregation = rule(f"float32[{size}]")
    zeros = [np.zeros(size, np.float32)]
    found = []
    for number in range(1, rounds + 1):
        with hansa.privacy.noise_of(SECRET, round_number=number):
            found.append(np.asarray(aggregation.next(aggregation.initialize(), zeros, [1.0]).result))
    noise = np.stack(found)
    with hansa.privacy.noise_of(SECRET, round_number=4):
        again = aggregation.next(aggregation.initialize(), zeros, [1.0]).result
    np.testing.assert_array_equal(again, noise[3])
    inverse = np.array([1.0, -1 / 2, -1 / 8, -1 / 16])
    matrix = sum(np.diag(np.full(rounds - k, w), -k) for k, w in enumerate(inverse)) * rule.mechanism.sensitivity
    covariance = matrix @ matrix.T
    np.testing.assert_allclose(noise @ noise.T / size, covariance, atol=6 * covariance.max() / math.sqrt(size))
    beyond = pytest.raises(ValueError, match="this is round 7, and the noise is for rounds 1 to 6")
    with beyond, hansa.privacy.noise_of(SECRET, round_number=7):
        aggregation.next(aggregation.initialize(), zeros, [1.0])
    with pytest.raises(ValueError, match="needs to know which round it is"):
        aggregation.next(aggregation.initialize(), zeros, [1.0])


@pytest.mark.slow
def test_shares_of_skellam_noise_add_up_to_what_is_said_and_too_few_clients_give_no_sum():
    size = 3000
    rule = hansa.privacy.distributed(1.0, 1.5, 6, min_cohort=4)
    aggregation = rule(f"float32[{size}]")
    zeros = [np.zeros(size, np.float32)] * 6
    with hansa.privacy.noise_of(SECRET):
        output = aggregation.next(aggregation.initialize(), zeros, [1.0] * 6)
        with hansa.runtime(hansa.InProcessRuntime(clients_per_chunk=4)):
            again = aggregation.next(aggregation.initialize(), zeros[::-1], [1.0] * 6)
    np.testing.assert_array_equal(output.result, again.result)
    expected = 1.5 * math.sqrt(6 / 4) / 6
    assert float(output.measurements.noise_stddev) == pytest.approx(expected)
    assert np.std(output.result) == pytest.approx(expected, rel=4 / math.sqrt(2 * size))
    assert abs(np.mean(output.result)) < 4 * expected / math.sqrt(size)
    hansa.privacy.require_private(aggregation.next)
    hansa.privacy.require_protected(aggregation.next)
    with pytest.raises(ValueError, match="min_cohort=4 clients, and 3 take part"):
        aggregation.next(aggregation.initialize(), zeros[:3], [1.0] * 3)


@pytest.mark.slow
def test_skellam_numbers_are_those_of_the_distribution():
    with jax.enable_x64(True):
        for stddev in (5.0, 300.0):
            draw = jax.jit(lambda key, stddev=stddev: skellam(key, stddev, 40_000))
            found = np.asarray(draw(np.arange(8, dtype=np.uint32)))
            mean = stddev**2 / 2
            assert abs(found.mean()) < 4 * stddev / math.sqrt(len(found))
            edges = stats.skellam.ppf(np.linspace(0.02, 0.98, 40), mean, mean)
            cells = np.concatenate([[-np.inf], np.unique(edges), [np.inf]])
            expected = np.diff(stats.skellam.cdf(cells, mean, mean)) * len(found)
            counted = np.diff([np.sum(found <= cell) for cell in cells])
            assert stats.chisquare(counted, expected).pvalue > 1e-4
        tiny = pytest.raises(ValueError, match="too small to be drawn")
        with tiny:
            skellam(jnp.zeros(8, jnp.uint32), 1.0, 4)


def test_what_a_rule_is_made_of():
    rule = hansa.privacy.matrix(1.0, 2.0, 10, rounds=1024, separation=128)
    assert rule.mechanism == Matrix(2.0, 16, 0.7, 128, 1024)
    assert rule("float32[2]").needs == "sums"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: hansa.privacy.gaussian(0.0, 1.0, 10), "clip of gaussian must be a number above 0"),
        (lambda: hansa.privacy.gaussian(1.0, 1.0, None), "cohort of gaussian must be a number above 0"),
        (lambda: hansa.privacy.gaussian(Adaptive(), 1.0, 10, per_layer=True), "one fixed bound"),
        (lambda: hansa.privacy.gaussian(Adaptive(), 3.0, 10), "count_stddev of Adaptive must be above 1.5"),
        (lambda: hansa.privacy.gaussian(1.0, 1.0, 10, metrics="all"), "'none' or 'open', or .*found 'all'"),
        (lambda: hansa.privacy.local(Adaptive(), 1.0, 10), "must be a number"),
        (lambda: hansa.privacy.capped(0), "cap of capped"),
        (lambda: Adaptive(quantile=1.0), "quantile of Adaptive"),
        (lambda: hansa.privacy.matrix(1.0, 1.0, 10, rounds=0, separation=1), "rounds of matrix"),
    ],
)
def test_what_is_out_of_range_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
