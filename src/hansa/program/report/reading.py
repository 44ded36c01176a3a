"""What a run's folder has, as a report needs it."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hansa._files import open_regular
from hansa.program.history import History
from hansa.program.lines import read_records
from hansa.program.population import read_population
from hansa.program.records import Record
from hansa.program.run_file import POPULATION, RECORDS, ROUNDS, RunError, is_count, read_run

CLIENT_METRICS = "client_metrics.csv"
_MOST_BYTES = 1 << 28
_MOST_COUNTED = 10_000_000
"""Of so many clients at most it is counted how often they took part."""
_MOST_SECONDS = 1e9
_POSITIONS = re.compile(r"(?:[0-9]{1,15}(?: [0-9]{1,15})*)?")


@dataclass(frozen=True)
class Run:
    """A run.

    Attributes:
        name: of its folder.
        asked: what was asked, by name.
        changes: what was changed when the run went on as another, as `run.json` has it.
        rounds: how many rounds it was to have when it began.
        versions: of packages, by name.
        data: what the data prints as.
        about: see `hansa.program.facts`; empty, or a part of it, of a run that did not say it.
        devices: what its rounds were computed on, if it says so.
        ended: after how many `rounds`, and why it `stopped`; None of a run that has not ended.
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
    about: Mapping[str, Any]
    devices: str | None
    ended: Mapping[str, Any] | None
    history: History
    log: History
    population: Mapping[str, Any]
    client_metrics: Mapping[str, npt.NDArray[np.float64]]
    client_metrics_ids: list[str]
    changes: Sequence[Any] = ()

    @cached_property
    def columns(self) -> Mapping[str, tuple[list[int], list[float]]]:
        """The numbers of each metric, and their rounds, by the metric's name."""
        found: dict[str, tuple[list[int], list[float]]] = {}
        for record in self.history:
            for name, value in record.items():
                if name != "round" and not isinstance(value, str):
                    rounds, values = found.setdefault(name, ([], []))
                    rounds.append(int(record["round"]))
                    values.append(float(value))
        return found

    @cached_property
    def flags(self) -> frozenset[str]:
        """The names of metrics that are true or false in every round."""
        columns = self.history.columns
        return frozenset(
            name for name, values in columns.items() if all(isinstance(value, bool | None) for value in values)
        )

    @property
    def done(self) -> int:
        """How many rounds there are; round 0, the evaluation of the initial state, is none."""
        return sum(bool(record["round"]) for record in self.history)

    def participation(self) -> npt.NDArray[np.int64] | None:
        """In how many rounds each client took part, int64 [clients]; None if some round does not say who did."""
        clients = self.population.get("clients")
        if not clients or clients > _MOST_COUNTED or not len(self.log):
            return None
        times = np.zeros(clients, np.int64)
        for record in self.log:
            if "positions" in record:
                np.add.at(times, _positions(record), 1)
            elif record.get("clients") == clients:
                times += 1
            else:
                return None
        return times


def read(folder: Path) -> Run:
    """Read a run's folder; what it lacks is empty.

    Raises:
        RunError: if it has no run, or a file in it is damaged.
    """
    run, population = read_run(folder), read_population(folder)
    ids, metrics = _client_metrics(folder / CLIENT_METRICS)
    log = _records(folder / ROUNDS)
    for record in log:
        problem = _problem(record, population.get("clients"))
        if problem is not None:
            raise RunError(f"{folder / ROUNDS} is damaged: round {record['round']} {problem}")
    return Run(
        folder.resolve().name, run["asked"], run["rounds"], run["versions"], run["data"],
        run["about"], run["devices"], run["ended"],
        History(_records(folder / RECORDS)), History(log), population, metrics, ids, run.get("changes", []),
    )  # fmt: skip


def _records(path: Path) -> list[Record]:
    found = read_records(path)
    if found.told is not None:
        raise RunError(
            f"{path} is damaged: {found.told}; going on with the run sets it aside: `hansa resume`, or train again"
        )
    return found.records


def _problem(record: Record, clients: int | None) -> str | None:
    """What is wrong with what is noted of a round, in a few words."""
    for name in ("seconds", "evaluation_seconds"):
        value = record.get(name)
        if isinstance(value, bool | str | None) or not 0 <= value < _MOST_SECONDS:
            return f"has no {name}"
    if "clients" in record and not is_count(record["clients"]):
        return "has no number of clients"
    if "positions" in record:
        text = record["positions"]
        if not isinstance(text, str) or not _POSITIONS.fullmatch(text):
            return "has no positions of clients"
        if clients is not None and np.any(_positions(record) >= clients):
            return f"has positions of more than the {clients} clients of {POPULATION}"
    return None


def _positions(record: Record) -> npt.NDArray[np.int64]:
    return np.array(str(record["positions"]).split(), np.int64)


def _client_metrics(path: Path) -> tuple[list[str], dict[str, npt.NDArray[np.float64]]]:
    try:
        with open_regular(path) as file:
            text = file.read(_MOST_BYTES).decode()
        names, *rows = csv.reader(io.StringIO(text, newline=""), strict=True)
        if any(len(row) != len(names) for row in rows):
            raise ValueError("its rows are of other lengths than its line of names")
        columns = {
            name: np.array([float(row[index] or "nan") for row in rows])
            for index, name in enumerate(names)
            if index and name != "num_examples"
        }
    except FileNotFoundError:
        if not path.is_symlink():
            return [], {}
        raise RunError(f"{path} cannot be read: it is a link to nothing") from None
    except (OSError, ValueError, csv.Error) as error:
        raise RunError(
            f"{path} is no table of clients and their metrics ({error}); write it with ClientMetrics.to_csv"
        ) from error
    return [row[0] for row in rows], columns
