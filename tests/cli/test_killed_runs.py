"""From the command line alone: a run on MNIST that is killed and resumed has the model of one that was left alone."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

from typer.testing import CliRunner

from hansa.cli import app
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
clients_per_round = 10
seed = 4
evaluate_every = 4
checkpoint_every = 3
"""


def hansa(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "hansa.cli", *map(str, arguments), "--json"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finished(process: subprocess.Popen[str]) -> list[dict[str, Any]]:
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return [json.loads(line) for line in output.splitlines()]


def killed_after(process: subprocess.Popen[str], rounds: int) -> None:
    output: IO[str] | None = process.stdout
    assert output is not None
    for line in output:
        if json.loads(line).get("round") == rounds:
            process.kill()
            break
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def test_a_killed_run_ends_with_the_model_of_one_left_alone(tmp_path: Path, mnist: ImageData):
    (tmp_path / "run.toml").write_text(CONFIG)
    alone = hansa("train", tmp_path / "run.toml", "--set", "output.folder=alone")
    killed_after(hansa("train", tmp_path / "run.toml", "--set", "output.folder=killed"), 8)
    listed = CliRunner().invoke(app, ["runs", str(tmp_path / "killed"), "--json"])
    assert json.loads(listed.stdout)["state"] == "killed"
    lines = finished(hansa("resume", tmp_path / "killed"))
    assert 6 <= lines[0]["done"] < 20 and lines[0]["done"] % 3 == 0
    assert [line["round"] for line in lines if line["event"] == "round"] == list(range(lines[0]["done"] + 1, 21))
    assert finished(alone)[-1]["rounds"] == lines[-1]["rounds"] == 20
    left, resumed = tmp_path / "alone", tmp_path / "killed"
    assert_same_bits(load_checkpoint(resumed).state, load_checkpoint(left).state)
    assert (resumed / "metrics.csv").read_text() == (left / "metrics.csv").read_text()
    with (resumed / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["round"]) for row in rows] == list(range(1, 21))
    assert float(rows[-1]["evaluation/accuracy"]) > 0.7
