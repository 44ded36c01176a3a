"""`hansa runs`: the runs in a folder, how far they are and what they measured last."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from hansa.cli._output import print_json
from hansa.program import RunError
from hansa.program.run_folder import in_use, read_run

_DEEPEST = 3
_SHOWN_METRICS = 2
# Where there is no terminal that says its own.
_WIDTH = 160


@dataclass(frozen=True)
class Run:
    """A run.

    Attributes:
        folder: its folder.
        state: `running`, `finished`, `stopped` (by a callback or Ctrl-C), or `killed`: it did not come to its end.
        reason: why it stopped.
        done: how many rounds are.
        rounds: how many it is to have.
        metrics: of the last round.
        when: the time of its last round, in seconds since 1970.
    """

    folder: Path
    state: str
    reason: str | None
    done: int
    rounds: int
    metrics: dict[str, Any]
    when: float


def runs(root: Path, as_json: bool) -> None:
    """Show the runs in a folder and in those below it, the newest last."""
    if not root.is_dir():
        raise RunError(f"there is no folder {root}; name the one that the runs are in: hansa runs FOLDER")
    found = sorted((_run(folder) for folder in _folders(root, _DEEPEST)), key=lambda run: run.when)
    if as_json:
        for run in found:
            print_json(vars(run) | {"when": time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(run.when))})
        return
    if not found:
        print(f"There are no runs in {root}. `hansa train CONFIG` makes one.")
        return
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for title in ("run", "state", "rounds", "last round", "metrics"):
        table.add_column(title, overflow="fold")
    for run in found:
        state = run.state if run.reason is None else f"{run.state}: {run.reason}"
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(run.when))
        name = run.folder.relative_to(root) if run.folder != root else run.folder
        table.add_row(str(name), state, f"{run.done} of {run.rounds}", when, _shown(run.metrics))
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = _WIDTH
    console.print(table)


def _folders(root: Path, deep: int) -> Iterator[Path]:
    if (root / "run.json").is_file():
        yield root
    elif deep:
        for folder in sorted(path for path in root.iterdir() if path.is_dir()):
            yield from _folders(folder, deep - 1)


def _run(folder: Path) -> Run:
    when = max(path.stat().st_mtime for path in (folder / "run.json", folder / "metrics.jsonl") if path.exists())
    last = _last_record(folder / "metrics.jsonl")
    done = int(last.pop("round", 0))
    try:
        run = read_run(folder)
        rounds, ended = int(run["rounds"]), run.get("ended")
    except (RunError, KeyError, TypeError, ValueError):
        return Run(folder, "damaged", "run.json cannot be read", done, done, last, when)
    if in_use(folder):
        state, reason = "running", None
    elif ended is None:
        state, reason = "killed", None
    else:
        done, reason = ended["rounds"], ended["stopped"]
        state = "finished" if reason is None else "stopped"
    return Run(folder, state, reason, done, rounds, last, when)


def _last_record(path: Path) -> dict[str, Any]:
    """The last whole line of a file of metrics."""
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
        return dict(json.loads(lines[-1])) if lines else {}
    except (OSError, ValueError):
        return {}


def _shown(metrics: dict[str, Any]) -> str:
    floats = [name for name, value in metrics.items() if isinstance(value, float)]
    # Of the evaluation, if there was one.
    floats.sort(key=lambda name: not name.startswith("evaluation/"))
    return "  ".join(f"{name} {metrics[name]:.4g}" for name in floats[:_SHOWN_METRICS])
