"""Clients from CSV files, which are put in the order of the clients once, on disk."""

from __future__ import annotations

import contextlib
import hashlib
import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hansa._extras import require
from hansa.simulation import _kept
from hansa.simulation._errors import DatasetError, reader
from hansa.simulation.client_data import ClientData
from hansa.simulation.readers.arrow import check_schema
from hansa.simulation.readers.columns import Convert, Features, Selection, select
from hansa.simulation.readers.grouping import as_they_are
from hansa.simulation.readers.parquet import ParquetTable, from_table
from hansa.simulation.readers.streams import Limited, Watched
from hansa.types.identities import ids_of_text
from hansa.types.mismatch import describe

_CODECS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd", ".lz4": "lz4", ".br": "brotli"}
_BUCKET_BYTES = 1 << 26
_MOST_BUCKETS = 256
_EXACT = 2**53
_ROW_GROUP_ROWS = 1 << 14
_COMPRESSED_TIMES = 8
"""How much larger a compressed file's content is taken to be: it decides only how much is sorted at a time."""
_FOLDER, _SUFFIX = "tables", ".parquet"
_LAYOUT = 2
"""Is counted up when tables of the same options are laid out in another way."""
# What a column can be read as; of narrower floats it is a cast of what has been read.
_DTYPES = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float32", "float64")


@reader
def from_csv(
    path: str | Path,
    client: str,
    features: Features | None = None,
    convert: Convert | None = None,
    *,
    column_types: Mapping[str, str] | None = None,
    delimiter: str = ",",
) -> ClientData:
    r"""The clients of a CSV file with a header and one row per example; the file is never loaded whole.

    A row of a CSV file cannot be found without reading those before it. So the file is read once, a block at a time,
    and the columns that are needed are written to a Parquet file in the cache, in which each client's rows are
    together. Clients are then read from there, when they are wanted. The next call for the same columns of a file of
    the same content finds the one that is there: for that the file is gone through for its digest, once in a process,
    and the Parquet file for its own; a damaged one is made anew. The cache's folder `tables` can be deleted any time.

    Args:
        path: the file, perhaps compressed, if its name says so (`.gz`, `.bz2`, `.zst`, `.lz4`, `.br`).
        client: the column that says whose each row is. It is read as text, so nothing is rounded: if every id in it is
            an integer as Python writes it (or `5.0`, as tables write integers of which some are missing), ids are
            integers, else strings (`007`). Where it is empty or -1, the row is nobody's, and is left out, with a
            warning; beside integers, `NA`, `NaN` or `null` are empty, too.
        features: the arrays of examples. A list of columns, each an array `[examples]`; or a dict such as
            `{"x": ["height", "weight"], "y": "label"}`, in which a list of columns is stacked to one array
            `[examples, columns]`. By default every other column.
        convert: by name of the array, a dtype that it is cast to, or a function from values to an array with a row for
            each, such as one that makes numbers of text (it then gets a list of strings).
        column_types: by name of the column, the type of what it holds, such as "str" or "float64". By default what its
            first rows look like, or what `convert` says. For the column of clients, "str" or "int64" decides which.
        delimiter: the character between values.

    Returns:
        The clients, in ascending order of their ids; each one's rows are in the file's order.

    Raises:
        DatasetError: the file is damaged. It is a FileNotFoundError if there is none, and a TypeError or a ValueError
            if there is no such column, or it does not hold what it should, or the file is empty.
        ImportError: pyarrow is not installed.

    Examples:
        >>> from pathlib import Path
        >>> _ = Path("patients.csv").write_text("patient,height,ill\nann,1.7,0\nbo,1.8,1\nann,1.6,1\n")
        >>> patients = hansa.simulation.from_csv("patients.csv", client="patient", features={"x": "height", "y": "ill"})
        >>> patients.client("ann")
        {'x': array([1.7, 1.6]), 'y': array([0, 1])}
    """
    require("pyarrow.csv", "parquet", "from_csv")
    file = _CsvFile(Path(path), delimiter)
    selection = select(str(file.path), file.schema({}).names, features, convert, client)
    types = _column_types(selection, client, column_types or {})
    check_schema(selection, file.schema(types))
    table = ParquetTable(_arranged(file, client, selection.columns, types), "from_csv")
    meaning = as_they_are if client in (column_types or {}) else ids_of_text
    return from_table(table, client, features, convert, str(file.path), meaning)


