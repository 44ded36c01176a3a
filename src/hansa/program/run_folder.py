"""The folder of a run: what was asked, checkpoints, metrics, and a lock, so that one process writes it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hansa._files import is_part, remove_parts, replacing, set_aside
from hansa._lock import LOCK, InUseError, Lock
from hansa._warnings import warn
from hansa.program.changes import ChangedRunError, Changes, changes_of, noted, told
from hansa.program.checkpoints import Checkpoints
from hansa.program.client_rows import CLIENTS
from hansa.program.constants import CONSTANTS
from hansa.program.population import read_population
from hansa.program.private_folder import PRIVATE, SECRETS
from hansa.program.run_file import (
    CAPACITY,
    CHECKPOINTS,
    PLAN,
    POPULATION,
    RECORDS,
    ROUNDS,
    RUN,
    TABLE,
    RunError,
    has_run,
    read_run,
    recovered_run,
)


class RunFolder:
    """The folder, locked while in a `with` block.

    What is damaged in it, or stands in the place of a file of the run, is set aside, as `NAME.damaged`, with a warning.

    Attributes:
        path: the folder.
        resumed: whether the run had begun before.
        checkpoints: of the run.

    Args:
        path: the folder; made if it is not there.
        asked: what the run is, by name, of which a run that goes on must have asked the same.
        facts: what else is noted; of these `rounds` and `devices` are noted anew when a run goes on.
        resume: whether a run is to go on: True, False, or "auto", if it has begun.
        keep_checkpoints: how many.
        keep_every: see `Checkpoints`.
        allow_changes: whether a run goes on though it is asked for something else than it was, which is then noted.

    Raises:
        RunError: from the `with` statement, if the folder cannot be used.
    """

    def __init__(
        self,
        path: Path,
        asked: Mapping[str, Any],
        facts: Mapping[str, Any],
        resume: bool | str,
        keep_checkpoints: int,
        keep_every: int | None = None,
        allow_changes: bool = False,
    ) -> None:
        self.path, self.resumed = path, False
        self._allow_changes = allow_changes
        self._changes: Changes = {}
        self.checkpoints = Checkpoints(path / CHECKPOINTS, keep_checkpoints, keep_every)
        # As it is read back.
        self._asked = json.loads(json.dumps(asked))
        self._facts, self._resume = facts, resume
        self._run: dict[str, Any] = {}
        self._lock: Lock | None = None

    def __enter__(self) -> RunFolder:
        if self._resume is True and not has_run(self.path):
            raise RunError(f"{self.path} has no run to resume: there is no {RUN} in it; write resume='auto' to begin")
        check_no_others(self.path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = Lock(self.path)
            self._open()
        except InUseError as error:
            raise RunError(f"{self.path} is in use by {error}; wait for its end, or name another folder") from None
        except OSError as error:
            self.__exit__()
            raise RunError(f"{self.path} cannot be used as a run folder: {error}") from error
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    @property
    def run(self) -> Mapping[str, Any]:
        """What `run.json` says, or is to say."""
        return self._run

    @property
    def run_id(self) -> str:
        """What the run is called, as a text that no other run has; it keeps it when it goes on."""
        found: str = self._run["id"]
        return found

    def _open(self) -> None:
        self.resumed = has_run(self.path)
        if self.resumed:
            if self._resume is False:
                raise RunError(f"{self.path} has a run already, and resume=False begins a new one; name another folder")
            before = recovered_run(self.path)
            if before is None:
                warn(
                    f"{self.path / RUN} is damaged, and no checkpoint says what the run is: it goes on as what is "
                    "asked for now",
                )
            else:
                self._check(before)
                self._warn_of_devices(before)
            # When it began, and with what: as it was said then, or not at all.
            known = ("data", "versions", "about", "id")
            source = before or self._facts
            said = {name: source[name] for name in known if name in source}
            facts = {name: said.get(name, value) for name, value in self._facts.items()}
            self._run = {"format": 1, "asked": self._asked, **facts, "ended": None}
            if before is not None and "changes" in before:
                self._run["changes"] = before["changes"]
        else:
            check_no_others(self.path)
            self._run = {"format": 1, "asked": self._asked, **self._facts, "ended": None}
        self._free_places()
        remove_parts(self.path)

    def _free_places(self) -> None:
        """Set aside what is in the place of something that the run will write."""
        for name in (RECORDS, TABLE, ROUNDS):
            path = self.path / name
            if os.path.lexists(path) and (path.is_symlink() or not path.is_file()):
                self._set_aside(path, "it is no file" if not path.is_symlink() else "it is a link")
        folder = self.path / CHECKPOINTS
        for path in (folder, folder / CLIENTS, folder / CONSTANTS):
            if os.path.lexists(path) and not path.is_dir():
                self._set_aside(path, "it is no folder")
        readers: dict[str, Callable[[Path], object]] = {RUN: read_run, POPULATION: read_population}
        for name, read in readers.items():
            if os.path.lexists(self.path / name):
                try:
                    read(self.path)
                except RunError as error:
                    self._set_aside(self.path / name, str(error))

    def _set_aside(self, path: Path, why: str) -> None:
        told = why if str(path) in why else f"{path} is damaged: {why}"
        warn(f"{told}. It is {set_aside(path).name} now")

    def begin(self, population: Callable[[], Mapping[str, Any]], done: int = 0) -> None:
        """Note that the run has begun, or that it goes on; and with whom, if that had not been done.

        Args:
            population: gives what is known of the clients.
            done: how many rounds are done.
        """
        if self._changes:
            self._run["changes"] = [*self._run.get("changes", []), noted(self._changes, done)]
        self._note(RUN, self._run)
        if self._changes or not (self.path / POPULATION).exists():
            self._note(POPULATION, population(), indent=None)

    def end(
        self, rounds: int, stopped: str | None, privacy: str | None = None, sites: Mapping[Any, float] | None = None
    ) -> None:
        """Note that the run has ended: after how many rounds, why before its last one, and what it promises.

        Args:
            rounds: how many are done.
            stopped: why there are no more.
            privacy: what the run promises, in words.
            sites: the epsilon of each client's examples, where these are what is protected.
        """
        self._run["ended"] = {"rounds": rounds, "stopped": stopped}
        if privacy is not None:
            self._run["ended"]["privacy"] = privacy
        if sites:
            self._run["ended"]["sites"] = {str(site): epsilon for site, epsilon in sites.items()}
        self._note(RUN, self._run)

    def _note(self, name: str, whole: Mapping[str, Any], indent: int | None = 2) -> None:
        with replacing(self.path / name) as part:
            part.write_text(json.dumps(whole, indent=indent) + "\n", "utf-8")

    def _check(self, run: Mapping[str, Any]) -> None:
        changes = changes_of(run["asked"], self._asked)
        for name in (CAPACITY, PLAN):
            if name not in run["asked"]:
                changes.pop(name, None)  # Runs did not note it at first.
        if not changes:
            return
        listed = "".join(f"\n  {line}" for line in told(changes))
        if ("privacy" in self._asked) != ("privacy" in run["asked"]):
            raise ChangedRunError(
                f"the run in {self.path} is {'private' if 'privacy' in run['asked'] else 'not private'}, and cannot go "
                "on otherwise, as what its rounds have told would count, too:"
                f"{listed}\nAsk for the same, or name another folder.",
                changes,
            )
        if "clients" in changes:
            raise ChangedRunError(
                f"the run in {self.path} has other clients, and cannot go on with these:{listed}\n"
                "Ask for the same, or name another folder.",
                changes,
            )
        if not self._allow_changes:
            raise ChangedRunError(
                f"the run in {self.path} is another one, and cannot be resumed as this:{listed}\n"
                "Ask for the same, name another folder, or go on with what has changed: allow_changes=True.",
                changes,
            )
        self._changes = changes

    def _warn_of_devices(self, run: Mapping[str, Any]) -> None:
        before, now = run["devices"], self._facts.get("devices")
        if before is None or now is None:
            return
        added, adds = run.get("sums") or "fast", self._facts.get("sums") or "fast"
        if added != adds:
            why = f"sums over clients were {added}, and are {adds}"
        elif before == now or (adds == "exact" and _kind(before) == _kind(now)):
            return
        elif adds == "exact":
            why = "another kind of device rounds otherwise"
        else:
            why = "sums over clients are added up in another order"
        warn(
            f"the run in {self.path} was on {before}, and goes on with {now}: {why}, so its numbers agree to rounding, "
            "not to the bit, with those of a run left alone"
        )


def _kind(devices: str) -> str:
    """What kind of devices there are, of how many."""
    return devices.partition(" x ")[2]


def check_no_others(path: Path) -> None:
    """Checks that a folder may become that of a run, or is one: nothing else is in it. It need not be there.

    Raises:
        RunError: if it holds something else, or cannot be looked at.
    """
    try:
        others = sorted(found.name for found in path.iterdir() if not _is_of_a_beginning(found))
    except FileNotFoundError:
        return
    except OSError as error:
        raise RunError(f"{path} cannot be used as a run folder: {error}") from error
    if others and not has_run(path):
        raise RunError(f"{path} is no folder of a run, and is not empty: it has {others[0]}; name another folder")


def _is_of_a_beginning(path: Path) -> bool:
    """Whether a run that was killed before its first round may have left it."""
    made = path.name == LOCK or is_part(path) or path.match("sink-*.json")
    if path.name == PRIVATE and path.is_dir() and not path.is_symlink():
        return all(is_part(each) or each.name == SECRETS for each in path.iterdir())
    return made or (path.is_file() and path.stat().st_size == 0)
