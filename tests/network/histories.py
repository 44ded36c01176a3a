"""A coordinator, its disk and its devices as plain data: histories in which anything may die between any two actions.

The disk is what survives. A contribution is stored before the machine hears of it, as the spool does it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hansa.network import rounds
from hansa.network.tasks import Outcome, RoundTerms, Selected, Status, Task


@dataclass
class Disk:
    tasks: dict[str, Task]
    status: Status = Status.OPEN
    elapsed: float = 0.0
    spool: dict[str, str] = field(default_factory=dict)


class Killed(Exception):
    pass


class World:
    """What runs the machine, dies where it is told to, and checks what must hold after every action.

    Args:
        terms: of the phase.
        devices: how many there are.
        deaths: how many actions are carried out before each death.
    """

    def __init__(self, terms: RoundTerms, devices: int, deaths: list[int]) -> None:
        self.terms, self.deaths = terms, deaths
        cohort = [Selected(f"d{i}", i, i, i) for i in range(devices)]
        self.phase = rounds.begun(terms, cohort)
        self.disk = Disk(dict(self.phase.tasks))
        self.folded: set[str] = set()
        self.told: dict[str, tuple[Outcome, str | None]] = {}
        self.given_up = False
        self.done: Status | None = None

    def send(self, event: rounds.Event) -> None:
        """An event, and again after a death, as a device repeats what had no answer."""
        self.given_up |= isinstance(event, rounds.GivenUp)
        for _ in range(len(self.deaths) + 1):
            try:
                return self._once(event)
            except Killed:
                self._restart()

    def _once(self, event: rounds.Event) -> None:
        self.phase, actions = rounds.step(self.phase, event)
        for action in actions:
            self._die()
            self._carry_out(action, event)
            self._check()
        self._die()

    def _die(self) -> None:
        if self.deaths:
            self.deaths[0] -= 1
            if self.deaths[0] < 0:
                self.deaths.pop(0)
                raise Killed

    def _restart(self) -> None:
        self.phase = rounds.restored(self.terms, self.disk.tasks.values(), self.disk.status, self.disk.elapsed)
        self.folded = {name for name, task in self.disk.tasks.items() if task.outcome is Outcome.COUNTED}
        self.done = self.disk.status if self.disk.status is not Status.OPEN else None
        self._check()
        try:
            self._once(rounds.Passed(0.0))  # the target may have been reached
        except Killed:
            self._restart()

    def _save(self, task: Task) -> None:
        before = self.disk.tasks[task.selected.device]
        assert before.outcome in (None, task.outcome), "an outcome has changed"
        self.disk.tasks[task.selected.device] = task

    def _carry_out(self, action: rounds.Action, event: rounds.Event) -> None:
        match action:
            case rounds.SaveTask(task):
                assert self.disk.status is Status.OPEN
                self._save(task)
            case rounds.SaveCut(status, tasks):
                assert self.disk.status is Status.OPEN
                self.disk.status = status
                for task in tasks:
                    self._save(task)
            case rounds.SaveStatus(status):
                self.disk.status = status
            case rounds.SaveElapsed(seconds):
                assert seconds >= self.disk.elapsed
                self.disk.elapsed = seconds
            case rounds.Fold(selected):
                assert selected.device not in self.folded, "folded twice"
                self.folded.add(selected.device)
            case rounds.Answer(outcome, reason) if outcome is not None:
                device, row = event.device, self.disk.tasks[event.device]
                if reason != "another contribution was counted":
                    assert row.outcome is outcome, "answered what is not on the disk"
                    assert self.told.setdefault(device, (outcome, row.digest)) == (outcome, row.digest)
            case rounds.Cut(status):
                self.done = status

    def _check(self) -> None:
        counted = {name for name, task in self.disk.tasks.items() if task.outcome is Outcome.COUNTED}
        for name in counted:
            assert self.disk.spool[name] == self.disk.tasks[name].digest
        assert all(self.disk.tasks[name].outcome is outcome for name, (outcome, _) in self.told.items())
        if self.disk.status is not Status.OPEN:
            assert all(task.outcome is not None for task in self.disk.tasks.values())
            if not self.given_up:
                assert (len(counted) >= self.terms.least) == (self.disk.status is not Status.ABANDONED)
            assert len(counted) <= self.terms.target
        if self.done in (Status.CLOSING, Status.COMMITTED):
            assert self.folded == counted

    def store(self, device: str, digest: str) -> None:
        """A contribution that comes whole; other bytes than those that count do not replace them."""
        if self.phase.tasks[device].outcome is None:
            self.disk.spool[device] = digest
        self.send(rounds.Stored(device, digest, 10))

    def finish(self) -> None:
        """Time passes until the phase has ended, and its result is given."""
        for _ in range(100):
            if self.phase.status is not Status.OPEN:
                break
            self.send(rounds.Passed(self.terms.deadline / 4))
        assert self.phase.status is not Status.OPEN, "it does not end"
        self.send(rounds.Committed())
        assert self.phase.status is self.disk.status
        assert self.disk.status in (Status.COMMITTED, Status.ABANDONED)
        outcomes = [task.outcome for task in self.disk.tasks.values()]
        assert None not in outcomes and len(outcomes) == len(self.phase.tasks)
