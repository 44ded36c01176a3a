"""A runtime is told which call of which round it executes: the same one again, where a round is repeated."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hansa
from hansa.program import train
from tests.program import counting

INNER = hansa.ReferenceRuntime()


class Recording:
    """A runtime that notes each call's occasion; it does nothing else than what `act` does."""

    def __init__(self, act: Any = lambda occasion: None) -> None:
        self.seen: list[hansa.Occasion] = []
        self._act = act

    def invoke(self, computation: Any, argument: Any) -> Any:
        occasion = hansa.current_occasion()
        assert occasion is not None
        self.seen.append(occasion)
        self._act(occasion)
        return INNER.invoke(computation, argument)

    def told(self) -> list[tuple[Any, ...]]:
        return [(seen.part, seen.round, seen.attempt, seen.call) for seen in self.seen]


def half() -> Any:
    return hansa.jax_computation(lambda x: x / 2, np.float32)


def test_each_call_of_a_run_has_an_occasion_of_its_own() -> None:
    runtime, halve = Recording(), half()
    with hansa.runtime(runtime):
        result = counting.run(
            None,
            2,
            evaluate=lambda state: {"half": halve(state.sum), "quarter": halve(halve(state.sum))},
            evaluate_initial=True,
        )
    assert result.state.sum == 3
    expected = [("initialize", 0, 1, 0)]
    for number in range(3):
        expected += [("round", number, 1, 0)] * (number > 0) + [("evaluation", number, 1, call) for call in range(3)]
    assert runtime.told() == expected
    assert len(set(runtime.seen)) == len(runtime.seen)
    assert len({seen.run for seen in runtime.seen}) == 1
    assert hansa.current_occasion() is None


def test_a_call_outside_train_is_a_run_of_its_own() -> None:
    runtime, halve = Recording(), half()
    with hansa.runtime(runtime):
        halve(1.0)
        counting.run(None, 1)
        halve(2.0)
    assert [seen.part for seen in runtime.seen] == ["call", "initialize", "round", "call"]
    assert len({seen.run for seen in runtime.seen}) == 3


def test_a_run_keeps_its_name_in_its_folder_and_other_runs_have_others(tmp_path: Path) -> None:
    names = []
    for folder, rounds in ((tmp_path / "a", 2), (tmp_path / "a", 4), (tmp_path / "b", 2)):
        runtime = Recording()
        with hansa.runtime(runtime):
            counting.run(folder, rounds)
        names.append({seen.run for seen in runtime.seen})
    assert names[0] == names[1] == {json.loads((tmp_path / "a" / "run.json").read_text())["id"]}
    assert len(names[0] | names[2]) == 2


def test_a_run_without_a_name_is_given_one(tmp_path: Path) -> None:
    counting.run(tmp_path, 2)
    known = json.loads((tmp_path / "run.json").read_text())
    del known["id"]
    (tmp_path / "run.json").write_text(json.dumps(known))
    counting.run(tmp_path, 4)
    assert len(json.loads((tmp_path / "run.json").read_text())["id"]) == 32


def test_an_abandoned_attempt_keeps_the_rounds_number_and_there_is_one_record() -> None:
    def give_up(occasion: hansa.Occasion) -> None:
        if (occasion.part, occasion.round) == ("round", 2) and occasion.attempt < 3:
            raise hansa.AbandonedError("too few")

    runtime, drawn = Recording(give_up), []

    def data(number: int) -> Any:
        drawn.append(number)
        return counting.number_of(number)

    with hansa.runtime(runtime):
        result = train(counting.ADDING, data, 3, progress=False)
    assert runtime.told()[1:] == [("round", *n, 0) for n in ((1, 1), (2, 1), (2, 2), (2, 3), (3, 1))]
    assert result.history["round"] == drawn == [1, 2, 3]
    assert result.history["loss"] == counting.losses(3)
    assert result.state.sum == 6


def test_a_runtime_that_abandons_all_attempts_ends_the_run_with_what_it_says(tmp_path: Path) -> None:
    def give_up(occasion: hansa.Occasion) -> None:
        if occasion.round == 3:
            raise hansa.AbandonedError("nobody is there")

    runtime = Recording(give_up)
    with hansa.runtime(runtime), pytest.raises(hansa.AbandonedError, match="nobody is there") as error:
        counting.run(tmp_path, 4)
    assert "attempt 100 at round 3" in error.value.__notes__[0]
    assert [seen.attempt for seen in runtime.seen if seen.round == 3] == list(range(1, 101))
    assert hansa.program.load_checkpoint(tmp_path, counting.ADDING.state_type).round == 2


def test_a_run_that_is_stopped_between_attempts_has_the_rounds_before(tmp_path: Path) -> None:
    def give_up(occasion: hansa.Occasion) -> None:
        if occasion.round == 3:
            signal.raise_signal(signal.SIGINT)
            raise hansa.AbandonedError("too few")

    with hansa.runtime(Recording(give_up)):
        result = counting.run(tmp_path, 4)
    assert (result.rounds, result.stopped) == (2, "by Ctrl-C")
    assert counting.run(tmp_path, 4).history["loss"] == counting.losses(4)


KILLED = """
import os, signal, sys
from pathlib import Path
import hansa
from tests.program import counting
from tests.program.test_occasions import Recording

folder, last = Path(sys.argv[1]), int(sys.argv[2])

def act(occasion):
    with open(folder.with_suffix(".txt"), "a") as file:
        print(occasion, file=file)
    if occasion.round == last:
        os.kill(os.getpid(), signal.SIGKILL)

with hansa.runtime(Recording(act)):
    counting.run(folder, 6)
"""


@pytest.mark.slow
def test_a_round_that_is_repeated_after_a_kill_is_the_same_occasion(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    codes = [
        subprocess.run([sys.executable, "-c", KILLED, str(folder), last], cwd=Path(__file__).parents[2]).returncode
        for last in ("4", "0")
    ]
    assert codes == [-signal.SIGKILL, 0]
    lines = folder.with_suffix(".txt").read_text().splitlines()
    rounds = [int(line.partition("round=")[2].partition(",")[0]) for line in lines]
    assert rounds == [0, 1, 2, 3, 4, 3, 4, 5, 6]  # a checkpoint is made every second round
    assert lines[3:5] == lines[5:7]
    assert len({line.partition(",")[0] for line in lines}) == 1
