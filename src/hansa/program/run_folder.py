"""The folder of a run: what was asked, checkpoints, metrics, and a lock, so that one process writes it."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from hansa._files import is_part, remove_parts, replacing
from hansa.program.checkpoints import Checkpoints

RUN, POPULATION = "run.json", "population.json"
_LOCK = "lock"


class RunError(RuntimeError):
    """A run's folder cannot be used: it is in use, is of another run, or has something else in it."""


class RunFolder:
    """The folder, locked while in a `with` block.

    Attributes:
        path: the folder.
        resumed: whether the run had begun before.
        checkpoints: of the run.

    Args:
        path: the folder; made if it is not there.
        asked: what the run is, by name, of which a run that goes on must have asked the same.
        facts: what else is noted.
        resume: whether a run is to go on: True, False, or "auto", if it has begun.
        keep_checkpoints: how many.

    Raises:
        RunError: from the `with` statement, if the folder cannot be used.
    """

    def __init__(
        self, path: Path, asked: Mapping[str, Any], facts: Mapping[str, Any], resume: bool | str, keep_checkpoints: int
    ) -> None:
        self.path, self.resumed = path, False
        self.checkpoints = Checkpoints(path / "checkpoints", keep_checkpoints)
        # As it is read back.
        self._asked = json.loads(json.dumps(asked))
        self._facts, self._resume = facts, resume
        self._lock: IO[str] | None = None

    def __enter__(self) -> RunFolder:
        if self._resume is True and not (self.path / RUN).is_file():
            raise RunError(f"{self.path} has no run to resume: there is no {RUN} in it; write resume='auto' to begin")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = _locked(self.path / _LOCK)
        except OSError as error:
            raise RunError(f"{self.path} cannot be used as a run folder: {error}") from error
        try:
            self._open()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _open(self) -> None:
        run = self.path / RUN
        self.resumed = run.is_file()
        if self.resumed:
            if self._resume is False:
                raise RunError(f"{self.path} has a run already, and resume=False begins a new one; name another folder")
            self._check(run)
            remove_parts(self.path)
            return
        others = sorted(path.name for path in self.path.iterdir() if not _is_of_a_beginning(path))
        if others:
            raise RunError(
                f"{self.path} is no folder of a run, and is not empty: it has {others[0]}; name another folder"
            )
        remove_parts(self.path)

    def begin(self, population: Callable[[], Mapping[str, Any]]) -> None:
        """Note that the run has begun, or that it goes on; and with whom, if that had not been done.

        Args:
            population: gives what is known of the clients.
        """
        if self.resumed:
            self._note(RUN, {**read_run(self.path), "rounds": self._facts["rounds"], "ended": None})
        else:
            self._note(RUN, {"format": 1, "asked": self._asked, **self._facts, "ended": None})
        if not (self.path / POPULATION).exists():
            self._note(POPULATION, population(), indent=None)

    def end(self, rounds: int, stopped: str | None) -> None:
        """Note that the run has ended, after so many rounds, and why before its last one, if it did."""
        self._note(RUN, {**read_run(self.path), "ended": {"rounds": rounds, "stopped": stopped}})

    def _note(self, name: str, whole: Mapping[str, Any], indent: int | None = 2) -> None:
        with replacing(self.path / name) as part:
            part.write_text(json.dumps(whole, indent=indent, ensure_ascii=False) + "\n", "utf-8")

    def _check(self, run: Path) -> None:
        try:
            before = read_run(self.path)["asked"]
            names = [*self._asked, *(name for name in before if name not in self._asked)]
        except (KeyError, TypeError) as error:
            raise RunError(f"{run} cannot be read: it has no {error}; name another folder") from error
        missing = "nothing"
        changes = [
            f"  {name} was {_shown(before.get(name, missing))}, and is now {_shown(self._asked.get(name, missing))}"
            for name in names
            if before.get(name, missing) != self._asked.get(name, missing)
        ]
        if changes:
            raise RunError(
                f"the run in {self.path} is another one, and cannot be resumed as this:\n" + "\n".join(changes) + "\n"
                "Ask for the same, or name another folder."
            )


def read_run(folder: Path) -> dict[str, Any]:
    """What `run.json` in a run's folder says.

    Its fields: `asked`, what the run is; `rounds`, how many it is to have; `data` and `versions`, for people; `ended`,
    `{"rounds": …, "stopped": …}`, or None if the run has not come to an end: it is under way, or was killed.

    Raises:
        RunError: if there is no run in it, or the file is damaged.
    """
    path = folder / RUN
    try:
        found = json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise RunError(f"{folder} has no run: there is no {RUN} in it") from None
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise RunError(f"{path} cannot be read: it is no object")
    return found


def in_use(folder: Path) -> bool:
    """Whether a process is at the run in a folder."""
    if not (folder / _LOCK).is_file():
        return False
    with open(folder / _LOCK, "r+", encoding="utf-8") as file:
        try:
            _lock(file)
        except OSError:
            return True
    return False


def _is_of_a_beginning(path: Path) -> bool:
    """Whether a run that was killed before its first round may have left it."""
    made = path.name == _LOCK or is_part(path) or path.match("sink-*.json")
    return made or (path.is_file() and path.stat().st_size == 0)


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _locked(path: Path) -> IO[str]:
    """The file, locked for this process. The lock goes with the process, however it ends.

    Raises:
        RunError: if another process has it.
        OSError: if it cannot be opened.
    """
    file = open(path, "a+", encoding="utf-8")  # noqa: SIM115 (as long as the run)
    try:
        _lock(file)
    except OSError:
        file.seek(0)
        owner = file.read().strip() or "another process"
        file.close()
        raise RunError(f"{path.parent} is in use by {owner}; wait for its end, or name another folder") from None
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
    file.flush()
    return file


if sys.platform == "win32":
    import msvcrt

    def _lock(file: IO[str]) -> None:
        file.seek(1 << 20)  # what is locked cannot be read by others
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        file.seek(0)

else:
    import fcntl

    def _lock(file: IO[str]) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
