"""What is seen of a run while it runs: a live table in a terminal or notebook, a line now and then in the log else."""

from __future__ import annotations

import io
import logging
import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from hansa._printing import in_a_line, printable
from hansa.program._adapting import check_call, check_no_class
from hansa.program.records import Record, Scalar

# As many rounds as fit a small terminal are shown; the others are in the history.
_SHOWN_ROUNDS = 16
# As many metrics as fit its width.
_SHOWN_METRICS = 5

_log = logging.getLogger("hansa.program")


class Progress(Protocol):
    """Shows a run: `begin`, then any number of times `add`, and always `end`.

    Examples:
        >>> class Dots:
        ...     def begin(self, done, rounds, stopping):
        ...         print(rounds, "rounds")
        ...
        ...     def add(self, record, seconds):
        ...         print(record["round"])
        ...
        ...     def end(self, message):
        ...         print(message)
        >>> result = hansa.program.train(process, data, rounds=2, progress=Dots())
        2 rounds
        1
        2
        Finished after 2 rounds.
    """

    def begin(self, done: int, rounds: int, stopping: Callable[[], bool]) -> None:
        """So many rounds are done before, of so many; `stopping` says whether the user has asked to stop."""

    def add(self, record: Record, seconds: float) -> None:
        """A round is finished, which took so long."""

    def end(self, message: str) -> None:
        """What came of it; empty after an error."""


def to_progress(value: Any) -> Progress:
    """What `progress=` stands for.

    Args:
        value: True for a table, wherever the output goes; False for nothing; "auto" for a table in a terminal or
            notebook and lines in the log else; or a `Progress`.
    """
    if value is False:
        return NoProgress()
    if value is True or value == "auto":
        console = Console(highlight=False)
        if console.is_jupyter:
            return NotebookProgress()
        return TableProgress(console) if value is True or console.is_terminal else LogProgress()
    methods = {"begin": ("done", "rounds", "stopping"), "add": ("record", "seconds"), "end": ("message",)}
    if all(callable(getattr(value, name, None)) for name in methods):
        check_no_class("progress", value)
        for name, given in methods.items():
            check_call(f"{type(value).__name__}.{name}", getattr(value, name), given)
        return value  # type: ignore[no-any-return]
    raise TypeError(f"progress must be 'auto', True, False, or an object with begin, add and end; found {value!r}")


def is_shown(number: int, rounds: int) -> bool:
    """Whether a round is one of the few that stay visible."""
    return number in (1, rounds) or number % math.ceil(rounds / _SHOWN_ROUNDS) == 0


def caption(done: int, rounds: int, stopping: bool, finishing: str = "") -> str:
    """What is going on, in a line.

    Args:
        done: the last finished round; 0 before the first one of this process.
        rounds: how many there are to be.
        stopping: whether the user has asked to stop.
        finishing: what is done after the last round.
    """
    if done == rounds:
        return finishing
    if stopping:
        return "Stopping after this round; Ctrl-C again stops at once."
    if not done:
        return "Compiling the first round ..."
    return f"Round {done} of {rounds}; Ctrl-C stops and keeps what there is."


class RoundTable:
    """The rounds that stay visible, and the last one, as a table.

    Args:
        rounds: how many there are to be.
    """

    def __init__(self, rounds: int) -> None:
        self._rounds = rounds
        self._shown: list[Sequence[RenderableType]] = []
        self._last: Sequence[RenderableType] | None = None

    def add(self, number: int, cells: Sequence[RenderableType]) -> None:
        """Add a round's cells."""
        self._last = cells
        if is_shown(number, self._rounds):
            self._shown.append(cells)

    def render(self, columns: Sequence[str], below: str, bar_width: int | None = None) -> RenderableType:
        """The table.

        Args:
            columns: the names above the cells.
            below: a line under it.
            bar_width: of a column without a name after the others, for bars.
        """
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
        for name in columns:
            table.add_column(Text(in_a_line(name)), justify="right")  # which Rich would take for markup
        if bar_width is not None:
            table.add_column("", width=bar_width)
        rows = self._shown
        if self._last is not None and (not rows or rows[-1] is not self._last):
            rows = [*rows, self._last]
        for cells in rows:
            table.add_row(*cells)
        return Group(table, Text(printable(below), style="dim")) if below else table


