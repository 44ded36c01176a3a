"""`replay`: the contributions that were counted, folded again, and compared with what became of them then.

It takes the computation from the file that the coordinator has kept, and nothing from the process that ran it. Nothing
is changed, and a coordinator may have the folder meanwhile.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hansa.compiler.artifacts.artifact import load, load_client_stage
from hansa.network import wire
from hansa.network.folding import Fold, digest_of
from hansa.network.ledger import LEDGER
from hansa.network.settings import NetworkError
from hansa.network.spool import Spool
from hansa.network.tasks import Outcome, PhaseKey
from hansa.network.writer import connected
from hansa.runtimes.stages.executor import Stages
from hansa.runtimes.stages.round import NeedsWideSums


@dataclass(frozen=True)
class Replayed:
    """A phase whose contributions were folded again.

    Attributes:
        key: which one.
        counted: how many contributions.
        before: SHA-256 of what became of them then.
        now: SHA-256 of what becomes of them now; None if they cannot be folded.
        problem: why they cannot.
    """

    key: PhaseKey
    counted: int
    before: str
    now: str | None
    problem: str | None = None

    @property
    def is_same(self) -> bool:
        """Whether it is the same, to the bit."""
        return self.now == self.before


def replay(folder: Path, run: str | None = None, round_number: int | None = None) -> Iterator[Replayed]:
    """Folds what is kept again, phase by phase, the oldest first.

    Args:
        folder: the coordinator's.
        run: of this run alone.
        round_number: of this round alone.

    Raises:
        NetworkError: if the folder is no coordinator's.
    """
    if not (folder / LEDGER).exists():
        raise NetworkError(f"{folder} has no ledger: hansa network init {folder} makes one")
    database = connected(folder / LEDGER, read_only=True)
    programs: dict[str, _Program] = {}
    try:
        rows = database.execute(
            "SELECT id, computation, starts, result, run, round, attempt, part, call, stage, phase FROM phases"
            " WHERE NOT dropped AND result IS NOT NULL"
            " AND (:run IS NULL OR run = :run) AND (:round IS NULL OR round = :round) ORDER BY id",
            {"run": run, "round": round_number},
        ).fetchall()
        for row, computation, starts, before, *rest in rows:
            key = PhaseKey(*rest)
            counted, asked = database.execute(
                "SELECT count(*) FILTER (WHERE outcome=?), count(*) FROM tasks WHERE phase_id=?", (Outcome.COUNTED, row)
            ).fetchone()
            try:
                if computation not in programs:
                    programs[computation] = _Program(folder / "blobs" / computation)
                data = list(_contributions(database, folder, row, key))
                now = programs[computation].folded(key.stage, folder / "blobs" / starts, data, asked)
            except (OSError, ValueError, TypeError) as error:
                yield Replayed(key, counted, before, None, str(error))
            else:
                yield Replayed(key, counted, before, now)
    finally:
        database.close()


class _Program:
    """The stages of a file."""

    def __init__(self, path: Path) -> None:
        self._file = path.read_bytes()
        self._computation: Any = load(self._file)
        self._stages = Stages(self._computation)

    def folded(self, number: int, starts: Path, contributions: list[bytes], asked: int) -> str:
        """The digest of what becomes of contributions to a client stage, given in the cohort's order."""
        given = load_client_stage(self._file, number).contributions
        ports = [port for part in given for port in part.values]
        values = [iter(wire.decoded(ports, data)) for data in contributions]
        grouped = [[[next(each) for _ in part.values] for part in given] for each in values]
        try:
            return _report(self._stages, number, starts, grouped, asked)
        except NeedsWideSums:
            return _report(Stages(self._computation, sums="wide"), number, starts, grouped, asked)


def _report(stages: Stages, number: int, starts: Path, contributions: list[list[list[Any]]], asked: int) -> str:
    stage = stages.clients[number]
    begun_with = wire.decoded(stage.starts, starts.read_bytes())
    known = dict(zip((port.name for port in stage.starts), begun_with, strict=True))
    fold = Fold(stage, known, asked, is_ordered=True)
    for each in contributions:
        fold.add(each)
    return digest_of(fold.report())


def _contributions(database: sqlite3.Connection, folder: Path, row: int, key: PhaseKey) -> Iterator[bytes]:
    for device, data in database.execute(
        "SELECT device, data FROM tasks WHERE phase_id=? AND outcome=? ORDER BY position", (row, Outcome.COUNTED)
    ):
        yield Spool.place(folder / "spool", key, device).read_bytes() if data is None else bytes(data)
