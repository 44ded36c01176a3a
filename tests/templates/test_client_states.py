"""Processes whose clients keep a part of the state."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import hansa
from hansa import CLIENTS, SERVER

IDS = ["ann", "bo", "cy"]
DATA = hansa.ClientBatches(np.arange(6, dtype=np.float32), [0, 1, 3, 6], 2, IDS)
STATE = "<rounds=int32@SERVER,own={<sum=float32>}@CLIENTS>"

count = hansa.jax_computation(lambda n: n + 1)
add = hansa.jax_computation(lambda own, batch: {"sum": own.sum + batch.sum()}, "<sum=float32>", "float32[?]")


@hansa.federated_computation
def initialize() -> Any:
    own = hansa.federated_value({"sum": np.float32(100)}, CLIENTS)
    return {"rounds": hansa.federated_value(0, SERVER), "own": own}


@hansa.federated_computation(STATE, "{float32[?]*}@CLIENTS")
def visit(state: Any, data: Any) -> Any:
    own = hansa.sequence_reduce(data, state.own, add)
    after = {"rounds": hansa.federated_map(count, state.rounds), "own": own}
    return {"state": after, "total": hansa.federated_sum(own.sum)}


PROCESS = hansa.templates.IterativeProcess(initialize, visit)


def sums(state: Any) -> list[float]:
    return [float(each.sum) for each in state.own.select([*IDS, "di"])]


def test_a_client_goes_on_with_what_it_kept_and_an_older_state_has_its_own() -> None:
    first = PROCESS.initialize()
    assert (first.rounds, first.own.sum) == (0, 100)
    one, total = PROCESS.next(first, DATA.select([2, 0]))
    two, _ = PROCESS.next(state=one, data=DATA.select([1, 2]))
    other, _ = PROCESS.next(one, DATA.select([2]))
    assert (sums(one), total, one.own.client_ids) == ([100, 100, 112, 100], 212, ["cy", "ann"])
    assert (sums(two), sums(other), two.rounds) == ([100, 103, 124, 100], [100, 100, 124, 100], 2)
    assert (two.own["bo"].sum, len(two.own), len(one.own)) == (103, 3, 2)
    assert PROCESS.next(one, DATA.select([2]))[0] == other and one != two
    assert repr(one.own) == "ClientStates(2 clients have taken part, others have <sum=100.0>)"


def test_lists_of_states_and_of_batches_have_their_places_for_ids() -> None:
    state, _ = PROCESS.next(PROCESS.initialize(), [[np.float32([1])], [np.float32([2])]])
    assert [float(state.own[place].sum) for place in range(3)] == [101, 102, 100]
    listed, _ = PROCESS.next({"rounds": 0, "own": [{"sum": np.float32(1)}]}, [[np.float32([2])]])
    assert listed.own[0].sum == 3 and isinstance(listed.own, hansa.ClientValues)


def test_a_client_that_is_there_twice_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="client 'bo' is in the cohort twice, and has one state"):
        PROCESS.next(PROCESS.initialize(), DATA.select([1, 0, 1]))


def test_states_without_data_and_of_another_type_are_refused() -> None:
    alone = hansa.federated_computation(lambda own: hansa.federated_sum(own), "{float32}@CLIENTS")
    with pytest.raises(TypeError, match="no other part of the argument says who takes part; pass a round's data"):
        alone(hansa.ClientStates(np.float32(0)))
    with pytest.raises(TypeError, match=r"own.*expected.*sum=float32.*found.*int32"):
        PROCESS.next({"rounds": 0, "own": hansa.ClientStates(0)}, DATA)
    with pytest.raises(TypeError, match=r"the state.own: expected the fields? .*sum"):
        PROCESS.next({"rounds": 0, "own": {"ann": 1}}, DATA)


@pytest.mark.parametrize(
    ("use", "error", "message"),
    [
        (list, TypeError, r"not gone through, as every client has one; use states.client_ids"),
        (lambda states: "ann" in states, TypeError, "not iterable"),
        (lambda states: states.select("ann"), TypeError, r"clients must hold integers or strings.*found the str 'ann'"),
        (lambda states: states.select(None), TypeError, r"clients must hold integers or strings"),
        (lambda states: states[None], ValueError, r"entry 0 of clients is None, which stands for nobody"),
        (
            lambda states: states[0],
            TypeError,
            r"strings as ids, such as 'ann', and .* integers .*, such as 0; they",
        ),
    ],
)
def test_what_names_no_clients_is_refused(use: Any, error: type[Exception], message: str) -> None:
    state, _ = PROCESS.next(PROCESS.initialize(), DATA.select([0]))
    with pytest.raises(error, match=message):
        use(state.own)


def test_it_composes_and_is_explained() -> None:
    @hansa.federated_computation(PROCESS.state_type, "{float32[?]*}@CLIENTS")
    def twice(state: Any, data: Any) -> Any:
        return PROCESS.next(PROCESS.next(state, data).state, data).state

    process = hansa.templates.IterativeProcess(initialize, twice)
    assert sums(process.next(process.initialize(), DATA)) == [100, 106, 124, 100]
    assert "stays with the client" in hansa.explain(PROCESS)
