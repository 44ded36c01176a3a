"""What the coordinator knows of a phase that goes on, and how the thread that waits for it sees it."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hansa.network import rounds
from hansa.network.boundary import Boundary
from hansa.network.ledger import OpenedPhase
from hansa.network.orders import Sent, StateOrder
from hansa.network.tasks import PhaseKey


class CoordinatorError(Exception):
    """The coordinator cannot go on. The message says why."""


@dataclass(frozen=True)
class PhaseWork:
    """What devices do in a phase, which is the same for all of them.

    Attributes:
        computation: the computation's name.
        program: the digest of the stage's file.
        program_size: its bytes.
        sent: what devices are sent.
        inputs: see `Order`.
        plan: see `Order`.
        boundary: the checks of what they give.
        unprotected: see `Order`.
        state: see `Order`; its version is that of each device.
        last_stage: the number of the last client stage.
        whole: the digest of the file of all stages.
        starts: the digest of what states of no clients are made of.
        signature: see `Order`.
    """

    computation: str
    program: str
    program_size: int
    sent: tuple[Sent, ...]
    inputs: tuple[tuple[Any, ...], ...]
    plan: Mapping[str, Any] | None
    boundary: Boundary
    unprotected: bool
    state: StateOrder | None = None
    last_stage: int = 0
    whole: str | None = None
    starts: str | None = None
    signature: tuple[str, str] | None = None


class Watched:
    """A phase as one thread shows it to another: whoever waits for the next one sees the newest.

    Args:
        phase: the first.
    """

    def __init__(self, phase: rounds.Phase) -> None:
        self._phase, self._changed = phase, threading.Condition()
        self._error: BaseException | None = None

    def show(self, phase: rounds.Phase) -> None:
        """Another phase is the newest."""
        with self._changed:
            self._phase = phase
            self._changed.notify_all()

    def fail(self, error: BaseException) -> None:
        """Whoever waits has an error."""
        with self._changed:
            self._error = error
            self._changed.notify_all()

    def after(self, seen: rounds.Phase | None, seconds: float = 0.5) -> rounds.Phase:
        """The newest phase, if it is another than was seen last; else the same after some seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self._phase is not seen or self._error is not None, seconds)
            if self._error is not None:
                raise CoordinatorError(f"the coordinator cannot go on: {self._error}") from self._error
            return self._phase


@dataclass
class Running:
    """A phase that is open, or was cut and is not yet committed.

    Attributes:
        opened: as it is in the ledger.
        work: what devices do in it.
        phase: as far as it has got.
        watched: where the caller sees it.
        small: small contributions, by device; larger ones are in the spool.
        versions: of what clients keep from round to round, by device.
        busy: who is sending something right now.
    """

    opened: OpenedPhase
    work: PhaseWork
    phase: rounds.Phase
    watched: Watched
    small: dict[str, bytes] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    busy: set[str] = field(default_factory=set)

    @property
    def key(self) -> PhaseKey:
        """Which phase it is."""
        return self.opened.key
