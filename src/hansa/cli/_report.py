"""What the user sees of a demo while it runs: a live table in a terminal, lines elsewhere, or JSON for programs."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.text import Text

from hansa.cli._history import Round
from hansa.program.progress.tables import RoundTable, caption, is_shown
from hansa.types.layout import lay_out

_COLUMNS = ("round", "loss", "accuracy", "held-out accuracy", "seconds")
_BAR_WIDTH = 24


@dataclass(frozen=True)
class Plan:
    """What will be run.

    Attributes:
        title: what it is, in a few words.
        setting: the data, the model and how it is trained, in a sentence or two.
        rounds: the number of rounds.
        facts: the same for programs, by name.
        next_type: the type of one round in Hansa's notation.
    """

    title: str
    setting: str
    rounds: int
    facts: dict[str, Any]
    next_type: str


@dataclass(frozen=True)
class Result:
    """What came of it.

    Attributes:
        rounds: how many rounds were finished.
        held_out_accuracy: the last round's.
        seconds: from the start of the command, all included.
        files: what was written.
        stopped: whether the user stopped it before its last round.
    """

    rounds: int
    held_out_accuracy: float
    seconds: float
    files: Sequence[Path]
    stopped: bool


class Reporter(Protocol):
    """Shows a run. `begin`, then any number of times `add`, then `end`, all inside a `with` block."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...

    def begin(self, plan: Plan, stopping: Callable[[], bool]) -> None:
        """Show what will be run; `stopping` says whether the user has asked to stop."""

    def add(self, record: Round) -> None:
        """Show a finished round."""

    def end(self, result: Result) -> None:
        """Show what came of it."""


def reporter(as_json: bool) -> Reporter:
    """The reporter for where standard output goes."""
    if as_json:
        return JsonReporter()
    console = Console(highlight=False)
    return TerminalReporter(console) if console.is_terminal else PlainReporter()


class PlainReporter:
    """Prints lines, for logs and pipes."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def begin(self, plan: Plan, stopping: Callable[[], bool]) -> None:
        """Print the plan and the table's head."""
        self._rounds = plan.rounds
        print(plan.title, plan.setting, "", "One round has the type", "", lay_out(plan.next_type, 100), "", sep="\n")
        print("  ".join(f"{name:>{_width(name)}}" for name in _COLUMNS), flush=True)

    def add(self, record: Round) -> None:
        """Print a line for a round that is shown."""
        if is_shown(record.round, self._rounds):
            cells = zip(_COLUMNS, _cells(record), strict=True)
            print("  ".join(f"{cell:>{_width(name)}}" for name, cell in cells), flush=True)

    def end(self, result: Result) -> None:
        """Print the result."""
        print("", *_closing(result), sep="\n", flush=True)


class TerminalReporter:
    """Keeps a table up to date in a terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._done = 0
        self._plan: Plan | None = None
        self._ended = False
        self._stopping: Callable[[], bool] = lambda: False
        self._table = RoundTable(1)
        # Last, because it asks for the table at once.
        self._live = Live(console=console, get_renderable=self._render, refresh_per_second=8)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._ended = True
        self._live.stop()

    def begin(self, plan: Plan, stopping: Callable[[], bool]) -> None:
        """Print the plan and start the table."""
        self._plan, self._stopping, self._table = plan, stopping, RoundTable(plan.rounds)
        self._console.print(Text(plan.title, style="bold"), Text(plan.setting), sep="\n")
        self._console.print("\nOne round has the type\n")
        width = min(self._console.width, 120)
        # Not wrapped by Rich, which would break the indentation.
        self._console.print(Text(lay_out(plan.next_type, width), style="cyan"), soft_wrap=True)
        self._console.print()
        self._live.start()

    def add(self, record: Round) -> None:
        """Update the table; every few rounds a line stays."""
        self._done = record.round
        self._table.add(record.round, [*_cells(record), _bar(record.held_out_accuracy)])

    def end(self, result: Result) -> None:
        """Leave the table as it is and print the result below."""
        self._ended = True
        self._live.stop()
        for line in _closing(result):
            self._console.print(Text(line, style="bold" if line[:1].strip() else ""), soft_wrap=True)

    def _render(self) -> RenderableType:
        below = ""
        if self._plan is not None and not self._ended:
            below = caption(self._done, self._plan.rounds, self._stopping(), "Writing the run's files ...")
        return self._table.render(_COLUMNS, below, bar_width=_BAR_WIDTH)


class JsonReporter:
    """Prints one JSON object a line: an `event` of `begin`, `round` or `end`, and its values by name."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def begin(self, plan: Plan, stopping: Callable[[], bool]) -> None:
        """Print the plan."""
        self._print("begin", {**plan.facts, "rounds": plan.rounds, "next_type": plan.next_type})

    def add(self, record: Round) -> None:
        """Print a round."""
        self._print("round", record._asdict())

    def end(self, result: Result) -> None:
        """Print the result."""
        values = {
            "rounds": result.rounds,
            "held_out_accuracy": result.held_out_accuracy,
            "seconds": round(result.seconds, 3),
            "stopped": result.stopped,
            "files": {path.name: str(path) for path in result.files},
        }
        self._print("end", values)

    def _print(self, event: str, values: dict[str, Any]) -> None:
        # JSON has no NaN and no infinity.
        plain = {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in values.items()
        }
        sys.stdout.write(json.dumps({"event": event, **plain}) + "\n")
        sys.stdout.flush()


def _cells(record: Round) -> tuple[str, ...]:
    return (
        str(record.round),
        f"{record.loss:.4f}",
        f"{record.accuracy:.3f}",
        f"{record.held_out_accuracy:.3f}",
        f"{record.seconds:.3f}",
    )


def _width(name: str) -> int:
    return max(len(name), 7)


def _closing(result: Result) -> list[str]:
    rounds = f"{result.rounds} round{'' if result.rounds == 1 else 's'}"
    how = "Stopped. " if result.stopped else ""
    lines = [f"{how}Held-out accuracy {result.held_out_accuracy:.3f} after {rounds}, {result.seconds:.1f} s in all."]
    return lines + [f"  {path}" for path in result.files]


def _bar(share: float) -> ProgressBar:
    completed = share if math.isfinite(share) else 0.0
    return ProgressBar(
        total=1.0, completed=completed, width=_BAR_WIDTH, style="grey37", complete_style="cyan", finished_style="cyan"
    )
