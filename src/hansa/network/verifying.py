"""`verify`: whether a coordinator's folder is what was written: its ledger, contributions and blobs.

Nothing is changed, and a coordinator may have the folder meanwhile.
"""

from __future__ import annotations

import hashlib
import sqlite3
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hansa.network.blobs import is_digest
from hansa.network.ledger import LEDGER, broken_audit
from hansa.network.network import AUTHORITY
from hansa.network.settings import NetworkError
from hansa.network.spool import Spool
from hansa.network.tasks import Outcome, PhaseKey, Status
from hansa.network.writer import connected


@dataclass(frozen=True)
class Finding:
    """Something that was looked at.

    Attributes:
        what: what.
        state: whether it is as it should be.
        detail: how much was looked at, or what is wrong.
    """

    what: str
    state: Literal["ok", "broken"]
    detail: str


def verify(folder: Path) -> list[Finding]:
    """Looks at a coordinator's folder.

    Raises:
        NetworkError: if it is none.
    """
    if not (folder / LEDGER).exists():
        raise NetworkError(f"{folder} has no ledger: hansa network init {folder} makes one")
    database = connected(folder / LEDGER, read_only=True)
    try:
        database.execute("BEGIN")
        looks = {
            "database": list(_of_database(database)),
            "audit": list(_of_audit(database)),
            "outcomes": list(_of_outcomes(database)),
            "contributions": list(_of_contributions(database, folder)),
            "blobs": list(_of_blobs(database, folder)),
            "keys": list(_of_keys(folder)),
        }
        return [
            Finding(what, "broken", _listed(mistakes)) if mistakes else Finding(what, "ok", _counted(database, what))
            for what, mistakes in looks.items()
        ]
    except sqlite3.DatabaseError as error:
        return [Finding("database", "broken", f"it cannot be read: {error}")]
    finally:
        database.close()


_SHOWN = 5
"""Mistakes of one kind that are told."""

_COUNTS = {
    "database": "SELECT count(*) || ' phases, ' || (SELECT count(*) FROM devices) || ' devices' FROM phases",
    "audit": "SELECT count(*) || ' lines, each with the digest of those before' FROM audit",
    "outcomes": "SELECT count(*) || ' tasks, of which ' || count(outcome) || ' have ended, each once' FROM tasks",
    "contributions": "SELECT count(*) || ' are here with their digests' FROM tasks JOIN phases ON phase_id = id"
    " WHERE outcome = 'counted' AND NOT dropped",
}


def _listed(mistakes: list[str]) -> str:
    more = [f"and {len(mistakes) - _SHOWN} more"] if len(mistakes) > _SHOWN else []
    return "; ".join([*mistakes[:_SHOWN], *more])


def _counted(database: sqlite3.Connection, what: str) -> str:
    if what not in _COUNTS:
        return "as they should be"
    return str(database.execute(_COUNTS[what]).fetchone()[0])


def _of_database(database: sqlite3.Connection) -> Iterator[str]:
    for (line,) in database.execute("PRAGMA integrity_check"):
        if line != "ok":
            yield str(line)
    for table, row, *_ in database.execute("PRAGMA foreign_key_check"):
        yield f"row {row} of {table} names what is not there"


def _of_audit(database: sqlite3.Connection) -> Iterator[str]:
    broken = broken_audit(database)
    if broken is not None:
        yield f"line {broken} is not what was written"


def _of_outcomes(database: sqlite3.Connection) -> Iterator[str]:
    known = {str(each) for each in Outcome}
    phases = database.execute("SELECT id, run, round, status, target, least FROM phases").fetchall()
    for row, run, number, status, target, least in phases:
        where = f"round {number} of {run} (phase {row})"
        found = [each for (each,) in database.execute("SELECT outcome FROM tasks WHERE phase_id=?", (row,))]
        if status not in {str(each) for each in Status}:
            yield f"{where} has the status {status!r}"
        if any(each is not None and each not in known for each in found):
            yield f"{where} has an outcome that there is not"
        if status != Status.OPEN and None in found:
            yield f"{where} is cut, and {found.count(None)} tasks have no outcome"
        counted = found.count(str(Outcome.COUNTED))
        if counted > target:
            yield f"{where} counts {counted}, more than its target, {target}"
        if status in (Status.CLOSING, Status.COMMITTED) and counted < least:
            yield f"{where} has a result of {counted}, and needs {least}"


def _of_contributions(database: sqlite3.Connection, folder: Path) -> Iterator[str]:
    found = database.execute(
        "SELECT run, round, attempt, part, call, stage, phase, device, digest, bytes, data FROM phases"
        " JOIN tasks ON phase_id = id WHERE outcome = ? AND NOT dropped",
        (Outcome.COUNTED,),
    )
    for *key, device, digest, size, data in found:
        where = f"the contribution of {device} to {PhaseKey(*key).text}"
        if data is None:
            path = Spool.place(folder / "spool", PhaseKey(*key), device)
            if not path.is_file():
                yield f"{where} is not here"
                continue
            with path.open("rb") as file:
                seen, length = hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size
        else:
            seen, length = hashlib.sha256(data).hexdigest(), len(data)
        if (seen, length) != (digest, size):
            yield f"{where} has other bytes than those that were counted"


def _of_blobs(database: sqlite3.Connection, folder: Path) -> Iterator[str]:
    here = {path.name for path in (folder / "blobs").glob("*") if is_digest(path.name)}
    for name in sorted(here):
        with (folder / "blobs" / name).open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != name:
                yield f"the blob {name[:12]}… has other bytes"
    for run, number, *needed in database.execute(
        "SELECT run, round, computation, starts FROM phases WHERE NOT dropped AND computation IS NOT NULL"
    ):
        for digest in needed:
            if digest is not None and digest not in here:
                yield f"the blob {digest[:12]}… of round {number} of {run} is not here"


def _of_keys(folder: Path) -> Iterator[str]:
    for path in (folder / AUTHORITY).glob("*.key"):
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            yield f"{path} can be read by others than its owner: chmod 600 {path}"
