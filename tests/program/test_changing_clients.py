"""Clients that come, go, come back and are renamed; states that are put together of older ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hansa
from hansa.program import Checkpoint, load_checkpoint, save_checkpoint, train
from hansa.program.changes import ChangedRunError
from hansa.types.client_values import ClientValues
from hansa.types.rows import Rows
from tests.program.visits import IDS, SEEING, population, run

FIRST = np.float32(-1)
KIND = hansa.to_type("float32")
STATE = hansa.to_type("<own={float32}@CLIENTS>")


def after(states: Any, ids: list[Any], values: list[float]) -> Any:
    """The states after a round that gave some clients values."""
    array = np.empty(len(ids), object)
    array[:] = ids
    return states.updated(ClientValues(KIND, Rows.of([np.float32(values)], len(ids)), array))


def known(states: Any, ids: list[Any]) -> dict[Any, float]:
    return {name: float(value) for name, value in zip(ids, states.select(ids), strict=True)}


STRANGE: list[list[Any]] = [
    ["", " a", "a ", "\ud800", "a\0b", "../x", "1", "\u202e", "é", "e\u0301"],
    [0, -2, 2**31, -(2**31), 2**63, 2**70, 10**30, 5],
]


@pytest.mark.parametrize("seed", range(6))
def test_states_that_branch_and_take_rows_of_older_ones_are_read_as_they_were(tmp_path: Path, seed: int) -> None:
    """Beside a dict for each state; saved and read again in any order, each by several checkpoints of one folder."""
    rng = np.random.default_rng(seed)
    ids = [f"{i}" for i in range(12)]
    lineage: list[tuple[Any, dict[str, float]]] = [(hansa.ClientStates(FIRST), {})]
    for step in range(40):
        states, expected = lineage[rng.integers(max(0, len(lineage) - 3), len(lineage))]
        cohort = [ids[i] for i in rng.permutation(len(ids))[: rng.integers(0, 5)]]
        if rng.random() < 0.3:  # what some clients had in another state
            other, of_other = lineage[rng.integers(len(lineage))]
            states = states.updated(other.select(cohort))
            expected = expected | {name: of_other.get(name, float(FIRST)) for name in cohort}
        else:
            values = rng.integers(0, 1000, len(cohort)).tolist()
            states, expected = after(states, cohort, values), expected | dict(zip(cohort, values, strict=True))
        if rng.random() < 0.5:
            path = tmp_path / f"{step}.hansa"
            save_checkpoint(path, Checkpoint(step, hansa.Struct.of(own=states)), STATE)
            if rng.random() < 0.5:
                states = load_checkpoint(path, STATE).state.own
        lineage.append((states, expected))
    for states, expected in lineage:
        assert known(states, ids) == {name: expected.get(name, float(FIRST)) for name in ids}
        assert set(states.client_ids) == set(expected)
    for path in tmp_path.glob("*.hansa"):
        found, expected = load_checkpoint(path, STATE), lineage[int(path.stem) + 1][1]
        assert known(found.state.own, ids) == {name: expected.get(name, float(FIRST)) for name in ids}
        assert set(found.state.own.client_ids) == set(expected)


@pytest.mark.parametrize("ids", STRANGE)
def test_any_id_is_found_again(tmp_path: Path, ids: list[Any]) -> None:
    ids = [name for name in ids if not isinstance(name, str) or name.strip()]
    states = after(hansa.ClientStates(FIRST), ids, list(range(len(ids))))
    save_checkpoint(tmp_path / "a.hansa", Checkpoint(1, hansa.Struct.of(own=states)), STATE)
    found = load_checkpoint(tmp_path / "a.hansa", STATE).state.own
    assert found == states and found.client_ids == ids
    assert known(found, ids) == dict(zip(ids, range(len(ids)), strict=True))


def cohort(number: int, names: list[Any]) -> hansa.ClientBatches:
    """Some clients' data in a round, in which who is a client depends on the round."""
    x = np.float32([sum(map(ord, str(name))) % 7 + number for name in names])
    return hansa.ClientBatches({"x": x}, np.arange(len(names) + 1), 2, names)


def coming_and_going(number: int) -> hansa.ClientBatches:
    """New clients in each round; some leave for four rounds, and come back in another place."""
    names = [f"new in {number}", "always"]
    names += [f"new in {number - 4}"] if number > 4 else []
    return cohort(number, names[::-1] if number % 2 else names)


def test_a_population_that_changes_from_round_to_round_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    def visit(rounds: int, folder: Path | None) -> Any:
        options: dict[str, Any] = {"run_dir": folder, "checkpoint_every": 2, "progress": False}
        return train(SEEING, coming_and_going, rounds, **options).state

    whole = visit(9, None)
    for rounds in (1, 4, 6, 9):
        state = visit(rounds, tmp_path)
    assert state == whole and len(state.own) == 10
    assert [int(state.own[f"new in {number}"].times) for number in range(1, 10)] == [2] * 5 + [1] * 4
    assert state.own["always"].times == 9


def test_a_round_without_clients_leaves_what_they_keep(tmp_path: Path) -> None:
    state = SEEING.next(SEEING.initialize(), cohort(1, ["a", "b"])).state
    assert SEEING.next(state, cohort(1, ["a", "b"]).select([])).state.own == state.own


def resumed(folder: Path, clients: dict[Any, Any], **options: Any) -> Any:
    data = hansa.simulation.ClientData.from_clients(clients).batch(2)
    asked = {"cohort_size": 4, "seed": 3, "run_dir": folder, "checkpoint_every": 2, "progress": False}
    return train(SEEING, data, 6, **(asked | options))


def test_clients_that_are_others_at_resume_are_told_and_known_by_their_ids(tmp_path: Path) -> None:
    before = run(tmp_path, 4).state
    own = {name: population().client(name) for name in IDS}
    for fewer in (IDS[:-1], [*IDS, "one more"]):
        clients = {name: own.get(name, own[IDS[0]]) for name in fewer}
        with pytest.raises(ChangedRunError, match="has other clients, and cannot go on with these:"):
            resumed(tmp_path, clients, allow_changes=True)
    turned = {name: own[name] for name in reversed(IDS)}
    with pytest.raises(ChangedRunError, match="client_ids was"):
        resumed(tmp_path, turned)
    # The run has not been touched by what was refused.
    assert load_checkpoint(tmp_path, SEEING.state_type).state == before
    renamed = {name + "!" if name in IDS[::2] else name: each for name, each in turned.items()}
    state = resumed(tmp_path, renamed, allow_changes=True).state
    times = {name: int(state.own[name].times) for name in renamed}
    old = {name: int(before.own[name].times) for name in renamed}
    assert sum(times.values()) - sum(old.values()) > 0 and all(times[name] >= old[name] for name in renamed)
    assert all(state.own[name] == before.own[name] for name in IDS[::2])  # nobody has these names any more


def test_ids_of_another_kind_are_refused_before_a_round(tmp_path: Path) -> None:
    run(tmp_path, 2)
    numbered = {number: population().client(name) for number, name in enumerate(IDS)}
    with pytest.raises(ChangedRunError, match="client_ids was"):
        resumed(tmp_path, numbered)
    with pytest.raises(TypeError, match=r"strings as ids, such as 'client .*', and .*integers"):
        resumed(tmp_path, numbered, allow_changes=True)
