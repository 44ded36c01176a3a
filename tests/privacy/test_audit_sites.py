"""Canary audits of DP-SGD and of correlated noise: attackers find no more than is claimed, and what is broken is found.

The canary of DP-SGD is one example whose gradient is as large as it likes, among others whose gradients are zero. Each
client of a call is a trial of its own, with draws and noise of its own, and keeps its model, so that each is seen. That
of correlated noise gives the bound in each round in which it may be, and the attacker sees all rounds of many runs,
undoes the correlation, and looks along what the canary would have changed.
"""

from __future__ import annotations

import math

import jax
import numpy as np
import pytest

import hansa
from hansa.compiler.evaluate import evaluate
from hansa.compiler.noise import with_noise
from hansa.compiler.partition import compile_computation
from hansa.language.encoding import encode
from hansa.language.noise import NoiseKeys
from hansa.learning import private_steps
from hansa.privacy import matrix_factorization, noise_of, site_guarantee
from hansa.types import Struct
from tests.privacy.test_audit import CALL, CLIP, COHORT, SECRET, SIZE, clients, lower_bound

DELTA, TRIALS, OTHERS = 1e-5, 3000, 3


def site(rule):
    """A process whose clients train by the rule, and keep the model that they have trained."""

    def forward(weights, batch, training, rng):
        return hansa.learning.BatchOutput(loss=batch.x.mean() * weights["w"][0])

    model = hansa.learning.functional_model({"w": np.zeros(2, np.float32)}, forward, input_spec="<x=float32[?]>")
    work = hansa.learning.local_training(
        client_optimizer=rule,
        client_learning_rate=1.0,
        own={"w": np.zeros(2, np.float32)},
        finish=lambda at, weights, steps, number: (
            hansa.learning.arithmetic.difference(weights, at.sent.model),
            None,
            {"w": weights.trainable.w},
        ),
    )
    return hansa.learning.build_process(model, client_work=work)


def sgd(noise, steps=1, rate=1.0):
    return hansa.privacy.dpsgd("sgd", 0.7, noise, steps=steps, max_examples=4, sampling_rate=rate)


def audited(rule):
    """How far each of many clients' models has moved along the canary's gradient, in clips, with it and without:
    float64 [trials] each."""
    process, found = site(rule), []
    for canary, secret in ((1e6, SECRET), (0.0, bytes(32))):
        x = np.float32([*[0.0] * OTHERS, canary])
        data = hansa.ClientBatches({"x": np.tile(x, TRIALS)}, np.arange(TRIALS + 1) * len(x), batch_size=len(x))
        with noise_of(secret, round_number=1):
            state, _ = process.next(process.initialize(), data)
        moved = np.asarray(state.clients.select(range(TRIALS)).stacked().work.w, np.float64)
        found.append(-moved[:, 0] * rule.sampling_rate * len(x) / rule.clip)
    return found


@pytest.mark.parametrize(("noise", "steps", "rate"), [(1.0, 1, 1.0), (0.8, 4, 0.5)])
def test_an_example_can_be_told_from_a_site_as_well_as_is_claimed_and_no_better(noise, steps, rate):
    there, away = audited(sgd(noise, steps, rate))
    error = math.sqrt((2 * noise**2 + rate * (1 - rate)) * steps / TRIALS)
    assert abs(there.mean() - away.mean() - steps * rate) < 4 * error
    assert away.std() == pytest.approx(noise * math.sqrt(steps), rel=4 / math.sqrt(2 * TRIALS))
    assert abs(np.corrcoef(there, away)[0, 1]) < 4 / math.sqrt(TRIALS)
    claimed = site_guarantee(sgd(noise, steps, rate), num_examples=OTHERS + 1, rounds=1, delta=DELTA).epsilon
    assert 0.1 * claimed < lower_bound(there, away, DELTA) < claimed


