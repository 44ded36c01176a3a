"""What clients keep, in files: segments of rows, each written once, that the checkpoints of a run name.

A checkpoint writes the rows that have changed since the one before it, in a segment of its own, and lists the segments
in which the rows of its state lie. So it costs what has changed, and not the population. A segment is there whole or
not at all, and is not changed afterwards.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hansa._files import remove_others
from hansa.compiler.artifacts.file import Reader, StoredRows, Writer
from hansa.types import Struct, StructType, Type
from hansa.types.client_states import ClientStates
from hansa.types.client_table import ClientTable
from hansa.types.rows import Block, Rows

CLIENTS = "clients"
"""The folder of segments, beside the checkpoints that name them."""

_KIND = "client rows"
_NAME = re.compile(r"round-\d+-\d+\.rows")


class Segments:
    """A folder of segments, `round-00000012-0.rows` for the rows that a checkpoint after twelve rounds has written.

    Args:
        folder: the folder, which is made when the first one is written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def save(self, states: ClientStates, round_number: int, part: int) -> dict[str, Any]:
        """Writes what is in no file of this folder yet, which the states read from there afterwards. A file that is
        there is not written over, as another checkpoint may name it. Gives what `load` takes.

        Args:
            states: what is saved.
            round_number: after how many rounds.
            part: the first number that the file may have, of those of that round.
        """
        rows, table = states._rows, states._table
        old = self._found_again(rows, table)
        new = np.flatnonzero((rows.block >= 0) & (old.block < 0))
        old = old.trimmed()
        moving = np.union1d(old.sparse(in_files=True), new)
        if moving.size:
            self._folder.mkdir(exist_ok=True)
            names = (f"round-{round_number:08d}-{number}.rows" for number in itertools.count(part))
            name = next(name for name in names if not os.path.lexists(self._folder / name))
            whole = rows.select(moving).copied()
            _write(self._folder / name, table.ids(moving), whole.blocks[0].arrays)
            block, _ = _read(self._folder / name, None)
            block.is_of(table, moving)
            rows = states._rows = old.replaced(moving, Rows((block,), whole.block, whole.row))
        listed = [{"file": block.name, "digest": block.digest} for block in rows.blocks]  # type: ignore[attr-defined]
        return {"segments": listed}

    def load(self, found: dict[str, Any], kind: Type, first: Any) -> ClientStates:
        """The states that were saved.

        Args:
            found: what `save` gave.
            kind: the type of one client's state.
            first: what a client has that has never taken part.

        Raises:
            Exception: of any kind, if a file is not there, or is not what was written.
        """
        states, table = ClientStates(first, kind), ClientTable()
        blocks, block_of, row_of = [], np.zeros(0, np.int32), np.zeros(0, np.int32)
        for number, listed in enumerate(found["segments"]):
            name = listed["file"]
            if not isinstance(name, str) or not _NAME.fullmatch(name):
                raise ValueError(f"a segment cannot be called {name!r}")
            block, client_ids = _read(self._folder / name, listed["digest"])
            _check_type(block, states._start, name)
            blocks.append(block)
            entries = table.numbers(client_ids, add=True)
            block.is_of(table, entries)
            more = len(table) - len(block_of)
            block_of, row_of = np.pad(block_of, (0, more)), np.pad(row_of, (0, more))
            block_of[entries], row_of[entries] = number, np.arange(block.size)
        return states._with(Rows(tuple(blocks), block_of, row_of), table)

    def _found_again(self, rows: Rows, table: ClientTable) -> Rows:
        """The rows that are in files of this folder, and that `load` finds there.

        Of a client that is in several files it takes the row of the last one, and all clients of a file have a state.
        That is so where states come one after another. It need not be where rows of an older state were put into one.
        """
        has = np.append(rows.block >= 0, False)
        block, row = np.full(len(rows), -1, np.int32), np.zeros(len(rows), np.int32)
        folder = self._folder.resolve()
        for number, found in enumerate(rows.blocks):
            if isinstance(found, _Segment) and found.folder == folder:
                entries = found.numbers(table)
                if has[np.where(entries < len(rows), entries, -1)].all():
                    block[entries], row[entries] = number, np.arange(found.size)
        return Rows(rows.blocks, np.where((block == rows.block) & (row == rows.row), block, -1), rows.row)

    def exist(self) -> bool:
        """Whether there may be any."""
        return self._folder.is_dir()

    def clean(self, named: Iterable[str]) -> None:
        """Removes the segments but for these, and what was left of writing."""
        remove_others(self._folder, _NAME, named)


def beside(checkpoint: Path) -> Segments:
    """The segments of a checkpoint and of those in the same folder."""
    return Segments(checkpoint.parent / CLIENTS)


