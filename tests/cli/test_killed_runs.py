"""From the command line alone: a run on MNIST that is killed and resumed has the model of one that was left alone."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from hansa.cli._commands import app
from hansa.program import load_checkpoint
from hansa.simulation import ImageData
from tests.program.digits import assert_same_bits

CONFIG = """
[model]
name = "linear"
[data]
name = "mnist"
partition = { method = "dirichlet", clients = 100, alpha = 0.3 }
examples_per_client = 60
[training]
rounds = 20
cohort_size = 10
seed = 4
evaluate_every = 4
checkpoint_every = 3
"""


# On the worker that has tests/cli/test_commands.py, where all is imported.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("project")]


def hansa(*arguments: object) -> list[dict[str, Any]]:
    result = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    assert result.exit_code == 0, (result.output, result.exception)
    return [json.loads(line) for line in result.stdout.splitlines()]


def killed_after(rounds: int, *arguments: object) -> None:
    command = [sys.executable, "-m", "hansa.cli", *map(str, arguments), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if json.loads(line).get("round") == rounds:
                process.kill()
                break
    assert process.returncode == -signal.SIGKILL


def test_a_killed_run_ends_with_the_model_of_one_left_alone(tmp_path: Path, mnist: ImageData):
    (tmp_path / "run.toml").write_text(CONFIG)
    killed_after(8, "train", tmp_path / "run.toml", "--set", "output.folder=killed")
    assert [run["state"] for run in hansa("runs", tmp_path)] == ["killed"]
    lines = hansa("resume", tmp_path / "killed")
    assert 6 <= lines[0]["done"] < 20 and lines[0]["done"] % 3 == 0
    assert [line["round"] for line in lines if line["event"] == "round"] == list(range(lines[0]["done"] + 1, 21))
    assert lines[-1]["rounds"] == 20
    hansa("train", tmp_path / "run.toml", "--set", "output.folder=alone")
    left, resumed = tmp_path / "alone", tmp_path / "killed"
    assert_same_bits(load_checkpoint(resumed).state, load_checkpoint(left).state)
    assert (resumed / "metrics.csv").read_text() == (left / "metrics.csv").read_text()
    with (resumed / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["round"]) for row in rows] == list(range(1, 21))
    assert float(rows[-1]["evaluation/accuracy"]) > 0.7
