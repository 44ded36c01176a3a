"""Canary audit: what an attacker can tell of one client of 10,000 rounds' releases is what is claimed, and not more."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

import hansa

ROUNDS, SIZE, CLIP, COHORT = 10_000, 4, 0.7, 4
SECRET = bytes(range(32))


def releases(rule, with_canary, shift=0):
    """The releases of many rounds, along the canary, in units of the clipping norm: float64 [ROUNDS]."""
    # Each number of a long vector is a round of its own: its noise is independent of that of the others.
    canary = np.zeros(SIZE, np.float32)
    canary[0] = 10.0 * CLIP  # as much as the client likes
    others = [np.float32([0.1, 0.3, 0.0, -0.2])] * (COHORT - 1)
    aggregation, found = rule(f"float32[{SIZE}]"), []
    given = [*others, canary if with_canary else np.zeros(SIZE, np.float32)]
    state = aggregation.initialize()
    for number in range(1, ROUNDS + 1):
        with hansa.privacy.noise_of(SECRET, round_number=number + shift * ROUNDS):
            output = aggregation.next(state, given, [1.0] * COHORT)
        found.append(float(output.result[0]) * COHORT / CLIP)
    return np.array(found)


def lower_bound(with_canary, without, delta, confidence=0.95):
    """A lower bound of epsilon (Clopper and Pearson 1934), at a threshold that the other half of the data chose."""
    half = len(with_canary) // 2
    thresholds = np.quantile(np.concatenate([with_canary[:half], without[:half]]), np.linspace(0.05, 0.95, 37))

    def epsilon(true, false, number):
        level = (1 - confidence) / 2
        least = stats.beta.ppf(level, true, number - true + 1) if true else 0.0
        most = stats.beta.ppf(1 - level, false + 1, number - false) if false < number else 1.0
        return math.log((least - delta) / most) if least > delta else 0.0

    def of(threshold, part):
        there, away = with_canary[part], without[part]
        return epsilon(int((there > threshold).sum()), int((away > threshold).sum()), len(there))

    best = max(thresholds, key=lambda threshold: of(threshold, slice(0, half)))
    return of(best, slice(half, None))


@pytest.mark.whole
@pytest.mark.parametrize("noise_multiplier", [1.0, 2.5])
def test_one_client_can_be_told_from_the_releases_as_well_as_is_claimed_and_no_better(noise_multiplier):
    rule = hansa.privacy.gaussian(CLIP, noise_multiplier, COHORT)
    there, away = releases(rule, True), releases(rule, False, shift=1)
    shift, error = there.mean() - away.mean(), noise_multiplier * math.sqrt(2 / ROUNDS)
    assert abs(shift - 1) < 4 * error
    for found in (there, away):
        assert found.std() == pytest.approx(noise_multiplier, rel=4 / math.sqrt(2 * ROUNDS))
    assert shift / there.std() <= 1 / noise_multiplier * (1 + 4 * error)
    accounting = pytest.importorskip("dp_accounting")
    claimed = accounting.get_epsilon_gaussian(noise_multiplier, 1e-5)
    empirical = lower_bound(there, away, 1e-5)
    assert 0 < empirical < claimed