def segments_of(manifest: Mapping[str, Any]) -> set[str]:
    """The names of the segments that a checkpoint names."""
    parts = [manifest["state"], *manifest["saved"].values()]
    return {str(each["file"]) for part in parts for kept in part.get("clients", ()) for each in kept["segments"]}


class Keeping:
    """Puts the states of clients in some values into segments, each states once.

    Args:
        segments: where.
        round_number: after how many rounds.
    """

    def __init__(self, segments: Segments, round_number: int) -> None:
        self._segments, self._round = segments, round_number
        self._saved: dict[int, dict[str, Any]] = {}

    def without(self, value: Any) -> Any:
        """A value with what all clients have at first in the place of their states."""
        if isinstance(value, ClientStates):
            return value.first
        if not isinstance(value, Struct):
            return value
        return value._make(value._fields, tuple(map(self.without, value)))

    def listed(self, value: Any) -> dict[str, Any]:
        """Where in a value there are states of clients, and in which segments their rows are."""
        found = [{"at": at, **self._save(states)} for at, states in _states_in(value, [])]
        return {"clients": found} if found else {}

    def _save(self, states: ClientStates) -> dict[str, Any]:
        if id(states) not in self._saved:
            self._saved[id(states)] = self._segments.save(states, self._round, len(self._saved))
        return self._saved[id(states)]


def with_states(value: Any, kind: Type, at: list[int], found: dict[str, Any], segments: Segments) -> Any:
    """A value with the states of clients at the end of a way, where what they have at first is.

    Raises:
        Exception: of any kind, if they are not what was written.
    """
    if not at:
        return segments.load(found, kind, value)
    if not isinstance(kind, StructType) or type(at[0]) is not int or not 0 <= at[0] < len(kind):
        raise ValueError("states of clients are in a place that there is not")
    parts = list(value)
    parts[at[0]] = with_states(parts[at[0]], kind[at[0]], at[1:], found, segments)
    return value._make(value._fields, tuple(parts))


def _states_in(value: Any, at: list[int]) -> list[tuple[list[int], ClientStates]]:
    """The states of clients in structs, and the way to each."""
    if isinstance(value, ClientStates):
        return [(at, value)]
    if not isinstance(value, Struct):
        return []
    return [found for i, part in enumerate(value) for found in _states_in(part, [*at, i])]


class _Segment(Block):
    """The rows of a file.

    Attributes:
        folder: that of the file, without links.
        name: of the file.
        digest: of what it lists: the clients, and the checksums of the arrays.
    """

    def __init__(self, arrays: list[StoredRows], path: Path, digest: str, client_ids: list[Any]) -> None:
        super().__init__(arrays)
        self.folder, self.name, self.digest = path.parent.resolve(), path.name, digest
        self._client_ids, self._table, self._numbers = client_ids, ClientTable(), np.zeros(0, np.int64)

    def is_of(self, table: ClientTable, numbers: npt.NDArray[Any]) -> None:
        """Says which numbers its clients have in a table."""
        self._client_ids, self._table, self._numbers = table.ids(numbers), table, numbers

    def numbers(self, table: ClientTable) -> npt.NDArray[Any]:
        """The numbers that its clients have in a table, row by row; -1 for who is not in it."""
        return self._numbers if table is self._table else table.numbers(self._client_ids)


def _write(path: Path, client_ids: list[Any], arrays: Iterable[Any]) -> None:
    writer = Writer()
    stacks = [writer.array(array) for array in arrays]
    writer.write(path, {"kind": _KIND, "client_ids": client_ids, "stacks": stacks})


def _read(path: Path, digest: str | None) -> tuple[_Segment, list[Any]]:
    """The rows of a file, and whose they are."""
    reader = Reader(path)
    if reader.manifest["kind"] != _KIND:
        raise ValueError(f"{path.name} holds no rows of clients")
    client_ids, stacks = reader.manifest["client_ids"], reader.manifest["stacks"]
    found = hashlib.sha256(json.dumps([client_ids, stacks]).encode()).hexdigest()
    if digest is not None and found != digest:
        raise ValueError(f"{path.name} is another one than the checkpoint names")
    arrays = [reader.array(stack).rows() for stack in stacks]
    if any(type(each) not in (int, str) for each in client_ids) or len(set(client_ids)) != len(client_ids):
        raise ValueError(f"{path.name} does not say whose its rows are")
    if any(array.shape[0] != len(client_ids) for array in arrays):
        raise ValueError(f"{path.name} does not have a row for each of its clients")
    return _Segment(arrays, path, found, client_ids), client_ids


def _check_type(block: Block, start: Block, name: str) -> None:
    """Checks that rows are of the type of what clients have at first."""
    alike = [(array.dtype, array.shape[1:]) for array in start.arrays]
    if [(array.dtype, array.shape[1:]) for array in block.arrays] != alike:
        raise ValueError(f"{name} has rows of another type")
