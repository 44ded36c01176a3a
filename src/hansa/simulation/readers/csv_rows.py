"""The rows of a CSV file, a block at a time, with the lines that they are in: Python's `csv`, and limits.

A row has as many values as the first line has names. It has at most 1 MiB, and a value in quotes 128 KiB, which is
`csv.field_size_limit`. Lines without anything are passed over. A delimiter, a quote or an end of line that belongs to a
value stands in double quotes, with quotes doubled.
"""

from __future__ import annotations

import contextlib
import csv
import importlib
import io
import itertools
import zlib
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hansa._extras import require
from hansa.simulation._errors import DatasetError
from hansa.simulation.readers.streams import Limited, Stream, Watched

_PIECE = 1 << 20
_IN_PYTHON = {".gz": ("gzip", "GzipFile"), ".bz2": ("bz2", "BZ2File"), ".xz": ("lzma", "LZMAFile")}
_IN_ARROW = {".zst": "zstd", ".lz4": "lz4", ".br": "brotli"}
_COMPRESSED_TIMES = 8


@dataclass(frozen=True)
class Block:
    """Some rows, one after another.

    Attributes:
        columns: of each column, the values of these rows, as text.
        lines: the number of the line in which each row ends, from 1.
    """

    columns: list[Sequence[str]]
    lines: Sequence[int]


