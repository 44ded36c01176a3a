"""A run notes what is done with its clients' examples, and does not go on with another plan."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hansa
from hansa.simulation import ClientData
from tests.program.test_capacity import asked, totals


def population(count: int = 2) -> ClientData:
    rows = {"x": np.arange(6, dtype=np.float32)}
    return ClientData.from_arrays(rows, [0, 0, 0, 0, 1, 1]).take(count)


def run(data: Any, folder: Path, rounds: int) -> Any:
    return hansa.program.train(totals(), data, rounds, run_dir=folder, progress=False)


def test_a_run_notes_its_plan_once_and_goes_on_with_the_same_only(tmp_path: Path) -> None:
    data = population().scale("x", divide=2).shuffle(1).batch(4)
    run(data, tmp_path, 1)
    assert set(asked(tmp_path)["data_plan"]) == {"format", "steps", "batching"}
    plan = hansa.program.read_data_plan(tmp_path)
    assert plan == data.plan() and plan.digest == data.plan().digest
    assert run(data, tmp_path, 2).rounds == 2
    for other in (
        population().scale("x", divide=3).shuffle(1).batch(4),
        population().scale("x", divide=2).shuffle(2).batch(4),
        population().scale("x", divide=2).map(dict).shuffle(1).batch(4),
    ):
        with pytest.raises(hansa.program.RunError, match=r"data_plan\.steps was .*, and is now "):
            run(other, tmp_path, 3)
    with pytest.raises(hansa.program.RunError, match=r"data_plan\.batching\.epochs was 1, and is now 2"):
        run(data.repeat(2), tmp_path, 3)


def test_a_run_whose_data_calls_a_function_says_so(tmp_path: Path) -> None:
    data = population().map(dict).batch(4)
    run(data, tmp_path, 1)
    assert asked(tmp_path)["data_plan"] == {"no_plan": "map calls 'dict'"}
    with pytest.raises(hansa.program.RunError, match=r"has no plan of its data .*: map calls 'dict'"):
        hansa.program.read_data_plan(tmp_path)
    assert run(data, tmp_path, 2).rounds == 2
    with pytest.raises(hansa.program.RunError, match=r"data_plan.no_plan was map calls 'dict', and is now not set"):
        run(population().batch(4), tmp_path, 3)


def test_a_run_that_did_not_note_its_plan_goes_on_and_notes_it(tmp_path: Path) -> None:
    data = population().batch(4)
    run(data, tmp_path, 1)
    known = json.loads((tmp_path / "run.json").read_text())
    plan = known["asked"].pop("data_plan")
    (tmp_path / "run.json").write_text(json.dumps(known))
    assert run(data, tmp_path, 2).rounds == 2
    assert asked(tmp_path)["data_plan"] == plan


@pytest.mark.parametrize("damage", [3, {"format": 1, "steps": [], "batching": {"batch_size": "a"}}])
def test_a_damaged_plan_is_told(tmp_path: Path, damage: Any) -> None:
    run(population().batch(4), tmp_path, 1)
    known = json.loads((tmp_path / "run.json").read_text())
    known["asked"]["data_plan"] = damage
    (tmp_path / "run.json").write_text(json.dumps(known))
    with pytest.raises(hansa.program.RunError, match=r"run\.json is damaged: "):
        hansa.program.read_data_plan(tmp_path)