class _CsvFile:
    """A CSV file that is read a block at a time."""

    def __init__(self, path: Path, delimiter: str) -> None:
        self.path, self.delimiter, self.codec = path, delimiter, _CODECS.get(path.suffix)
        if not path.is_file():
            raise FileNotFoundError(f"there is no file {path}")

    def schema(self, types: Mapping[str, str]) -> Any:
        """The Arrow schema that the first block has."""
        with Watched(self.path) as source, self._errors(), self._open(source, [], types) as reader:
            return reader.schema

    def batches(self, source: Watched, columns: list[str], types: Mapping[str, str]) -> Iterator[Any]:
        """Some columns, as record batches, one block after another."""
        import pyarrow

        with self._errors(), self._open(source, columns, types) as reader:
            for batch in reader:
                for name, column in zip(batch.schema.names, batch.columns, strict=True):
                    if pyarrow.types.is_floating(column.type):
                        numbers = column.to_numpy(zero_copy_only=False)
                        self._check_finite(name, numbers)
                        if name not in types:
                            self._check_exact(name, numbers)
                yield batch

    def _check_exact(self, name: str, numbers: npt.NDArray[np.float64]) -> None:
        """Checks that floats, of which nobody said that they are, are no whole numbers that have been rounded."""
        large = numbers[np.abs(numbers) >= _EXACT]
        if len(large):
            raise TypeError(
                f"column {name!r} of {self.path} holds a number as large as {large[0]!s}, where float64 does not tell "
                f"whole numbers apart; say what it is with column_types={{{name!r}: 'uint64'}}, or 'float64' for "
                "measurements, which may be rounded, or 'str' for a function in convert"
            )

    def _check_finite(self, name: str, numbers: npt.NDArray[np.floating[Any]]) -> None:
        """Checks that no number was too large for its dtype, which makes infinity of it."""
        if np.isinf(numbers).any():
            raise ValueError(
                f"column {name!r} of {self.path} holds infinity, or a number that is too large for {numbers.dtype}; "
                f"read it as text, with column_types={{{name!r}: 'str'}}, for a function in convert"
            )

    def _open(self, source: Watched, columns: list[str], types: Mapping[str, str]) -> Any:
        import pyarrow
        from pyarrow import csv

        named = {
            column: pyarrow.string() if kind == "str" else pyarrow.from_numpy_dtype(np.dtype(kind))
            for column, kind in types.items()
        }
        stream: Any = source
        if self.codec is not None:
            stream = Limited(pyarrow.CompressedInputStream(pyarrow.PythonFile(source, "r"), self.codec), self.path)
        return csv.open_csv(
            pyarrow.PythonFile(stream, "r"),
            parse_options=csv.ParseOptions(delimiter=self.delimiter),
            convert_options=csv.ConvertOptions(include_columns=columns, column_types=named),
        )

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        import pyarrow

        try:
            yield
        except pyarrow.ArrowInvalid as error:
            if "conversion error" in str(error):
                raise TypeError(
                    f"{self.path} has a value that is not of its column's type: {error}. The type is what convert "
                    "says, or else what the first rows look like; say another with column_types={'column': 'str'}"
                ) from error
            if self.path.stat().st_size == 0:
                raise ValueError(f"{self.path} is empty; it must begin with a line of column names") from error
            if "straddling" in str(error):
                raise DatasetError(f"{self.path} has a row of more than 1 MiB, or quotes that do not end") from error
            raise DatasetError(f"{self.path} is damaged, or no CSV file: {error}") from error
        except OSError as error:
            raise DatasetError(f"{self.path} is damaged, or cannot be read: {error}") from error


