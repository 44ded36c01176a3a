"""The second experiment: a run that is asked for again goes on, another one is refused with what to type, and has a
folder of its own."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hansa._lock import Lock
from hansa.cli import _places
from hansa.program import load_checkpoint, write_report
from tests.cli.test_strangers import MODEL, hansa
from tests.program.digits import assert_same_bits

# On the worker that has tests/cli/test_commands.py, where all is imported.
pytestmark = pytest.mark.xdist_group("project")

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
evaluate_every = 5
[output]
folder = "runs/first"
"""
RATE = ("sgd(0.1)", "sgd(0.2)")


def trained(*arguments: object) -> dict[str, Any]:
    """What `hansa train` says at the end."""
    result = hansa("train", *arguments, "--json")
    assert result.exit_code == 0, (result.output, result.exception)
    end: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return end


def refused(*arguments: object) -> str:
    result = hansa(*arguments)
    assert result.exit_code == 2, (result.output, result.exception)
    return result.stderr


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("second") / "project"
    folder.mkdir()
    (folder / "model.py").write_text(MODEL)
    (folder / "run.toml").write_text(CONFIG)
    assert trained(folder)["metrics"]["evaluation/loss"] > 0, "the last round is evaluated"
    return folder


@pytest.fixture
def project(made: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project whose run has two rounds, seen from the folder above; what a test changes is put back."""
    before = made.with_name("before")
    shutil.copytree(made, before)
    monkeypatch.chdir(made.parent)
    yield Path(made.name)
    shutil.rmtree(made)
    before.rename(made)


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def typed(message: str) -> list[list[str]]:
    """The commands that a message says to type."""
    return [shlex.split(line.split("   ")[0])[1:] for line in re.findall(r"(?m)^  (hansa .*)$", message)]


def test_what_has_changed_is_told_alike_and_the_commands_that_are_told_work(project: Path) -> None:
    before = snapshot(project / "runs" / "first")
    (project / "model.py").write_text(MODEL.replace(*RATE))
    told = refused("train", project, "--set", "training.seed=2")
    assert told.startswith("hansa train: the run in project/runs/first is not the one that is asked for now:\n")
    assert "\n  training.seed was 0, and is now 2\n" in told
    assert "\n  project/model.py has changed since the run began:\n" in told
    assert re.search(r"-    return .*sgd\(0\.1\)", told) and re.search(r"\+    return .*sgd\(0\.2\)", told)
    fresh, allowed = typed(told)
    assert fresh == ["train", "project", "--set", "training.seed=2", "--fresh"]
    assert snapshot(project / "runs" / "first") == before and not (project / "runs" / "first-2").exists()

    end = trained(*fresh[1:])
    assert end["folder"].endswith("runs/first-2") and end["rounds"] == 2
    assert snapshot(project / "runs" / "first") == before, "no run is overwritten"

    for name in ("resume", "evaluate"):
        told = refused(name, project / "runs" / "first")
        assert "\n  project/model.py has changed since the run began:\n" in told
        assert typed(told)[0] == [name, "project/runs/first", "--allow-changes"]

    shutil.rmtree(project / "runs" / "first-2")
    assert trained(*allowed[1:], "--rounds", 3)["rounds"] == 3
    known = json.loads((project / "runs" / "first" / "run.json").read_text())
    ((round_number, changed),) = [tuple(entry.values()) for entry in known["changes"]]
    assert round_number == 2
    assert changed["config.training.seed"] == {"was": 0, "is": 2}
    assert changed[f"config.files.{Path.cwd() / project / 'model.py'}.text"]["was"] == MODEL
    # From now on this is what it is.
    assert trained(project, "--set", "training.seed=2", "--rounds", 4)["rounds"] == 4
    assert "training.seed was 2, and is now 0" in refused("train", project)
    assert "has changed since" not in refused("train", project)
    assert hansa("resume", project / "runs" / "first").exit_code == 0
    page = write_report(project / "runs" / "first").read_text("utf-8")
    assert "Changed after round 2" in page and "training.seed was 0, became 2; model.py was edited" in page


@pytest.mark.slow
def test_a_new_run_is_begun_where_there_is_none_and_the_newest_goes_on(project: Path) -> None:
    runs = project / "runs"
    result = hansa("train", project, "--fresh")
    assert "A new run, in project/runs/first-2.\n" in result.stdout, result.output
    assert_same_bits(load_checkpoint(runs / "first-2").state, load_checkpoint(runs / "first").state)
    (runs / "first-3").mkdir()
    (runs / "first-3" / "mine.txt").write_text("mine")
    (runs / "first-elsewhere").mkdir()
    other = ("--set", "training.client_optimizer={ name = 'sgd', learning_rate = 0.01 }")
    assert trained(project, *other, "--fresh")["folder"].endswith("first-4")
    assert [path.name for path in _places.runs_of(runs / "first")] == ["first", "first-2", "first-4"]
    # The newest that is the same goes on, whichever that is.
    assert trained(project, "--rounds", 3)["folder"].endswith("first-2")
    assert trained(project, *other, "--rounds", 3)["folder"].endswith("first-4")
    assert load_checkpoint(runs / "first").round == 2
    told = refused("train", project, "--rounds", 1)
    assert (
        "the run has 3 rounds already" in told and "`hansa train project --rounds 1 --fresh` begins a new run" in told
    )
    assert "the run in project/runs/first-4 is not" in refused("train", project, "--set", "training.seed=9")


@pytest.mark.slow
def test_each_run_without_a_name_has_a_folder_of_its_own(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "other.toml").write_text(CONFIG.partition("[output]")[0].replace("rounds = 2", "rounds = 1"))
    first = Path(trained(project / "other.toml")["folder"])
    assert re.fullmatch(r"other-\d{8}-\d{6}-\d{3}", first.name) and first.parent.name == "runs"
    monkeypatch.setattr(_places, "timed", lambda parent, name: first)
    assert trained(project / "other.toml")["folder"] == f"{first}-2"
    (project / "model.py").write_text("def model_fn():\n    raise RuntimeError\n")
    refused("train", project / "other.toml")
    refused("train", project, "--fresh")
    assert not first.with_name(f"{first.name}-3").exists() and not (project / "runs" / "first-2").exists()


def test_a_run_in_use_is_left_alone_and_another_can_begin(project: Path) -> None:
    lock = Lock(project / "runs" / "first")
    try:
        result = hansa("train", project, "--rounds", 9)
    finally:
        lock.release()
    assert result.exit_code == 1 and "is in use by process" in result.stderr
    assert result.stderr.endswith("\nhansa train project --rounds 9 --fresh begins a new run.\n"), result.stderr


def test_another_model_cannot_go_on_with_the_old_weights(project: Path) -> None:
    (project / "model.py").write_text(MODEL.replace("np.zeros((64, 10), np.float32)", "{'w': np.zeros((64, 10))}"))
    (project / "model.py").write_text((project / "model.py").read_text().replace("@ weights", "@ weights['w']"))
    result = hansa("train", project, "--allow-changes")
    assert result.exit_code == 1 and "hansa train project --fresh begins a new run." in result.stderr
    told = hansa("train", project, "--allow-changes", "--set", "data.partition.clients=4")
    assert "clients was 3, and is now 4" in told.stderr, told.output
    assert typed(told.stderr) == [
        ["train", "project", "--set", "data.partition.clients=4", "--fresh"],
    ]


def test_a_folder_stands_for_its_run_toml(project: Path, tmp_path: Path) -> None:
    assert "client stage" in hansa("explain", project).stdout
    assert "3 clients with" in hansa("data", project).stdout
    assert f"there is no {tmp_path / 'run.toml'} in it; `hansa new" in refused("train", tmp_path)
    with contextlib.chdir(tmp_path):
        assert hansa("runs").stdout == "There are no runs in this folder. `hansa train CONFIG` makes one.\n"
    (tmp_path / "b.toml").touch()
    assert f"name a file: {tmp_path / 'b.toml'}" in refused("explain", tmp_path)
    assert "`hansa resume project/runs/first` goes on with it" in refused("data", project / "runs" / "first")
    shutil.copy(project / "run.toml", project / "runs.toml")
    assert f"did you mean {project / 'runs.toml'}?" in refused("train", project / "runs")
    assert "there is no such file; did you mean project/run.toml?" in refused("explain", project / "run")
    assert "there is no such file; did you mean project?" in refused("train", "projet")
    assert "there is no such file; did you mean project/run.toml?" in refused("train", project / "rnu.toml")
    result = hansa("resume", project)
    assert result.exit_code == 1 and "or one that `hansa runs project` lists" in result.stderr


def test_a_folder_without_a_name_of_its_own_is_that_one(project: Path) -> None:
    above = hansa("train", project, "--set", "output.folder=..", "--fresh", "--rounds", 1)
    assert f"A new run, in {Path.cwd()}-2." in above.stdout, above.output
    assert not list(project.parent.glob("..-*")) and load_checkpoint(f"{Path.cwd()}-2").round == 1
    assert [path.name for path in _places.runs_of(Path.cwd())] == [f"{Path.cwd().name}-2"]
    root = hansa("train", project, "--set", "output.folder=/", "--fresh")
    assert root.exit_code == 1 and root.stderr == "hansa train: / cannot be a run's folder; name another\n"
