"""A SQLite database of TensorFlow Federated, which may be forged: its two tables are read, and nothing is computed.

SQLite runs what a schema says: a view can compute for ever, a generated column can be a gigabyte. So the two tables
must be plain ones, no statement may take more steps than a table of the file's size needs, and no more may come out of
a file than is in it.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hansa.simulation._errors import DatasetError
from hansa.simulation.readers.tf_example import parse_example
from hansa.types import names

_COLUMNS = {
    "examples": ("split_name", "client_id", "serialized_example_proto"),
    "client_metadata": ("client_id", "split_name", "num_examples"),
}
_IS = "= ? COLLATE BINARY"
"""Else the file says which texts are the same, such as 'a' and 'A'."""
_STEPS = 50_000_000
_STEPS_PER_BYTE = 20
_STEPS_AT_ONCE = 100_000
_ALLOWED = (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ)


class TffDatabase:
    """A database of TensorFlow Federated, opened for each query, so several threads and processes may ask.

    Attributes:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._connection() as connection:
            for table, columns in _COLUMNS.items():
                self._check(connection, table, columns)

    def splits(self) -> list[str]:
        """The names of its splits."""
        found = self._ask("SELECT DISTINCT split_name FROM client_metadata ORDER BY split_name")
        return [_text(name, "a split", self.path) for (name,) in found]

    def clients(self, split: str | None) -> dict[str, int]:
        """The clients of a split, which may be None if there is only one, and how many examples they have."""
        splits = self.splits()
        if not splits:
            raise ValueError(f"{self.path} has no clients")
        if split is None and len(splits) > 1:
            raise ValueError(f"{self.path} has several splits; say which with split=: {names.listing(splits)}")
        if split is not None and split not in splits:
            hint = names.suggestion(split, splits) or ";"
            raise ValueError(f"{self.path} has no split {split!r}{hint} the splits are: {names.listing(splits)}")
        query = f"SELECT client_id, num_examples FROM client_metadata WHERE split_name {_IS} ORDER BY client_id"
        counts: dict[str, int] = {}
        for client, count in self._ask(query, split or splits[0]):
            client_id = _text(client, "a client", self.path)
            if client_id in counts:
                raise DatasetError(f"{self.path} is damaged: client {client_id!r} is twice in its split")
            if not isinstance(count, int) or count < 0:
                raise DatasetError(f"{self.path} is damaged: client {client_id!r} is to have {count!r} examples")
            counts[client_id] = count
        return counts

    def examples(self, split: str, client_id: str, most: int | None = None) -> list[dict[str, Any]]:
        """The features of each of a client's examples, or of the first `most` ones."""
        query = (
            f"SELECT serialized_example_proto FROM examples WHERE split_name {_IS} AND client_id {_IS} ORDER BY rowid"
        )
        limit = "" if most is None else f" LIMIT {most}"
        try:
            return [parse_example(message) for (message,) in self._ask(query + limit, split, client_id)]
        except ValueError as error:
            raise DatasetError(f"{self.path} is damaged: an example of client {client_id!r} is {error}") from error

    def _check(self, connection: sqlite3.Connection, table: str, columns: tuple[str, ...]) -> None:
        """Checks that a table is there, and a plain one."""
        found = connection.execute("SELECT type, sql FROM sqlite_master WHERE name = ?", (table,)).fetchall()
        if not found:
            raise DatasetError(
                f"{self.path} is no database of TensorFlow Federated: it has no table {table!r}, only {self._tables()}"
            )
        kinds = {kind if str(sql)[:13].upper() == "CREATE TABLE " else f"computed {kind}" for kind, sql in found}
        if kinds != {"table"}:
            raise DatasetError(f"{self.path} is refused: {table!r} is to be a plain table, and is a {kinds.pop()}")
        described = connection.execute("SELECT name, hidden FROM pragma_table_xinfo(?)", (table,)).fetchall()
        computed = [name for name, hidden in described if hidden]
        if computed:
            raise DatasetError(f"{self.path} is refused: {table!r} has a computed column, {computed[0]!r}")
        missing = sorted(set(columns) - {name for name, _ in described})
        if missing:
            raise DatasetError(
                f"{self.path} is no database of TensorFlow Federated: its table {table!r} has no column {missing[0]!r}"
            )

    def _tables(self) -> str:
        with self._connection() as connection:
            found = [str(name) for (name,) in connection.execute("SELECT name FROM sqlite_master LIMIT 100")]
        return names.listing(sorted(found)) or "none"

    def _ask(self, query: str, *arguments: str) -> Iterator[tuple[Any, ...]]:
        """The rows of a query of plain columns; not more than there can be in the file."""
        size = self.path.stat().st_size
        with self._connection() as connection:
            connection.set_authorizer(_only_read)
            seen = 0
            for row in connection.execute(query, arguments):
                seen += sum(len(value) if isinstance(value, str | bytes) else 1 for value in row)
                if seen > size:
                    raise DatasetError(f"{self.path} is damaged: more comes out of it than its {size:,} bytes")
                yield row

    @contextlib.contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        size = self.path.stat().st_size
        steps = 0

        def step() -> bool:
            nonlocal steps
            steps += _STEPS_AT_ONCE
            return steps > _STEPS + _STEPS_PER_BYTE * size

        try:
            # A database that has no journal beside it is taken as it is, so that SQLite puts nothing beside it either.
            whole = self.path.resolve()
            alone = not any(whole.with_name(whole.name + end).exists() for end in ("-wal", "-journal"))
            address = f"{whole.as_uri()}?mode=ro{'&immutable=1' if alone else ''}"
            with contextlib.closing(sqlite3.connect(address, uri=True)) as connection:
                connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, max(size, 1 << 20))
                connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
                for pragma in ("trusted_schema = OFF", "cell_size_check = ON", "mmap_size = 0", "query_only = ON"):
                    connection.execute(f"PRAGMA {pragma}")
                connection.set_progress_handler(step, _STEPS_AT_ONCE)
                yield connection
        except sqlite3.Error as error:
            why = "it takes longer than it can" if "interrupted" in str(error) else error
            raise DatasetError(
                f"{self.path} is damaged, or no database of TensorFlow Federated, which has the tables "
                f"'client_metadata' and 'examples': {why}"
            ) from error


def _only_read(action: int, *_: object) -> int:
    return sqlite3.SQLITE_OK if action in _ALLOWED else sqlite3.SQLITE_DENY


def _text(value: Any, what: str, path: Path) -> str:
    if not isinstance(value, str):
        raise DatasetError(f"{path} is damaged: the name of {what} is to be text, and is {value!r:.60}")
    return value
