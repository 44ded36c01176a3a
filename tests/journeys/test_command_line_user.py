"""The way of somebody who types commands, from an empty folder: a project, a first run, a second, a look at both."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest

import hansa

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("command line user")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("empty")


def typed(folder: Path, line: str, code: int = 0) -> str:
    """What a command says, which ends with an exit code."""
    source = str(Path(hansa.__file__).resolve().parents[1])
    search = os.pathsep.join([source, *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-m", "hansa.cli", *line.split()[1:]],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": search, "COLUMNS": "120"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert done.returncode == code, f"{line} ended with {done.returncode}:\n{done.stdout}"
    assert "Traceback" not in done.stdout
    return done.stdout


def test_what_is_typed_first_says_how_to_begin(folder: Path) -> None:
    assert "hansa new first" in typed(folder, "hansa --help")
    assert "no such command" in typed(folder, "hansa trian", 2).lower()
    assert "CONFIG" in typed(folder, "hansa train", 2)
    assert "`hansa new DIR` writes one to begin with" in typed(folder, "hansa train run.toml", 2)


def test_a_project_is_looked_at_and_trained(folder: Path) -> None:
    assert "hansa train first/run.toml runs it." in typed(folder, "hansa new first")
    assert "20 clients" in typed(folder, "hansa data first")
    assert "client stage 0, on each client" in typed(folder, "hansa explain first")
    assert "did you mean 'training'?" in typed(folder, "hansa train first --set trainig.rounds=2", 2)
    said = typed(folder, "hansa train first --rounds 2")
    assert "round 2 of 2" in said and "evaluation/accuracy" in said and "model.keras" in said


def test_the_same_again_has_nothing_to_do_and_more_rounds_go_on(folder: Path) -> None:
    assert "2 rounds" in typed(folder, "hansa train first --rounds 2")
    said = typed(folder, "hansa resume first/runs/first --rounds 3")
    assert "round 3 of 3" in said and "round 1 of 3" not in said


def test_another_model_is_another_run_and_the_message_has_the_command(folder: Path) -> None:
    code = folder / "first" / "model.py"
    text = code.read_text("utf-8")
    assert "SGD(0.1)" in text
    code.write_text(text.replace("SGD(0.1)", "SGD(0.05)"), "utf-8")
    refused = typed(folder, "hansa train first --rounds 3", 2)
    assert "first/model.py has changed" in refused and "SGD(0.05)" in refused
    (command,) = [line.strip().partition("   ")[0] for line in refused.splitlines() if "--fresh" in line]
    assert "runs/first-2" in typed(folder, command)
    code.write_text(text, "utf-8")


def test_runs_are_listed_reported_and_evaluated(folder: Path) -> None:
    listed = typed(folder, "hansa runs first")
    assert "runs/first " in listed and "runs/first-2" in listed and listed.count("3 of 3") == 2
    typed(folder, "hansa report first/runs/first")
    page = (folder / "first" / "runs" / "first" / "report.html").read_text("utf-8")
    assert "<svg" in page and "digits" in page
    assert "accuracy" in typed(folder, "hansa evaluate first/runs/first")


def test_the_model_is_one_of_keras(folder: Path) -> None:
    model = keras.models.load_model(folder / "first" / "runs" / "first" / "model.keras")
    digits = hansa.simulation.load_digits()
    _, accuracy = model.evaluate(digits.train_images, digits.train_labels, verbose=0)
    assert accuracy > 0.15


def test_the_demo_is_a_run_like_any_other(folder: Path) -> None:
    said = typed(folder, "hansa demo --rounds 2 --run-dir shown")
    assert "hansa evaluate shown" in said and "hansa new first" in said  # what may be typed next
    typed(folder, "hansa report shown")
    assert "<svg" in (folder / "shown" / "report.html").read_text("utf-8")
    assert "accuracy" in typed(folder, "hansa evaluate shown")
    assert "round 3 of 3" in typed(folder, "hansa resume shown --rounds 3")
