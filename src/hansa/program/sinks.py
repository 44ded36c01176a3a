"""Where metrics go: the protocol, and files of lines."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any, Protocol

from hansa._files import keep_aside, replacing
from hansa._tracebacks import boundaries
from hansa._warnings import warn
from hansa.program._adapting import adapted
from hansa.program.lines import Found, read_records, read_table
from hansa.program.records import Record, Scalar


class Sink(Protocol):
    """Takes the metrics of a run, round by round: `start`, then `write` and `flush` in turn, then `close`.

    A run that was killed goes on from its last checkpoint and writes the rounds after it again, with the same numbers.
    So that a sink holds each round once, `start` says which rounds stay.

    Examples:
        >>> class Newest:
        ...     def start(self, last_round, run_dir):
        ...         self.line = ""
        ...
        ...     def write(self, round_number, metrics):
        ...         self.line = f"round {round_number} of {', '.join(metrics)}"
        ...
        ...     def flush(self):
        ...         pass
        ...
        ...     def close(self):
        ...         print(self.line)
        >>> result = hansa.program.train(process, data, rounds=2, sinks=[Newest()], progress=False)
        round 2 of accuracy, loss, num_non_finite_clients, num_empty_clients, num_non_finite_metrics, model_unchanged
    """

    def start(self, last_round: int | None, run_dir: Path | None) -> None:
        """Called before the first round.

        Args:
            last_round: None for a new run. Else the run goes on after this round, 0 for the beginning, and -1 if the
                initial state is to be evaluated, as round 0: drop what there is of later ones.
            run_dir: the run's folder, if it has one, to remember things in.
        """

    def write(self, round_number: int, metrics: Record) -> None:
        """Take the metrics of a round, numbers and strings by name; rounds are numbered from 1, 0 is before them."""

    def flush(self) -> None:
        """Put what was written where it stays. Called before each checkpoint."""

    def close(self) -> None:
        """Called at the end, also after an error."""


@boundaries
class JsonLines:
    """One JSON object a line: `{"round": 1, "loss": 0.5}`. NaN is `null`, infinity `1e999`, as JSON has neither.

    Of a file that is damaged when a run goes on, the good lines stay. What it was is kept beside it, as `NAME.damaged`.

    Args:
        path: the file; a new run wants a new one.

    Examples:
        >>> from pathlib import Path
        >>> sink = hansa.program.JsonLines("metrics.jsonl")
        >>> sink.start(None, None)
        >>> for number in (1, 2):
        ...     sink.write(number, {"loss": 1 / number})
        ...     sink.flush()
        >>> sink.close()
        >>> print(Path("metrics.jsonl").read_text(), end="")
        {"round": 1, "loss": 1.0}
        {"round": 2, "loss": 0.5}
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._file: IO[str] | None = None

    def __repr__(self) -> str:
        return f"JsonLines({str(self.path)!r})"

    def start(self, last_round: int | None, run_dir: Path | None) -> None:
        """Open the file, without what is to be dropped."""
        if last_round is None:
            _check_new(self.path)
        elif not _is_stream(self.path):
            found = read_records(self.path)
            good = [record for record in found.records if record["round"] <= last_round]
            _write_anew(self.path, "".join(map(_json_line, good)), found)
        self._file = _opened(self.path)

    def write(self, round_number: int, metrics: Record) -> None:
        """Append a line."""
        _append(self._file, _json_line({"round": round_number, **metrics}))

    def flush(self) -> None:
        """Put the lines on the disk."""
        _sync(self._file)

    def close(self) -> None:
        """Close the file."""
        _close(self._file)


