"""A table on disk in which each client's rows are together: written once, and read a few rows at a time.

The file is a name, then the columns of 16,384 rows after another, and at its end, as JSON, what is where:

| part | bytes |
|---|---|
| values of a column | little-endian numbers; of text, JSON, an array of strings |
| what is missing of them | a byte for each row, after the values, if something is |
| contents | JSON, then its length, 8 bytes |

Each part's CRC-32 is compared when it is read. The contents are trusted: whoever opens such a file has checked its
digest (`_kept.py`).
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from hansa.simulation._errors import DatasetError
from hansa.simulation.readers.csv_values import Cells, joined, stored_dtype

_NAME = b"hansa table 1\n"
_ROWS = 1 << 14
_LENGTH = 8


class TableWriter:
    """Writes a table, some rows after another.

    Args:
        path: the file.
        kinds: the type of each column.
    """

    def __init__(self, path: Path, kinds: Mapping[str, str]) -> None:
        self._file, self._kinds = path.open("wb"), kinds
        self._file.write(_NAME)
        self._waiting: list[dict[str, Cells]] = []
        self._rows_waiting = 0
        self._parts: list[list[list[int]]] = []

    def add(self, columns: dict[str, Cells], rows: int) -> None:
        """Adds rows, of which the columns have as many values."""
        self._waiting.append(columns)
        self._rows_waiting += rows
        if self._rows_waiting >= _ROWS:
            self._write(self._rows_waiting // _ROWS * _ROWS)

    def close(self, owners: Sequence[Any], sizes: Sequence[int]) -> None:
        """Writes what is left, and whose the rows are: the owners in their order, and how many rows each has."""
        if self._rows_waiting:
            self._write(self._rows_waiting)
        contents = {"kinds": self._kinds, "parts": self._parts, "owners": list(owners), "sizes": list(sizes)}
        written = json.dumps(contents).encode()
        self._file.write(written + len(written).to_bytes(_LENGTH, "little"))
        self._file.close()

    def _write(self, rows: int) -> None:
        whole = {name: joined([each[name] for each in self._waiting], kind) for name, kind in self._kinds.items()}
        for start in range(0, rows, _ROWS):
            chosen = slice(start, min(start + _ROWS, rows))
            self._parts.append([self._part(cells.take(chosen)) for cells in whole.values()])
        self._waiting = [{name: cells.take(slice(rows, None)) for name, cells in whole.items()}]
        self._rows_waiting -= rows

    def _part(self, cells: Cells) -> list[int]:
        """Writes some values of a column: where, how many bytes they have, how many of these are values, a checksum."""
        values = to_bytes(cells.values)
        content = values + (b"" if cells.missing is None or not cells.missing.any() else to_bytes(cells.missing))
        place = self._file.tell()
        self._file.write(content)
        return [place, len(content), len(values), zlib.crc32(content)]


class ArrangedTable:
    """A table that a `TableWriter` has written; its file is opened anew for each reading.

    Args:
        path: the file.
        name: what to call it in messages.

    Attributes:
        path: the file.
        owners: whose rows there are: the texts, or numbers, in the column of clients, one after another.
        sizes: how many rows each has.
    """

    def __init__(self, path: Path, name: str) -> None:
        self.path, self._name = path, name
        with path.open("rb") as file:
            file.seek(-_LENGTH, 2)
            length = int.from_bytes(file.read(_LENGTH), "little")
            file.seek(-_LENGTH - length, 2)
            contents = json.loads(file.read(length))
        self._kinds: dict[str, str] = contents["kinds"]
        self._parts: list[list[list[int]]] = contents["parts"]
        self.owners: list[Any] = contents["owners"]
        self.sizes: npt.NDArray[np.int64] = np.array(contents["sizes"], np.int64)

    def rows(self, stretches: Sequence[tuple[int, int]], columns: Sequence[str]) -> dict[str, Cells]:
        """Some columns of some rows.

        Args:
            stretches: the first row and the number of rows of each stretch.
            columns: the columns.

        Raises:
            DatasetError: a part is damaged.
        """
        names = list(self._kinds)
        found: dict[str, list[Cells]] = {column: [] for column in columns}
        with self.path.open("rb") as file:
            for start, count in stretches:
                for group in range(start // _ROWS, -(-(start + count) // _ROWS)):
                    first = group * _ROWS
                    chosen = slice(max(start - first, 0), start + count - first)
                    for column in columns:
                        part = self._parts[group][names.index(column)]
                        found[column].append(self._read(file, part, self._kinds[column]).take(chosen))
        return {column: joined(parts, self._kinds[column]) for column, parts in found.items()}

    def _read(self, file: IO[bytes], part: list[int], kind: str) -> Cells:
        place, length, of_values, checksum = part
        file.seek(place)
        content = file.read(length)
        if zlib.crc32(content) != checksum:
            raise DatasetError(
                f"the table of {self._name}, {self.path}, was damaged since it was opened; read the file anew"
            )
        missing = np.frombuffer(content, np.bool_, offset=of_values) if length > of_values else None
        return Cells(from_bytes(content[:of_values], kind), missing)


def to_bytes(values: npt.NDArray[Any]) -> bytes:
    """Values as they are stored."""
    if values.dtype.hasobject:
        return json.dumps(values.tolist(), ensure_ascii=False).encode("utf-8", "surrogatepass")
    return values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()


def from_bytes(content: bytes, kind: str) -> npt.NDArray[Any]:
    """What `to_bytes` made bytes of."""
    dtype = stored_dtype(kind)
    if dtype.hasobject:
        texts = json.loads(content.decode("utf-8", "surrogatepass"))
        made = np.empty(len(texts), object)
        made[:] = texts
        return made
    return np.frombuffer(content, dtype.newbyteorder("<")).astype(dtype, copy=False)
