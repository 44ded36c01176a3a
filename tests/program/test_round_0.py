"""The initial state evaluated as round 0, and every so many-th checkpoint kept."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from hansa.program import load_checkpoint, write_report
from tests.program.counting import losses, run

pytestmark = pytest.mark.usefixtures("no_fsync")


def doubled(state: Any) -> dict[str, float]:
    return {"double": float(2 * state.sum)}


def records_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("parts", [[4], [0, 1, 4], [2, 3, 4]])
def test_the_initial_state_is_evaluated_once_however_the_run_is_cut(parts: list[int], tmp_path: Path) -> None:
    seen: list[tuple[int, dict[str, Any]]] = []
    for rounds in parts:
        found = run(
            tmp_path / "run", rounds, evaluate=doubled, evaluate_every=2, evaluate_initial=True,
            sinks=[lambda number, metrics: seen.append((number, dict(metrics)))] if rounds == parts[-1] else [],
        )  # fmt: skip
    assert found.history[0] == {"round": 0, "evaluation/double": 0.0}
    evaluated = [float(n * (n + 1)) if n % 2 == 0 or n in parts else None for n in range(5)]
    assert [record.get("evaluation/double") for record in found.history] == evaluated
    assert [record["loss"] for record in found.history[1:]] == losses(4)
    assert records_of(tmp_path / "run" / "metrics.jsonl") == list(found.history)
    rows = list(csv.DictReader((tmp_path / "run" / "metrics.csv").open()))
    assert [row["round"] for row in rows] == ["0", "1", "2", "3", "4"]
    assert [record["round"] for record in records_of(tmp_path / "run" / "rounds.jsonl")] == [1, 2, 3, 4]
    if len(parts) == 1:
        assert [number for number, _ in seen] == [0, 1, 2, 3, 4] and seen[0][1] == {"evaluation/double": 0.0}


def test_a_run_that_was_killed_before_its_first_checkpoint_has_round_0_once(tmp_path: Path) -> None:
    def fail(number: int, state: Any, metrics: Any) -> None:
        if number == 1 and not failed:
            failed.append(number)
            raise RuntimeError

    failed: list[int] = []
    options: dict[str, Any] = {"evaluate": doubled, "evaluate_initial": True, "callbacks": [fail]}
    with pytest.raises(RuntimeError):
        run(tmp_path / "run", 3, **options)
    assert records_of(tmp_path / "run" / "metrics.jsonl") == [{"round": 0, "evaluation/double": 0.0}]
    found = run(tmp_path / "run", 3, **options)
    assert records_of(tmp_path / "run" / "metrics.jsonl") == list(found.history)
    assert [record["round"] for record in found.history] == [0, 1, 2, 3]


def test_curves_and_the_page_begin_with_round_0(tmp_path: Path) -> None:
    found = run(tmp_path / "run", 3, evaluate=doubled, evaluate_initial=True)
    (axes,) = found.history.plot("double").axes
    assert axes.lines[0].get_xydata().tolist() == [[0, 0], [1, 2], [2, 6], [3, 12]]
    assert axes.get_xlim() == (0, 3)
    text = write_report(tmp_path / "run").read_text("utf-8")
    assert "Double, rounds 0 to 3" in text
    assert "<dt>Rounds</dt><dd>3<" in text


def test_callbacks_are_not_called_for_it(tmp_path: Path) -> None:
    numbers: list[int] = []
    run(tmp_path, 2, evaluate=doubled, evaluate_initial=True, callbacks=[lambda number, *_: numbers.append(number)])
    assert numbers == [1, 2]


def kept(folder: Path) -> list[int]:
    return sorted(int(path.stem.removeprefix("round-")) for path in (folder / "checkpoints").iterdir())


def test_every_so_many_th_checkpoint_is_kept_beside_the_newest(tmp_path: Path) -> None:
    run(tmp_path / "a", 13, keep_checkpoints=1, keep_every=4)
    assert kept(tmp_path / "a") == [4, 8, 12, 13]
    run(tmp_path / "a", 21, keep_checkpoints=2, keep_every=4)
    assert kept(tmp_path / "a") == [4, 8, 12, 16, 20, 21]
    assert load_checkpoint(tmp_path / "a" / "checkpoints" / "round-00000008.hansa").state.sum == 36
    run(tmp_path / "b", 9)
    assert kept(tmp_path / "b") == [8, 9]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"keep_every": 3}, ValueError, "keep_every=3 must be a multiple of checkpoint_every=2"),
        ({"keep_every": 0}, ValueError, "keep_every must be at least 1, found 0"),
        ({"keep_every": 2.5}, TypeError, "keep_every must be an integer, found 2.5"),
        ({"evaluate_initial": True}, ValueError, "pass evaluate, which says how"),
        ({"evaluate_initial": 1, "evaluate": doubled}, TypeError, "evaluate_initial must be True or False, found 1"),
    ],
)
def test_mistakes_are_told_before_anything_is_done(
    options: dict[str, Any], error: type[Exception], message: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        run(tmp_path / "run", 2, **options)
    assert not (tmp_path / "run").exists()
