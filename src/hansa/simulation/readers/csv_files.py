"""Clients from CSV files, which are put in the order of the clients once, on disk."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hansa.simulation import _kept, _same_file
from hansa.simulation._dealing import Partition, check_owner, dealt
from hansa.simulation._errors import reader
from hansa.simulation._selection import Convert, Features, Selection, select
from hansa.simulation.client_data import ClientData
from hansa.simulation.readers.arranged import ArrangedTable
from hansa.simulation.readers.clients import OfClients, of_file
from hansa.simulation.readers.csv_columns import TypedColumns
from hansa.simulation.readers.csv_rows import CsvFile
from hansa.simulation.readers.csv_sorting import sort_by_client
from hansa.simulation.readers.grouping import Integers, as_they_are, group
from hansa.simulation.readers.streams import Watched
from hansa.types.identities import ClientId, ids_of_text
from hansa.types.mismatch import describe

_FOLDER, _SUFFIX = "tables", ".table"
_LAYOUT = 3
"""Is counted up when tables of the same options are laid out in another way."""
# What a column can be read as; of narrower floats it is a cast of what has been read.
_DTYPES = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float32", "float64")


@reader
def from_csv(
    path: str | Path,
    client: str | None = None,
    features: Features | None = None,
    convert: Convert | None = None,
    *,
    partition: Partition | None = None,
    label: str = "y",
    column_types: Mapping[str, str] | None = None,
    delimiter: str = ",",
    encoding: str = "utf-8",
) -> ClientData:
    r"""The clients of a CSV file with a header and one row per example; the file is never loaded whole.

    A row of a CSV file cannot be found without reading those before it. So the file is read once, a block at a time,
    and the columns that are needed are written to a table in the cache, in which each client's rows are
    together. Clients are then read from there, when they are wanted. The next call for the same columns of a file of
    the same content finds the one that is there: for that the file is gone through for its digest, once in a process,
    and the table for its own; a damaged one is made anew. The cache's folder `tables` can be deleted any time.

    Args:
        path: the file, perhaps compressed, if its name says so: `.gz`, `.bz2`, `.xz`; or `.zst`, `.lz4`, `.br`, which
            pyarrow reads (`pip install 'hansa[parquet]'`).
        client: the column that says whose each row is. It is read as text, so nothing is rounded: if every id in it is
            an integer as Python writes it (or `5.0`, as tables write integers of which some are missing), ids are
            integers, else strings (`007`). Where it is empty or -1, the row is nobody's, and is left out, with a
            warning; beside integers, `NA`, `NaN` or `null` are empty, too.
        features: the arrays of examples. A list of columns, each an array `[examples]`; or a dict such as
            `{"x": ["height", "weight"], "y": "label"}`, in which a list of columns is stacked to one array
            `[examples, columns]`. By default every other column.
        convert: by name of the array, a dtype that it is cast to, or a function from values to an array with a row for
            each, such as one that makes numbers of text (it then gets a list of strings).
        partition: in place of `client`, how rows are dealt out to simulated clients; see `from_frame`. All rows are
            then kept in memory.
        label: the array of labels, which partitions look at.
        column_types: by name of the column, the type of what it holds, such as "str" or "float64". By default what its
            first rows look like, or what `convert` says. For the column of clients, "str" or "int64" decides which.
        delimiter: the character between values.
        encoding: how characters are written, such as "cp1252" or "utf-16". A byte order mark is passed over.

    Returns:
        The clients, in ascending order of their ids; each one's rows are in the file's order.

    Raises:
        DatasetError: the file is damaged. It is a FileNotFoundError if there is none, and a TypeError or a ValueError
            if there is no such column, or it does not hold what it should, or the file is empty. The message names
            the line.

    Examples:
        >>> from pathlib import Path
        >>> _ = Path("patients.csv").write_text("patient,height,ill\nann,1.7,0\nbo,1.8,1\nann,1.6,1\n")
        >>> patients = hansa.simulation.from_csv("patients.csv", client="patient", features={"x": "height", "y": "ill"})
        >>> patients.client("ann")
        {'x': array([1.7, 1.6]), 'y': array([0, 1])}
    """
    file = CsvFile(Path(path), delimiter, encoding)
    name = str(file.path)
    check_owner(client, partition, name)
    names, first = file.beginning()
    selection = select(name, names, features, convert, client)
    types = _column_types(selection, client, column_types or {})
    table = _table(file, client, selection, types, names, first)
    if client is None:
        whole = table.rows([(0, int(table.sizes.sum()))], selection.columns)
        return dealt(selection.arrays(lambda column: whole[column].read()), partition, label, name)
    meaning = as_they_are if client in (column_types or {}) else ids_of_text
    rows = group([(table.owners, table.sizes)], f"column {client!r} of {name}", meaning, False)
    positions = {client_id: position for position, client_id in enumerate(rows.client_ids)}
    read_part = _reading(table, selection)

    def part(client_id: Any) -> tuple[Integers, Integers]:
        return rows.runs(positions[client_id])

    files = None
    if (chosen := selection.told()) is not None:
        given = {"path": os.path.abspath(file.path), "delimiter": delimiter, "encoding": encoding, "client": client}
        made = {"reader": "csv_files", "table": _same_file.told(table.path), "types": dict(types)}
        files = OfClients({**given, **made, "selection": chosen}, part)

    def read(client_id: Any) -> dict[str, Any]:
        return read_part(part(client_id), client_id)

    return of_file(table.path, rows.client_ids, read, rows.sizes, name, rows.left_out, files)


def opened(told: Mapping[str, Any]) -> Callable[[Any, ClientId], dict[str, Any]]:
    """What reads clients' rows here, of what `from_csv` has told elsewhere; the table is made here if it is not."""
    selection, path = Selection.of_told(told["selection"]), told["path"]

    def made() -> Path:
        file = CsvFile(Path(path), told["delimiter"], told["encoding"])
        return _table(file, told["client"], selection, told["types"], *file.beginning()).path

    return _reading(ArrangedTable(_same_file.made_here(told["table"], path, made), path), selection)


