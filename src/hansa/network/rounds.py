"""How a phase goes on: a state machine without clocks, files or sockets. (phase, event) -> (phase, actions).

    asked ─► taken ─► counted | invalid | crashed | refused
      at the cut: never taken, or its lease ran out ─► offline;  taken ─► late

    open ─► closing ─► committed
      └───► abandoned, with fewer than `least` at the cut

Whoever runs it carries the actions out in their order. A `Save…` is a transaction of the ledger, and an `Answer` leaves
after everything that was to be saved before it is on the disk. So a process that is killed between any two actions goes
on from what is saved, by `restored`, and the device that had no answer asks again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from hansa.network.tasks import TOLD, Outcome, RoundTerms, Selected, Status, Task


@dataclass(frozen=True)
class Phase:
    """A phase as far as it has got.

    Attributes:
        terms: when it ends.
        tasks: by the name of the device.
        status: how far it is.
        elapsed: seconds for which it was open while the coordinator was up.
        saved: what of these is in the ledger.
    """

    terms: RoundTerms
    tasks: Mapping[str, Task]
    status: Status = Status.OPEN
    elapsed: float = 0.0
    saved: float = 0.0

    @cached_property
    def number_counted(self) -> int:
        """How many contributions count."""
        return sum(task.outcome is Outcome.COUNTED for task in self.tasks.values())

    @cached_property
    def number_open(self) -> int:
        """How many tasks have no outcome."""
        return sum(task.outcome is None for task in self.tasks.values())

    @cached_property
    def counted(self) -> tuple[Selected, ...]:
        """Whose contributions count, in the cohort's order."""
        found = [task.selected for task in self.tasks.values() if task.outcome is Outcome.COUNTED]
        return tuple(sorted(found, key=lambda selected: selected.position))

    @property
    def is_waiting(self) -> bool:
        """Whether there is a device from which something may still come."""
        return any(
            task.outcome is None and (not task.taken or task.waited_until > self.elapsed)
            for task in self.tasks.values()
        )


@dataclass(frozen=True)
class Asked:
    """A device that was selected has come for its task."""

    device: str


@dataclass(frozen=True)
class Progressed:
    """A device says how far it is: seconds of CPU, or bytes, that only grow."""

    device: str
    figure: float


@dataclass(frozen=True)
class Stored:
    """A contribution has been found right, and is on the disk."""

    device: str
    digest: str
    size: int


@dataclass(frozen=True)
class Ended:
    """A device has crashed or refused, or its contribution was turned away."""

    device: str
    outcome: Outcome
    reason: str
    digest: str | None = None


@dataclass(frozen=True)
class Passed:
    """Time has passed for the coordinator, in seconds."""

    seconds: float


@dataclass(frozen=True)
class GivenUp:
    """Whoever wanted the result does not want it any more."""

    reason: str


@dataclass(frozen=True)
class Committed:
    """The result was given to the caller."""


Event = Asked | Progressed | Stored | Ended | Passed | GivenUp | Committed


@dataclass(frozen=True)
class SaveTask:
    """One task is to be as it is here."""

    task: Task


@dataclass(frozen=True)
class SaveCut:
    """In one transaction: the status, and the outcomes of those that had none."""

    status: Status
    tasks: tuple[Task, ...]


@dataclass(frozen=True)
class SaveStatus:
    """The status."""

    status: Status


@dataclass(frozen=True)
class SaveElapsed:
    """How long it was open; nothing waits for it."""

    seconds: float


@dataclass(frozen=True)
class Fold:
    """A contribution may be folded."""

    selected: Selected


@dataclass(frozen=True)
class Give:
    """The device is told its task; without one, that it has none here."""

    task: Task | None
    seconds_left: float = 0.0


@dataclass(frozen=True)
class Answer:
    """The device is told how its task has ended, or None as long as it has not."""

    outcome: Outcome | None
    reason: str | None = None


@dataclass(frozen=True)
class Cut:
    """Nothing more comes of devices."""

    status: Status


Action = SaveTask | SaveCut | SaveStatus | SaveElapsed | Fold | Give | Answer | Cut

_OTHER = "another contribution was counted"
_SAVED_EVERY = 5.0
"""Seconds of a phase's time that may be lost when the coordinator is killed."""


def begun(terms: RoundTerms, cohort: Iterable[Selected]) -> Phase:
    """A phase in which nobody has done anything."""
    return Phase(terms, {selected.device: Task(selected) for selected in cohort})


