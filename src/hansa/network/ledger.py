"""The ledger: what the coordinator must not forget, in SQLite. What it has said to a device is in here before.

Every change is a transaction by one thread (`hansa.network.writer`), and each call gives a future, which is there when
the change is on the disk.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hansa._lock import Lock
from hansa.network import rounds
from hansa.network.durable import Disk, refuse_network_disks
from hansa.network.schema import prepare
from hansa.network.tasks import (
    Outcome,
    PhaseKey,
    RoundTerms,
    Selected,
    Status,
    Task,
    decode_client,
    encode_client,
)
from hansa.network.writer import Writer

LEDGER = "ledger.db"

_NEWEST = 1000
"""Tasks of a device of which it may still ask how they have ended."""


@dataclass(frozen=True)
class OpenedPhase:
    """A phase in the ledger.

    Attributes:
        id: its row.
        key: which one it is.
        program: the digest of what devices run.
        sent: the digests of what they are sent.
        phase: as far as it has got.
    """

    id: int
    key: PhaseKey
    program: str
    sent: tuple[str, ...]
    phase: rounds.Phase


class Ledger:
    """The ledger of a folder, which one process has.

    Args:
        folder: where it lies; made if it is not there.
        disk: the disk.
        clock: gives the time, in seconds since 1970.
        alone: whether no other process may have it. An operator's has it beside the coordinator's, for a moment.

    Raises:
        hansa._lock.InUseError: if another process has it.
        OSError: if the folder is on a file system of the network, or cannot be written.
        hansa.network.schema.NewerLedgerError: if a newer Hansa has written it.
    """

    def __init__(
        self, folder: Path, disk: Disk | None = None, clock: Callable[[], float] = time.time, alone: bool = True
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        refuse_network_disks(folder)
        self._lock, self._clock = Lock(folder) if alone else None, clock
        try:
            self.writer = Writer(folder / LEDGER, prepare, disk or Disk())
        except BaseException:
            self._release()
            raise

    def close(self) -> None:
        """Writes what waits, and gives the folder up."""
        self.writer.close()
        self._release()

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.release()

    def ask(self, question: Callable[[sqlite3.Connection], Any]) -> Any:
        """What a function of the database gives, after all changes before it."""
        return self.writer.write(question).result()

    def open_phase(
        self,
        key: PhaseKey,
        program: str,
        sent: Sequence[str],
        terms: RoundTerms,
        cohort: Iterable[Selected],
        computation: str | None = None,
        starts: str | None = None,
    ) -> Future[OpenedPhase]:
        """Begins a phase, in which nobody has done anything. There must be none of this key yet.

        Args:
            key: which one.
            program: the digest of what devices run.
            sent: the digests of what they are sent.
            terms: when it ends.
            cohort: who is asked.
            computation: the digest of the file of all stages, with which contributions can be folded again.
            starts: the digest of what states of no clients are made of.
        """
        selected = list(cohort)

        def change(database: sqlite3.Connection) -> OpenedPhase:
            cursor = database.execute(
                "INSERT INTO phases (run, round, attempt, part, call, stage, phase, program, sent, target, least,"
                " deadline, lease, status, elapsed, opened, computation, starts)"
                " VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,0,?,?,?)",
                (*_key(key), program, json.dumps(list(sent)), terms.target, terms.least, terms.deadline, terms.lease,
                 Status.OPEN, self._clock(), computation, starts),
            )  # fmt: skip
            row = int(cursor.lastrowid or 0)
            database.executemany(
                "INSERT INTO tasks (phase_id, device, position, client_id, number) VALUES (?,?,?,?,?)",
                [(row, s.device, s.position, encode_client(s.client_id), s.number) for s in selected],
            )
            return OpenedPhase(row, key, program, tuple(sent), rounds.begun(terms, selected))

        return self.writer.write(change)

    def find_phase(self, key: PhaseKey) -> OpenedPhase | None:
        """The phase of this key, as it is on the disk; None if it was never begun."""

        def question(database: sqlite3.Connection) -> OpenedPhase | None:
            row = database.execute(
                "SELECT id, program, sent, target, least, deadline, lease, status, elapsed FROM phases"
                " WHERE run=? AND round=? AND attempt=? AND part=? AND call=? AND stage=? AND phase=?",
                _key(key),
            ).fetchone()
            if row is None:
                return None
            terms = RoundTerms(row[3], row[4], row[5], row[6])
            phase = rounds.restored(terms, _tasks(database, row[0]), Status(row[7]), row[8])
            return OpenedPhase(row[0], key, row[1], tuple(json.loads(row[2])), phase)

        found: OpenedPhase | None = self.ask(question)
        return found

    def carry_out(self, phase_id: int, action: rounds.Action, data: bytes | None = None) -> Future[None] | None:
        """Saves what an action says is to be saved; None if it says nothing of the kind.

        Args:
            phase_id: the phase's row.
            action: of the machine.
            data: of a contribution that was counted, if it is small.
        """
        now = self._clock()

        def change(database: sqlite3.Connection) -> None:
            match action:
                case rounds.SaveTask(task):
                    _save(database, phase_id, task, data, now)
                    if task.outcome in (Outcome.COUNTED, Outcome.INVALID):
                        _strike(database, task)
                case rounds.SaveCut(status, tasks):
                    for task in tasks:
                        _save(database, phase_id, task, None, now)
                    database.execute("UPDATE phases SET status=?, closed=? WHERE id=?", (status, now, phase_id))
                case rounds.SaveStatus(status):
                    database.execute("UPDATE phases SET status=? WHERE id=?", (status, phase_id))
                case rounds.SaveElapsed(seconds):
                    database.execute("UPDATE phases SET elapsed=? WHERE id=?", (seconds, phase_id))

        saves = rounds.SaveTask | rounds.SaveCut | rounds.SaveStatus | rounds.SaveElapsed
        return self.writer.write(change) if isinstance(action, saves) else None

    def last_counted(self, key: PhaseKey) -> dict[str, PhaseKey]:
        """For each device that was counted in such a phase of an earlier round of the run, the last of these phases."""

        def question(database: sqlite3.Connection) -> dict[str, PhaseKey]:
            found = database.execute(
                "SELECT device, run, round, attempt, part, call, stage, phase FROM phases JOIN tasks ON phase_id = id"
                " WHERE run=? AND part=? AND call=? AND stage=? AND round<? AND status=? AND outcome=? ORDER BY id",
                (key.run, key.part, key.call, key.stage, key.round, Status.COMMITTED, Outcome.COUNTED),
            )
            return {device: PhaseKey(*rest) for device, *rest in found}

        found: dict[str, PhaseKey] = self.ask(question)
        return found

    def contribution(self, phase_id: int, device: str) -> bytes | None:
        """A small contribution; None if there is none in the ledger."""
        (found,) = self.ask(
            lambda database: database.execute(
                "SELECT data FROM tasks WHERE phase_id=? AND device=?", (phase_id, device)
            ).fetchone()
        )
        return None if found is None else bytes(found)

    def find_task(self, task_id: str, device: str) -> Task | None:
        """How a task of a device has ended, by what it is called in requests; None if there was none.

        Of the tasks of the device the newest are looked at.
        """

        def question(database: sqlite3.Connection) -> Task | None:
            found = database.execute(
                "SELECT p.id, run, round, attempt, part, call, stage, phase FROM phases p JOIN tasks t"
                " ON t.phase_id = p.id WHERE t.device=? ORDER BY p.id DESC LIMIT ?",
                (device, _NEWEST),
            )
            for row, *key in found:
                if PhaseKey(*key).task_id(device) == task_id:
                    return next(task for task in _tasks(database, row) if task.selected.device == device)
            return None

        task: Task | None = self.ask(question)
        return task

    def outcomes(self, run: str | None, round_number: int | None) -> list[dict[str, Any]]:
        """How tasks have ended, the oldest phase first; of one run and of one round, if these are given."""
        names = [
            "run",
            "round",
            "attempt",
            "part",
            "call",
            "stage",
            "phase",
            "device",
            "client_id",
            "outcome",
            "reason",
            "bytes",
            "digest",
            "seconds",
        ]

        def question(database: sqlite3.Connection) -> list[dict[str, Any]]:
            found = database.execute(
                "SELECT run, round, attempt, part, call, stage, phase, device, client_id, outcome, reason, bytes,"
                " digest, at - opened FROM phases JOIN tasks ON phase_id = id"
                " WHERE (:run IS NULL OR run = :run) AND (:round IS NULL OR round = :round) ORDER BY id, position",
                {"run": run, "round": round_number},
            )
            rows = [dict(zip(names, row, strict=True)) for row in found]
            return [{**row, "client_id": decode_client(row["client_id"])} for row in rows]

        rows: list[dict[str, Any]] = self.ask(question)
        return rows

    def forget_before(self, key: PhaseKey, keep: int = 0, whole: bool = False) -> list[PhaseKey]:
        """Drops the contributions of a run's earlier rounds and attempts, whose results are in a checkpoint by then.

        There is a checkpoint after each round. So what was measured before the first round, as round 0, may be asked
        for again during that one, and a round during its evaluation.

        Args:
            key: a phase that begins.
            keep: how many rounds before it are kept all the same, to be folded again.
            whole: whether its own call is dropped, too, which nobody makes again.

        Returns:
            The phases whose files may be removed.
        """

        def change(database: sqlite3.Connection) -> list[PhaseKey]:
            found = database.execute(
                "SELECT id, run, round, attempt, part, call, stage, phase FROM phases"
                " WHERE run=? AND NOT dropped"
                " AND (round<? AND (round>0 OR ?>1) OR (round=? AND part=? AND attempt<?) OR ?)",
                (key.run, key.round - keep, key.round, key.round, key.part, key.attempt, whole),
            ).fetchall()
            database.executemany(
                "UPDATE tasks SET data=NULL WHERE phase_id=? AND data IS NOT NULL", [(row,) for row, *_ in found]
            )
            database.executemany("UPDATE phases SET dropped=1 WHERE id=?", [(row,) for row, *_ in found])
            return [PhaseKey(*rest) for _, *rest in found]

        return self.writer.write(change).result()

    def kept_digests(self) -> set[str]:
        """The blobs with which the contributions that are kept can be folded again."""

        def question(database: sqlite3.Connection) -> set[str]:
            found = database.execute("SELECT computation, starts FROM phases WHERE NOT dropped")
            return {digest for row in found for digest in row if digest is not None}

        digests: set[str] = self.ask(question)
        return digests

    def save_result(self, phase_id: int, digest: str) -> None:
        """What became of a phase's contributions.

        Raises:
            RuntimeError: if it is not what became of them before.
        """

        def change(database: sqlite3.Connection) -> None:
            (before,) = database.execute("SELECT result FROM phases WHERE id=?", (phase_id,)).fetchone()
            if before not in (None, digest):
                raise RuntimeError(
                    f"the contributions of phase {phase_id} were folded to {before[:12]}… before, and are now to "
                    f"{digest[:12]}…: something of them, or of Hansa, has changed"
                )
            database.execute("UPDATE phases SET result=? WHERE id=?", (digest, phase_id))

        self.writer.write(change).result()

    def note(self, actor: str, what: str) -> Future[None]:
        """Adds a line to the audit, each of which has the digest of all before it."""
        return self.writer.write(lambda database: noted(database, self._clock(), actor, what))


def noted(database: sqlite3.Connection, at: float, actor: str, what: str) -> None:
    """Adds a line to the audit, within a transaction."""
    last = database.execute("SELECT chain FROM audit ORDER BY id DESC LIMIT 1").fetchone()
    database.execute(
        "INSERT INTO audit (at, actor, what, chain) VALUES (?,?,?,?)",
        (at, actor, what, _chain(last[0] if last else "", at, actor, what)),
    )


def broken_audit(database: sqlite3.Connection) -> int | None:
    """The first line of the audit that is not what was written; None if all are."""
    before = ""
    for row, at, actor, what, chain in database.execute("SELECT id, at, actor, what, chain FROM audit ORDER BY id"):
        before = _chain(before, at, actor, what)
        if before != chain:
            return int(row)
    return None


def _chain(before: str, at: float, actor: str, what: str) -> str:
    return hashlib.sha256(json.dumps([before, at, actor, what]).encode()).hexdigest()


def _key(key: PhaseKey) -> tuple[Any, ...]:
    return key.run, key.round, key.attempt, key.part, key.call, key.stage, key.phase


def _save(database: sqlite3.Connection, phase_id: int, task: Task, data: bytes | None, now: float) -> None:
    """Writes how far a task is; how it has ended is never written over."""
    done = database.execute(
        "UPDATE tasks SET taken=?, outcome=?, reason=?, digest=?, bytes=?, data=?, at=? WHERE phase_id=? AND device=?"
        " AND outcome IS NULL AND EXISTS (SELECT 1 FROM phases WHERE id=? AND status=?)",
        (task.taken, task.outcome, task.reason, task.digest, task.size, data, now, phase_id, task.selected.device,
         phase_id, Status.OPEN),
    ).rowcount  # fmt: skip
    if not done:
        raise RuntimeError(f"the task of {task.selected.device!r} has ended before, or is none of phase {phase_id}")


def _strike(database: sqlite3.Connection, task: Task) -> None:
    """Counts invalid contributions that come one after another."""
    strikes = "strikes + 1" if task.outcome is Outcome.INVALID else "0"
    database.execute(f"UPDATE devices SET strikes={strikes} WHERE name=?", (task.selected.device,))


def _tasks(database: sqlite3.Connection, phase_id: int) -> list[Task]:
    rows = database.execute(
        "SELECT device, position, client_id, number, taken, outcome, reason, digest, bytes FROM tasks"
        " WHERE phase_id=? ORDER BY position",
        (phase_id,),
    )
    return [
        Task(
            Selected(device, position, decode_client(client), number),
            bool(taken),
            None if outcome is None else Outcome(outcome),
            reason,
            digest,
            size,
        )
        for device, position, client, number, taken, outcome, reason, digest, size in rows
    ]
