"""SCAFFOLD beside NumPy with 64 bits: the model, the server's control, and what each client keeps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest

import hansa
from hansa.program.evaluating import to_evaluation
from hansa.program.facts import parameters
from tests.learning.algorithms import plain

SERVER_RATE = 0.8
Kept = dict[int, plain.Weights]
Sent = Callable[[plain.Weights], plain.Weights]


def by_hand(option: str, sent: Sent = lambda w: w) -> tuple[plain.Weights, plain.Weights, Kept]:
    """x, c and the c_i after all rounds (Algorithm 1), where clients have x and c as they are sent."""
    x, c = plain.initial(), plain.zeros()
    own = {client: plain.zeros() for client in range(len(plain.SIZES))}
    for cohort in plain.COHORTS:
        moved, controls, (to_x, to_c) = [], [], (sent(x), sent(c))
        for i in cohort:
            if plain.left_out(i):
                continue
            y, steps = to_x, 0
            for batch in plain.batches(i):
                g = plain.gradient(y, batch)
                y = plain.combine(lambda y, g, mine, all_: y - plain.RATE * (g - mine + all_), y, g, own[i], to_c)
                steps += 1
            k = steps * plain.RATE
            whole = plain.gradient(to_x, plain.all_of(i))
            new = (
                whole
                if option == "I"
                else plain.combine(lambda mine, all_, x, y, k=k: mine - all_ + (x - y) / k, own[i], to_c, to_x, y)
            )
            moved.append(plain.combine(np.subtract, y, to_x))
            controls.append(plain.combine(np.subtract, new, own[i]))
            own[i] = new
        x = plain.combine(lambda x, *each: x + SERVER_RATE * np.mean(each, 0), x, *moved)
        share = len(moved) / len(plain.SIZES)
        c = plain.combine(lambda c, *each, share=share: c + share * np.mean(each, 0), c, *controls)
    return x, c, own


def rounds(process: Any, cohorts: list[list[int]]) -> Any:
    state = process.initialize()
    for cohort in cohorts:
        state, _ = process.next(state, plain.population().select(cohort))
    return state


def build(option: Any, **more: Any) -> Any:
    rates = {"client_learning_rate": plain.RATE, "server_learning_rate": SERVER_RATE}
    return hansa.learning.build_scaffold(plain.model(), population=len(plain.SIZES), option=option, **rates, **more)


@pytest.fixture(scope="module")
def process() -> Any:
    return build("II")


RUNTIMES = {
    "whole": hansa.InProcessRuntime,
    "in chunks": lambda: hansa.InProcessRuntime(clients_per_chunk=1),
    "several at once on one device": lambda: hansa.InProcessRuntime(jax.devices()[:1], clients_at_once=2),
    "reference": hansa.ReferenceRuntime,
}


@pytest.mark.parametrize(
    "runtime", [name if name == "whole" else pytest.param(name, marks=pytest.mark.slow) for name in RUNTIMES]
)
def test_rounds_are_those_of_the_paper(process: Any, runtime: str) -> None:
    with hansa.runtime(RUNTIMES[runtime]()):
        check(rounds(process, plain.COHORTS), "II")


def test_rounds_of_option_one_are_those_of_the_paper() -> None:
    check(rounds(build("I"), plain.COHORTS), "I")


def check(state: Any, option: str) -> None:
    x, c, own = by_hand(option)
    plain.assert_close(state.model.trainable, x)
    plain.assert_close(state.finalizer.control, c)
    for client, name in enumerate(plain.IDS):
        plain.assert_close(state.clients[name].work.control, own[client])
    assert np.abs(own[3][1]).max() > 0.1 and not np.any(own[4][1])


@pytest.mark.slow
def test_with_one_client_it_is_sgd() -> None:
    alone = [[3]] * 3
    state = rounds(hansa.learning.build_scaffold(plain.model(), client_learning_rate=plain.RATE, population=1), alone)
    sgd = rounds(hansa.learning.build_federated_averaging_process(plain.model()), alone)
    plain.assert_close(state.model.trainable, plain.as_numpy(sgd.model.trainable), 1e-6)


def test_where_nobody_counts_nothing_changes(process: Any) -> None:
    before = rounds(process, plain.COHORTS[:1])
    after, metrics = process.next(before, plain.population().select([2, 4]))
    assert metrics.model_unchanged and after.server == before.server
    assert all(after.clients[name] == before.clients[name] for name in plain.IDS)


def test_numbers_out_of_their_bounds_are_refused() -> None:
    with pytest.raises(ValueError, match="client_learning_rate must be a number above 0, found 0"):
        hansa.learning.build_scaffold(plain.model(), client_learning_rate=0.0, population=3)
    with pytest.raises(ValueError, match="option is 'I' or 'II', found 'both'"):
        build("both")
    with pytest.raises(ValueError, match="population must be a number at least 1, found 0"):
        hansa.learning.build_scaffold(plain.model(), client_learning_rate=0.1, population=0)


def test_the_model_of_a_state_with_parts_of_clients_is_known(process: Any) -> None:
    evaluation = hansa.learning.build_federated_evaluation(process.model)
    found = to_evaluation((evaluation, [plain.all_of(0), plain.all_of(1)]), process.state_type)
    assert repr(found) == "FederatedEvaluation(2 clients)"
    weights = process.initialize().model.trainable
    assert parameters(process.state_type) == sum(np.size(leaf) for leaf in weights)
