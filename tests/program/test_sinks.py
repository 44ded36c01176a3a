"""Sinks hold each round once, whatever was written before a run went on."""

from __future__ import annotations

import math
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas
import pytest

from hansa.program import CSV, JsonLines, MLflow, TensorBoard, WeightsAndBiases
from hansa.program.sinks import read_json_lines

ROUNDS: dict[int, dict[str, Any]] = {
    1: {"loss": 0.1, "name": 'a,"b"\nc'},
    2: {"loss": math.inf, "count": 2**60, "good": True},
    3: {"loss": math.nan, "count": 3, "good": False},
    4: {"loss": 1e-320},
}


def write(sink: Any, numbers: Any, last_round: int | None = None, run_dir: Path | None = None) -> None:
    sink.start(last_round, run_dir)
    for number in numbers:
        sink.write(number, ROUNDS[number])
    sink.flush()
    sink.close()


@pytest.mark.parametrize("kind", [CSV, JsonLines])
def test_files_have_each_round_once_and_no_half_lines(kind: Any, tmp_path: Path) -> None:
    write(kind(tmp_path / "whole"), ROUNDS)
    whole = (tmp_path / "whole").read_bytes()
    parts = tmp_path / "deep" / "parts"
    write(kind(parts), [1, 2, 3])
    for last_round in (2, 0, 3):
        with parts.open("ab") as file:
            file.write(b'{"round": 4, "lo' if kind is JsonLines else b"4,0.3")
        write(kind(parts), [number for number in ROUNDS if number > last_round], last_round)
        assert parts.read_bytes() == whole
    with pytest.raises(FileExistsError, match="a new run would write into another's metrics"):
        kind(parts).start(None, None)
    assert parts.read_bytes() == whole


def test_a_table_is_read_back_exactly(tmp_path: Path) -> None:
    write(CSV(tmp_path / "m.csv"), ROUNDS)
    table = pandas.read_csv(tmp_path / "m.csv", dtype={"count": "Int64"})
    assert table.columns.tolist() == ["round", "loss", "name", "count", "good"]
    assert table["count"].tolist()[1:3] == [2**60, 3]
    assert table["loss"][[0, 1, 3]].tolist() == [0.1, math.inf, 1e-320]
    assert table["name"][0] == 'a,"b"\nc'
    write(JsonLines(tmp_path / "m.jsonl"), ROUNDS)
    records = read_json_lines(tmp_path / "m.jsonl", 4)
    assert math.isnan(records[2].pop("loss"))
    assert records == [
        {"round": number, **{name: value for name, value in record.items() if (number, name) != (3, "loss")}}
        for number, record in ROUNDS.items()
    ]


def test_tensorboard_forgets_the_rounds_that_are_run_again(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    sink = TensorBoard(tmp_path)
    write(sink, [1, 2, 4])
    write(sink, [2, 3], last_round=1)
    events = EventAccumulator(str(tmp_path)).Reload()
    assert sorted(events.Tags()["scalars"]) == ["count", "good", "loss"]
    assert [(event.step, event.value) for event in events.Scalars("count")] == [(2, float(2**60)), (3, 3.0)]
    assert [event.step for event in events.Scalars("loss")] == [1, 2, 3]
    with pytest.raises(FileExistsError, match="the events of another run"):
        TensorBoard(tmp_path).start(None, None)


class RecordedClient:
    """What `MLflow` calls of `mlflow.tracking.MlflowClient`, with its runs in memory."""

    runs: dict[str, dict[str, Any]]

    def __init__(self, tracking_uri: str | None) -> None:
        self.uri = tracking_uri

    def get_experiment_by_name(self, name: str) -> None:
        return None

    def create_experiment(self, name: str) -> str:
        return name

    def create_run(self, experiment: str, run_name: str | None) -> Any:
        run_id = f"run-{len(self.runs)}"
        self.runs[run_id] = {"metrics": [], "params": {}, "status": "RUNNING"}
        return SimpleNamespace(info=SimpleNamespace(run_id=run_id))

    def get_run(self, run_id: str) -> Any:
        names = dict.fromkeys(name for name, _, _ in self.runs[run_id]["metrics"])
        return SimpleNamespace(data=SimpleNamespace(metrics=names))

    def get_metric_history(self, run_id: str, name: str) -> list[Any]:
        return [SimpleNamespace(step=step) for found, _, step in self.runs[run_id]["metrics"] if found == name]

    def log_param(self, run_id: str, name: str, value: Any) -> None:
        self.runs[run_id]["params"][name] = value

    def log_metric(self, run_id: str, name: str, value: float, step: int) -> None:
        self.runs[run_id]["metrics"].append((name, value, step))

    def update_run(self, run_id: str, status: str) -> None:
        self.runs[run_id]["status"] = status

    def set_terminated(self, run_id: str) -> None:
        self.runs[run_id]["status"] = "FINISHED"


def test_mlflow_goes_on_with_the_run_and_logs_nothing_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    RecordedClient.runs = {}
    monkeypatch.setitem(sys.modules, "mlflow", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "mlflow.tracking", SimpleNamespace(MlflowClient=RecordedClient))
    write(MLflow("digits", params={"rate": 0.5}), [1, 2], run_dir=tmp_path)
    write(MLflow("digits", params={"rate": 0.5}), [2, 4], last_round=1, run_dir=tmp_path)
    (run,) = RecordedClient.runs.values()
    assert run["metrics"] == [
        ("loss", 0.1, 1),
        ("loss", math.inf, 2),
        ("count", 2.0**60, 2),
        ("good", 1.0, 2),
        ("loss", 1e-320, 4),
    ]
    assert (run["params"], run["status"]) == ({"rate": 0.5}, "FINISHED")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"run_id": 5}', '{"run_id": "../../x"}', "\0" * 99])
