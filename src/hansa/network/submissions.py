"""Runs that operators have submitted: what is to be trained, how long and by how many, and how far it is.

What is submitted is a file of stages (`hansa.save`) and terms. No Python of an operator's comes to the coordinator.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import mmap
import os
import re
import sqlite3
import time
from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from hansa._errors import UserError
from hansa.network.changes import Changes
from hansa.network.durable import Disk
from hansa.network.ledger import Ledger, noted

T = TypeVar("T")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
_MOST_ROUNDS, _MOST_DEVICES, _LONGEST, _MOST_BYTES = 10**9, 10**9, 10**8, 2**40

WAITING, RUNNING, STOPPING, STOPPED, DONE, FAILED = "waiting", "running", "stopping", "stopped", "done", "failed"
ENDED = (STOPPED, DONE, FAILED)
"""Of a run: it goes on no more."""

MOST_OPEN = 32
"""Runs of one operator that have not ended: each has a thread and a program in memory."""
_DEEPEST = 50
"""Levels of a plan, far below those at which Python's own functions give up."""
_LEFT_FOR = 3600.0
"""Seconds for which a program lies there that no run needs: it may be of one that is being submitted."""


class SubmissionError(UserError):
    """A run is not submitted, or there is none of the name. The message says why."""


@dataclass(frozen=True)
class EvaluationTerms:
    """How a run's model is evaluated, by devices on what they hold out.

    Attributes:
        plan: what a device does with its examples for it, likewise.
        begins: the byte of the file at which the stages of the evaluation begin; those of the run end there.
        every: after so many rounds, and after the last.
        initial: whether before the first round, too.

    Raises:
        ValueError: if one is not as it should be.
    """

    plan: Mapping[str, Any]
    begins: int
    every: int
    initial: bool

    def __post_init__(self) -> None:
        if _is_deeper(self.plan, _DEEPEST):
            raise ValueError(f"evaluation.plan is nested in more than {_DEEPEST} levels")
        if not isinstance(self.plan, Mapping):
            raise ValueError(f"evaluation.plan must be that of a population; found {self.plan!r:.40}")
        for key in ("begins", "every"):
            value = getattr(self, key)
            if type(value) is not int or not 1 <= value <= _MOST_BYTES:
                raise ValueError(f"evaluation.{key} must be an integer, 1 or more; found {value!r:.40}")
        if type(self.initial) is not bool:
            raise ValueError(f"evaluation.initial must be true or false; found {self.initial!r:.40}")

    @classmethod
    def from_json(cls, value: Any) -> EvaluationTerms:
        """Those of `RunTerms.to_json`.

        Raises:
            ValueError: if they are none.
        """
        return cls(**_with_keys(cls, value, "evaluation"))


