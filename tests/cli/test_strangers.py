"""Folders of runs that others have made, or damaged: what is run, what is printed, what is refused."""

from __future__ import annotations

import importlib.util
import json
import os
import py_compile
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from hansa.cli._commands import app
from hansa.program import load_checkpoint

# On the worker that has tests/cli/test_commands.py, where all is imported.
pytestmark = pytest.mark.xdist_group("project")

EVIL = "a\x1b]0;title\x07\x1b[31m\x9b2J\u202e\u2028\r\n[/red]\ud800"
"""What a terminal, a reader of lines and Rich would act on, and no file can hold."""

MODEL = """
import jax, jax.numpy as jnp, numpy as np, optax
from hansa import learning

def forward(weights, batch, training, rng):
    logits = batch.x @ weights
    loss = -jnp.take_along_axis(jax.nn.log_softmax(logits), batch.y[:, None], 1).mean()
    return learning.BatchOutput(loss, logits)

def model_fn():
    spec = "<x=float32[?,64],y=int32[?]>"
    zeros = np.zeros((64, 10), np.float32)
    return learning.functional_model(zeros, forward, input_spec=spec, optimizer=optax.sgd(0.1))
"""
CONFIG = """
[model]
function = "model.py:model_fn"
[data]
name = "digits"
partition = { method = "iid", clients = 3 }
examples_per_client = 30
held_out = 0.2
[training]
rounds = 2
checkpoint_every = 1
evaluate_initial = true
[output]
folder = "run"
"""


