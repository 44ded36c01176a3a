"""`hansa demo` learns and leaves its files; stopped or refused, it leaves nothing half-done."""

import csv
import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

HANSA = [sys.executable, "-m", "hansa.cli"]
FILES = ["curves.png", "metrics.csv", "model.keras"]
OF_A_RUN = ["checkpoints", "lock", "metrics.jsonl", "population.json", "rounds.jsonl", "run.json"]


def hansa(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*HANSA, *arguments], cwd=folder, capture_output=True, text=True, timeout=300, env={**os.environ, **environment}
    )


# On one worker, which makes the run that several tests look at once.
pytestmark = pytest.mark.xdist_group("demo")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A run with no options at all: its run folder and what it printed."""
    folder = tmp_path_factory.mktemp("demo")
    result = hansa(folder, "demo")
    assert result.returncode == 0, result.stderr
    (run,) = (folder / "runs").iterdir()
    return run, result


def rows(run: Path) -> list[dict[str, float]]:
    with (run / "metrics.csv").open(newline="") as file:
        return [{name: json.loads(value.lower()) for name, value in row.items()} for row in csv.DictReader(file)]


def test_it_leaves_its_three_files_and_those_of_a_run(finished):
    run, _ = finished
    assert sorted(path.name for path in run.iterdir()) == sorted([*FILES, *OF_A_RUN])
    assert re.fullmatch(r"demo-digits-\d{8}-\d{6}-\d{3}", run.name)


def test_the_table_has_every_round_and_the_model_learnt(finished):
    table = rows(finished[0])
    assert {"round", "loss", "accuracy", "evaluation/loss", "evaluation/accuracy"} <= table[0].keys()
    assert [row["round"] for row in table] == list(range(1, len(table) + 1))
    assert table[-1]["evaluation/accuracy"] >= 0.92
    assert table[-1]["evaluation/loss"] < table[0]["evaluation/loss"] / 3
    assert table[-1]["loss"] < table[0]["loss"] / 3
    log = [json.loads(line) for line in (finished[0] / "rounds.jsonl").open()]
    assert len(log) == len(table) and all(row["seconds"] > 0 for row in log)


def test_the_curves_are_a_picture_of_a_sensible_size(finished):
    from matplotlib.image import imread

    height, width = imread(finished[0] / "curves.png").shape[:2]
    assert (width, height) == (1920, 784)


def test_the_model_is_the_one_whose_accuracy_was_printed(finished):
    import keras

    from hansa.cli._demo import configuration
    from hansa.cli._experiment import Experiment

    run, result = finished
    model = keras.models.load_model(run / "model.keras")
    held_out = Experiment(configuration("digits")).populations.evaluation
    arrays = [held_out.client(digit) for digit in range(10)]
    x, y = (np.concatenate([client[name] for client in arrays]) for name in ("x", "y"))
    _, accuracy = model.evaluate(x, y, verbose=0)
    assert f"Evaluated: accuracy {accuracy:.4g}" in result.stdout


def test_it_prints_the_type_the_rounds_and_the_files(finished):
    run, result = finished
    assert "@SERVER" in result.stdout
    assert "{<x=float32[?,64],y=int32[?]>*}@CLIENTS" in "".join(result.stdout.split())
    assert re.search(r"\nround +1 .*accuracy 0\.\d+ .*evaluation/accuracy 0\.\d+", result.stdout)
    folder = Path("runs") / run.name
    assert (
        f"In {folder}:\n" + "".join(f"  {name}\n" for name in ("metrics.csv", "curves.png", "model.keras"))
        in result.stdout
    )
    assert f"hansa report {folder} " in result.stdout and "hansa new first " in result.stdout
    assert "\x1b" not in result.stdout, "no control characters where there is no terminal"
    assert result.stderr == ""


@pytest.mark.slow
def test_json_is_one_object_a_line_and_the_same_seed_gives_the_same_run(finished, tmp_path: Path):
    result = hansa(tmp_path, "demo", "--json", "--rounds", "2", "--seed", "1", "--run-dir", "again")
    assert result.returncode == 0, result.stderr
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert [event["event"] for event in events] == ["begin", "round", "round", "end"]
    assert events[0]["next_type"].startswith("(<")
    assert events[-1]["files"]["model.keras"] == str(Path("again") / "model.keras")
    assert events[0]["clients"] == 10 and events[-1]["metrics"]["round"] == 2
    for name in ("loss", "evaluation/loss", "evaluation/accuracy"):
        np.testing.assert_allclose(
            [event[name] for event in events[1:-1]], [row[name] for row in rows(finished[0])[:2]], rtol=1e-5
        )


@pytest.mark.slow
def test_without_matplotlib_only_the_picture_is_missing(tmp_path: Path):
    program = "import sys; sys.modules['matplotlib'] = None; from hansa.cli import main; main()"
    command = [sys.executable, "-c", program, "demo", "--rounds", "2", "--run-dir", "run"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == sorted([*FILES[1:], *OF_A_RUN])
    assert "curves.png" not in result.stdout
    hint = "curves.png was not drawn, for which matplotlib is needed: pip install 'hansa[plots]'\n"
    assert result.stderr == hint


@pytest.mark.slow
def test_in_a_terminal_the_table_is_live(tmp_path: Path):
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"}
    command = [*HANSA, "demo", "--rounds", "3", "--run-dir", "run"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        output = read_terminal(ours, 300)
    assert process.returncode == 0
    assert "\x1b[" in output
    assert "Compiling the first round" in output
    assert output.index("evaluation/accuracy") < output.index("Evaluated: accuracy") and "━━━" in output


def read_terminal(terminal: int, seconds: float) -> str:
    """What is written to a pseudo-terminal until its other end closes."""
    output, end = b"", time.monotonic() + seconds
    while time.monotonic() < end:
        if not select.select([terminal], [], [], 1.0)[0]:
            continue
        try:
            chunk = os.read(terminal, 1 << 16)
        except OSError:
            break
        if not chunk:
            break
        output += chunk
    os.close(terminal)
    return output.decode()


@pytest.mark.slow
def test_ctrl_c_keeps_what_was_made(tmp_path: Path):
    command = [*HANSA, "demo", "--rounds", "100000", "--json", "--run-dir", "run"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if json.loads(line)["event"] == "round":
                process.send_signal(signal.SIGINT)
                break
        last = json.loads(process.stdout.read().splitlines()[-1])
    assert process.returncode == 130
    assert last["event"] == "end"
    assert last["stopped"] == "by Ctrl-C"
    assert last["rounds"] == len(rows(tmp_path / "run")) < 100_000
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == sorted([*FILES, *OF_A_RUN])


def test_a_folder_with_something_in_it_is_refused(tmp_path: Path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("mine")
    result = hansa(tmp_path, "demo", "--run-dir", "run")
    assert result.returncode == 1
    assert "run is no folder of a run, and is not empty: it has mine.txt" in result.stderr
    assert "Traceback" not in result.stderr
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["mine.txt"]


def test_without_mnist_the_error_is_the_datasets_and_no_folder_stays(tmp_path: Path):
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    result = hansa(
        tmp_path, "demo", "--data", "mnist", HANSA_DATA_DIR="", HANSA_CACHE_DIR=str(tmp_path / "cache"), **nowhere
    )
    assert result.returncode == 1
    assert "HANSA_DATA_DIR" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "runs").exists()


def test_client_d_holds_the_digit_d_and_nothing_that_is_held_out():
    from hansa.cli._demo import configuration
    from hansa.cli._experiment import Experiment

    populations = Experiment(configuration("digits", seed=3)).populations
    trained, held_out = populations.examples, populations.evaluation
    assert held_out is not None and len(trained) == len(held_out) == 10
    seen = set()
    for digit in range(10):
        assert set(trained.client(digit)["y"]) == set(held_out.client(digit)["y"]) == {digit}
        seen |= {image.tobytes() for image in trained.client(digit)["x"]}
    assert trained.sizes.sum() + held_out.sizes.sum() == 1797
    np.testing.assert_array_equal(held_out.sizes, np.round(0.1 * (trained.sizes + held_out.sizes)))
    assert not seen & {image.tobytes() for digit in range(10) for image in held_out.client(digit)["x"]}
    assert str(populations.training.example_type) == "<x=float32[?,64],y=int32[?]>"


@pytest.mark.slow
def test_it_is_a_run_like_any_other(finished, tmp_path: Path):
    """What is known of it is in its folder, wherever that is, and all commands work on it."""
    from click.testing import CliRunner

    from hansa.cli._commands import app

    def succeeded(*arguments: object) -> str:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert result.exit_code == 0, (result.output, result.exception)
        return result.stdout

    run = tmp_path / "moved"
    shutil.copytree(finished[0], run)
    last = rows(run)[-1]
    found = json.loads(succeeded("evaluate", run, "--json"))
    assert found["metrics"]["accuracy"] == pytest.approx(last["evaluation/accuracy"])
    assert found["clients"]["accuracy"]["clients"] == 10
    assert Path(succeeded("report", run).strip()) == run / "report.html"
    (listed,) = map(json.loads, succeeded("runs", tmp_path, "--json").splitlines())
    assert (listed["state"], listed["done"], listed["rounds"]) == ("finished", last["round"], last["round"])
    assert succeeded("resume", run, "--rounds", int(last["round"]) + 1)
    assert len(rows(run)) == last["round"] + 1
    other = CliRunner().invoke(app, ["demo", "--seed", "2", "--rounds", "200", "--run-dir", str(run)])
    assert other.exit_code == 2 and "training.seed was 1, and is now 2" in other.stderr
