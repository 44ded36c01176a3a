"""Sinks that hand metrics to TensorBoard, MLflow and Weights & Biases."""

from __future__ import annotations

import json
import os
import re
import time
import uuid
from pathlib import Path
from typing import Any

from hansa._extras import require
from hansa._files import replacing, set_aside
from hansa._tracebacks import boundaries
from hansa._warnings import warn
from hansa.program.records import Record
from hansa.program.run_file import RunError, read_json


@boundaries
class TensorBoard:
    """Event files for TensorBoard: `tensorboard --logdir FOLDER`. Needs `pip install 'hansa[tensorboard]'`.

    Strings are left out. After a kill the rounds that are run again are written again, and TensorBoard is told to
    forget the earlier ones.

    Args:
        folder: where the event files go.

    Examples:
        >>> sink = hansa.program.TensorBoard("events")
        >>> sink.start(None, None)
        >>> sink.write(1, {"loss": 0.5})
        >>> sink.flush()
        >>> sink.close()
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self._writer: Any = None
        self._purge: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"TensorBoard({str(self.folder)!r})"

    def start(self, last_round: int | None, run_dir: Path | None) -> None:
        """Look for events of another run; the event file begins with the first round."""
        require("tensorboardX", "tensorboard", "TensorBoard")
        if last_round is None and list(self.folder.glob("events.out.tfevents.*")):
            raise FileExistsError(f"{self.folder} has the events of another run; name another folder")
        self._writer, self._purge = None, {} if last_round is None else {"purge_step": last_round + 1}

    def write(self, round_number: int, metrics: Record) -> None:
        """Write a scalar for each number."""
        if self._writer is None:
            # Files are named by the second, and one would overwrite another of the same.
            suffix = f".{time.time_ns()}"
            writer = require("tensorboardX", "tensorboard", "TensorBoard").SummaryWriter
            self._writer = writer(str(self.folder), filename_suffix=suffix, **self._purge)
        for name, value in metrics.items():
            if not isinstance(value, str):
                self._writer.add_scalar(name, value, round_number)

    def flush(self) -> None:
        """Write the event file."""
        if self._writer is not None:
            self._writer.flush()

    def close(self) -> None:
        """End the event file."""
        if self._writer is not None:
            self._writer.close()


@boundaries
class MLflow:
    """A run of MLflow, with the round as the step. Needs `pip install 'hansa[mlflow]'`, which is mlflow-skinny.

    Strings are left out. Which run it is, is remembered in the run folder; what the run holds already is not logged
    again.

    Args:
        experiment: its name.
        tracking_uri: where MLflow keeps its runs; by default where MLflow is configured to.
        run_name: the run's name; by default MLflow makes one.
        params: what to log at the beginning, such as learning rates.

    Examples:
        >>> sink = hansa.program.MLflow("digits", params={"learning_rate": 0.1})
    """

    def __init__(
        self,
        experiment: str = "hansa",
        tracking_uri: str | None = None,
        run_name: str | None = None,
        params: dict[str, Any] | None = None,
    ) -> None:
        self.run_id: str | None = None
        self._experiment, self._uri, self._name, self._params = experiment, tracking_uri, run_name, params or {}
        self._client: Any = None
        self._logged: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"MLflow({self._experiment!r})"

    def start(self, last_round: int | None, run_dir: Path | None) -> None:
        """Create a run, or go on with the one that the run folder remembers."""
        require("mlflow", "mlflow", "MLflow")
        self._client = require("mlflow.tracking", "mlflow", "MLflow").MlflowClient(tracking_uri=self._uri)
        self.run_id, self._logged = (None, {}) if last_round is None else (_remembered(run_dir, "mlflow"), {})
        if self.run_id is None:
            found = self._client.get_experiment_by_name(self._experiment)
            experiment = found.experiment_id if found else self._client.create_experiment(self._experiment)
            self.run_id = self._client.create_run(experiment, run_name=self._name).info.run_id
            for name, value in self._params.items():
                self._client.log_param(self.run_id, name, value)
            _remember(run_dir, "mlflow", self.run_id)
        else:
            self._client.update_run(self.run_id, status="RUNNING")
            for name in self._client.get_run(self.run_id).data.metrics:
                history = self._client.get_metric_history(self.run_id, name)
                self._logged[name] = max(metric.step for metric in history)

    def write(self, round_number: int, metrics: Record) -> None:
        """Log a metric for each number that the run does not hold."""
        for name, value in metrics.items():
            if not isinstance(value, str) and round_number > self._logged.get(name, -1):
                self._client.log_metric(self.run_id, name, float(value), step=round_number)

    def flush(self) -> None:
        """Nothing is to be done: MLflow writes at once."""

    def close(self) -> None:
        """Say that the run has ended."""
        if self._client is not None and self.run_id is not None:
            self._client.set_terminated(self.run_id)


@boundaries
class WeightsAndBiases:
    """A run of Weights & Biases, with the round as the step. Needs `pip install 'hansa[wandb]'`.

    A run that goes on has the same id, which is remembered in the run folder. Where W&B knows how far the run is,
    online, earlier rounds are not logged again; offline they are, in a folder of its own that `wandb sync` adds to the
    run.

    Args:
        project: its name.
        **settings: what else `wandb.init` takes, such as `name`, `config`, `dir` and `mode="offline"`.

    Examples:
        >>> sink = hansa.program.WeightsAndBiases("digits", mode="offline")
    """

    def __init__(self, project: str = "hansa", **settings: Any) -> None:
        self.run_id: str | None = None
        self._project, self._settings = project, settings
        self._run: Any = None
        self._next_step = 0

    def __repr__(self) -> str:
        return f"WeightsAndBiases({self._project!r})"

    def start(self, last_round: int | None, run_dir: Path | None) -> None:
        """Create a run, or go on with the one that the run folder remembers."""
        wandb = require("wandb", "wandb", "WeightsAndBiases")
        self.run_id = None if last_round is None else _remembered(run_dir, "wandb")
        if self.run_id is None:
            self.run_id = uuid.uuid4().hex[:12]
            _remember(run_dir, "wandb", self.run_id)
        self._run = wandb.init(project=self._project, id=self.run_id, resume="allow", **self._settings)
        self._next_step = int(self._run.step)

    def write(self, round_number: int, metrics: Record) -> None:
        """Log the round, unless the run holds it."""
        if round_number >= self._next_step:
            self._run.log(dict(metrics), step=round_number)

    def flush(self) -> None:
        """Nothing is to be done: W&B sends by itself."""

    def close(self) -> None:
        """End the run."""
        if self._run is not None:
            self._run.finish()


def _remembered(run_dir: Path | None, tracker: str) -> str | None:
    """The run of a tracker that belongs to the run in a folder; None, perhaps with a warning, if that is not known."""
    path = None if run_dir is None else run_dir / f"sink-{tracker}.json"
    if path is None or not os.path.lexists(path):
        return None
    try:
        run_id = read_json(path).get("run_id")
        if not isinstance(run_id, str) or not _RUN_ID.fullmatch(run_id):
            raise RunError(f"{path} is damaged: it has no run_id")
    except (RunError, FileNotFoundError) as error:
        warn(f"{error}. It is {set_aside(path).name} now, and {tracker} begins another run")
        return None
    return run_id


_RUN_ID = re.compile(r"[\w-]{1,128}")


def _remember(run_dir: Path | None, tracker: str, run_id: str) -> None:
    if run_dir is not None:
        with replacing(run_dir / f"sink-{tracker}.json") as part:
            part.write_text(json.dumps({"run_id": run_id}) + "\n", "utf-8")