def _reading(table: ArrangedTable, selection: Selection) -> Callable[[Any, ClientId], dict[str, Any]]:
    """Reads a client's rows, of the first rows and the lengths of its runs."""

    def read(part: tuple[Integers, Integers], client_id: ClientId) -> dict[str, Any]:
        starts, lengths = part
        found = table.rows(list(zip(starts.tolist(), lengths.tolist(), strict=True)), selection.columns)
        return selection.of_client(client_id).arrays(lambda column: found[column].read())

    return read


def _table(
    file: CsvFile,
    client: str | None,
    selection: Selection,
    types: Mapping[str, str],
    names: list[str],
    first: Any,
) -> ArrangedTable:
    """The columns that are needed, each client's rows together; names and first rows are those of the file."""
    columns = list(dict.fromkeys([*([] if client is None else [client]), *selection.columns]))
    typed = TypedColumns(file, names, first, columns, types)
    typed.check(selection)
    return ArrangedTable(_arranged(file, client, selection.columns, typed, types), str(file.path))


def _column_types(selection: Selection, client: str | None, given: Mapping[str, str]) -> dict[str, str]:
    """The types of columns that are not left to their first rows."""
    types = {}
    for column in [*selection.columns, *([] if client is None else [client])]:
        dtype = selection.dtype_of(column) if column != client else None
        if column in given:
            if given[column] not in (*_DTYPES, "str"):
                raise TypeError(
                    f"column_types[{column!r}] must be 'str', or a dtype such as 'float64'; found "
                    f"{describe(given[column])}"
                )
            types[column] = given[column]
        elif dtype is not None and dtype.name in _DTYPES:
            types[column] = dtype.name
    for column in given:
        if column not in types:
            raise ValueError(
                f"column_types names {column!r}, which is neither the column of clients nor in features; leave it out"
            )
    if client is not None and client not in given:
        if client in selection.columns:
            raise ValueError(
                f"column {client!r} of {selection.table} says whose each row is, and is in features, too; say what it "
                f"holds with column_types={{{client!r}: 'int64'}}"
            )
        types[client] = "str"
    return types


def _arranged(
    file: CsvFile, client: str | None, columns: list[str], typed: TypedColumns, types: Mapping[str, str]
) -> Path:
    """A table of these columns in which each client's rows are together; made where there is none yet.

    It is known by the digest of the CSV file's content. That of a file whose table is made is the digest of the very
    bytes that it is made of; only where there is a table that it may be, the file is gone through for its digest alone.
    """
    size = file.path.stat().st_size
    said = [_LAYOUT, file.path.suffix if file.is_compressed else "", file.encoding, file.delimiter, client]
    options = json.dumps([*said, columns, sorted(types.items())])
    key = f"{hashlib.sha256(options.encode()).hexdigest()[:16]}-{size}"
    if _kept.has_any(_FOLDER, key):
        found = _kept.find(_FOLDER, f"{key}-{_kept.digest_of(file.path)[:32]}", _SUFFIX)
        if found is not None:
            return found
    with _kept.workplace(_FOLDER) as work, Watched(file.path) as source:
        kinds = {column: typed.kinds[column] for column in columns}
        if not sort_by_client(typed.blocks(source), kinds, client, work, file.expected_size):
            raise ValueError(f"{file.path} has no rows, so there are no clients")
        return _kept.keep(work / "arranged", f"{key}-{source.digest()[:32]}", _SUFFIX)
