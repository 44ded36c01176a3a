"""Clients from Parquet files, of which only what a client needs is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hansa._extras import require
from hansa.simulation import _same_file
from hansa.simulation._dealing import Partition, check_owner, dealt
from hansa.simulation._errors import DatasetError, reader
from hansa.simulation._limits import too_much, unpacked_limit
from hansa.simulation._selection import Convert, Features, Selection, select
from hansa.simulation.client_data import ClientData
from hansa.simulation.readers import arrow
from hansa.simulation.readers.clients import OfClients, of_file
from hansa.simulation.readers.grouping import Integers, Rows, group
from hansa.types.identities import ClientId

_ROWS_AT_ONCE = 1 << 16


@reader
def from_parquet(
    path: str | Path,
    client: str | None = None,
    features: Features | None = None,
    convert: Convert | None = None,
    *,
    partition: Partition | None = None,
    label: str = "y",
) -> ClientData:
    """The clients of a Parquet file with one row per example; the file is never loaded whole.

    The column of clients is read once, to learn which rows are whose. A client's rows are read when they are wanted,
    from the row groups that they are in, so a file is read fastest if it is sorted by client and its row groups are
    small; where a client's rows are all over the file, each client costs a pass through it. `.in_memory()` of what is
    returned keeps what has been read.

    Args:
        path: the file.
        client: the column that says whose each row is: all integers or all strings. Where it is missing, empty or -1,
            the row is nobody's, and is left out, with a warning.
        features: the arrays of examples. A list of columns, each an array `[examples]` (or `[examples, ...]` if it
            holds lists of one length); or a dict such as `{"x": ["height", "weight"], "y": "label"}`, in which a list
            of columns is stacked to one array `[examples, columns]`. By default every other column.
        convert: by name of the array, a dtype that it is cast to, or a function from values to an array with a row for
            each, such as one that makes numbers of text (it then gets a list of strings).
        partition: in place of `client`, how rows are dealt out to simulated clients; see `from_frame`. All rows are
            then read at once, and kept in memory.
        label: the array of labels, which partitions look at.

    Returns:
        The clients, in ascending order of their ids; each one's rows are in the file's order.

    Raises:
        DatasetError: the file is damaged, or no Parquet. It is a FileNotFoundError if there is none, and a TypeError or
            a ValueError if there is no such column, or it does not hold what it should.
        ImportError: pyarrow is not installed.

    Examples:
        >>> import pandas as pd
        >>> frame = pd.DataFrame({"patient": ["ann", "bo", "ann"], "height": [1.7, 1.8, 1.6]})
        >>> frame.to_parquet("patients.parquet")
        >>> hansa.simulation.from_parquet("patients.parquet", client="patient").client("ann")
        {'height': array([1.7, 1.6])}
    """
    table = ParquetTable(Path(path), "from_parquet")
    name = str(table.path)
    check_owner(client, partition, name)
    selection = select(name, table.schema.names, features, convert, client)
    arrow.check_schema(selection, table.schema)
    if client is None:
        return dealt(selection.arrays(_whole(table, selection.columns)), partition, label, name)
    rows = group((arrow.owners(batch.column(0)) for batch in table.batches([client])), f"column {client!r} of {name}")
    positions = {client_id: position for position, client_id in enumerate(rows.client_ids)}

    def read(client_id: Any) -> dict[str, Any]:
        found = table.rows(rows.of(positions[client_id]), selection.columns)
        return selection.of_client(client_id).arrays(lambda column: arrow.to_values(found.column(column)))

    return of_file(table.path, rows.client_ids, read, rows.sizes, name, rows.left_out, _files(table, selection, rows))


def _files(table: ParquetTable, selection: Selection, rows: Rows) -> OfClients | None:
    """How another process reads the clients' rows: a client's part is the first rows and lengths of its runs."""
    chosen = selection.told()
    if chosen is None:
        return None
    positions = {client_id: position for position, client_id in enumerate(rows.client_ids)}
    told = {"reader": "parquet", "file": _same_file.told(table.path), "selection": chosen}
    return OfClients(told, lambda client_id: rows.runs(positions[client_id]))


def opened(told: Mapping[str, Any]) -> Callable[[Any, ClientId], dict[str, Any]]:
    """What reads clients' rows here, of what `from_parquet` has told elsewhere."""
    _same_file.check(told["file"])
    table, selection = ParquetTable(Path(told["file"]["path"]), "from_parquet"), Selection.of_told(told["selection"])

    def read(part: tuple[Integers, Integers], client_id: ClientId) -> dict[str, Any]:
        _same_file.check(told["file"])
        found = table.rows(np.concatenate([s + np.arange(n) for s, n in zip(*part, strict=True)]), selection.columns)
        return selection.of_client(client_id).arrays(lambda column: arrow.to_values(found.column(column)))

    return read


