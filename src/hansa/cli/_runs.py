"""`hansa runs`: the runs in a folder, how far they are and what they measured last. It only looks."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from hansa._lock import is_locked
from hansa._printing import in_a_line
from hansa.cli._output import print_json, say
from hansa.program import RunError
from hansa.program.lines import last_record
from hansa.program.run_file import RECORDS, RUN, has_run, read_run

_DEEPEST = 3
_SHOWN_METRICS = 2
_LONGEST = 500
# Where there is no terminal that says its own.
_WIDTH = 160


@dataclass(frozen=True)
class Run:
    """A run.

    Attributes:
        folder: its folder.
        state: `running`, `finished`, `stopped` (by a callback or Ctrl-C), `killed`, if it did not come to its end, or
            `damaged`, if a file of it is.
        reason: why it stopped, or what is damaged.
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
            print_json(vars(run) | {"when": _time("%Y-%m-%dT%H:%M:%S%z", run.when)})
        return
    if not found:
        where = "this folder" if root == Path() else root
        say(f"There are no runs in {where}. `hansa train CONFIG` makes one.")
        return
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for title in ("run", "state", "rounds", "last round", "metrics"):
        table.add_column(title, overflow="fold")
    for run in found:
        state = run.state if run.reason is None else f"{run.state}: {run.reason}"
        when = _time("%Y-%m-%d %H:%M", run.when)
        name = run.folder.relative_to(root) if run.folder != root else run.folder
        cells = (name, state[:_LONGEST], f"{run.done} of {run.rounds}", when, _shown(run.metrics))
        table.add_row(*(in_a_line(cell) for cell in cells))
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = _WIDTH
    console.print(table)


def _folders(root: Path, deep: int) -> Iterator[Path]:
    if has_run(root):
        yield root
    elif deep:
        try:
            inner = sorted(root / name for name in os.listdir(root) if os.path.isdir(root / name))
        except OSError:  # of somebody else's
            return
        for folder in inner:
            yield from _folders(folder, deep - 1)


def _run(folder: Path) -> Run:
    when = max(_modified(folder / name) for name in (RUN, RECORDS))
    last, problem = last_record(folder / RECORDS)
    done = int(last.pop("round", 0))
    try:
        run = read_run(folder)
    except RunError as error:
        return Run(folder, "damaged", str(error).removeprefix(f"{folder}{os.sep}"), done, done, last, when)
    rounds, ended, reason = run["rounds"], run["ended"], None
    if is_locked(folder):
        state = "running"
    elif problem is not None:
        state, reason = "damaged", f"{RECORDS}: {problem}"
    elif ended is None:
        state = "killed"
    else:
        done, reason = ended["rounds"], ended["stopped"]
        state = "finished" if reason is None else "stopped"
    return Run(folder, state, reason, done, rounds, last, when)


def _modified(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except OSError:
        return 0.0


def _time(form: str, when: float) -> str:
    try:
        return time.strftime(form, time.localtime(when))
    except (ValueError, OverflowError, OSError):  # of a file system that says anything
        return "?"


def _shown(metrics: dict[str, Any]) -> str:
    floats = [name for name, value in metrics.items() if isinstance(value, float)]
    # Of the evaluation, if there was one.
    floats.sort(key=lambda name: not name.startswith("evaluation/"))
    return "  ".join(f"{name[:_LONGEST]} {metrics[name]:.4g}" for name in floats[:_SHOWN_METRICS])