@pytest.mark.parametrize("broken", ["noise", "clip"])
def test_the_audit_of_an_example_finds_what_is_broken(broken, monkeypatch):
    claimed = site_guarantee(sgd(1.0), num_examples=OTHERS + 1, rounds=1, delta=DELTA).epsilon
    if broken == "clip":
        scaled = private_steps.STEPS_OF_CLIP / 0.7
        monkeypatch.setattr(
            private_steps,
            "_clipped",
            lambda gradient, is_there, clip: jax.tree.map(
                lambda leaf: jax.numpy.where(is_there, jax.numpy.trunc(leaf * scaled), 0.0).astype("float64"), gradient
            ),
        )
    there, away = audited(sgd(0.25 if broken == "noise" else 1.0))
    assert lower_bound(there, away, DELTA) > claimed


ROUNDS, RUNS = 8, 2000


def seen(rule, rounds_of_canary, first):
    """All that leaves many runs, along the canary, in units of the clipping norm: float64 [runs, rounds]."""
    aggregation = rule(f"float32[{SIZE}]")
    state = aggregation.initialize()
    argument = Struct([("state", state), ("value", clients(True)), ("weight", [1.0] * COHORT)])
    lowered, _ = with_noise(aggregation.next, argument, drawn=False)
    stage = compile_computation(lowered).servers[-1]
    parameter, total = stage.inputs
    result = next(node for node in stage.outputs if str(node.type) == f"float32[{SIZE}]@SERVER")

    @jax.jit
    @jax.vmap
    def server(keys, summed):
        given = dict.fromkeys(("state", "value", "weight"))
        argument = Struct([*given.items(), ("noise_keys", Struct([(None, keys)]))])
        return evaluate([result], {parameter: argument, total: summed})[0]

    keys, terms = [], rule.mechanism.terms
    for run in range(first, first + RUNS):
        for number in range(1, ROUNDS + 1):
            with noise_of(run.to_bytes(32, "little"), round_number=number):
                keys.append(NoiseKeys(CALL).of(0, terms, ROUNDS))
    with jax.enable_x64(True):
        sums = {
            there: sum(encode([value], np.float64(CLIP))[0] for value in clients(there)).astype(np.uint32)
            for there in (True, False)
        }
        given = np.stack([sums[number in rounds_of_canary] for number in range(1, ROUNDS + 1)] * RUNS)
        found = np.asarray(server(np.stack(keys), given))
    return found[:, 0].astype(np.float64).reshape(RUNS, ROUNDS) * COHORT / CLIP


def attacked(rule, rounds_of_canary):
    """What the attacker looks at, with and without the canary."""
    mechanism = rule.mechanism
    inverse = matrix_factorization.inverse_coefficients(mechanism.terms, mechanism.power)
    column = matrix_factorization.strategy(inverse, ROUNDS)
    strategy = np.array([[column[i - j] if i >= j else 0.0 for j in range(ROUNDS)] for i in range(ROUNDS)])
    change = strategy @ np.isin(np.arange(1, ROUNDS + 1), rounds_of_canary)
    along = strategy.T @ change / np.linalg.norm(change) / mechanism.sensitivity
    return [seen(rule, rounds, first) @ along for rounds, first in ((rounds_of_canary, 1), ((), RUNS + 1))]


def correlated(noise=1.0, separation=4):
    return hansa.privacy.matrix(CLIP, noise, COHORT, rounds=ROUNDS, separation=separation, terms=4)


def test_a_client_can_be_told_from_all_rounds_with_correlated_noise_as_well_as_is_claimed_and_no_better():
    accounting = pytest.importorskip("dp_accounting")
    there, away = attacked(correlated(), (1, 5))  # as early and as often as one may
    assert abs(there.mean() - away.mean() - 1) < 4 * math.sqrt(2 / RUNS)
    for found in (there, away):
        assert found.std() == pytest.approx(1.0, rel=4 / math.sqrt(2 * RUNS))
    claimed = accounting.get_epsilon_gaussian(1.0, DELTA)
    assert 0.1 * claimed < lower_bound(there, away, DELTA) < claimed


def test_the_audit_finds_a_client_that_comes_more_often_than_correlated_noise_is_for():
    accounting = pytest.importorskip("dp_accounting")
    there, away = attacked(correlated(separation=8), range(1, 9))
    assert lower_bound(there, away, DELTA) > accounting.get_epsilon_gaussian(1.0, DELTA)
