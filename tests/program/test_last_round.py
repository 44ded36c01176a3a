"""The last round is always evaluated, and a run that is made longer has the state of one in one go all the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hansa.program import BestModel, EarlyStopping, load_checkpoint
from tests.program.counting import run

pytestmark = pytest.mark.usefixtures("no_fsync")


def distance(state: Any) -> dict[str, float]:
    """How far the sum is from 28, which it is after seven rounds."""
    return {"distance": abs(float(state.sum) - 28)}


def evaluated(history: Any) -> list[int]:
    return [record["round"] for record in history if "evaluation/distance" in record]


def test_the_last_round_is_evaluated_whatever_evaluate_every_says(tmp_path: Path) -> None:
    assert evaluated(run(None, 2, evaluate=distance, evaluate_every=1000).history) == [2]
    found = run(tmp_path, 7, evaluate=distance, evaluate_every=3)
    assert evaluated(found.history) == [3, 6, 7]
    assert [json.loads(line) for line in (tmp_path / "metrics.jsonl").open()] == list(found.history)
    seconds = [json.loads(line)["evaluation_seconds"] for line in (tmp_path / "rounds.jsonl").open()]
    assert [number for number, took in enumerate(seconds, 1) if took > 0] == [3, 6, 7]


def test_a_round_that_a_callback_stops_the_run_after_is_the_last_one() -> None:
    def stop(number: int, state: Any, metrics: Any) -> str | None:
        seen.append("evaluation/distance" in metrics)
        return "enough" if number == 4 else None

    seen: list[bool] = []
    best = BestModel("evaluation/distance")
    found = run(None, 10, evaluate=distance, evaluate_every=3, callbacks=[stop, best])
    assert (found.rounds, found.stopped) == (4, "enough")
    assert evaluated(found.history) == [3, 4]
    assert seen == [False, False, True, False]
    assert (best.round, best.value) == (4, 18.0)


@pytest.mark.parametrize("first", [6, 7, 8, 10])
def test_a_run_that_is_made_longer_stops_where_one_in_one_go_does(first: int, tmp_path: Path) -> None:
    def longer(folder: Path | None, rounds: int) -> tuple[Any, BestModel]:
        best = BestModel("evaluation/distance")
        callbacks = [EarlyStopping("evaluation/distance", 2), best]
        return run(folder, rounds, evaluate=distance, evaluate_every=3, callbacks=callbacks), best

    whole, best_of_whole = longer(None, 30)
    assert (whole.rounds, best_of_whole.round) == (12, 6)
    longer(tmp_path, first)
    found, best = longer(tmp_path, 30)
    assert (found.rounds, found.stopped) == (whole.rounds, whole.stopped)
    assert load_checkpoint(tmp_path).state == whole.state
    assert evaluated(found.history) == sorted({3, 6, 9, 12, first})
    assert best.round == (7 if first == 7 else 6)
