"""What the rounds of a run have measured, for the live page: a sink of `hansa.program.train`."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_ROUNDS = 5000
"""Rounds of which metrics are kept."""


class RunMetrics:
    """The metrics of a run, the newest rounds of it.

    Attributes:
        records: `{"round": 1, "loss": 0.5}` for each round, in order; replaced, and never changed.
    """

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []

    @property
    def last(self) -> dict[str, Any]:
        """Of each metric the newest value; an evaluation need not be of every round."""
        found: dict[str, Any] = {}
        for record in self.records[-100:]:
            found |= record
        return found

    def named(self, run: str) -> list[dict[str, Any]]:
        """The records with the run's name before each metric's, beside those of other runs."""
        return [
            {name if name == "round" else f"{run}: {name}": value for name, value in record.items()}
            for record in self.records
        ]

    def start(self, last_round: int | None, run_dir: Path | None) -> None:
        """A run begins, or goes on after a round; see `hansa.program.Sink`, as for `write`, `flush` and `close`."""
        self.records = []
        if last_round is not None and run_dir is not None:
            for record in _records(run_dir / "metrics.jsonl"):
                if record["round"] <= last_round:
                    self.write(record.pop("round"), record)

    def write(self, round_number: int, metrics: Mapping[str, Any]) -> None:
        """Takes the metrics of a round."""
        numbers = {
            name: float(value)
            for name, value in metrics.items()
            if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        }
        self.records = [*self.records[-_ROUNDS:], {"round": round_number, **numbers}]

    def flush(self) -> None:
        """Nothing is kept elsewhere."""

    def close(self) -> None:
        """The run has ended; what it measured is still shown."""


def _records(path: Path) -> Iterator[dict[str, Any]]:
    """The records of rounds that a run has written; what is damaged is left out."""
    try:
        lines = path.read_text("utf-8", "replace").splitlines()
    except OSError:
        return
    for line in lines:
        with contextlib.suppress(ValueError, RecursionError):
            record = json.loads(line)
            if isinstance(record, dict) and type(record.get("round")) is int:
                yield record
