"""Clients from the SQLite databases in which TensorFlow Federated publishes its datasets."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hansa.simulation import _same_file
from hansa.simulation._errors import reader
from hansa.simulation._selection import Convert, Features, Selection, select, without_rows
from hansa.simulation._unpacked import unpacked
from hansa.simulation.client_data import ClientData
from hansa.simulation.readers.clients import OfClients, of_file
from hansa.simulation.readers.tff_database import TffDatabase
from hansa.types.identities import ClientId


@reader
def from_tff_sqlite(
    path: str | Path, split: str | None = None, features: Features | None = None, convert: Convert | None = None
) -> ClientData:
    """The clients of a SQLite database of TensorFlow Federated, such as `shakespeare.sqlite`.

    Its table `examples` has a serialized `tf.train.Example` in each row, its table `client_metadata` says who the
    clients are. That is read now, and a client's examples when they are wanted. TensorFlow is not needed.

    Args:
        path: the database. One compressed with LZMA, `*.lzma`, is uncompressed into the cache, once.
        split: which of its splits, such as "train"; may be left out if there is only one.
        features: the arrays of examples: a list of features, or a dict such as `{"x": "pixels", "y": "label"}`; by
            default all features. A feature of one value per example becomes an array `[examples]`, one of `n` values
            `[examples, n]`, float32 or int64.
        convert: by name of the array, a dtype that it is cast to, or a function from values to an array with a row for
            each: `{"x": lambda pixels: pixels.reshape(-1, 28, 28)}`. For a feature of bytes it gets a list of `bytes`.

    Returns:
        The clients of the split, in alphabetical order; each one's examples are in the order of the table.

    Raises:
        DatasetError: the database is damaged, or another one, or its tables are not plain ones. It is a
            FileNotFoundError if there is no such file, and a TypeError or a ValueError if there is no such split or
            feature, or it does not hold what it should.

    Examples:
        >>> import sqlite3
        >>> import tensorflow as tf
        >>> example = tf.train.Example()
        >>> example.features.feature["label"].int64_list.value.append(7)
        >>> with sqlite3.connect("digits.sqlite") as database:
        ...     database.executescript(
        ...         "CREATE TABLE examples (split_name TEXT, client_id TEXT, serialized_example_proto BLOB);"
        ...         "CREATE TABLE client_metadata (client_id TEXT, split_name TEXT, num_examples INTEGER);"
        ...         "INSERT INTO client_metadata VALUES ('f1', 'train', 1);"
        ...     )
        ...     database.execute("INSERT INTO examples VALUES ('train', 'f1', ?)", [example.SerializeToString()])
        <sqlite3.Cursor object at ...>
        <sqlite3.Cursor object at ...>
        >>> database.close()
        >>> clients = hansa.simulation.from_tff_sqlite("digits.sqlite", split="train", features={"y": "label"})
        >>> clients.client("f1")
        {'y': array([7])}
    """
    database = TffDatabase(_uncompressed(Path(path)))
    counts = database.clients(split)
    split_name = split or database.splits()[0]
    some = next((client_id for client_id, count in counts.items() if count), None)
    first = [] if some is None else database.examples(split_name, some, most=1)
    what = f"{path} (split {split_name!r})"
    if not first:
        raise ValueError(f"{what} has no examples")
    selection = select(what, list(first[0]), features, convert)
    for column in selection.columns:
        if isinstance(first[0][column], list) and not selection.is_converted(column):
            raise TypeError(
                f"feature {column!r} of {what} holds bytes; leave it out of features, or give convert a function that "
                "makes numbers of a list of bytes"
            )

    read = _reading(database, split_name, selection, some)
    files = None
    if (chosen := selection.told()) is not None:
        made = {"path": os.path.abspath(path), "file": _same_file.told(database.path)}
        told = {"reader": "tff_sqlite", **made, "split": split_name, "selection": chosen, "some": some}
        files = OfClients(told, lambda client_id: None)
    given = (lambda client_id: read(None, client_id)), list(counts.values())
    return of_file(database.path, list(counts), *given, path, files=files)


def opened(told: Mapping[str, Any]) -> Callable[[Any, ClientId], dict[str, Any]]:
    """What reads clients here, of what `from_tff_sqlite` has told elsewhere."""
    path, known = Path(told["path"]), told["file"]
    if path.suffix == ".lzma":
        database = _same_file.made_here(known, told["path"], lambda: _uncompressed(path))
        known = _same_file.told(database)
    _same_file.check(known)
    table, selection = TffDatabase(Path(known["path"])), Selection.of_told(told["selection"])
    read = _reading(table, told["split"], selection, told["some"])

    def checked(part: None, client_id: ClientId) -> dict[str, Any]:
        _same_file.check(known)
        return read(part, client_id)

    return checked


def _reading(
    database: TffDatabase, split: str, selection: Selection, some: Any
) -> Callable[[None, ClientId], dict[str, Any]]:
    """Reads a client's examples; of one without any they are as those of some client that has some."""

    def read(part: None, client_id: Any) -> dict[str, Any]:
        examples = database.examples(split, client_id)
        if not examples and client_id != some:
            return without_rows(read(None, some))
        return selection.of_client(client_id).arrays(lambda column: _column(examples, column))

    return read


def _uncompressed(path: Path) -> Path:
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    if path.suffix != ".lzma":
        return path
    return unpacked(path, "uncompressed")


def _column(examples: list[dict[str, Any]], column: str) -> list[Any]:
    """A feature's values in each of the examples, without the axis of values where there is one in each."""
    values: list[Any] = [example.get(column) for example in examples]
    if all(value is not None and len(value) == 1 for value in values):
        return [value[0] for value in values]
    return values