def test_a_tracker_begins_another_run_if_it_is_not_known_which_one_was_the_runs(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    RecordedClient.runs = {}
    monkeypatch.setitem(sys.modules, "mlflow", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "mlflow.tracking", SimpleNamespace(MlflowClient=RecordedClient))
    write(MLflow("digits"), [1], run_dir=tmp_path)
    (tmp_path / "sink-mlflow.json").write_text(text)
    with pytest.warns(UserWarning, match=r"sink-mlflow\.json.* mlflow begins another run"):
        write(MLflow("digits"), [2], last_round=1, run_dir=tmp_path)
    assert [len(run["metrics"]) for run in RecordedClient.runs.values()] == [1, 3]
    assert (tmp_path / "sink-mlflow.json.damaged").read_text() == text


@pytest.mark.parametrize("kind", [CSV, JsonLines])
def test_a_fifo_of_the_users_own_is_written_to_and_stays(kind: Any, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with ThreadPoolExecutor(1) as pool:
        for last_round in (None, 2):
            read = pool.submit((tmp_path / "fifo").read_text)
            write(kind(tmp_path / "fifo"), [1] if last_round is None else [4], last_round, tmp_path / "run")
            assert str(ROUNDS[4 if last_round else 1]["loss"]) in read.result()
    assert (tmp_path / "fifo").is_fifo()


def test_wandb_goes_on_with_the_run_from_its_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, logged = [], []

    def init(**options: Any) -> Any:
        begun.append(options)
        steps = [step for _, step in logged]
        return SimpleNamespace(
            step=max(steps, default=-1) + 1,
            log=lambda metrics, step: logged.append((metrics, step)),
            finish=lambda: None,
        )

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    write(WeightsAndBiases("digits", mode="offline"), [1, 2], run_dir=tmp_path)
    write(WeightsAndBiases("digits", mode="offline"), [2, 4], last_round=1, run_dir=tmp_path)
    assert logged == [(ROUNDS[number], number) for number in (1, 2, 4)]
    assert begun[0] == begun[1]
    assert {name: begun[0][name] for name in ("project", "resume", "mode")} == {
        "project": "digits",
        "resume": "allow",
        "mode": "offline",
    }


@pytest.mark.parametrize(
    ("sink", "module", "extra"),
    [
        (TensorBoard("x"), "tensorboardX", "tensorboard"),
        (MLflow(), "mlflow", "mlflow"),
        (WeightsAndBiases(), "wandb", "wandb"),
    ],
)
def test_what_is_not_installed_is_named(sink: Any, module: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(
        ModuleNotFoundError, match=rf"needs {module}, which is not installed: pip install 'hansa\[{extra}\]'"
    ):
        sink.start(None, None)
