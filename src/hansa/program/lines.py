"""Files of a line for each round, read so that what is good in them is had, whatever stands beside it.

A line that is not finished, at the end of a file, is what a kill leaves, and no damage.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hansa._files import open_regular
from hansa.program.records import MOST_BITS, Scalar

_LONGEST = 1 << 26
"""Bytes of a line; longer ones are damage."""
_LOOKED_AT = 1 << 20
"""Bytes of a file that are looked at to know how far a run is."""
_LARGEST = 1 << 32
"""Bytes of a file; larger ones are read no further, such as those with holes in them."""
_MOST_ROUNDS = 1 << 53
_MOST_LINES_OF_A_ROW = 10_000
_BOM = b"\xef\xbb\xbf"


@dataclass
class Found:
    """What is in a file.

    Attributes:
        records: those of the rounds, in order.
        damaged: the numbers of the other lines, from 1.
        problem: why the file could not be read to its end, if so.
    """

    records: list[Any] = field(default_factory=list)
    damaged: list[int] = field(default_factory=list)
    problem: str | None = None

    @property
    def told(self) -> str | None:
        """What is wrong with the file, in a few words; None if nothing is."""
        if self.problem is not None:
            return self.problem
        if not self.damaged:
            return None
        first = f"line {self.damaged[0]:,} is not that of a round"
        return first if len(self.damaged) == 1 else f"{first}, nor are {len(self.damaged) - 1:,} others"


@dataclass
class Table(Found):
    """What is in a file of CSV: `records` are rows of text.

    Attributes:
        names: of the columns; none if the line of names is damaged, and then there are no rows.
    """

    names: list[str] = field(default_factory=list)


def read_records(path: Path) -> Found:
    """The records of rounds in a file of JSON objects, each a dict of numbers and text; nothing if there is no file."""
    found, last = Found(), -1
    for number, line in enumerate(_lines(path, found), 1):
        record = _record(line)
        if record is None or record["round"] <= last:
            found.damaged.append(number)
        else:
            found.records.append(record)
            last = record["round"]
    return found


def read_table(path: Path) -> Table:
    """The rows of rounds in a file of CSV; nothing if there is no file."""
    found, last = Table(), -1
    lines = list(_lines(path, found))
    at = 0
    while at < len(lines):
        end = _end_of_row(lines, at)
        row = None if end is None else _cells(b"\n".join(lines[at:end]))
        if not at:
            if row is None or row[0] != "round" or len(set(row)) < len(row):
                found.damaged = list(range(1, len(lines) + 1))
                return found
            found.names = row
        elif row is None or len(row) != len(found.names):
            # The next line may be a row: if this one has a stray quote, its end is not known.
            found.damaged.append(at + 1)
            end = at + 1
        elif not _ROUND.fullmatch(row[0]) or int(row[0]) <= last:
            found.damaged.append(at + 1)
        else:
            found.records.append(row)
            last = int(row[0])
        assert end is not None
        at = end
    return found


def last_record(path: Path) -> tuple[dict[str, Scalar], str | None]:
    """The last record of a file of JSON objects, and what is wrong with the file, in a few words.

    Of a large file only the end is looked at, as many files may be.

    Returns:
        An empty record if there is none.
    """
    found, size = Found(), _LOOKED_AT
    while True:
        tail = _tail(path, size, found)
        if tail is None:
            return {}, found.problem
        if tail[1]:
            found = read_records(path)
            return (found.records or [{}])[-1], found.told
        lines = tail[0].split(b"\n")[:-1]
        if len(lines) > 1:
            record = _record(lines[-1])
            return ({}, "its last line is not that of a round") if record is None else (record, None)
        size *= 16


def _tail(path: Path, size: int, found: Found) -> tuple[bytes, bool] | None:
    """The last bytes of a file, and whether that is all of it; None if it cannot be read."""
    try:
        with open_regular(path) as file:
            length = file.seek(0, 2)
            if size > 16 * _LONGEST:
                raise ValueError("a line without end")
            file.seek(max(0, length - size))
            return file.read(size), length <= size
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        found.problem = f"it cannot be read: {error}"
        return None


def _lines(path: Path, found: Found) -> Iterator[bytes]:
    """The whole lines of a file, without their ends; a line that is too long is an empty one."""
    try:
        with open_regular(path) as file:
            if file.seek(0, 2) > _LARGEST:
                found.problem = f"it has more than {_LARGEST >> 30} GiB"
                return
            file.seek(0)
            first, skipping = True, False
            while line := file.readline(_LONGEST):
                whole = line.endswith(b"\n")
                if whole:
                    yield b"" if skipping else line[:-1].removeprefix(_BOM) if first else line[:-1]
                    first = False
                skipping = not whole
    except FileNotFoundError:
        pass
    except OSError as error:
        found.problem = f"it cannot be read: {error.strerror or error}"


def _record(line: bytes) -> dict[str, Any] | None:
    """A record of a round; None if it is none."""
    try:
        found = json.loads(line.decode())
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or type(found.get("round")) is not int or not 0 <= found["round"] < _MOST_ROUNDS:
        return None
    if not all(value is None or _is_scalar(value) for value in found.values()):
        return None
    return {name: math.nan if value is None else value for name, value in found.items()}


def _is_scalar(value: Any) -> bool:
    if type(value) is int:
        return value.bit_length() <= MOST_BITS
    return isinstance(value, bool | float | str)


def _end_of_row(lines: list[bytes], at: int) -> int | None:
    """The line after a row, in which quoted text may go over lines; None if its quotes do not end."""
    quotes = 0
    for index in range(at, min(len(lines), at + _MOST_LINES_OF_A_ROW)):
        quotes += lines[index].count(b'"')
        if not quotes % 2:
            return index + 1
    return None


_ROUND = re.compile("[0-9]{1,16}")
_CELL = re.compile(r'(?:"((?:[^"]++|"")*+)"|([^",\r\n]*+))(,|\r?\Z)')


def _cells(line: bytes) -> list[str] | None:
    """The cells of a row; None if it is none."""
    try:
        text = line.decode()
    except UnicodeDecodeError:
        return None
    if "\0" in text:  # what a file system leaves after a power cut
        return None
    cells, at, more = [], 0, True
    while more:
        found = _CELL.match(text, at)
        if found is None:
            return None
        quoted, plain, end = found.groups()
        cells.append(plain if quoted is None else quoted.replace('""', '"'))
        at, more = found.end(), end == ","
    return cells
