"""Who was left out of a round is in the history, as the runtime told it, also after the run has gone on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hansa
from hansa.program import History
from hansa.simulation import ClientData
from tests.program import counting
from tests.program.digits import assert_same_bits, averaging, population

LATE = 3
"""Whose reports come too late, in rounds of an odd number."""


class Dropping:
    """A runtime that leaves a client out, and can say so in a process that comes later, as it keeps it in a file."""

    def __init__(self, ledger: Path) -> None:
        self._ledger, self._inner = ledger, hansa.InProcessRuntime()

    def invoke(self, computation: Any, argument: Any) -> Any:
        occasion = hansa.current_occasion()
        assert occasion is not None
        if occasion.part == "round" and occasion.round % 2:
            state, cohort = argument
            ids = cohort.client_ids.tolist()
            kept = [i for i, client in enumerate(ids) if client != LATE]
            argument = [state, cohort.select(kept)]
            with self._ledger.open("a") as file:
                print(json.dumps([occasion.round, len(kept), [client for client in ids if client == LATE]]), file=file)
        return self._inner.invoke(computation, argument)

    def counted(self, occasion: hansa.Occasion) -> hansa.Counted | None:
        for line in self._ledger.read_text().splitlines():
            number, counted, late = json.loads(line)
            if number == occasion.round:
                return hansa.Counted(counted, {"late": late, "invalid": []})
        return None


def run(tmp_path: Path, rounds: int, data: ClientData) -> Any:
    with hansa.runtime(Dropping(tmp_path / "ledger")):
        return hansa.program.train(averaging(), data, rounds, cohort_size=6, run_dir=tmp_path / "run", progress=False)


def test_the_history_says_who_was_left_out_and_a_simulation_of_the_others_has_the_same_bits(tmp_path: Path) -> None:
    data = population()
    run(tmp_path, 3, data)
    result = run(tmp_path, 5, data)
    process, sampler = averaging(), hansa.simulation.UniformSampler(10, 6, 0)
    state, missed = process.initialize(), 0
    for number in range(1, 6):
        positions = sampler(number)
        late = [LATE] if LATE in positions and number % 2 else []
        missed += len(late)
        told = result.history.counted(number)
        assert told == (hansa.Counted(6 - len(late), {"late": late}) if late else None)
        left_out = [] if told is None else told.left_out["late"]
        state, _ = process.next(state, data.cohort([each for each in positions if each not in left_out]))
    assert 0 < missed < 3
    assert_same_bits(result.state, state)
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert sum("clients_left_out" in line for line in lines) == missed
    assert History([json.loads(line) for line in lines]) == result.history


def test_runtimes_that_count_everybody_leave_nothing_in_the_history() -> None:
    class Everybody:
        def invoke(self, computation: Any, argument: Any) -> Any:
            return hansa.ReferenceRuntime().invoke(computation, argument)

        def counted(self, occasion: hansa.Occasion) -> hansa.Counted:
            return hansa.Counted(3, {"late": []})

    for runtime in (Everybody(), hansa.InProcessRuntime()):
        with hansa.runtime(runtime):
            history = counting.run(None, 2).history
        assert history.counted(2) is None
        assert history.names == ("round", "loss", "squares")
    with pytest.raises(KeyError, match="no round 3"):
        history.counted(3)


def test_numbers_and_ids_of_numpy_are_those_of_python() -> None:
    counted = hansa.Counted(np.int64(3), {"late": np.array([1, 2]), "invalid": [np.int32(4), np.str_("ann")]})
    assert repr(counted) == "Counted(number=3, left_out={'late': [1, 2], 'invalid': [4, 'ann']})"
    assert hansa.Counted.from_text(3, counted.to_text()) == counted
    with pytest.raises(TypeError, match="keys are reasons, strings; found the int 1"):
        hansa.Counted(3, {1: ["ann"]})


def test_what_is_no_account_of_who_was_counted_is_refused() -> None:
    class Wrong:
        def invoke(self, computation: Any, argument: Any) -> Any:
            return hansa.ReferenceRuntime().invoke(computation, argument)

        def counted(self, occasion: hansa.Occasion) -> Any:
            return 3

    with hansa.runtime(Wrong()), pytest.raises(TypeError, match=r"must give a hansa\.Counted, or None; found .*3"):
        counting.run(None, 1)
    with pytest.raises(ValueError, match="how many clients were counted; found -1"):
        hansa.Counted(-1)
    with pytest.raises(TypeError, match="from a reason to the clients' ids"):
        hansa.Counted(1, ["ann"])  # type: ignore[arg-type]
    for clients in ("ann", [1.5], [True]):
        with pytest.raises(TypeError, match=r"left_out\['late'\] must (be a list of|hold) clients' ids"):
            hansa.Counted(1, {"late": clients})  # type: ignore[dict-item]


@pytest.mark.parametrize("text", ["", "[]", "5", '{"late": "ann"}', '{"late": [1.5]}', "[" * 100_000])
def test_a_damaged_record_is_refused_where_it_is_asked_for(text: str) -> None:
    history = History([{"round": 1, "clients_counted": 2, "clients_left_out": text}])
    with pytest.raises(ValueError):
        history.counted(1)
