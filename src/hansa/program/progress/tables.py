"""A table of a run's rounds that is kept up to date, in a terminal or below a notebook's cell."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable, Sequence

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from hansa._printing import in_a_line, printable
from hansa.program.progress.cells import STOPPING, cell, fitting, main_metrics
from hansa.program.progress.pace import Pace, about
from hansa.program.records import Record, Scalar, is_of_evaluation

# As many rounds as fit a small terminal are shown; the others are in the history.
_SHOWN_ROUNDS = 16
# A share of one, such as an accuracy, has a bar where there is room for one.
_BAR_WIDTH, _ROOM_FOR_BARS = 24, 100
# Seconds between two pictures of a notebook's table.
_NOTEBOOK = 0.25


def is_shown(number: int, rounds: int) -> bool:
    """Whether a round is one of the few that stay visible."""
    return number in (1, rounds) or number % math.ceil(rounds / _SHOWN_ROUNDS) == 0


def caption(done: int, rounds: int, stopping: bool, pace: Pace | None = None, how: str = "Ctrl-C") -> str:
    """What is going on, in a line.

    Args:
        done: the last finished round; 0 before the first one of this process.
        rounds: how many there are to be.
        stopping: whether the user has asked to stop.
        pace: how fast it goes.
        how: what a user does to stop.
    """
    if done == rounds:
        return ""
    if stopping:
        return STOPPING.replace("Ctrl-C", how)
    if not done:
        return "Compiling the first round ..." + (f" {about(pace.running)}" if pace and pace.running >= 1 else "")
    left = None if pace is None else pace.left
    still = "" if left is None else f", about {about(left)} left"
    return f"Round {done} of {rounds}{still}; {how} stops and keeps what there is."


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


class _Rows:
    """What the two kinds of live tables have in common: which columns there are, and what is below them."""

    def __init__(
        self, done: int, rounds: int, stopping: Callable[[], bool], how: str = "Ctrl-C", bars: bool = False
    ) -> None:
        self._rounds, self._stopping, self._how, self._bars = rounds, stopping, how, bars
        self._done, self._last = done, 0
        self._pace = Pace(done, rounds)
        self._names: list[str] = []
        self._shown: list[tuple[Record, float]] = []
        self.message: str | None = None

    def add(self, record: Record, seconds: float) -> None:
        number = int(record["round"])
        self._pace.add(number)
        if self._shown and not is_shown(int(self._shown[-1][0]["round"]), self._rounds):
            self._shown.pop()
        self._shown.append((record, seconds))
        self._names += [name for name in main_metrics(record) if name not in self._names]
        self._last = number

    def render(self) -> RenderableType:
        if self.message is None:
            below = caption(self._last, self._rounds, self._stopping(), pace=self._pace, how=self._how)
            below = f"Resumed after round {self._done}. {below}" if self._done and not self._last else below
        else:
            below = self.message
        names, rows = fitting(self._names), RoundTable(self._rounds)
        shares = [name for name in names if is_of_evaluation(name) and name.endswith("accuracy")] if self._bars else []
        for record, seconds in list(self._shown):
            cells = [Text(cell(record[name])) if name in record else "" for name in names]
            bars = [_bar(record.get(name)) for name in shares[:1]]
            rows.add(int(record["round"]), [str(record["round"]), f"{seconds:.3f}", *cells, *bars])
        return rows.render(["round", "seconds", *names], below, _BAR_WIDTH if shares else None)


def _bar(share: Scalar | None) -> RenderableType:
    """How much of a bar a share of one fills; nothing where it is no such number."""
    if not isinstance(share, float) or not 0 <= share <= 1:
        return ""
    return ProgressBar(1.0, share, _BAR_WIDTH, style="grey37", complete_style="cyan", finished_style="cyan")


class TableProgress:
    """Keeps a table up to date in a terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None

    def begin(self, done: int, rounds: int, stopping: Callable[[], bool]) -> None:
        """Start the table."""
        self._rows = _Rows(done, rounds, stopping, bars=self._console.width >= _ROOM_FOR_BARS)
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

        self._rows, self._updated = _Rows(done, rounds, stopping, "interrupting the kernel"), time.monotonic()
        self._handle = display(_Shown(self._rows.render()), display_id=True)  # type: ignore[no-untyped-call]

    def add(self, record: Record, seconds: float) -> None:
        """Show the table with another round, unless the last one was just shown."""
        self._rows.add(record, seconds)
        if time.monotonic() - self._updated >= _NOTEBOOK:
            self._update()

    def end(self, message: str) -> None:
        """Show the table as it is to stay."""
        self._rows.message = message
        self._update()

    def _update(self) -> None:
        self._updated = time.monotonic()
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
