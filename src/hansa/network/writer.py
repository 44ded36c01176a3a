"""One thread that writes a SQLite database: what waits is written in one transaction, and told when it is on the disk.

A commit with `synchronous=FULL` waits for the disk, so many small writes together take hardly longer than one.
"""

from __future__ import annotations

import contextlib
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from hansa.network.durable import Disk

T = TypeVar("T")
_Job = tuple[Callable[[sqlite3.Connection], Any], "Future[Any]"]

_TOGETHER = 1000
"""Writes in one transaction at most."""


class Writer:
    """A database that one thread writes.

    Args:
        path: the file.
        prepare: makes the tables, or brings them up to date; called once.
        disk: the disk.

    Attributes:
        commits: how many transactions were written.
        writes: how many calls of `write` they held.

    Raises:
        sqlite3.Error: if the file cannot be used.
    """

    def __init__(self, path: Path, prepare: Callable[[sqlite3.Connection], None], disk: Disk) -> None:
        self.commits = self.writes = 0
        self._path, self._disk = path, disk
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._failure: BaseException | None = None
        self._database = connected(path)
        try:
            with _transaction(self._database):
                prepare(self._database)
        except BaseException:
            self._database.close()
            raise
        self._thread = threading.Thread(target=self._run, name="hansa-ledger", daemon=True)
        self._thread.start()

    def write(self, change: Callable[[sqlite3.Connection], T]) -> Future[T]:
        """Makes a change, in the order of the calls; its result is there when the change is on the disk.

        A change that raises is undone by itself, and the error is the result's. If the disk fails, this and all that
        follow fail.
        """
        result: Future[T] = Future()
        result.set_running_or_notify_cancel()  # whoever waits for it may go; the change is made all the same
        self._jobs.put((change, result))
        return result

    def flushed(self) -> Future[None]:
        """Is there when all changes before it are on the disk."""
        return self.write(lambda _: None)

    def close(self) -> None:
        """Writes what waits, and closes the file."""
        self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        ending = False
        while not ending:
            jobs = [self._jobs.get()]
            with contextlib.suppress(queue.Empty):
                while len(jobs) < _TOGETHER:
                    jobs.append(self._jobs.get_nowait())
            ending = None in jobs
            self._together([job for job in jobs if job is not None])
        self._database.close()

    def _together(self, jobs: list[_Job]) -> None:
        results: list[tuple[Future[Any], Any, BaseException | None]] = []
        try:
            if self._failure is not None:
                raise self._failure
            if not jobs:
                return
            with _transaction(self._database):
                for change, future in jobs:
                    results.append((future, *self._one(change)))
                self._disk.reached("before commit")
            self._disk.reached("after commit")
        except BaseException as error:
            self._failure = error
            for _, future in jobs:
                future.set_exception(error)
            return
        self.commits, self.writes = self.commits + 1, self.writes + len(jobs)
        for future, value, mistake in results:
            if mistake is None:
                future.set_result(value)
            else:
                future.set_exception(mistake)

    def _one(self, change: Callable[[sqlite3.Connection], Any]) -> tuple[Any, BaseException | None]:
        self._database.execute("SAVEPOINT one")
        try:
            value = change(self._database)
        except sqlite3.OperationalError:  # of the disk
            raise
        except Exception as error:
            self._database.execute("ROLLBACK TO one")
            self._database.execute("RELEASE one")
            return None, error
        self._database.execute("RELEASE one")
        return value, None


def connected(path: Path, read_only: bool = False) -> sqlite3.Connection:
    """A connection to a database whose commits are on the disk."""
    target = f"file:{quote(path.as_posix())}?mode=ro" if read_only else path
    database = sqlite3.connect(target, isolation_level=None, check_same_thread=False, timeout=30.0, uri=read_only)
    database.execute("PRAGMA foreign_keys=ON")
    if not read_only:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=FULL")
    return database


@contextlib.contextmanager
def _transaction(database: sqlite3.Connection) -> Iterator[None]:
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            database.execute("ROLLBACK")
        raise
