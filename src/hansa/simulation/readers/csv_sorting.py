"""A table in the order of its clients, of rows in any order: more rows than memory holds, dealt to files and back.

Rows are dealt to so many files that each of them is small, each client's to one; then the rows of a file after another
are put in the order of their clients. Of a client, they stay in the order in which they came.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from hansa.simulation.readers.arranged import TableWriter, from_bytes, to_bytes
from hansa.simulation.readers.csv_values import Cells, joined

_BUCKET_BYTES = 1 << 24
_MOST_BUCKETS = 1024
_LENGTH = 8

Numbers = npt.NDArray[np.int64]


def sort_by_client(
    blocks: Iterator[Mapping[str, Cells]], kinds: Mapping[str, str], client: str | None, work: Path, size: int
) -> int:
    """Writes the table `arranged` in the folder `work`.

    Args:
        blocks: the columns of some rows, one after another.
        kinds: the types of the columns that are written.
        client: the column that says whose each row is; None if they are all of one.
        work: a folder of one's own.
        size: about how many bytes of text there are.

    Returns:
        How many rows there are.
    """
    count = 1 if client is None else min(_MOST_BUCKETS, -(-size // _BUCKET_BYTES))
    paths = [work / str(bucket) for bucket in range(max(count, 1))]
    owners = _dealt(blocks, kinds, client, paths)
    order = [owner for bucket in range(len(paths)) for owner in list(owners)[bucket :: len(paths)]]
    writer = TableWriter(work / "arranged", kinds)
    for path in paths:
        if path.exists():
            _joined(path, kinds, writer)
    writer.close(order, [owners[owner] for owner in order])
    return sum(owners.values())


def _dealt(
    blocks: Iterator[Mapping[str, Cells]], kinds: Mapping[str, str], client: str | None, paths: list[Path]
) -> dict[Any, int]:
    """Writes rows to files, those of the owner with the number `n` to `paths[n % len(paths)]`.

    Returns:
        By owner, how many rows there are; owners are numbered in this order, that of their first rows.
    """
    numbers: dict[Any, int] = {}
    counts = np.zeros(0, np.int64)
    for block in blocks:
        number_of = _numbered([""] * _rows(block) if client is None else block[client].read(), numbers)
        added = np.bincount(number_of, minlength=len(numbers))
        added[: len(counts)] += counts
        counts = added
        bucket_of = number_of % len(paths)
        for bucket in np.unique(bucket_of).tolist():
            chosen = np.flatnonzero(bucket_of == bucket)
            with paths[bucket].open("ab") as file:
                _put(file, number_of[chosen])
                for name in kinds:
                    part = block[name].take(chosen)
                    _put(file, part.values)
                    _put(file, np.zeros(0, np.bool_) if part.missing is None else part.missing)
    return dict(zip(numbers, counts.tolist(), strict=True))


def _numbered(owners: Any, numbers: dict[Any, int]) -> Numbers:
    """The number of each owner; new ones get the next numbers. A NaN is nobody, as None is."""
    listed = owners
    if isinstance(owners, np.ndarray):
        listed = [None if owner != owner else owner for owner in owners.tolist()]
    for owner in dict.fromkeys(listed):
        numbers.setdefault(owner, len(numbers))
    return np.fromiter(map(numbers.__getitem__, listed), np.int64, len(listed))


def _joined(path: Path, kinds: Mapping[str, str], writer: TableWriter) -> None:
    """Adds the rows of a file to the table, in the order of their owners' numbers."""
    numbers: list[Numbers] = []
    parts: dict[str, list[Cells]] = {name: [] for name in kinds}
    with path.open("rb") as file:
        while (content := _got(file)) is not None:
            numbers.append(from_bytes(content, "int64"))
            for name, kind in kinds.items():
                values, missing = from_bytes(_got(file) or b"", kind), from_bytes(_got(file) or b"", "bool")
                parts[name].append(Cells(values, missing if len(missing) else None))
    path.unlink()
    order = np.argsort(np.concatenate(numbers), kind="stable")
    writer.add({name: joined(parts.pop(name), kind).take(order) for name, kind in kinds.items()}, len(order))


def _rows(block: Mapping[str, Cells]) -> int:
    return len(next(iter(block.values())).values)


def _put(file: IO[bytes], values: npt.NDArray[Any]) -> None:
    content = to_bytes(values)
    file.write(len(content).to_bytes(_LENGTH, "little") + content)


def _got(file: IO[bytes]) -> bytes | None:
    length = file.read(_LENGTH)
    return file.read(int.from_bytes(length, "little")) if length else None