@dataclass(frozen=True)
class RunTerms:
    """What is asked for.

    Attributes:
        name: of the run: letters, digits, and `.`, `_` or `-` after the first one.
        rounds: how many.
        devices: how many are asked in each.
        least: with fewer contributions a round is tried again.
        over_select: how many times as many are asked.
        deadline: seconds of a round.
        plan: what devices do with their examples, as `hansa.simulation.DataPlan.to_json` gives it; None for values.
        program: SHA-256 of the file of stages, in hexadecimal digits.
        evaluation: how the model is evaluated on what devices hold out; None if it is not.

    Raises:
        ValueError: if one is not as it should be.
    """

    name: str
    rounds: int
    devices: int
    least: int
    over_select: float
    deadline: float
    plan: Mapping[str, Any] | None
    program: str
    evaluation: EvaluationTerms | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise ValueError(f"name must be of letters, digits, '.', '_' and '-', 80 at most; found {self.name!r:.100}")
        for key, most in (("rounds", _MOST_ROUNDS), ("devices", _MOST_DEVICES), ("least", _MOST_DEVICES)):
            value = getattr(self, key)
            if type(value) is not int or not 1 <= value <= most:
                raise ValueError(f"{key} must be an integer, 1 or more; found {value!r:.40}")
        if self.least > self.devices:
            raise ValueError(f"least is {self.least}, more than the {self.devices} devices with which a round ends")
        for key, low, high in (("over_select", 1.0, 100.0), ("deadline", 0.001, _LONGEST)):
            value = getattr(self, key)
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
                raise ValueError(f"{key} must be a number from {low:g} to {high:g}; found {value!r:.40}")
        if _is_deeper(self.plan, _DEEPEST):
            raise ValueError(f"plan is nested in more than {_DEEPEST} levels")
        if self.plan is not None and not isinstance(self.plan, Mapping):
            raise ValueError(f"plan must be that of a population; found {self.plan!r:.40}")
        if not isinstance(self.program, str) or not re.fullmatch(r"[0-9a-f]{64}", self.program):
            raise ValueError(f"program must be a digest of 64 hexadecimal digits; found {self.program!r:.80}")

    def to_json(self) -> dict[str, Any]:
        """They as values that JSON has."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Any) -> RunTerms:
        """Those that `to_json` gave.

        Raises:
            ValueError: if they are none.
        """
        value = _with_keys(cls, value, "what is asked for of a run")
        evaluation = value["evaluation"]
        return cls(**{**value, "evaluation": None if evaluation is None else EvaluationTerms.from_json(evaluation)})


def _is_deeper(value: Any, levels: int) -> bool:
    """Whether a value of JSON is nested in more levels, found without recursion."""
    level = [value]
    for _ in range(levels):
        inner = [each for each in level if isinstance(each, dict | list)]
        level = [part for each in inner for part in (each.values() if isinstance(each, dict) else each)]
    return any(isinstance(each, dict | list) for each in level)


def _with_keys(kind: Any, value: Any, what: str) -> dict[str, Any]:
    """An object with the keys of a class; those that may be left out have their defaults."""
    names = {field.name: field.default for field in fields(kind)}
    needed = {name for name, default in names.items() if default is MISSING}
    if not isinstance(value, dict) or not needed <= set(value) <= set(names):
        raise ValueError(f"{what} has the keys {', '.join(sorted(names))}; found {value!r:.200}")
    return {name: value.get(name, default) for name, default in names.items()}


@dataclass(frozen=True)
class Submission:
    """A run that was submitted.

    Attributes:
        terms: what was asked for.
        by: by whom.
        at: when, in seconds since 1970.
        status: "waiting", "running", "stopping", "stopped", "done" or "failed".
        reason: why it is so, where there is something to say.
    """

    terms: RunTerms
    by: str
    at: float
    status: str = WAITING
    reason: str | None = None

    def to_json(self) -> dict[str, Any]:
        """It as values that JSON has, without the plans."""
        asked = {name: value for name, value in self.terms.to_json().items() if name not in ("plan", "evaluation")}
        return {**asked, "by": self.by, "at": self.at, "status": self.status, "reason": self.reason}


class Submissions:
    """The runs of a coordinator's folder.

    Args:
        ledger: of the folder.
        folder: the folder.
        disk: the disk.
    """

    def __init__(self, ledger: Ledger, folder: Path, disk: Disk | None = None) -> None:
        self._ledger, self._folder, self._disk = ledger, folder, disk or Disk()
        self._programs, self._logs = folder / "submitted", folder / "logs"

    def run_dir(self, name: str) -> Path:
        """The folder of a run: checkpoints, metrics, who took part."""
        return self._folder / "runs" / name

    def program(self, terms: RunTerms) -> Path:
        """The file of a run's stages."""
        return self._programs / f"{terms.program}.hansa"

    def parts(self, terms: RunTerms) -> tuple[memoryview, memoryview | None]:
        """The stages of a run, and those of its evaluation, as the file has them one after the other.

        Raises:
            OSError: if the file cannot be read.
            ValueError: if it ends before the second part.
        """
        with self.program(terms).open("rb") as file:
            if not os.fstat(file.fileno()).st_size:
                raise ValueError("the file of stages is empty")
            whole = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        if terms.evaluation is None:
            return whole, None
        begins = terms.evaluation.begins
        if begins >= len(whole):
            raise ValueError(f"the evaluation begins at byte {begins} of a file of {len(whole)}")
        return whole[:begins], whole[begins:]

    def coming(self, terms: RunTerms) -> Path:
        """Where the file of a run may be written, to be submitted."""
        self._programs.mkdir(parents=True, exist_ok=True)
        return self._programs / f".{terms.name}-{terms.program}.coming"

    def submit(self, terms: RunTerms, by: str, file: BinaryIO) -> Submission:
        """Takes a run; submitting the same again is of no harm.

        Args:
            terms: what is asked for.
            by: by whom.
            file: the file at `coming(terms)`, written whole.

        Raises:
            SubmissionError: if the bytes are others than those of the terms, there is another run of this name, or too
                many of the same operator have not ended.
        """
        file.flush()
        with self.coming(terms).open("rb") as written:
            found = hashlib.file_digest(written, "sha256").hexdigest()
        if found != terms.program:
            self.coming(terms).unlink(missing_ok=True)
            raise SubmissionError("the program was changed on its way: submit it again")
        self._disk.sync(file)
        self._disk.rename(self.coming(terms), self.program(terms))
        now = time.time()

        def change(database: sqlite3.Connection) -> Submission:
            before = next((each for each in _all(database) if each.terms.name == terms.name), None)
            if before is not None:
                if before.terms == terms:
                    return before
                raise SubmissionError(f"there is another run called {terms.name!r}: give this one another name")
            if sum(each.by == by and each.status not in ENDED for each in _all(database)) >= MOST_OPEN:
                raise SubmissionError(f"{MOST_OPEN} runs of {by} have not ended: stop some, or wait for their end")
            text = json.dumps(terms.to_json())
            database.execute(
                "INSERT INTO submissions (name, terms, submitter, at, status) VALUES (?,?,?,?,?)",
                (terms.name, text, by, now, WAITING),
            )
            noted(database, now, by, f"submitted the run {terms.name}, program {terms.program}")
            return Submission(terms, by, now)

        try:
            return self._write(change)
        finally:
            self._tidy()

    def _tidy(self) -> None:
        """Removes programs that no run needs: of those that have ended, or were not taken."""
        needed = {f"{each.terms.program}.hansa" for each in self.all() if each.status not in ENDED}
        for path in self._programs.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if path.name not in needed and time.time() - path.stat().st_mtime > _LEFT_FOR:
                    path.unlink()

    def all(self) -> list[Submission]:
        """All of them, the oldest first."""
        found: list[Submission] = self._ledger.ask(_all)
        return found

    def find(self, name: str) -> Submission:
        """The run of a name.

        Raises:
            SubmissionError: if there is none.
        """
        found: Submission = self._ledger.ask(lambda database: _find(database, name))
        return found

    def stop(self, name: str, by: str) -> Submission:
        """A run is to stop; what it has is kept.

        Raises:
            SubmissionError: if there is none, or it has ended.
        """

        def change(database: sqlite3.Connection) -> Submission:
            found = _find(database, name)
            if found.status in ENDED:
                raise SubmissionError(f"the run {name!r} has ended: {found.status}")
            status = STOPPED if found.status == WAITING else STOPPING
            after = replace(found, status=status, reason=f"by {by}")
            _put(database, after)
            noted(database, time.time(), by, f"stops the run {name}")
            return after

        return self._write(change)

    def become(self, name: str, status: str, reason: str | None = None) -> None:
        """A run is further on, unless it is to stop: then nothing but its end is noted."""

        def change(database: sqlite3.Connection) -> None:
            found = _find(database, name)
            if found.status not in ENDED and not (found.status == STOPPING and status == RUNNING):
                _put(database, replace(found, status=status, reason=reason))

        self._write(change)

    def add_line(self, name: str, line: Mapping[str, Any]) -> None:
        """One more line of a run's log."""
        self._logs.mkdir(exist_ok=True)
        with (self._logs / f"{name}.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"at": time.time(), **line}) + "\n")

    def log(self, name: str, offset: int = 0, most: int = 2**20) -> tuple[bytes, int]:
        """Whole lines of a run's log from a byte on, and the byte to go on from.

        Raises:
            SubmissionError: if there is no such run.
        """
        self.find(name)
        try:
            with (self._logs / f"{name}.jsonl").open("rb") as file:
                file.seek(offset)
                data = file.read(most)
        except FileNotFoundError:
            return b"", 0
        data = data[: data.rfind(b"\n") + 1]
        return data, offset + len(data)

    def checkpoint(self, name: str) -> Path | None:
        """The newest checkpoint of a run; None if it has none.

        Raises:
            SubmissionError: if there is no such run.
        """
        self.find(name)
        return max((self.run_dir(name) / "checkpoints").glob("round-*.hansa"), default=None)

    def _write(self, change: Callable[[sqlite3.Connection], T]) -> T:
        found = self._ledger.writer.write(change).result()
        Changes(self._folder).tell()
        return found


def _all(database: sqlite3.Connection) -> list[Submission]:
    rows = database.execute("SELECT terms, submitter, at, status, reason FROM submissions ORDER BY id")
    return [Submission(RunTerms.from_json(json.loads(terms)), *rest) for terms, *rest in rows]


def _find(database: sqlite3.Connection, name: str) -> Submission:
    found = next((each for each in _all(database) if each.terms.name == name), None)
    if found is None:
        raise SubmissionError(f"no run called {name!r:.100} was submitted")
    return found


def _put(database: sqlite3.Connection, submission: Submission) -> None:
    database.execute(
        "UPDATE submissions SET status=?, reason=? WHERE name=?",
        (submission.status, submission.reason, submission.terms.name),
    )