def _whole(table: ParquetTable, columns: Sequence[str]) -> Callable[[str], Any]:
    """The values of a column, for all rows."""
    import pyarrow

    batches = list(table.batches(columns))
    if not batches:
        raise ValueError(f"{table.path} has no rows, so there are no clients")
    found = pyarrow.Table.from_batches(batches)
    return lambda column: arrow.to_values(found.column(column))


class ParquetTable:
    """A Parquet file of which some rows and columns are read at a time. It is opened anew for each reading, so several
    threads and processes may read it.

    Attributes:
        path: the file.
        schema: its Arrow schema.
        first_rows: int64 [row groups + 1], the first row of each row group, and the number of rows.
    """

    def __init__(self, path: Path, reader: str) -> None:
        self._parquet: Any = require("pyarrow.parquet", "parquet", reader)
        self.path = path
        with self._open() as file:
            self.schema = file.schema_arrow
            groups = [file.metadata.row_group(index) for index in range(file.metadata.num_row_groups)]
            counts = [group.num_rows for group in groups]
            size = sum(group.total_byte_size for group in groups)
        if min([*counts, size]) < 0:
            raise DatasetError(f"{path} is damaged: it says that it has a negative number of rows or bytes")
        for many, unit in ((sum(counts), "rows"), (size, "bytes")):
            if many > unpacked_limit(path):
                raise DatasetError(too_much(path, f"{many:,} {unit}"))
        self.first_rows: Integers = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64)

    def _open(self) -> Any:
        import pyarrow

        if not self.path.is_file():
            raise FileNotFoundError(f"there is no file {self.path}")
        try:
            return self._parquet.ParquetFile(self.path, page_checksum_verification=True)
        except (pyarrow.ArrowException, OSError) as error:
            raise DatasetError(f"{self.path} is damaged, or no Parquet file: {error}") from error

    def batches(self, columns: Sequence[str], row_groups: Sequence[int] | None = None) -> Iterator[Any]:
        """Record batches of some columns, of all row groups or of some, one after another."""
        import pyarrow

        chosen = list(range(len(self.first_rows) - 1) if row_groups is None else row_groups)
        with self._open() as file:
            try:
                yield from file.iter_batches(_ROWS_AT_ONCE, chosen, list(columns), use_threads=False)
            except (pyarrow.ArrowException, OSError) as error:
                raise DatasetError(f"{self.path} is damaged: {error}") from error

    def rows(self, rows: Integers, columns: Sequence[str]) -> Any:
        """A table of some rows, int64 [rows] ascending; only their row groups are read, a piece at a time."""
        import pyarrow

        groups = np.flatnonzero(np.diff(np.searchsorted(rows, self.first_rows)))
        sizes = np.diff(self.first_rows)[groups]
        # Batches may span row groups: a row's place is counted among the rows of those that are read.
        ends = np.cumsum(sizes)
        shifts = self.first_rows[groups] - (ends - sizes)
        pieces, start = [], 0
        for batch in self.batches(columns, groups.tolist()):
            stop = start + batch.num_rows
            places = []
            first, last = np.searchsorted(ends, [start, stop - 1], side="right")
            for index in range(first, last + 1):
                shift = shifts[index]
                begin, end = max(start, ends[index] - sizes[index]), min(stop, ends[index])
                low, high = np.searchsorted(rows, [begin + shift, end + shift])
                places.append(rows[low:high] - (shift + start))
            if any(map(len, places)):
                pieces.append(batch.take(pyarrow.array(np.concatenate(places))))
            start = stop
        return pyarrow.Table.from_batches(pieces, pieces[0].schema)
