"""The commands on a small project, in this process: what they print, leave and refuse, and their exit codes."""

from __future__ import annotations

import csv
import json
import re
import shlex
import signal
import sys
import tomllib
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from click.testing import CliRunner, Result

from hansa.cli._commands import app
from hansa.cli._train import JsonProgress
from hansa.program import load_checkpoint
from hansa.program.run_folder import RunFolder
from tests.program.digits import assert_same_bits

COMMANDS = (
    *("demo", "new", "train", "resume", "evaluate", "runs", "report", "privacy", "data", "explain", "doctor"),
    *("network", "serve", "join"),
)

# On one worker, which trains the project that several tests look at once.
pytestmark = pytest.mark.xdist_group("project")


def hansa(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def succeeded(*arguments: object) -> str:
    result = hansa(*arguments)
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout


def objects(*arguments: object) -> list[dict[str, Any]]:
    return [json.loads(line) for line in succeeded(*arguments, "--json").splitlines()]


def refused(code: int, *arguments: object) -> str:
    result = hansa(*arguments)
    assert result.exit_code == code, (result.output, result.exception)
    assert "Traceback" not in result.output
    assert result.stderr.startswith(f"hansa {arguments[0]}: ")
    return result.stderr


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new project, whose run is finished."""
    folder = tmp_path_factory.mktemp("project") / "first"
    assert "run.toml" in succeeded("new", folder)
    lines = objects("train", folder / "run.toml")
    assert [line["event"] for line in lines] == ["begin", *["round"] * 20, "end"]
    assert lines[-1]["rounds"] == 20 and lines[-1]["stopped"] is None
    assert sorted(lines[-1]["files"]) == ["curves.png", "metrics.csv", "model.keras"]
    return folder


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_explains_itself(command: str):
    text = succeeded(command, "--help")
    assert f"hansa {command}" in text
    assert "--json" in text
    assert "Examples" in text or command == "doctor"


def test_a_new_project_trains_to_a_good_model(project: Path):
    run = project / "runs" / "first"
    with (run / "metrics.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [int(row["round"]) for row in table] == list(range(1, 21))
    assert [row["round"] for row in table if row["evaluation/accuracy"]] == ["5", "10", "15", "20"]
    assert float(table[-1]["evaluation/accuracy"]) > 0.7
    model = keras.models.load_model(run / "model.keras")
    state = load_checkpoint(run).state
    assert np.array_equal(model.layers[0].kernel, state.model.trainable["dense/kernel"])


@pytest.mark.slow
def test_a_new_project_with_a_pytorch_module_trains_to_a_good_model(tmp_path: Path):
    folder = tmp_path / "second"
    succeeded("new", folder, "--framework", "torch")
    lines = objects("train", folder / "run.toml")
    assert sorted(lines[-1]["files"]) == ["curves.png", "metrics.csv", "model.safetensors"]
    with (folder / "runs" / "first" / "metrics.csv").open() as file:
        table = list(csv.DictReader(file))
    assert float(table[-1]["evaluation/accuracy"]) > 0.7
    assert "accuracy" in succeeded("evaluate", folder / "runs" / "first")


def test_nothing_of_a_project_is_overwritten(project: Path):
    assert "is there already" in refused(2, "new", project)


def test_the_same_file_gives_the_same_model(project: Path, tmp_path: Path):
    succeeded("train", project / "run.toml", "--set", f"output.folder={tmp_path / 'again'}")
    assert_same_bits(load_checkpoint(tmp_path / "again").state, load_checkpoint(project / "runs" / "first").state)


@pytest.mark.slow
def test_evaluation_tells_of_all_clients_and_of_each(project: Path):
    run = project / "runs" / "first"
    (found,) = objects("evaluate", run, "--worst", 3)
    with (run / "metrics.csv").open() as file:
        last = list(csv.DictReader(file))[-1]
    assert found["round"] == 20
    assert found["metrics"]["accuracy"] == pytest.approx(float(last["evaluation/accuracy"]))
    assert found["clients"]["accuracy"]["clients"] == 20
    worst = [client["value"] for client in found["worst"]]
    assert found["worst_by"] == "accuracy" and len(worst) == 3
    assert worst == sorted(worst) and worst[0] == found["clients"]["accuracy"]["deciles"][0]
    assert "The worst clients by loss:" in succeeded("evaluate", run, "--metric", "loss")
    assert "did you mean 'accuracy'" in refused(2, "evaluate", run, "--metric", "acuracy")
    (trained,) = objects("evaluate", run, "--on", "training")
    assert trained["metrics"]["loss"] < found["metrics"]["loss"]


def test_a_finished_run_goes_further_if_it_is_asked_to(project: Path, tmp_path: Path):
    def run(rounds: int) -> tuple[str, ...]:
        words = {"training.rounds": rounds, "output.folder": tmp_path / "run"}
        return ("train", str(project / "run.toml"), *(x for name in words for x in ("--set", f"{name}={words[name]}")))

    succeeded(*run(12))
    lines = objects("resume", tmp_path / "run", "--rounds", 20)
    assert lines[0]["done"] == 12 and lines[-1]["rounds"] == 20
    assert_same_bits(load_checkpoint(tmp_path / "run").state, load_checkpoint(project / "runs" / "first").state)
    (listed,) = objects("runs", tmp_path)
    assert (listed["state"], listed["done"], listed["rounds"]) == ("finished", 20, 20)
    assert "has 20 rounds already" in refused(2, *run(19))
    changed = refused(2, *run(20), "--set", "training.seed=2")
    assert "training.seed was 1, and is now 2" in changed


def test_ctrl_c_stops_after_the_round_and_the_run_goes_on(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    add = JsonProgress.add

    def interrupted(self: JsonProgress, record: Any, seconds: float) -> None:
        add(self, record, seconds)
        if record["round"] == 3:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patched:
        patched.setattr(JsonProgress, "add", interrupted)
        result = hansa("train", project / "run.toml", "--json", "--set", f"output.folder={tmp_path / 'run'}")
    assert result.exit_code == 130
    assert json.loads(result.stdout.splitlines()[-1])["rounds"] == 3
    (listed,) = objects("runs", tmp_path)
    assert (listed["state"], listed["reason"], listed["done"]) == ("stopped", "by Ctrl-C", 3)
    assert "The run goes on after round 3." in succeeded("resume", tmp_path / "run")
    assert_same_bits(load_checkpoint(tmp_path / "run").state, load_checkpoint(project / "runs" / "first").state)


def test_the_commands_of_the_page_work(project: Path, monkeypatch: pytest.MonkeyPatch):
    page = (Path(__file__).resolve().parents[2] / "docs" / "cli.md").read_text("utf-8")
    lines = [line for block in re.findall(r"```sh\n(.*?)```", page, re.DOTALL) for line in block.splitlines()]
    assert lines[0] == "hansa new first"  # which the fixture has done
    monkeypatch.chdir(project.parent)
    for line in lines[1:]:
        succeeded(*shlex.split(line)[1:])
    tables = [tomllib.loads(block) for block in re.findall(r"```toml\n(.*?)```", page, re.DOTALL)]
    whole = tomllib.loads((project / "run.toml").read_text())
    assert all(whole[name].items() >= table.items() for name, table in tables[0].items())


def test_a_run_whose_model_has_changed_is_refused(project: Path):
    model, run = project / "model.py", project / "runs" / "first"
    before = model.read_text()
    try:
        model.write_text(before.replace("SGD(0.1)", "SGD(0.2)"))
        told = refused(2, "resume", run)
        assert "model.py has changed since the run began" in told
        assert "SGD(0.1)" in told and "SGD(0.2)" in told
        assert hansa("evaluate", run, "--allow-changes").exit_code == 0
    finally:
        model.write_text(before)


def test_runs_say_what_became_of_them(project: Path, tmp_path: Path):
    (run,) = objects("runs", project / "runs" / "first")
    assert (run["state"], run["done"], run["rounds"]) == ("finished", 20, 20)
    assert run["metrics"]["evaluation/accuracy"] > 0.7
    assert "first" in succeeded("runs", project) and "20 of 20" in succeeded("runs", project)
    assert "no runs" in succeeded("runs", tmp_path)
    with RunFolder(tmp_path / "a", {}, {"rounds": 5}, "auto", 2) as folder:
        folder.begin(dict)
        assert objects("runs", tmp_path)[0]["state"] == "running"
    assert objects("runs", tmp_path)[0]["state"] == "killed"
    with RunFolder(tmp_path / "a", {}, {"rounds": 5}, "auto", 2) as folder:
        folder.begin(dict)
        folder.end(3, "by Ctrl-C")
    (stopped,) = objects("runs", tmp_path)
    assert (stopped["state"], stopped["reason"], stopped["done"]) == ("stopped", "by Ctrl-C", 3)
    assert "there is no folder" in refused(1, "runs", tmp_path / "none")


def test_a_page_about_a_run_has_what_was_evaluated(project: Path, tmp_path: Path):
    run = project / "runs" / "first"
    assert succeeded("report", run).strip() == str(run / "report.html")
    (evaluated,) = objects("evaluate", run, "--worst", "1")
    (found,) = objects("report", run, "--to", tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text("utf-8")
    assert found == {"page": str(tmp_path / "page.html")}
    assert "<title>" in text and "20" in text
    head, *rows = (row.split(",") for row in (run / "client_metrics.csv").read_text().splitlines())
    assert head[:3] == ["client_id", "num_examples", "accuracy"]
    assert min(float(row[2]) for row in rows) == pytest.approx(evaluated["worst"][0]["value"])
    assert "there is no run.json" in refused(1, "report", tmp_path)


def test_data_tells_who_the_clients_are(project: Path, tmp_path: Path):
    (found,) = objects("data", project / "run.toml", "--plot", tmp_path / "who.png")
    assert found["clients"] == 20
    assert found["examples"] + found["evaluation"]["examples"] == 1797
    assert sum(found["labels"]["examples"].values()) == found["examples"]
    assert found["example_type"] == "<x=float32[?,64],y=int32[?]>"
    assert (tmp_path / "who.png").read_bytes().startswith(b"\x89PNG")
    assert "10 clients with 1,797 examples" in succeeded("data", "digits")
    assert "did you mean 'digits'" in refused(2, "data", "digit")


def test_without_matplotlib_only_pictures_are_missing(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    run = ("train", project / "run.toml", "--set", "training.rounds=2", "--set", f"output.folder={tmp_path / 'run'}")
    result = hansa(*run)
    assert result.exit_code == 0, result.output
    assert "curves.png was not drawn, for which matplotlib is needed: pip install 'hansa[plots]'" in result.stderr
    assert (tmp_path / "run" / "model.keras").exists() and not (tmp_path / "run" / "curves.png").exists()
    told = refused(1, "data", "digits", "--plot", tmp_path / "who.png")
    assert "--plot needs matplotlib, which is not installed: pip install 'hansa[plots]'" in told


def test_explain_tells_the_type_of_a_round(project: Path, tmp_path: Path):
    (found,) = objects("explain", project / "run.toml", "--svg", tmp_path / "round.svg")
    weights = 64 * 64 + 64 + 64 * 10 + 10
    assert found["bytes_down"]["known"] == 4 * weights + 8  # and a key
    assert found["type"].startswith("(<<model=<trainable=<") or found["type"].startswith("(<state=<model=")
    assert (tmp_path / "round.svg").read_text().startswith("<svg")
    assert "client stage 0" in succeeded("explain", project / "run.toml")


def test_explain_says_whether_a_round_is_private_and_fails_where_it_must_be(project: Path):
    plain = project / "run.toml"
    (found,) = objects("explain", plain)
    assert found["releases"] == []
    assert not found["private"]["holds"] and "without noise" in found["private"]["why"]
    told = refused(1, "explain", plain, "--require", "private")
    assert "is not private: " in told and "take federated_private_sum in their place" in told
    assert found["protected"]["holds"] == (found["protected"]["why"] is None)
    pytest.importorskip("dp_accounting", reason="the extra hansa[privacy]")
    private = ["--set", "privacy.epsilon=8.0", "--set", "privacy.delta=1e-3", "--set", "privacy.clip=0.5"]
    private += ["--set", "data.held_out_by='clients'"]
    (found,) = objects("explain", plain, *private)
    assert found["private"] == found["protected"] == {"holds": True, "why": None}
    assert "Gaussian" in found["releases"][0]["mechanism"]
    assert "state.model" in " ".join(found["releases"][0]["results"])
    succeeded("explain", plain, *private, "--require", "private", "--require", "protected")


def test_a_function_of_data_of_ones_own(project: Path, tmp_path: Path):
    text = (project / "run.toml").read_text()
    text = re.sub(r'name = "digits"\npartition = .*', 'function = "data.py:load"\noptions = { clients = 5 }', text)
    for name in ("model.py", "data.py"):
        (tmp_path / name).write_text((project / name).read_text())
    (tmp_path / "run.toml").write_text(text)
    (found,) = objects("data", tmp_path / "run.toml")
    assert found["clients"] == 5 and found["examples"] + found["evaluation"]["examples"] == 1797


@pytest.mark.slow
def test_a_table_of_ones_own_with_the_other_options(tmp_path: Path):
    rng = np.random.default_rng(3)
    rows = [
        f"{who},{a:.3f},{b:.3f},{int(a + b > 0)}"
        for who, a, b in zip("abcdef" * 20, *rng.normal(size=(2, 120)), strict=True)
    ]
    (tmp_path / "t.csv").write_text("\n".join(["who,a,b,label", *rows]) + "\n")
    (tmp_path / "run.toml").write_text(
        """
        [model]
        name = "mlp"
        options = { hidden = 8 }
        [data]
        path = "t.csv"
        client = "who"
        features = { x = ["a", "b"], y = "label" }
        types = { x = "float32", y = "int32" }
        held_out = 0.34
        held_out_by = "clients"
        [training]
        rounds = 40
        cohort_size = 0.75
        sampler = "weighted"
        client_optimizer = { name = "sgd", learning_rate = 0.1, options = { momentum = 0.5 } }
        server_optimizer = "adam"
        server_learning_rate = 0.01
        early_stopping = { monitor = "evaluation/loss", patience = 2, min_delta = 10.0 }
        best_model = { monitor = "evaluation/loss" }
        [output]
        folder = "run"
        sinks = ["tensorboard"]
        """
    )
    end = objects("train", tmp_path / "run.toml")[-1]
    assert end["rounds"] == 3 and "evaluation/loss has not improved" in end["stopped"]
    assert (tmp_path / "run" / "best_model.keras").is_file()
    assert list((tmp_path / "run" / "tensorboard").glob("events*"))
    (listed,) = objects("runs", tmp_path)
    assert listed["state"] == "stopped" and listed["done"] == 3
    misspelt = (
        "--set",
        "training.best_model={ monitor = 'evaluation/los', mode = 'min' }",
        "--set",
        "output.folder=other",
    )
    assert "did you mean 'evaluation/loss'" in refused(2, "train", tmp_path / "run.toml", *misspelt)
    unclear = ("--set", "training.best_model.monitor=evaluation/num_non_finite_clients", "--set", "output.folder=other")
    assert "does not say whether less or more" in refused(2, "train", tmp_path / "run.toml", *unclear)
    assert not (tmp_path / "other").exists()
    many = ("--set", "training.cohort_size=5", "--set", "output.folder=other")
    assert "there are 4 clients" in refused(2, "train", tmp_path / "run.toml", *many)
    more = ("--set", "training.with_replacement=true", "--set", "training.rounds=1")
    assert objects("train", tmp_path / "run.toml", *many, *more)[-1]["rounds"] == 1


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("def model_fn():\n    return undefined_name\n", "line 2, in model_fn: return undefined_name\n  NameError"),
        ("def model_fn(:\n", "SyntaxError"),
        ("import no_such_module_here\n", "No module named 'no_such_module_here'"),
        ("def model_fun():\n    pass\n", "has no function 'model_fn'; did you mean 'model_fun'?"),
        ("def model_fn():\n    return 3\n", "model_fn returned 3"),
        ("def model_fn(size):\n    pass\n", "model.options: model_fn(size) cannot be called"),
        ("import keras\ndef model_fn():\n    return keras.Sequential([keras.Input((64,))])\n", "is not compiled"),
    ],
)
def test_a_mistake_in_the_users_model_is_shown_where_it_is(tmp_path: Path, model: str, message: str):
    (tmp_path / "model.py").write_text(model)
    (tmp_path / "run.toml").write_text(
        '[model]\nfunction = "model.py:model_fn"\n[data]\nname = "digits"\n'
        'partition = { method = "shards", clients = 4 }\n[training]\nrounds = 1\n'
    )
    assert message in refused(2, "train", tmp_path / "run.toml")
    result = hansa("train", tmp_path / "run.toml", "--json")
    assert json.loads(result.stdout)["exit_code"] == 2


def test_a_folder_without_a_run_is_refused(tmp_path: Path):
    assert "has no run" in refused(1, "resume", tmp_path)
    assert "has no run" in refused(1, "evaluate", tmp_path)
    assert "there is no such file" in refused(2, "train", tmp_path / "run.toml")


def test_the_doctor_finds_this_installation_well():
    (found,) = objects("doctor")
    states = {finding["name"]: finding["state"] for finding in found["findings"]}
    assert found["works"] and states["round"] == states["jax"] == states["keras"] == "ok"


def test_the_doctor_says_what_is_broken_and_missing(monkeypatch: pytest.MonkeyPatch):
    from hansa.cli import _doctor

    monkeypatch.setattr(_doctor, "_two_clients", lambda: 8.0)
    monkeypatch.setitem(_doctor._EXTRAS, "wandb", "no_such_module_here")
    result = hansa("doctor")
    assert result.exit_code == 1
    assert "a sum at two clients is 8.0, and should be 9" in result.stdout
    assert "pip install 'hansa[wandb]'" in result.stdout
