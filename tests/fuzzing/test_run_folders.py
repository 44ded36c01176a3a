"""Damaged run folders are listed, reported and gone on with, or refused with the package's own errors."""

from __future__ import annotations

import contextlib
import io
import json
import os
import tempfile
import warnings
from functools import cache
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

import pytest

from hansa.cli import _runs
from hansa.program import CheckpointError, RunError, write_report
from hansa.program.run_file import recovered_run
from tests.fuzzing.damages import ODD_TEXTS, damaged_bytes, damaged_json, damaged_lines, put_in_its_place
from tests.fuzzing.pool import fuzz
from tests.program.counting import run

ROUNDS = 4
POPULATION = {
    "clients": 3, "client_ids": ["a", "b", "c"], "examples": [4, 5, 6], "labels": [0, 1],
    "sizes": {"total": 15, "quantiles": [4.0] * 5 + [5.0] + [6.0] * 5}, "label_counts": [[2, 2], [0, 5], [6, 0]],
}  # fmt: skip


def evaluate(state: Any) -> dict[str, Any]:
    return {"double": float(2 * state.sum), "note": "text"}


def go_on(folder: Path, rounds: int) -> Any:
    return run(folder, rounds, evaluate=evaluate, evaluate_every=2, evaluate_initial=True, config={"rate": [0.5, "x"]})


@cache
def whole() -> dict[str, bytes]:
    """The files of a run's folder, by their paths in it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run"
        go_on(path, ROUNDS)
        (path / "population.json").write_text(json.dumps(POPULATION))
        lines = (path / "rounds.jsonl").read_text().splitlines()
        records = [{**json.loads(line), "clients": 2, "positions": "0 2"} for line in lines]
        (path / "rounds.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
        (path / "client_metrics.csv").write_text("client_id,num_examples,loss\na,4,0.5\nb,5,\nc,6,1e-3\n")
        return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def damage(random: Random, path: Path) -> None:
    """Damage a file of a run's folder, in some way that suits it."""
    kind = random.random()
    if not os.path.isdir(path.parent):  # which was damaged before
        return
    if kind < 0.1:
        put_in_its_place(random, path)
    elif path.is_symlink() or not path.is_file():
        return
    elif kind < 0.6 and path.suffix == ".json":
        path.write_text(json.dumps(damaged_json(random, json.loads(whole()[path.name]))))
    elif kind < 0.6 and path.suffix == ".jsonl":
        path.write_bytes(damaged_lines(random, whole()[path.name]))
    else:
        path.write_bytes(damaged_bytes(random, path.read_bytes()))


def attempt(random: Random, folder: Path) -> str:
    files = whole()
    (folder / "precious").write_text("precious\n")
    name = random.choice(ODD_TEXTS).replace("/", "").replace("\0", "").replace("\ud800", "\udc80")[:50]
    run_dir = folder / f"run{name}"
    for path, data in files.items():
        (run_dir / path).parent.mkdir(parents=True, exist_ok=True)
        (run_dir / path).write_bytes(data)
    for _ in range(random.choice([1, 1, 1, 2, 4])):
        damage(random, run_dir / random.choice([*sorted(files), "checkpoints"]))
    with mock.patch("os.fsync"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        listed(folder)
        outcomes = [tried(lambda: recovered_run(run_dir)), tried(lambda: write_report(run_dir, folder / "page.html"))]
        outcomes.append(tried(lambda: resumed(random, run_dir)))
        listed(folder)
    assert (folder / "precious").read_text() == "precious\n"
    return " ".join(outcomes)


def tried(step: Any) -> str:
    try:
        step()
    except (RunError, CheckpointError):
        return "refused"
    return "right"


def listed(folder: Path) -> None:
    """`hansa runs` lists the run, whatever has become of it, and prints what can be seen."""
    for as_json in (False, True):
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            _runs.runs(folder, as_json)
        assert all(line.isprintable() for line in output.getvalue().split("\n"))


def resumed(random: Random, folder: Path) -> None:
    """The run has the state that it should have, now and when it is taken up once more, with no round twice."""
    rounds = ROUNDS + (2 if random.random() < 0.1 else 0)
    found = go_on(folder, rounds)
    assert found.state.sum == sum(range(rounds + 1)) and found.rounds == rounds
    numbers = [record["round"] for record in found.history]
    assert numbers == sorted(set(numbers))
    assert str(list(go_on(folder, rounds).history)) == str(list(found.history))


@pytest.mark.parametrize(
    "inputs", [60, pytest.param(300, marks=pytest.mark.slow), pytest.param(3000, marks=pytest.mark.whole)]
)
def test_damaged_run_folders(inputs: int) -> None:
    outcomes = fuzz(attempt, inputs, seed=16)
    assert outcomes["right right right"] > 0 and outcomes["right refused right"] > 0