def hansa(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def succeeded(*arguments: object) -> Result:
    result = hansa(*arguments)
    assert result.exit_code == 0, (result.output, result.exception)
    return result


def refused(code: int, *arguments: object) -> str:
    result = hansa(*arguments)
    assert result.exit_code == code, (result.output, result.exception)
    assert "Traceback" not in result.output
    assert_harmless(result)
    return result.stderr


def assert_harmless(result: Result) -> None:
    """Nothing is printed that is not seen."""
    assert all(line.isprintable() for line in result.output.split("\n")), result.output


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("strangers") / "project"
    folder.mkdir()
    (folder / "model.py").write_text(MODEL)
    (folder / "run.toml").write_text(CONFIG)
    succeeded("train", folder / "run.toml")
    return folder


@pytest.fixture
def project(made: Path) -> Any:
    """A project whose run has two rounds; what a test changes in it is put back."""
    before = made.with_name("before")
    shutil.copytree(made, before, symlinks=True)
    yield made
    shutil.rmtree(made)
    before.rename(made)


def changed(run: Path, change: Any) -> None:
    known = json.loads((run / "run.json").read_text())
    change(known)
    (run / "run.json").write_text(json.dumps(known))


def test_the_python_files_that_are_run_are_named_with_their_digests(project: Path) -> None:
    (kept,) = json.loads((project / "run" / "run.json").read_text())["asked"]["config"]["files"].values()
    assert kept["text"] == MODEL
    for command in ("resume", "evaluate"):
        result = succeeded(command, project / "run")
        code = result.stdout.splitlines()[0]
        assert code.startswith(
            f"Code      {project / 'model.py'}, as when the run began (SHA-256 {kept['sha256'][:16]}"
        )
        found = json.loads(succeeded(command, project / "run", "--json").stdout.splitlines()[0])["code"]
        assert found == [{"file": str(project / "model.py"), "sha256": kept["sha256"], "changed": False}]


@pytest.mark.parametrize("command", ["resume", "evaluate"])
def test_code_that_is_not_that_of_the_run_is_not_run(project: Path, command: str) -> None:
    run, model = project / "run", project / "model.py"
    marker = project / "was-run"
    evil = f"open({str(marker)!r}, 'w')\n" + MODEL
    model.write_text(evil)
    assert "model.py has changed since the run began:" in refused(2, command, run)
    model.write_text(MODEL)
    (project / "other.py").write_text(evil)
    # A folder that names another file than the one whose text it keeps.
    changed(run, lambda known: known["asked"]["config"]["model"].update(function=f"{project / 'other.py'}:model_fn"))
    assert "does not say what" in refused(2, command, run)
    changed(run, lambda known: known["asked"]["config"]["files"].clear())
    assert "other.py was when the run began" in refused(2, command, run)
    changed(run, lambda known: known["asked"]["config"].update(files=5))
    assert "begun in Python" in refused(2, command, run)
    assert not marker.exists()


def test_code_of_a_run_that_kept_only_its_text_is_known(project: Path) -> None:
    """As before there were digests."""
    run, model = project / "run", project / "model.py"
    changed(run, lambda known: known["asked"]["config"].update(files={str(model): MODEL}))
    assert "model.py, as when the run began (SHA-256 " in succeeded("evaluate", run).stdout
    model.write_text(MODEL.replace("sgd(0.1)", "sgd(0.2)"))
    told = refused(2, "evaluate", run)
    assert "model.py has changed since the run began:" in told and "sgd(0.2)" in told


def test_a_file_that_has_gone_or_is_something_else_is_told(project: Path) -> None:
    model = project / "model.py"
    model.unlink()
    assert f"there is no file {model}" in refused(2, "resume", project / "run")
    os.mkfifo(model)
    assert f"there is no file {model}" in refused(2, "evaluate", project / "run")
    model.unlink()
    model.symlink_to(project / "elsewhere.py")
    assert f"there is no file {model}" in refused(2, "evaluate", project / "run")
    (project / "elsewhere.py").write_text(MODEL)
    result = succeeded("evaluate", project / "run")
    assert f"Code      {model}, a link to {project / 'elsewhere.py'}, as when the run began" in result.stdout


def test_byte_code_beside_a_file_is_not_what_is_run(project: Path) -> None:
    model = project / "model.py"
    marker = project / "was-run"
    other = project / "other.py"
    other.write_text(f"open({str(marker)!r}, 'w')\n" + MODEL)
    cached = Path(importlib.util.cache_from_source(str(model)))
    cached.parent.mkdir(exist_ok=True)
    py_compile.compile(str(other), str(cached))
    times = model.stat()
    data = bytearray(cached.read_bytes())
    data[8:16] = int(times.st_mtime).to_bytes(4, "little") + times.st_size.to_bytes(4, "little")
    cached.write_bytes(data)
    succeeded("evaluate", project / "run")
    assert not marker.exists()


def test_nothing_that_a_terminal_acts_on_is_printed(project: Path, tmp_path: Path) -> None:
    name = EVIL.replace("/", "").replace("\ud800", "")
    folder = tmp_path / name
    shutil.copytree(project / "run", folder)
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    record = {**json.loads(lines[-1]), EVIL: 1.5, "note": EVIL}
    (folder / "metrics.jsonl").write_text("\n".join([*lines[:-1], json.dumps(record)]) + "\n")
    changed(folder, lambda known: known.update(ended={"rounds": 2, "stopped": EVIL}))
    for arguments in (("runs", tmp_path), ("report", folder), ("resume", folder), ("evaluate", folder)):
        assert_harmless(succeeded(*arguments))
        result = succeeded(*arguments, "--json")
        assert_harmless(result)
        assert all(json.loads(line) for line in result.stdout.splitlines())
    (folder / "metrics.csv").write_bytes(b"\xff\x1b]0;x\n")
    (folder / "metrics.jsonl").write_bytes(b"\x1b]0;x\n" + (folder / "metrics.jsonl").read_bytes())
    result = succeeded("resume", folder)
    assert "hansa resume: warning: " in result.stderr and "is damaged" in result.stderr
    assert_harmless(result)
    (folder / "run.json").write_text("{")
    refused(1, "report", folder)
    assert_harmless(succeeded("runs", tmp_path))


def test_clients_and_metrics_of_any_name_are_evaluated(project: Path, tmp_path: Path) -> None:
    (tmp_path / "data.py").write_text(
        "import hansa, numpy as np\n"
        "def load():\n"
        f"    ids = [{EVIL!r}, '[red]b[/]', '[/c]']\n"
        "    example = {'x': np.zeros((10, 64), np.float32), 'y': np.zeros(10, np.int32)}\n"
        "    return hansa.simulation.ClientData.from_clients({i: example for i in ids})\n"
    )
    (tmp_path / "model.py").write_text(MODEL)
    config = CONFIG.replace('name = "digits"\npartition = { method = "iid", clients = 3 }', 'function = "data.py:load"')
    (tmp_path / "run.toml").write_text(config)
    assert_harmless(succeeded("train", tmp_path / "run.toml"))
    result = succeeded("evaluate", tmp_path / "run")
    assert "[red]b[/]" in result.stdout and "[/c]" in result.stdout
    assert_harmless(result)
    table = tmp_path / "run" / "client_metrics.csv"
    table.unlink()
    table.mkdir()  # as of a run of somebody else, to which nothing can be added
    again = succeeded("evaluate", tmp_path / "run")
    assert again.stdout == result.stdout and f"{table} cannot be written: " in again.stderr
    table.rmdir()
    assert_harmless(succeeded("data", tmp_path / "run.toml"))
    assert_harmless(succeeded("report", tmp_path / "run"))


def test_one_damaged_run_is_shown_as_such_among_others(project: Path, tmp_path: Path) -> None:
    def listed() -> dict[str, dict[str, Any]]:
        lines = succeeded("runs", tmp_path, "--json").stdout.splitlines()
        assert_harmless(succeeded("runs", tmp_path))
        return {Path(run["folder"]).name: run for run in map(json.loads, lines)}

    shutil.copytree(project / "run", tmp_path / "good")
    bad = tmp_path / "bad"
    for name, texts in {
        "run.json": [
            "", "[]", '{"asked": {}, "rounds": 3, "ended": 5}', '{"asked": {}, "rounds": 3, "ended": {"rounds": 3}}',
            '{"asked": {}, "rounds": 1e999, "ended": null}', "[" * 100_000,
        ],
        "metrics.jsonl": ["5\n", '{"round": "x"}\n', '{"round": null}\n', "\0\0\n", '{"round": 1, "loss": {}}\n', "\n"],
    }.items():  # fmt: skip
        for text in texts:
            shutil.copytree(project / "run", bad)
            (bad / name).write_text(text)
            found = listed()
            assert (found["good"]["state"], found["good"]["done"]) == ("finished", 2)
            assert found["bad"]["state"] == "damaged" and name in found["bad"]["reason"]
            shutil.rmtree(bad)
    for make in (os.mkfifo, os.mkdir, lambda path: os.symlink(path, path), lambda path: os.symlink("/dev/zero", path)):
        for name in ("run.json", "metrics.jsonl", "lock"):
            shutil.copytree(project / "run", bad)
            (bad / name).unlink()
            make(bad / name)
            assert listed()["bad"]["state"] == ("finished" if name == "lock" else "damaged")
            shutil.rmtree(bad)


def test_a_run_whose_run_json_is_damaged_goes_on_as_its_checkpoint_says(project: Path) -> None:
    run = project / "run"
    (run / "run.json").write_bytes(b"\0" * 100)
    result = succeeded("resume", run, "--rounds", 3)
    assert "the newest checkpoint says what the run is" in result.stderr
    assert load_checkpoint(run).round == 3
    assert json.loads((run / "run.json").read_text())["rounds"] == 3
    for path in (run / "checkpoints").iterdir():
        path.write_bytes(b"")
    (run / "run.json").write_bytes(b"\0" * 100)
    assert "no checkpoint says what the run is" in refused(1, "resume", run)


def test_the_initial_model_is_round_0_of_the_metrics(project: Path, tmp_path: Path) -> None:
    records = [json.loads(line) for line in (project / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [record["round"] for record in records] == [0, 1, 2]
    assert "evaluation/loss" in records[0] and "loss" not in records[0]
    (found,) = [json.loads(line) for line in succeeded("runs", project / "run", "--json").stdout.splitlines()]
    assert found["done"] == 2
    config, other = project / "run.toml", ("--set", f"output.folder={tmp_path / 'other'}")
    told = refused(2, "train", config, "--set", "data.held_out=0.0", *other)
    assert "training.evaluate_initial: nothing is held out" in told
    told = refused(2, "train", config, "--set", "training.keep_every=3", "--set", "training.checkpoint_every=2", *other)
    assert "keep_every = 3: it must be a multiple of checkpoint_every, which is 2" in told
    assert not (tmp_path / "other").exists()