@boundaries
class CSV:
    """A table with a line of names; columns that occur later are added at its end, empty in the rounds before.

    Numbers are written so that they are read back exactly.

    Of a file that is damaged when a run goes on, the good rows stay. What it was is kept beside it, as `NAME.damaged`.

    Args:
        path: the file; a new run wants a new one.

    Examples:
        >>> from pathlib import Path
        >>> sink = hansa.program.CSV("metrics.csv")
        >>> sink.start(None, None)
        >>> for number in (1, 2):
        ...     sink.write(number, {"loss": 1 / number})
        ...     sink.flush()
        >>> sink.close()
        >>> print(Path("metrics.csv").read_text(), end="")
        round,loss
        1,1.0
        2,0.5
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._file: IO[str] | None = None
        self._names: list[str] = []

    def __repr__(self) -> str:
        return f"CSV({str(self.path)!r})"

    def start(self, last_round: int | None, run_dir: Path | None) -> None:
        """Open the file, without what is to be dropped."""
        self._names = []
        if last_round is None:
            _check_new(self.path)
        elif not _is_stream(self.path):
            found = read_table(self.path)
            self._names = found.names
            rows = [row for row in found.records if int(row[0]) <= last_round]
            _write_anew(self.path, _csv_text([self._names, *rows] if self._names else []), found)
        self._file = _opened(self.path)

    def write(self, round_number: int, metrics: Record) -> None:
        """Append a row."""
        record = {"round": round_number, **metrics}
        new = [name for name in record if name not in self._names]
        if new:
            self._widen(new)
        _append(self._file, _csv_text([[record.get(name, "") for name in self._names]]))

    def flush(self) -> None:
        """Put the rows on the disk."""
        _sync(self._file)

    def close(self) -> None:
        """Close the file."""
        _close(self._file)

    def _widen(self, names: list[str]) -> None:
        self._names = [*self._names, *names]
        if _is_stream(self.path):
            _append(self._file, _csv_text([self._names]))
            return
        _close(self._file)
        found = read_table(self.path)
        rows = [[*row, *[""] * len(names)] for row in found.records]
        _write_anew(self.path, _csv_text([self._names, *rows]), found)
        self._file = _opened(self.path)


class FunctionSink:
    """A function of one's own, `write(round_number, metrics)`. After a kill it sees rounds again that it has seen.

    Args:
        function: called with the number of each round, from 1, and its metrics.
    """

    def __init__(self, function: Callable[[int, Record], object]) -> None:
        self._function = function

    def start(self, last_round: int | None, run_dir: Path | None) -> None:
        """Nothing is to be done."""

    def write(self, round_number: int, metrics: Record) -> None:
        """Call the function."""
        self._function(round_number, metrics)

    def flush(self) -> None:
        """Nothing is to be done."""

    def close(self) -> None:
        """Nothing is to be done."""


def to_sinks(values: Any) -> list[Sink]:
    """Sinks, of which functions are made some.

    Raises:
        TypeError: if one is neither, or takes other arguments.
    """
    expected = "a sink has the methods {}, or is a function of a round's number and metrics"
    round_number = ("round_number", "metrics")
    methods = {"start": ("last_round", "run_dir"), "write": round_number, "flush": (), "close": ()}
    return adapted("sinks", values, methods, round_number, FunctionSink, expected)


def read_json_lines(path: Path, last_round: int) -> list[dict[str, Scalar]]:
    """The records in a file of `JsonLines` up to a round; what is not that of a round is left out."""
    return [record for record in read_records(path).records if record["round"] <= last_round]


def _json_line(record: Record) -> str:
    # All that is not ASCII is escaped, as some of it ends lines for some readers, and some of it no file can hold.
    parts = []
    for name, value in record.items():
        if isinstance(value, float) and not math.isfinite(value):
            text = "null" if math.isnan(value) else "1e999" if value > 0 else "-1e999"
        else:
            text = json.dumps(value)
        parts.append(f"{json.dumps(name)}: {text}")
    return "{" + ", ".join(parts) + "}\n"


def _csv_text(rows: Iterable[Iterable[Any]]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(map(_writable, row) for row in rows)
    return text.getvalue()


def _writable(cell: Any) -> Any:
    """A cell that UTF-8 can hold, and without NULs, which in a file are damage."""
    return cell.replace("\0", r"\x00").encode(errors="backslashreplace").decode() if isinstance(cell, str) else cell


def _check_new(path: Path) -> None:
    if path.exists() and path.stat().st_size:
        raise FileExistsError(f"{path} exists, and a new run would write into another's metrics; name another file")


def _is_stream(path: Path) -> bool:
    """Whether it is a FIFO or a terminal, to which a user's sink may write, and what was written is gone."""
    return path.exists() and not path.is_file()


def _write_anew(path: Path, text: str, found: Found) -> None:
    """Make a file hold a text, if it holds another; if it is damaged, as `found` says, it is kept beside."""
    if found.told is not None:
        aside = keep_aside(path)
        warn(
            f"{path} is damaged: {found.told}. It is {aside.name} now, and its good rounds are written anew",
        )
    elif path.exists() and path.read_bytes() == text.encode():
        return
    with replacing(path) as part:
        part.write_text(text, "utf-8", newline="")


def _opened(path: Path) -> IO[str]:
    path.parent.mkdir(parents=True, exist_ok=True)
    return open(path, "a", encoding="utf-8", newline="")


def _append(file: IO[str] | None, text: str) -> None:
    assert file is not None, "start() comes first"
    with _naming(file):
        file.write(text)
        file.flush()


def _sync(file: IO[str] | None) -> None:
    assert file is not None, "start() comes first"
    if not _is_stream(Path(file.name)):
        with _naming(file):
            os.fsync(file.fileno())


@contextlib.contextmanager
def _naming(file: IO[str]) -> Iterator[None]:
    """An error in writing a file says which one, which the system's does not."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, file.name) from error


def _close(file: IO[str] | None) -> None:
    # What could not be written has been told when it was: each write is flushed.
    if file is not None:
        with contextlib.suppress(OSError):
            file.close()
