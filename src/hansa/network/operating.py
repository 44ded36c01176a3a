"""What an operator does with a coordinator's folder, whether a process has it now or not: invite, look, revoke.

Whoever may write the folder is its operator. The coordinator is told of changes, and takes them over within a second.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from hansa._lock import is_locked
from hansa.network.authority import Authority
from hansa.network.changes import Changes
from hansa.network.durable import Disk
from hansa.network.ledger import LEDGER, Ledger
from hansa.network.membership import Invitation
from hansa.network.network import AUTHORITY, invitation_of
from hansa.network.operators import Operators, Person
from hansa.network.registry import Device, EnrolmentError, Registry
from hansa.network.settings import SETTINGS, NetworkError, Settings, serving
from hansa.network.submissions import RunTerms, SubmissionError, Submissions
from hansa.network.tasks import Outcome, Status
from hansa.types.identities import ClientId

_HERE = "whoever may write the folder"


def init(folder: Path, settings: Settings) -> Authority:
    """Makes a coordinator's folder: its settings, its ledger, and an authority with a key of its own.

    Raises:
        NetworkError: if there is one already.
    """
    if (folder / SETTINGS).exists():
        raise NetworkError(f"{folder} is a coordinator's folder already, and nothing is overwritten; name another")
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    Ledger(folder, alone=not is_locked(folder)).close()
    authority = Authority(folder / AUTHORITY, Disk())
    settings.write(folder)
    return authority


class Operator:
    """A coordinator's folder, as its operator uses it.

    Args:
        folder: the folder.

    Attributes:
        settings: its settings.
        serving: what the coordinator that has it now has noted; None if none has.
        operators: those that come from elsewhere.
        submissions: the runs that were submitted.

    Raises:
        NetworkError: if it is no coordinator's.
    """

    def __init__(self, folder: Path) -> None:
        self.settings = Settings.read(folder)
        if not (folder / LEDGER).exists():
            raise NetworkError(f"{folder} has no ledger: it was removed, or the folder is a copy without it")
        self._folder, self.serving = folder, serving(folder)
        self._ledger = Ledger(folder, alone=False)
        self._registry, self.operators = Registry(self._ledger), Operators(self._ledger)
        self.submissions = Submissions(self._ledger, folder)

    def close(self) -> None:
        """Gives it up."""
        self._ledger.close()

    def __enter__(self) -> Operator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def url(self) -> str:
        """At which devices reach the coordinator."""
        if self.serving:
            return str(self.serving["url"])
        if not self.settings.port:
            raise NetworkError(
                f"{self._folder / SETTINGS} has port = 0, any that is free, so its address is known only while a "
                "coordinator has it: hansa serve"
            )
        return self.settings.url

    def invite(self, client_id: ClientId | None = None, uses: int = 1, days: float = 7.0, note: str = "") -> Invitation:
        """An invitation; see `hansa.network.Network.invite`."""
        url, authority = self.url, Authority(self._folder / AUTHORITY, Disk())
        secret = self._registry.invite(client_id, uses, days * 86400.0, note)
        return invitation_of(url, authority, secret, self.settings.before(self._folder))

    def invite_operator(self, who: str, days: float = 1.0) -> Invitation:
        """An invitation for an operator from elsewhere, who may submit, watch and stop runs."""
        url, authority = self.url, Authority(self._folder / AUTHORITY, Disk())
        secret = self.operators.invite(who, days * 86400.0)
        return invitation_of(url, authority, secret, self.settings.before(self._folder))

    def revoke_operator(self, text: str) -> Person | None:
        """An operator, by its name or who it is, may not come any more; None if there is none."""
        found = [each for each in self.operators.all() if text in (each.name, each.who) and not each.revoked]
        if len(found) > 1:
            raise NetworkError(f"there are {len(found)} operators called {text!r}: name one by its o-…")
        for each in found:
            self.operators.revoke(each.name)
        return found[0] if found else None

    def runs(self) -> list[dict[str, Any]]:
        """All runs that were submitted, the oldest first."""
        return [each.to_json() for each in self.submissions.all()]

    def submit(self, terms: RunTerms, program: bytes) -> dict[str, Any]:
        """Submits a run.

        Raises:
            SubmissionError: if there is another one of its name.
        """
        with self.submissions.coming(terms).open("w+b") as file:
            file.write(program)
            return self.submissions.submit(terms, _HERE, file).to_json()

    def stop(self, name: str) -> dict[str, Any]:
        """Stops a run.

        Raises:
            SubmissionError: if there is none, or it has ended.
        """
        return self.submissions.stop(name, _HERE).to_json()

    def log(self, name: str, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
        """Lines of a run's log from a byte on, and the byte to go on from.

        Raises:
            SubmissionError: if there is no such run.
        """
        data, after = self.submissions.log(name, offset)
        return [json.loads(line) for line in data.splitlines()], after

    def checkpoint(self, name: str, target: Path) -> str:
        """Copies the newest checkpoint of a run to a file, and gives its name here.

        Raises:
            SubmissionError: if there is none.
        """
        found = self.submissions.checkpoint(name)
        if found is None:
            raise SubmissionError("the run has no checkpoint yet")
        shutil.copyfile(found, target)
        return found.name

    def devices(self) -> list[Device]:
        """All that have joined, in order."""
        return self._registry.devices()

    def named(self, text: str) -> Device:
        """The device of a name, or of a client's id.

        Raises:
            NetworkError: if there is none.
        """
        devices = self.devices()
        found = [each for each in devices if each.name == text] or [
            each for each in devices if str(each.client_id) == text
        ]
        if len(found) != 1:
            raise NetworkError(
                f"there are {len(found)} devices called {text!r}; hansa network devices {self._folder} lists them"
            )
        return found[0]

    def revoke(self, device: Device) -> None:
        """It may not come any more."""
        self._registry.revoke(device.name)
        Changes(self._folder).tell()

    def release(self, device: Device) -> None:
        """It is in quarantine, and is asked again.

        Raises:
            NetworkError: if it is not.
        """
        try:
            self._registry.release(device.name)
        except EnrolmentError as error:
            raise NetworkError(str(error)) from None
        Changes(self._folder).tell()

    def status(self) -> dict[str, Any]:
        """How the network is: whether it is served, its devices, its runs, and what goes on."""
        devices = self.devices()
        return {
            "serving": self.serving is not None,
            "url": self.serving["url"] if self.serving else None,
            "page": self.serving.get("page") if self.serving else None,
            "devices": {
                "enrolled": sum(not each.revoked for each in devices),
                "quarantined": sum(each.quarantined and not each.revoked for each in devices),
                "revoked": sum(each.revoked for each in devices),
                "heard_of_in_the_last_minute": sum(
                    each.seen is not None and time.time() - each.seen < 60.0 and not each.revoked for each in devices
                ),
            },
            "invitations": self._registry.invitations(),
            "operators": [each.who for each in self.operators.all() if not each.revoked],
            "submitted": self.runs(),
            "runs": self._ledger.ask(_runs),
            "open": self._ledger.ask(_open),
        }


def _runs(database: sqlite3.Connection) -> list[dict[str, Any]]:
    found = database.execute(
        "SELECT run, max(round), count(DISTINCT id), max(coalesce(closed, opened)) FROM phases"
        " WHERE part != 'call' GROUP BY run ORDER BY max(id)"
    ).fetchall()
    outcomes: dict[str, dict[str, int]] = {}
    for run, outcome, count in database.execute(
        "SELECT run, outcome, count(*) FROM phases JOIN tasks ON phase_id = id"
        " WHERE part != 'call' AND outcome IS NOT NULL GROUP BY run, outcome"
    ):
        outcomes.setdefault(run, {})[outcome] = count
    return [
        {"run": run, "round": number, "phases": phases, "at": at, "outcomes": _all_of(outcomes.get(run, {}))}
        for run, number, phases, at in found
    ]


def _open(database: sqlite3.Connection) -> list[dict[str, Any]]:
    found = database.execute(
        "SELECT run, round, part, stage, status, elapsed, deadline, target, least, count(*), sum(taken),"
        " count(outcome), count(*) FILTER (WHERE outcome = ?) FROM phases JOIN tasks ON phase_id = id"
        " WHERE status IN (?, ?) GROUP BY id ORDER BY id",
        (Outcome.COUNTED, Status.OPEN, Status.CLOSING),
    )
    names = ("run", "round", "part", "stage", "status", "elapsed", "deadline", "target", "least", "asked", "taken")
    return [dict(zip((*names, "ended", "counted"), row, strict=True)) for row in found]


def _all_of(outcomes: dict[str, int]) -> dict[str, int]:
    return {str(each): outcomes.get(each, 0) for each in Outcome}
