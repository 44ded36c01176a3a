"""What a coordinator is doing, in figures: for its live page, and as Prometheus reads it.

It reads the ledger by a connection of its own, so that nothing waits for it.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hansa.network.coordinator import Coordinator
from hansa.network.ledger import LEDGER
from hansa.network.run_metrics import RunMetrics
from hansa.network.tasks import Outcome, Status, decode_client
from hansa.network.writer import connected

_ROUNDS = 60
"""Phases that are shown, the newest."""
_PRESENT = 500
"""Devices that are shown."""
_ENDED = (Status.COMMITTED, Status.ABANDONED)


class Monitor:
    """Looks at a coordinator.

    Args:
        coordinator: whom.
        folder: its folder.
        url: at which devices reach it.
    """

    def __init__(self, coordinator: Coordinator, folder: Path, url: str) -> None:
        self._coordinator, self._url = coordinator, url
        self._database = connected(folder / LEDGER, read_only=True)
        self._lock = threading.Lock()
        self._ended: dict[int, dict[str, Any]] = {}
        self._own, self._runs = RunMetrics(), {}  # type: RunMetrics, dict[str, RunMetrics]

    def give_up(self) -> None:
        """Gives the ledger up."""
        with self._lock:
            self._database.close()

    def of(self, run: str) -> RunMetrics:
        """A sink for the metrics of a run that was submitted."""
        return self._runs.setdefault(run, RunMetrics())

    def start(self, last_round: int | None, run_dir: Path | None) -> None:
        """A run begins, or goes on after a round; see `hansa.program.Sink`, as for `write`, `flush` and `close`."""
        self._own.start(last_round, run_dir)

    def write(self, round_number: int, metrics: Mapping[str, Any]) -> None:
        """Takes the metrics of a round."""
        self._own.write(round_number, metrics)

    def flush(self) -> None:
        """Nothing is kept elsewhere."""

    def close(self) -> None:
        """The run has ended; what it measured is still shown."""

    def snapshot(self) -> dict[str, Any]:
        """All that the page shows, as values that JSON has."""
        coordinator = self._coordinator
        there = {device.name for device in coordinator.there()}
        devices = coordinator.devices()
        now = coordinator.heard()
        shown = sorted(devices, key=lambda each: (each.name not in there, now.get(each.name, math.inf)))
        return {
            "url": self._url,
            "failed": None if coordinator.failed is None else str(coordinator.failed),
            "devices": {
                "enrolled": sum(not each.revoked for each in devices),
                "there": len(there),
                "quarantined": sum(each.quarantined and not each.revoked for each in devices),
                "revoked": sum(each.revoked for each in devices),
            },
            "present": [
                {
                    "name": each.name,
                    "client": each.client_id,
                    "state": "revoked"
                    if each.revoked
                    else "quarantine"
                    if each.quarantined
                    else "there"
                    if each.name in there
                    else "away",
                    "heard": round(now.get(each.name, each.seen or 0.0), -1) or None,
                }
                for each in shown[:_PRESENT]
            ],
            "rounds": self._rounds(),
            "metrics": [
                *self._own.records,
                *(record for run, each in list(self._runs.items()) for record in each.named(run)),
            ],
        }

    def _rounds(self) -> list[dict[str, Any]]:
        with self._lock:
            oldest = self._database.execute(
                "SELECT min(id) FROM (SELECT id FROM phases ORDER BY id DESC LIMIT ?)", (_ROUNDS,)
            ).fetchone()[0]
            known = sorted(self._ended)
            rows = self._database.execute(
                "SELECT id, run, round, attempt, part, stage, status, target, least, deadline, elapsed, opened, closed"
                f" FROM phases WHERE id >= ? AND id NOT IN ({','.join('?' * len(known))}) ORDER BY id",
                (oldest or 0, *known),
            ).fetchall()
            names = ("id", "run", "round", "attempt", "part", "stage", "status", "target", "least", "deadline")
            fresh = []
            for row in rows:
                found = dict(zip((*names, "elapsed", "opened", "closed"), row, strict=True))
                found |= self._tasks(found["id"])
                fresh.append(found)
        self._ended = {row: each for row, each in self._ended.items() if row >= (oldest or 0)}
        every = sorted([*self._ended.values(), *fresh], key=lambda each: int(each["id"]))
        self._ended |= {each["id"]: each for each in fresh if each["status"] in _ENDED}
        return every

    def _tasks(self, row: int) -> dict[str, Any]:
        counts = {str(each): 0 for each in Outcome}
        asked = taken = size = 0
        problems: list[dict[str, Any]] = []
        for client, has, outcome, reason, number in self._database.execute(
            "SELECT client_id, taken, outcome, reason, bytes FROM tasks WHERE phase_id=? ORDER BY position", (row,)
        ):
            asked, taken = asked + 1, taken + has
            size += (number or 0) if outcome == Outcome.COUNTED else 0
            if outcome is not None:
                counts[outcome] += 1
            if reason is not None and len(problems) < 5:
                problems.append({"client": decode_client(client), "outcome": outcome, "reason": reason[-300:]})
        return {"asked": asked, "taken": taken, "bytes": size, "outcomes": counts, "problems": problems}

    def prometheus(self) -> str:
        """The figures in the text format of Prometheus, version 0.0.4."""
        return "".join(f"{line}\n" for line in self._lines())

    def _lines(self) -> Iterator[str]:
        coordinator, devices = self._coordinator, self._coordinator.devices()
        yield from _metric(
            "hansa_devices",
            "gauge",
            "Devices that have joined, by what they are now.",
            {
                'state="enrolled"': sum(not each.revoked for each in devices),
                'state="there"': len(coordinator.there()),
                'state="quarantined"': sum(each.quarantined and not each.revoked for each in devices),
                'state="revoked"': sum(each.revoked for each in devices),
            },
        )
        with self._lock:
            phases = dict(self._database.execute("SELECT status, count(*) FROM phases GROUP BY status"))
            outcomes = dict(
                self._database.execute("SELECT outcome, count(*) FROM tasks WHERE outcome NOT NULL GROUP BY outcome")
            )
            (size,) = self._database.execute(
                "SELECT coalesce(sum(bytes), 0) FROM tasks WHERE outcome=?", (Outcome.COUNTED,)
            ).fetchone()
        yield from _metric(
            "hansa_phases_total",
            "counter",
            "Work of clients, by how far it is.",
            {f'status="{each}"': phases.get(each, 0) for each in Status},
        )
        yield from _metric(
            "hansa_tasks_total",
            "counter",
            "Tasks that have ended, by how.",
            {f'outcome="{each}"': outcomes.get(each, 0) for each in Outcome},
        )
        yield from _metric("hansa_counted_bytes_total", "counter", "Bytes of what was counted.", {"": size})
        waiting, open_tasks = coordinator.load()
        yield from _metric("hansa_waiting_devices", "gauge", "Devices that wait for a task now.", {"": waiting})
        yield from _metric("hansa_open_tasks", "gauge", "Tasks that have not ended.", {"": open_tasks})
        commits, failed = coordinator.ledger.writer.commits, int(coordinator.failed is not None)
        yield from _metric("hansa_ledger_commits_total", "counter", "Transactions since the start.", {"": commits})
        yield from _metric("hansa_failed", "gauge", "Whether it cannot go on.", {"": failed})
        last = {f'name="{_escaped(name)}"': value for name, value in self._own.last.items()}
        for run, each in list(self._runs.items()):
            last |= {f'run="{_escaped(run)}",name="{_escaped(name)}"': value for name, value in each.last.items()}
        if last:
            yield from _metric("hansa_run_metric", "gauge", "What the last round has measured.", last)


def _metric(name: str, kind: str, means: str, values: Mapping[str, float]) -> Iterator[str]:
    yield f"# HELP {name} {means}"
    yield f"# TYPE {name} {kind}"
    for labels, value in values.items():
        yield f"{name}{f'{{{labels}}}' if labels else ''} {value:.17g}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
