"""What a run's folder has, as a report needs it."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hansa.program.history import History
from hansa.program.loop import RECORDS, ROUNDS
from hansa.program.run_folder import POPULATION, RUN, RunError
from hansa.program.sinks import read_json_lines

CLIENT_METRICS = "client_metrics.csv"


@dataclass(frozen=True)
class Run:
    """A run.

    Attributes:
        name: of its folder.
        asked: what was asked, by name.
        rounds: how many rounds it was to have when it began.
        versions: of packages, by name.
        data: what the data prints as.
        history: the metrics.
        log: for each round `seconds`, `evaluation_seconds`, `clients` and `positions`, where they are known.
        population: see `hansa.program.population.summary`.
        client_metrics: by name of the metric, float64 [clients]; NaN where a client has none.
        client_metrics_ids: the clients that these are of.
    """

    name: str
    asked: Mapping[str, Any]
    rounds: int
    versions: Mapping[str, str]
    data: str
    history: History
    log: History
    population: Mapping[str, Any]
    client_metrics: Mapping[str, npt.NDArray[np.float64]]
    client_metrics_ids: list[str]

    def participation(self) -> npt.NDArray[np.int64] | None:
        """In how many rounds each client took part, int64 [clients]; None if some round does not say who did."""
        clients = self.population.get("clients")
        if not clients or not len(self.log):
            return None
        times = np.zeros(clients, np.int64)
        for record in self.log:
            if "positions" in record:
                np.add.at(times, np.array(str(record["positions"]).split(), np.int64), 1)
            elif record.get("clients") == clients:
                times += 1
            else:
                return None
        return times


def read_run(folder: Path) -> Run:
    """Read a run's folder; what it lacks is empty.

    Raises:
        RunError: if it has no run.
    """
    try:
        run = json.loads((folder / RUN).read_text("utf-8"))
        asked = dict(run["asked"])
    except FileNotFoundError:
        raise RunError(
            f"{folder} has no run: there is no {RUN} in it; name the run_dir that was passed to train"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{folder / RUN} cannot be read: {error}") from error
    try:
        population = json.loads((folder / POPULATION).read_text("utf-8"))
    except (OSError, ValueError):  # of a run that was killed as it began
        population = {}
    ids, metrics = _client_metrics(folder / CLIENT_METRICS)
    history = History(read_json_lines(folder / RECORDS, sys.maxsize))
    return Run(
        folder.resolve().name, asked, int(run.get("rounds", len(history))), run.get("versions", {}),
        str(run.get("data", "")), history, History(read_json_lines(folder / ROUNDS, sys.maxsize)), population, metrics,
        ids,
    )  # fmt: skip


def _client_metrics(path: Path) -> tuple[list[str], dict[str, npt.NDArray[np.float64]]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            names, *rows = csv.reader(file)
        columns = {
            name: np.array([float(row[index] or "nan") for row in rows])
            for index, name in enumerate(names)
            if index and name != "num_examples"
        }
    except FileNotFoundError:
        return [], {}
    except (ValueError, IndexError) as error:
        raise RunError(
            f"{path} is no table of clients and their metrics ({error}); write it with ClientMetrics.to_csv"
        ) from error
    return [row[0] for row in rows], columns
