"""Counts, histograms, means, quantiles and heavy hitters with noise: against plain NumPy, and their sensitivity."""

from __future__ import annotations

import collections

import numpy as np
import pytest

import hansa
from hansa import analytics

TINY = 1e-6


def test_counts_and_histograms_are_those_of_numpy():
    rng = np.random.default_rng(0)
    answers = rng.random(30) < 0.4
    assert float(analytics.private_count(TINY)(list(answers))) == pytest.approx(answers.sum(), abs=1e-2)
    counts = rng.integers(0, 3, (30, 5)).astype(np.float32)
    norms = np.linalg.norm(counts, axis=1, keepdims=True)
    expected = (counts * np.minimum(1, 2.0 / np.maximum(norms, 1e-30))).sum(0)
    found = analytics.private_histogram(5, TINY, bound=2.0)(list(counts))
    np.testing.assert_allclose(found, expected, atol=1e-2)


def test_a_mean_is_of_numbers_within_the_range_and_ignores_what_is_none():
    numbers = np.float32([-50.0, 1.0, 2.5, 99.0, np.nan])
    found = analytics.private_mean(-2.0, 6.0, TINY)(list(numbers))
    assert float(found.mean) == pytest.approx(np.mean(np.clip(numbers[:4], -2, 6)), abs=1e-3)
    assert float(found.count) == pytest.approx(4, abs=1e-3)


@pytest.mark.slow
def test_the_noise_of_a_mean_is_that_of_one_vector():
    counts = []
    computation = analytics.private_mean(-1.0, 1.0, 2.0)
    for number in range(400):
        with hansa.privacy.noise_of(bytes(32), round_number=number):
            counts.append(float(computation([0.0] * 3).count) - 3)
    assert np.std(counts) == pytest.approx(2.0 * np.sqrt(2), rel=4 / np.sqrt(2 * 400))


@pytest.mark.slow
def test_quantiles_are_those_of_numpy_to_within_a_cell():
    numbers = np.random.default_rng(1).normal(50, 10, 200).astype(np.float32)
    wanted = [0.1, 0.5, 0.9]
    found = analytics.private_quantiles(np.linspace(0, 100, 101), wanted, TINY)(list(numbers))
    np.testing.assert_allclose(found, np.quantile(numbers, wanted), atol=1.5)


@pytest.mark.slow
def test_heavy_hitters_are_the_words_that_most_clients_have():
    rng = np.random.default_rng(2)
    popular = [(1, 2, 3), (1, 2, 0), (4, 0, 0)]
    words = [popular[i] for i in rng.choice(3, 60, p=[0.5, 0.3, 0.2])] + [
        tuple(word) for word in rng.integers(0, 6, (20, 3))
    ]
    process = analytics.build_private_heavy_hitters(3, 6, most=5, threshold=5.0, noise_multiplier=TINY)
    hansa.privacy.require_private(process)
    state = process.initialize()
    for _ in range(3):
        state, metrics = process.next(state, [np.int32(word) for word in words])
    expected = [word for word, count in collections.Counter(words).most_common(5) if count >= 5]
    found = {
        tuple(row): float(count) for row, count in zip(state.prefixes.tolist(), state.counts, strict=True) if count
    }
    assert sorted(found) == sorted(expected) and int(metrics.num_found) == len(expected)
    for word, count in found.items():
        assert count == pytest.approx(words.count(word), abs=1e-2)


@pytest.mark.slow
def test_noise_alone_finds_no_word():
    process = analytics.build_private_heavy_hitters(2, 4, most=4, threshold=8.0, noise_multiplier=1.0)
    with hansa.privacy.noise_of(bytes(32), round_number=1):
        state, metrics = process.next(process.initialize(), [np.int32([1, 2])] * 3)
    assert int(metrics.num_found) == 0 and not np.asarray(state.counts).any()


@pytest.mark.parametrize(
    "computation",
    [
        analytics.private_count(1.0),
        analytics.private_histogram(4, 1.0),
        analytics.private_mean(0.0, 1.0, 1.0),
        analytics.private_quantiles([0.0, 1.0], [0.5], 1.0),
    ],
)
def test_each_is_one_noised_sum_and_nothing_else(computation):
    hansa.privacy.require_private(computation)
    hansa.privacy.require_protected(computation)
    (release,) = hansa.privacy.releases(computation)
    assert release.mechanism == hansa.privacy.Gaussian(1.0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: analytics.private_histogram(0, 1.0), "bins of private_histogram"),
        (lambda: analytics.private_mean(1.0, 1.0, 1.0), "high of private_mean must be a number above 1"),
        (lambda: analytics.private_quantiles([1.0, 0.0], [0.5], 1.0), "that rise"),
        (lambda: analytics.private_quantiles([0.0, 1.0], [2.0], 1.0), "from 0 to 1"),
        (
            lambda: analytics.build_private_heavy_hitters(0, 2, most=1, threshold=1.0, noise_multiplier=1.0),
            "length of build_private_heavy_hitters",
        ),
    ],
)
def test_what_is_out_of_range_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
