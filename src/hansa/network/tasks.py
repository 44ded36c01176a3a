"""What a round on devices is made of, as plain data: which phase of which call it is, its terms, its tasks.

Nothing here does anything. `hansa.network.rounds` says how tasks go on, and the ledger keeps them.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from hansa.language.occasions import Occasion
from hansa.types.identities import ClientId


class Outcome(StrEnum):
    """How a task has ended. Each device that is selected ends with exactly one of them.

    Attributes:
        COUNTED: its contribution is in the result.
        LATE: it had the task, and nothing of it was there when the round was cut.
        CRASHED: an error on the device, of which there is a traceback.
        REFUSED: the device does not do it, and says why.
        INVALID: its contribution was looked at and turned away.
        OFFLINE: it never took the task, or was not heard of any more.
    """

    COUNTED = "counted"
    LATE = "late"
    CRASHED = "crashed"
    REFUSED = "refused"
    INVALID = "invalid"
    OFFLINE = "offline"


TOLD = (Outcome.CRASHED, Outcome.REFUSED)
"""How a device says itself that it ended."""


class Status(StrEnum):
    """How far a phase is.

    Attributes:
        OPEN: devices are asked and may answer.
        CLOSING: cut; every task has its outcome, and what was counted is folded.
        COMMITTED: its result was given to the caller.
        ABANDONED: cut with fewer than `least`; it has no result.
    """

    OPEN = "open"
    CLOSING = "closing"
    COMMITTED = "committed"
    ABANDONED = "abandoned"


@dataclass(frozen=True)
class PhaseKey:
    """Which work of the clients it is: of which call, which of its client stages, and which exchange of that.

    Attributes:
        run: see `hansa.Occasion`, as for the four that follow.
        round: the number of the round.
        attempt: of the round.
        part: what the call is in the round.
        call: the number of the call in that part.
        stage: the number of the client stage.
        phase: the number of the exchange within the stage; 0 where contributions go to the coordinator as they are.
    """

    run: str
    round: int
    attempt: int
    part: str
    call: int
    stage: int
    phase: int = 0

    @classmethod
    def of(cls, occasion: Occasion, stage: int, phase: int = 0) -> PhaseKey:
        """The phase of a client stage of a call."""
        return cls(occasion.run, occasion.round, occasion.attempt, occasion.part, occasion.call, stage, phase)

    @property
    def occasion(self) -> Occasion:
        """The call that it is a phase of."""
        return Occasion(self.run, self.round, self.attempt, self.part, self.call)  # type: ignore[arg-type]

    @property
    def call_id(self) -> str:
        """What the call is known by in files: 32 hexadecimal digits."""
        text = json.dumps([self.run, self.round, self.attempt, self.part, self.call])
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    @property
    def text(self) -> str:
        """It in a line, as logs and folders of devices have it."""
        return f"{self.run}/{self.round}/{self.attempt}/{self.part}/{self.call}/{self.stage}/{self.phase}"

    def task_id(self, device: str) -> str:
        """What the task of a device is called in requests: the same after a restart, and no other task's."""
        return hashlib.sha256(json.dumps([self.text, device]).encode()).hexdigest()[:32]


@dataclass(frozen=True)
class RoundTerms:
    """When a phase ends.

    Attributes:
        target: how many counted contributions end it.
        least: with fewer at the end it is abandoned.
        deadline: seconds after which it is cut. They stand still while the coordinator is down.
        lease: seconds for which a device that has the task is waited for without a sign of progress.

    Raises:
        ValueError: if they do not go together.
    """

    target: int
    least: int = 1
    deadline: float = 600.0
    lease: float = 60.0

    def __post_init__(self) -> None:
        for name in ("target", "least"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a number of clients, 1 or more; found {value!r}")
        for name in ("deadline", "lease"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
                raise ValueError(f"{name} must be a positive number of seconds; found {value!r}")
        if self.least > self.target:
            raise ValueError(f"least is {self.least}, more than target, {self.target}, at which the round ends")


@dataclass(frozen=True)
class Selected:
    """A device that is asked.

    Attributes:
        device: its name, under which it was enrolled.
        position: its place in the cohort, from 0.
        client_id: the identity of its client.
        number: that client's number, which makes its random keys.
    """

    device: str
    position: int
    client_id: ClientId
    number: int


@dataclass(frozen=True)
class Task:
    """One device's part of a phase, as far as it has got.

    Attributes:
        selected: who was asked.
        taken: whether it has come for the task.
        outcome: how it ended; None as long as it has not.
        reason: why, where there is something to say.
        digest: SHA-256 of its contribution, in hexadecimal digits.
        size: of its contribution, in bytes.
        waited_until: in seconds of the phase's own time, when its lease ends.
        figure: the last sign of progress, a number that only grows.
    """

    selected: Selected
    taken: bool = False
    outcome: Outcome | None = None
    reason: str | None = None
    digest: str | None = None
    size: int | None = None
    waited_until: float = 0.0
    figure: float = 0.0


def encode_client(client_id: ClientId) -> str:
    """A client's id as a text, of which strings and integers are not the same."""
    return json.dumps(client_id)


def decode_client(text: str) -> Any:
    """The id of `encode_client`."""
    return json.loads(text)