def restored(terms: RoundTerms, tasks: Iterable[Task], status: Status, elapsed: float) -> Phase:
    """A phase of what the ledger has. Who had the task is waited for anew: it could not be heard.

    The first event is to be `Passed(0)`: its end may have been reached.
    """
    waited = {
        task.selected.device: replace(task, waited_until=elapsed + terms.lease if task.taken else 0.0, figure=0.0)
        for task in tasks
    }
    return Phase(terms, waited, status, elapsed, elapsed)


def step(phase: Phase, event: Event) -> tuple[Phase, list[Action]]:
    """The phase after an event, and what is to be done, in this order."""
    match event:
        case Passed(seconds):
            return _passed(phase, seconds)
        case GivenUp(reason):
            return _cut(phase, Status.ABANDONED, reason) if phase.status is Status.OPEN else (phase, [])
        case Committed():
            if phase.status is not Status.CLOSING:
                return phase, []
            return replace(phase, status=Status.COMMITTED), [SaveStatus(Status.COMMITTED)]
        case Asked(device):
            return _asked(phase, device)
        case Progressed(device, figure):
            return _progressed(phase, device, figure)
        case Stored(device, digest, size):
            return _ended(phase, device, Outcome.COUNTED, None, digest, size)
        case Ended(device, outcome, reason, digest):
            if outcome not in (*TOLD, Outcome.INVALID):
                raise ValueError(f"a task does not end as {outcome} by itself")
            return _ended(phase, device, outcome, reason, digest, None)


def _asked(phase: Phase, device: str) -> tuple[Phase, list[Action]]:
    task = phase.tasks.get(device)
    if task is None or task.outcome is not None or phase.status is not Status.OPEN:
        return phase, [Give(None)]
    after = replace(task, taken=True, waited_until=phase.elapsed + phase.terms.lease)
    saves: list[Action] = [] if task.taken else [SaveTask(after)]
    left = max(0.0, phase.terms.deadline - phase.elapsed)
    return _with(phase, after), [*saves, Give(after, left)]


def _progressed(phase: Phase, device: str, figure: float) -> tuple[Phase, list[Action]]:
    task = phase.tasks[device]
    if task.outcome is None and figure > task.figure:
        until = phase.elapsed + phase.terms.lease
        phase = _with(phase, replace(task, taken=True, figure=figure, waited_until=until))
    return phase, [Answer(task.outcome, task.reason)]


def _ended(
    phase: Phase, device: str, outcome: Outcome, reason: str | None, digest: str | None, size: int | None
) -> tuple[Phase, list[Action]]:
    task = phase.tasks[device]
    if task.outcome is not None:
        if task.outcome is Outcome.COUNTED and digest != task.digest:
            return phase, [Answer(Outcome.REFUSED, _OTHER)]
        return phase, [Answer(task.outcome, task.reason)]
    after = replace(task, taken=True, outcome=outcome, reason=reason, digest=digest, size=size)
    phase = _with(phase, after)
    counted: list[Action] = [Fold(after.selected)] if outcome is Outcome.COUNTED else []
    phase, cut = _cut_if_done(phase, phase.number_open > 0)
    return phase, [SaveTask(after), *counted, Answer(outcome, reason), *cut]


def _passed(phase: Phase, seconds: float) -> tuple[Phase, list[Action]]:
    if phase.status is not Status.OPEN:
        return phase, []
    phase = replace(phase, elapsed=phase.elapsed + max(0.0, seconds))
    saves: list[Action] = []
    if phase.elapsed - phase.saved >= _SAVED_EVERY:
        phase, saves = replace(phase, saved=phase.elapsed), [SaveElapsed(phase.elapsed)]
    phase, cut = _cut_if_done(phase, phase.is_waiting)
    return phase, [*saves, *cut]


def _cut_if_done(phase: Phase, is_waiting: bool) -> tuple[Phase, list[Action]]:
    counted, terms = phase.number_counted, phase.terms
    if counted < terms.target and is_waiting and phase.elapsed < terms.deadline:
        return phase, []
    return _cut(phase, Status.CLOSING if counted >= terms.least else Status.ABANDONED, None)


def _cut(phase: Phase, status: Status, reason: str | None) -> tuple[Phase, list[Action]]:
    left = [
        replace(task, outcome=_without_contribution(task, phase.elapsed), reason=reason)
        for task in phase.tasks.values()
        if task.outcome is None
    ]
    tasks = {**phase.tasks, **{task.selected.device: task for task in left}}
    phase = replace(phase, tasks=tasks, status=status)
    return phase, [SaveCut(status, tuple(left)), Cut(status)]


def _without_contribution(task: Task, elapsed: float) -> Outcome:
    return Outcome.LATE if task.taken and task.waited_until > elapsed else Outcome.OFFLINE


def _with(phase: Phase, task: Task) -> Phase:
    return replace(phase, tasks={**phase.tasks, task.selected.device: task})
