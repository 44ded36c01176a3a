"""What `next` takes beside state and data, by name, in a run of many rounds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hansa
from hansa.program import train

DATA = hansa.simulation.ClientData.from_clients({n: {"x": np.full(n, n, "float32")} for n in (1, 2, 3, 4)}).batch(2)
RATES = np.float32([0.5, 0.25, 0.125, 1.0])
ROOT = [np.float32([1, 2]), np.float32([3])]


def process() -> hansa.templates.IterativeProcess:
    """A number at the server that goes to the clients' sums, each at the client's own rate, and to one of its own."""
    total = hansa.jax_computation(lambda total, batch: total + batch.x.sum())
    root_total = hansa.jax_computation(lambda total, batch: total + batch.sum())
    step = hansa.jax_computation(lambda total, rate, state: rate * (total - state))
    after = hansa.jax_computation(lambda state, change, root, share: state + change + share * root)

    @hansa.federated_computation
    def initialize():
        return hansa.federated_value(0.0, hansa.SERVER)

    @hansa.federated_computation(
        "float32@SERVER", "{<x=float32[?]>*}@CLIENTS", "float32[?]*@SERVER", "{float32}@CLIENTS", "float32@SERVER"
    )
    def next(state, data, root, rate, share):
        own = hansa.sequence_reduce(data, 0.0, total)
        change = hansa.federated_mean(hansa.federated_map(step, [own, rate, hansa.federated_broadcast(state)]))
        at_server = hansa.sequence_reduce(root, 0.0, root_total)
        new = hansa.federated_map(after, [state, change, at_server, share])
        return {"state": new, "metrics": {"change": change}}

    return hansa.templates.IterativeProcess(initialize, next)


PROCESS = process()


def share(round_number: int) -> float:
    return 0.5**round_number


def expected(rounds: int, cohort: Any) -> float:
    state, sums = 0.0, np.float64([1, 4, 9, 16])
    for number in range(1, rounds + 1):
        chosen = cohort(number)
        state += (RATES[chosen] * (sums[chosen] - state)).mean() + share(number) * 6
    return state


def sampler(round_number: int) -> np.ndarray:
    return np.array([round_number % 4, (round_number + 2) % 4])


def rates(round_number: int, positions: np.ndarray) -> list[Any]:
    return list(RATES[positions])


@pytest.mark.parametrize("rate", [RATES, rates])
def test_a_round_is_given_them_and_those_of_its_clients(rate: Any) -> None:
    given = {"root": ROOT, "rate": rate, "share": share}
    result = train(PROCESS, DATA, 3, sampler=sampler, arguments=given, progress=False)
    np.testing.assert_allclose(result.state, expected(3, sampler), rtol=1e-6)


def test_a_run_that_goes_on_with_them_has_the_bits_of_one_that_was_not_stopped(tmp_path: Path) -> None:
    given = {"root": ROOT, "rate": rates, "share": share}
    whole = train(PROCESS, DATA, 4, cohort_size=2, arguments=given, progress=False)
    train(PROCESS, DATA, 2, cohort_size=2, arguments=given, progress=False, run_dir=tmp_path)
    resumed = train(PROCESS, DATA, 4, cohort_size=2, arguments=given, progress=False, run_dir=tmp_path, resume=True)
    assert float(resumed.state) == float(whole.state)
    with pytest.raises(hansa.program.RunError, match="arguments"):
        other = {**given, "root": ROOT[:1]}
        train(PROCESS, DATA, 5, cohort_size=2, arguments=other, progress=False, run_dir=tmp_path)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "next of the process takes 'root', of type .*pass arguments="),
        ({"root": ROOT, "rate": RATES, "shares": 1.0}, "'shares', which next of the process does not take"),
        ({"root": ROOT, "rate": RATES[:2], "share": 1.0}, "has 2 entries, and data has 4 clients"),
        ({"root": ROOT, "rate": 1.0, "share": 1.0}, "must be a list or an array with an entry for each client"),
        ({"root": ROOT, "rate": dict(enumerate(RATES)), "share": 1.0}, "in the order of data.client_ids; found"),
        ([1, 2], "arguments must be a dict from names to values, found"),
        ({"root": ROOT, "rate": share, "share": 1.0}, "positions"),
    ],
)
def test_what_they_cannot_be_is_said_before_the_first_round(given: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        train(PROCESS, DATA, 1, arguments=given, progress=False)
    if given is None:
        with pytest.raises(TypeError, match="data is a function, so nothing says who the clients are"):
            train(PROCESS, lambda _: [], 1, arguments={"root": ROOT, "rate": RATES, "share": 1.0}, progress=False)
