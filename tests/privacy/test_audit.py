"""Canary audit: what an attacker can tell of one client of 10,000 rounds' releases is what is claimed, and not more.

A round differs from another by its noise only, where the clients give the same. So the sum that the clients give is
computed once, and what the server makes of it, with noise of the keys of each round, is computed for many rounds in one
program: it is the server's stage itself, and the first rounds have the bits of calls.
"""

from __future__ import annotations

import math

import jax
import numpy as np
import pytest
from scipy import stats

import hansa
from hansa.compiler.evaluate import evaluate
from hansa.compiler.noise import with_noise
from hansa.compiler.partition import compile_computation
from hansa.language.encoding import encode
from hansa.language.noise import NoiseKeys
from hansa.language.occasions import Occasion
from hansa.types import Struct

SIZE, CLIP, COHORT = 4, 0.7, 4
SECRET = bytes(range(32))
CALL = Occasion("audit", round=0, part="call")


def clients(with_canary):
    canary = np.zeros(SIZE, np.float32)
    canary[0] = 10.0 * CLIP if with_canary else 0.0  # as much as the client likes
    return [*[np.float32([0.1, 0.3, 0.0, -0.2])] * (COHORT - 1), canary]


def releases(rule, with_canary, rounds, first=1):
    """The releases of many rounds, along the canary, in units of the clipping norm: float64 [rounds]."""
    aggregation, values = rule(f"float32[{SIZE}]"), clients(with_canary)
    state, weights = aggregation.initialize(), [1.0] * COHORT
    argument = Struct([("state", state), ("value", values), ("weight", weights)])
    lowered, _ = with_noise(aggregation.next, argument, drawn=False)
    program = compile_computation(lowered)
    stage = program.servers[-1]
    parameter, total = stage.inputs
    result = next(node for node in stage.outputs if str(node.type) == f"float32[{SIZE}]@SERVER")

    @jax.jit
    @jax.vmap
    def server(keys):
        given = dict.fromkeys(("state", "value", "weight"))
        argument = Struct([*given.items(), ("noise_keys", Struct([(None, keys)]))])
        return evaluate([result], {parameter: argument, total: summed})[0]

    keys = []
    for number in range(first, first + rounds):
        with hansa.privacy.noise_of(SECRET, round_number=number):
            keys.append(NoiseKeys(CALL).of(0, 1))
    with jax.enable_x64(True):
        summed = sum(encode([value], np.float64(CLIP))[0] for value in values).astype(np.uint32)
        found = np.asarray(server(np.stack(keys)))
    for i in range(3):
        with hansa.privacy.noise_of(SECRET, round_number=first + i):
            called = aggregation.next(state, values, weights)
        np.testing.assert_array_equal(np.asarray(called.result), found[i])
    return found[:, 0].astype(np.float64) * COHORT / CLIP


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


@pytest.mark.parametrize(
    ("noise_multiplier", "rounds"),
    [
        (1.0, 10_000),
        pytest.param(2.5, 10_000, marks=pytest.mark.slow),
        pytest.param(0.8, 400_000, marks=pytest.mark.whole),
    ],
)
def test_one_client_can_be_told_from_the_releases_as_well_as_is_claimed_and_no_better(noise_multiplier, rounds):
    rule = hansa.privacy.gaussian(CLIP, noise_multiplier, COHORT)
    there, away = releases(rule, True, rounds), releases(rule, False, rounds, first=rounds + 1)
    shift, error = there.mean() - away.mean(), noise_multiplier * math.sqrt(2 / rounds)
    assert abs(shift - 1) < 4 * error
    for found in (there, away):
        assert found.std() == pytest.approx(noise_multiplier, rel=4 / math.sqrt(2 * rounds))
        assert stats.kstest((found - found.mean()) / noise_multiplier, "norm").pvalue > 1e-4
    assert abs(np.corrcoef(there, away)[0, 1]) < 4 / math.sqrt(rounds)
    assert shift / there.std() <= 1 / noise_multiplier * (1 + 4 * error)
    accounting = pytest.importorskip("dp_accounting")
    claimed = accounting.get_epsilon_gaussian(noise_multiplier, 1e-5)
    empirical = lower_bound(there, away, 1e-5)
    # An attacker who looks at one threshold finds a part of what the worst event could tell, and surely something.
    assert 0.2 * claimed < empirical < claimed


def test_the_audit_finds_less_noise_than_is_claimed():
    rule = hansa.privacy.gaussian(CLIP, 0.25, COHORT)  # and 1.0 is claimed
    there, away = releases(rule, True, 10_000), releases(rule, False, 10_000, first=10_001)
    accounting = pytest.importorskip("dp_accounting")
    assert lower_bound(there, away, 1e-5) > accounting.get_epsilon_gaussian(1.0, 1e-5)
