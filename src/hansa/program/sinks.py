"""Where metrics go: the protocol, and files of lines."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any, Protocol

from hansa._files import replacing
from hansa.program._adapting import adapted
from hansa.program.metrics import Record, Scalar


class Sink(Protocol):
    """Takes the metrics of a run, round by round: `start`, then `write` and `flush` in turn, then `close`.

    A run that was killed goes on from its last checkpoint and writes the rounds after it again, with the same numbers.
    So that a sink holds each round once, `start` says which rounds stay.
    """

    def start(self, last_round: int | None, run_dir: Path | None) -> None:
        """Called before the first round.

        Args:
            last_round: None for a new run. Else the run goes on after this round, 0 for the beginning: drop what there
                is of later ones.
            run_dir: the run's folder, if it has one, to remember things in.
        """

    def write(self, round_number: int, metrics: Record) -> None:
        """Take the metrics of a round, numbers and strings by name; rounds are numbered from 1."""

    def flush(self) -> None:
        """Put what was written where it stays. Called before each checkpoint."""

    def close(self) -> None:
        """Called at the end, also after an error."""


class JsonLines:
    """One JSON object a line: `{"round": 1, "loss": 0.5}`. NaN is `null`, infinity `1e999`, as JSON has neither.

    Args:
        path: the file; a new run wants a new one.
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
        else:
            _replace_if_other(self.path, "".join(map(_json_line, read_json_lines(self.path, last_round))))
        self._file = _opened(self.path)

    def write(self, round_number: int, metrics: Record) -> None:
        """Append a line."""
        _append(self._file, _json_line({"round": round_number, **metrics}))

    def flush(self) -> None:
        """Put the lines on the disk."""
        _sync(self._file)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


class CSV:
    """A table with a line of names; columns that occur later are added at its end, empty in the rounds before.

    Numbers are written so that they are read back exactly.

    Args:
        path: the file; a new run wants a new one.
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
        else:
            table = list(csv.reader(io.StringIO(_whole_lines(self.path), newline="")))
            self._names = table[0] if table else []
            rows = [row for row in table[1:] if int(row[0]) <= last_round]
            _replace_if_other(self.path, _csv_text([self._names, *rows] if self._names else []))
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
        if self._file is not None:
            self._file.close()

    def _widen(self, names: list[str]) -> None:
        self.close()
        table = list(csv.reader(io.StringIO(_whole_lines(self.path), newline="")))
        self._names = [*self._names, *names]
        rows = [[*row, *[""] * len(names)] for row in table[1:]]
        _replace_if_other(self.path, _csv_text([self._names, *rows]))
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
        TypeError: if one is neither.
    """
    expected = "a sink has the methods {}, or is a function of a round's number and metrics"
    return adapted("sinks", values, ("start", "write", "flush", "close"), FunctionSink, expected)


def read_json_lines(path: Path, last_round: int) -> list[dict[str, Scalar]]:
    """The records in a file of `JsonLines` up to a round; a line that was not finished, and what follows, are not."""
    records = []
    for line in _whole_lines(path).splitlines():
        try:
            record = json.loads(line)
            number = int(record["round"])
        except (ValueError, TypeError, KeyError):
            warnings.warn(f"{path} has a line that is no record of a round: {line[:80]!r}; it is dropped", stacklevel=2)
            continue
        if number <= last_round:
            records.append({name: math.nan if value is None else value for name, value in record.items()})
    return records


def _json_line(record: Record) -> str:
    parts = []
    for name, value in record.items():
        if isinstance(value, float) and not math.isfinite(value):
            text = "null" if math.isnan(value) else "1e999" if value > 0 else "-1e999"
        else:
            text = json.dumps(value, ensure_ascii=False)
        parts.append(f"{json.dumps(name, ensure_ascii=False)}: {text}")
    return "{" + ", ".join(parts) + "}\n"


def _csv_text(rows: Iterable[Iterable[Any]]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _whole_lines(path: Path) -> str:
    """A file's text up to its last line end; nothing if there is no file."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return ""
    return data[: data.rfind(b"\n") + 1].decode()


def _check_new(path: Path) -> None:
    if path.exists() and path.stat().st_size:
        raise FileExistsError(f"{path} exists, and a new run would write into another's metrics; name another file")


def _replace_if_other(path: Path, text: str) -> None:
    if not path.exists() or path.read_bytes() != text.encode():
        with replacing(path) as part:
            part.write_text(text, "utf-8", newline="")


def _opened(path: Path) -> IO[str]:
    path.parent.mkdir(parents=True, exist_ok=True)
    return open(path, "a", encoding="utf-8", newline="")


def _append(file: IO[str] | None, text: str) -> None:
    assert file is not None, "start() comes first"
    file.write(text)
    file.flush()


def _sync(file: IO[str] | None) -> None:
    assert file is not None, "start() comes first"
    os.fsync(file.fileno())