class CsvFile:
    """A CSV file that is read a block at a time.

    Args:
        path: the file, perhaps compressed, if its name says so.
        delimiter: the character between values.
        encoding: how its characters are written.
    """

    def __init__(self, path: Path, delimiter: str, encoding: str) -> None:
        self.path, self.delimiter = path, delimiter
        self.encoding = "utf-8-sig" if encoding.lower() in ("utf-8", "utf8") else encoding
        if not path.is_file():
            raise FileNotFoundError(f"there is no file {path}")
        try:
            "".encode(encoding)
            csv.reader([], delimiter=delimiter)
        except (LookupError, TypeError, ValueError) as error:
            raise ValueError(f"delimiter or encoding is none: {error}; found {delimiter!r} and {encoding!r}") from None

    @property
    def is_compressed(self) -> bool:
        """Whether it is, as its name says."""
        return self.path.suffix in (*_IN_PYTHON, *_IN_ARROW)

    @property
    def expected_size(self) -> int:
        """About how many bytes of text it holds."""
        return self.path.stat().st_size * (_COMPRESSED_TIMES if self.is_compressed else 1)

    def beginning(self) -> tuple[list[str], Block]:
        """The names in the first line, and the first block, which may be empty."""
        with Watched(self.path) as source:
            names, blocks = self.read(source)
            with contextlib.closing(blocks):
                return names, next(blocks, Block([()] * len(names), ()))

    def read(self, source: Watched) -> tuple[list[str], Generator[Block, None, None]]:
        """The names in the first line, and a generator of the blocks of rows.

        Raises:
            DatasetError, ValueError: the file is damaged, empty or no CSV file; the message names the line.
        """
        blocks = self._blocks(source)
        names = next(blocks)
        assert isinstance(names, list)
        return names, blocks  # type: ignore[return-value]  # all that follow are blocks

    def _blocks(self, source: Watched) -> Generator[list[str] | Block, None, None]:
        """The names, and then blocks of rows."""
        pieces = _Pieces(self._text(source))
        with self._errors(pieces):
            names = None
            for rows, lines in self._rows(pieces):
                rest, at = rows, lines
                if names is None:
                    names, rest, at = (
                        rows[0].split(self.delimiter) if isinstance(rows[0], str) else rows[0],
                        rows[1:],
                        lines[1:],
                    )
                    yield names
                if rest:
                    yield Block(self._columns(rest, at, len(names)), at)
            if names is None:
                raise ValueError(f"{self.path} is empty; it must begin with a line of column names")

    def _rows(self, pieces: _Pieces) -> Iterator[tuple[Any, Sequence[int]]]:
        """Rows, each as the values in it, or, as long as there were no quotes, as a line; and the lines' numbers."""
        for piece in pieces:
            first = pieces.lines + 1
            if '"' in piece:  # from here on a row may be longer than a line
                yield from self._quoted(pieces, piece)
                return
            listed = piece.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n").split("\n")
            pieces.lines += len(listed)
            if "" in listed:
                there = [(line, number) for number, line in enumerate(listed, first) if line]
                if there:
                    yield [line for line, _ in there], [number for _, number in there]
            else:
                yield listed, range(first, first + len(listed))

    def _quoted(self, pieces: _Pieces, piece: str) -> Iterator[tuple[list[list[str]], list[int]]]:
        before = pieces.lines
        parts = itertools.chain([piece], pieces)
        reader = csv.reader(
            itertools.chain.from_iterable(io.StringIO(part, newline="") for part in parts),
            delimiter=self.delimiter,
            strict=True,
        )
        rows: list[list[str]] = []
        lines: list[int] = []
        count = pieces.count
        for row in reader:
            pieces.lines = before + reader.line_num
            pieces.rows += 1
            if row:
                rows.append(row)
                lines.append(pieces.lines)
            if pieces.count != count:
                yield rows, lines
                rows, lines, count = [], [], pieces.count
        if rows:
            yield rows, lines

    def _columns(self, rows: Any, lines: Sequence[int], width: int) -> list[Sequence[str]]:
        """The columns of rows of one width."""
        plain = isinstance(rows[0], str)
        widths = [line.count(self.delimiter) + 1 for line in rows] if plain else list(map(len, rows))
        if set(widths) != {width}:
            found, line = next((found, line) for found, line in zip(widths, lines, strict=True) if found != width)
            raise DatasetError(
                f"{self.path} is damaged, or no CSV file: line {line} has {found} values, and the first line has "
                f"{width} names; if another character than {self.delimiter!r} is between values, say delimiter="
            )
        if not plain:
            return list(zip(*rows, strict=True))
        values = self.delimiter.join(rows).split(self.delimiter)
        return [values[column::width] for column in range(width)]

    def _text(self, source: Watched) -> io.TextIOWrapper:
        content: Any = Stream(source)
        suffix = self.path.suffix
        if suffix in _IN_PYTHON:
            module, opener = _IN_PYTHON[suffix]
            content = getattr(importlib.import_module(module), opener)(
                **{"fileobj" if suffix == ".gz" else "filename": io.BufferedReader(content)}
            )
        elif suffix in _IN_ARROW:
            pyarrow = require("pyarrow", "parquet", f"from_csv of a file *{suffix}")
            content = pyarrow.CompressedInputStream(pyarrow.PythonFile(content, "r"), _IN_ARROW[suffix])
        if self.is_compressed:
            content = Limited(content, self.path)
        return io.TextIOWrapper(io.BufferedReader(content, _PIECE), self.encoding, newline="")

    @contextlib.contextmanager
    def _errors(self, pieces: _Pieces) -> Iterator[None]:
        try:
            yield
        except UnicodeError as error:
            raise DatasetError(
                f"{self.path} is damaged, or not written in {self.encoding.removesuffix('-sig')}, after line "
                f"{pieces.lines}: {error}; say how it is written, such as encoding='cp1252'"
            ) from error
        except csv.Error as error:
            raise DatasetError(
                f"{self.path} is damaged, or no CSV file: {error} after line {pieces.lines}: a value is too long, or "
                "quotes do not end"
            ) from error
        except (OSError, EOFError, zlib.error) as error:
            raise DatasetError(f"{self.path} is damaged, or cannot be read: {error}") from error
        except Exception as error:  # of a library that uncompresses
            if type(error).__module__.partition(".")[0] in ("lzma", "_lzma", "pyarrow"):
                raise DatasetError(f"{self.path} is damaged, or cannot be read: {error}") from error
            raise


class _Pieces:
    """The lines of a text, some 1 MiB at a time.

    Attributes:
        count: how many pieces there were.
        lines: how many lines there were in rows that have been read.
        rows: how many rows with quotes have been read.
    """

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._text, self.count, self.lines, self.rows = text, 0, 0, 0

    def __iter__(self) -> Iterator[str]:
        before = (-1, -1)
        while piece := self._text.read(_PIECE):
            end = self._text.readline(_PIECE)
            if before == (self.rows, self.lines) or len(end) == _PIECE:
                raise csv.Error("a row of more than 1 MiB")
            before = (self.rows, self.lines)
            self.count += 1
            yield piece + end