def _column_types(selection: Selection, client: str, given: Mapping[str, str]) -> dict[str, str]:
    """The types of columns that are not left to their first rows."""
    types = {}
    for column in [*selection.columns, client]:
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
    if client not in given:
        if client in selection.columns:
            raise ValueError(
                f"column {client!r} of {selection.table} says whose each row is, and is in features, too; say what it "
                f"holds with column_types={{{client!r}: 'int64'}}"
            )
        types[client] = "str"
    return types


def _arranged(file: _CsvFile, client: str, columns: list[str], types: Mapping[str, str]) -> Path:
    """A Parquet file of these columns in which each client's rows are together; made where there is none yet.

    It is known by the digest of the CSV file's content. That of a file whose table is made is the digest of the very
    bytes that it is made of; only where there is a table that it may be, the file is gone through for its digest alone.
    """
    size = file.path.stat().st_size
    options = json.dumps([_LAYOUT, file.codec, file.delimiter, client, columns, sorted(types.items())])
    key = f"{hashlib.sha256(options.encode()).hexdigest()[:16]}-{size}"
    if _kept.has_any(_FOLDER, key):
        found = _kept.find(_FOLDER, f"{key}-{_kept.digest_of(file.path)[:32]}", _SUFFIX)
        if found is not None:
            return found
    with _kept.workplace(_FOLDER) as work, Watched(file.path) as source:
        expected = size * (_COMPRESSED_TIMES if file.codec is not None else 1)
        buckets = min(_MOST_BUCKETS, -(-expected // _BUCKET_BYTES))
        batches = file.batches(source, list(dict.fromkeys([client, *columns])), types)
        paths = _dealt(batches, client, [work / str(bucket) for bucket in range(buckets)])
        if not paths:
            raise ValueError(f"{file.path} has no rows, so there are no clients")
        _joined(paths, client, work / "arranged")
        return _kept.keep(work / "arranged", f"{key}-{source.digest()[:32]}", _SUFFIX)


def _dealt(batches: Iterator[Any], client: str, paths: list[Path]) -> list[Path]:
    """Writes rows to as many files as there are paths, each client's to one; gives those that were written."""
    import pyarrow

    writers: dict[int, Any] = {}
    with contextlib.ExitStack() as open_files:
        for batch in batches:
            encoded = batch.column(client).dictionary_encode()
            names = encoded.dictionary.to_pylist()
            # Rows of nobody are kept, in the first bucket, so that they are counted whenever the file is read.
            bucket_of_name = np.array([*(zlib.crc32(str(name).encode()) % len(paths) for name in names), 0], np.int64)
            bucket_of_row = bucket_of_name[encoded.indices.fill_null(len(names)).to_numpy(zero_copy_only=False)]
            for bucket in np.unique(bucket_of_row).tolist():
                if bucket not in writers:
                    writer = pyarrow.ipc.new_stream(str(paths[bucket]), batch.schema)
                    writers[bucket] = open_files.enter_context(writer)
                writers[bucket].write_batch(batch.take(pyarrow.array(np.flatnonzero(bucket_of_row == bucket))))
    return [paths[bucket] for bucket in sorted(writers)]


def _joined(paths: list[Path], client: str, target: Path) -> None:
    """One Parquet file of all these, the rows of each in the order of its clients."""
    import pyarrow
    from pyarrow import parquet

    writer = None
    for path in paths:
        with pyarrow.ipc.open_stream(str(path)) as reader:
            table = reader.read_all()
        path.unlink()
        table = table.take(pyarrow.compute.sort_indices(table, [(client, "ascending")]))
        if writer is None:
            writer = parquet.ParquetWriter(target, table.schema, write_page_checksum=True)
        writer.write_table(table, _ROW_GROUP_ROWS)
    if writer is not None:
        writer.close()