class NoProgress:
    """Shows nothing."""

    def begin(self, done: int, rounds: int, stopping: Callable[[], bool]) -> None:
        """Nothing is shown."""

    def add(self, record: Record, seconds: float) -> None:
        """Nothing is shown."""

    def end(self, message: str) -> None:
        """Nothing is shown."""


class LogProgress:
    """Lines in the log `hansa.program`, at level INFO, for a few of the rounds."""

    def begin(self, done: int, rounds: int, stopping: Callable[[], bool]) -> None:
        """Log how far the run is."""
        self._rounds = rounds
        _log.info("round %d of %d is done", done, rounds)

    def add(self, record: Record, seconds: float) -> None:
        """Log a round, if it is one of the few."""
        number = int(record["round"])
        if is_shown(number, self._rounds):
            values = ", ".join(f"{in_a_line(name)} {_cell(record[name])}" for name in _main(record))
            _log.info("round %d of %d: %s, %.3f s", number, self._rounds, values, seconds)

    def end(self, message: str) -> None:
        """Log what came of it."""
        if message:
            _log.info("%s", in_a_line(message))


class _Rows:
    """What the two kinds of live tables have in common: which columns there are, and what is below them."""

    def __init__(self, done: int, rounds: int, stopping: Callable[[], bool]) -> None:
        self._rounds, self._stopping = rounds, stopping
        self._done, self._last = done, 0
        self._names: list[str] = []
        self._table = RoundTable(rounds)
        self.message: str | None = None

    def add(self, record: Record, seconds: float) -> None:
        self._last = int(record["round"])
        self._names += [name for name in _main(record) if name not in self._names]
        self._names = self._names[:_SHOWN_METRICS]
        cells = [Text(_cell(record[name])) if name in record else "" for name in self._names]
        self._table.add(self._last, [str(self._last), f"{seconds:.3f}", *cells])

    def render(self) -> RenderableType:
        if self.message is None:
            below = caption(self._last, self._rounds, self._stopping())
            below = f"Resumed after round {self._done}. {below}" if self._done and not self._last else below
        else:
            below = self.message
        return self._table.render(["round", "seconds", *self._names], below)


class TableProgress:
    """Keeps a table up to date in a terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None

    def begin(self, done: int, rounds: int, stopping: Callable[[], bool]) -> None:
        """Start the table."""
        self._rows = _Rows(done, rounds, stopping)
        self._live = Live(console=self._console, get_renderable=self._rows.render, refresh_per_second=8)
        self._live.start()

    def add(self, record: Record, seconds: float) -> None:
        """Add a round."""
        self._rows.add(record, seconds)

    def end(self, message: str) -> None:
        """Leave the table as it is."""
        if self._live is not None:
            self._rows.message = message
            self._live.stop()


class NotebookProgress:
    """Keeps a table up to date below a notebook's cell, without widgets."""

    def begin(self, done: int, rounds: int, stopping: Callable[[], bool]) -> None:
        """Show the table."""
        from IPython.display import display  # there is one in a notebook

        self._rows = _Rows(done, rounds, stopping)
        self._handle = display(_Shown(self._rows.render()), display_id=True)  # type: ignore[no-untyped-call]

    def add(self, record: Record, seconds: float) -> None:
        """Show the table with another round."""
        self._rows.add(record, seconds)
        self._update()

    def end(self, message: str) -> None:
        """Show the table as it is to stay."""
        self._rows.message = message
        self._update()

    def _update(self) -> None:
        if self._handle is not None:
            self._handle.update(_Shown(self._rows.render()))


class _Shown:
    """What a notebook displays for something of Rich's."""

    def __init__(self, renderable: RenderableType) -> None:
        console = Console(width=100, record=True, file=io.StringIO(), force_jupyter=False)
        console.print(renderable)
        self._html = console.export_html(inline_styles=True, clear=False, code_format="<pre>{code}</pre>")
        self._text = console.export_text()

    def _repr_html_(self) -> str:
        return self._html

    def __repr__(self) -> str:
        return self._text


def _main(record: Record) -> list[str]:
    """The metrics to show: floats, the evaluation's last; else whatever there is."""
    names = [name for name in record if name != "round"]
    floats = [name for name in names if isinstance(record[name], float) and not name.startswith("num_")]
    return (floats or names)[:_SHOWN_METRICS]


def _cell(value: Scalar) -> str:
    return f"{value:.4g}" if isinstance(value, float) else in_a_line(value)
