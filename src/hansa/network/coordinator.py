"""The coordinator without its sockets: who is there, which phases are open, and what is told to whom.

It carries out what the state machine says (`hansa.network.rounds`), in its order. All of its methods that are
coroutines run in one event loop; the caller of a computation has a thread of its own, and is shown phases, which never
change, by `Watched`.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

from hansa.network import rounds
from hansa.network.blobs import Blobs
from hansa.network.changes import Changes
from hansa.network.durable import Bytes, Disk
from hansa.network.ledger import Ledger
from hansa.network.orders import Order, Sent
from hansa.network.phases import CoordinatorError, PhaseWork, Running, Watched
from hansa.network.registry import MOST_STRIKES, Device, Registry
from hansa.network.spool import Spool
from hansa.network.tasks import Outcome, PhaseKey, RoundTerms, Selected, Status, Task

_LONGEST_TICK = 2.0
"""Seconds that a phase's time goes on at once: who was stopped for longer was down."""

WINDOW = 60.0
"""Seconds after its last poll in which a device is there."""

_NOTED_EVERY = 30.0
"""Seconds after which the ledger is told who was heard of."""


class Coordinator:
    """The coordinator of a folder.

    Args:
        folder: where its ledger, spool and blobs lie.
        disk: the disk.
        clock: seconds that only grow.
        keep_rounds: of how many rounds before the newest contributions are kept, to be folded again.

    Attributes:
        folder: see above.
        keep_rounds: see above.
        ledger: what it must not forget.
        registry: who is enrolled.
        blobs: what it sends.
        spool: what it was sent.
        failed: why it cannot go on; None as long as it can.
        publishing: held from the first blob of a phase on until it is open, as blobs of no phase are removed.
    """

    def __init__(
        self,
        folder: Path,
        disk: Disk | None = None,
        clock: Callable[[], float] = time.monotonic,
        keep_rounds: int = 0,
    ) -> None:
        disk, self.folder, self.keep_rounds = disk or Disk(), folder, keep_rounds
        self.ledger = Ledger(folder, disk)
        self.registry = Registry(self.ledger)
        self.blobs, self.spool = Blobs(folder / "blobs", disk), Spool(folder / "spool", disk)
        self.failed: BaseException | None = None
        self.publishing = threading.Lock()
        self._clock, self._ticked, self._is_closing = clock, clock(), False
        self._changes, self._noted = Changes(folder), clock()
        self._devices = {device.name: device for device in self.registry.devices()}
        self._seen: dict[str, float] = {}
        self._waiting: dict[str, asyncio.Event] = {}
        self._running: dict[PhaseKey, Running] = {}
        self._tasks: dict[str, Running] = {}

    def close(self) -> None:
        """Writes what waits, and gives the folder up."""
        self.note_seen()
        self.ledger.close()

    # Who is there: called from any thread.

    def devices(self) -> list[Device]:
        """All devices that are enrolled, in order."""
        return list(self._devices.values())

    def refresh(self) -> None:
        """Takes who is enrolled from the ledger."""
        self._devices = {device.name: device for device in self.registry.devices()}

    def add(self, device: Device) -> None:
        """A device has joined, or joined again."""
        self._devices[device.name] = device

    def note_seen(self) -> None:
        """Tells the ledger who was heard of since it was told last; nothing waits for it."""
        since, now = self._noted, self._clock()
        self._noted = now
        heard = {name: now - at for name, at in dict(self._seen).items() if at >= since}
        if heard:
            self.registry.note_seen(heard)

    def there(self) -> list[Device]:
        """The devices that may be asked and were heard of lately, in the order in which they joined."""
        since, known = self._clock() - WINDOW, self._devices
        heard = [known[name] for name, at in dict(self._seen).items() if at > since and name in known]
        there = [device for device in heard if device.may_be_asked]
        return sorted(there, key=lambda device: (device.enrolled, device.name))

    def heard(self) -> dict[str, float]:
        """When each device was heard of last in this process, in seconds since 1970."""
        now, wall = self._clock(), time.time()
        return {name: wall - (now - at) for name, at in dict(self._seen).items()}

    def load(self) -> tuple[int, int]:
        """How many devices wait for a task, and how many tasks have not ended."""
        running = list(self._running.values())
        return len(self._waiting), sum(each.phase.number_open for each in running)

    def known(self, name: str, fingerprint: str) -> Device | None:
        """The device of a certificate; None if it is none's, or the device was revoked."""
        device = self._devices.get(name)
        if device is None or device.revoked or fingerprint not in (device.fingerprint, device.next_fingerprint):
            return None
        return device

    def publish(
        self, program: bytes, values: Sequence[tuple[str, Sequence[Bytes]]], others: Iterable[str] = ()
    ) -> tuple[str, tuple[Sent, ...]]:
        """Makes blobs of a stage and of what is sent with it, and removes those that no phase needs any more.

        Args:
            program: the stage's file.
            values: what is sent, by name.
            others: digests of blobs that are needed, too.

        Returns:
            The digest of the stage, and what is sent.
        """
        digest = self.blobs.put([program])
        sent = tuple(Sent(name, self.blobs.put(pieces), sum(map(len, pieces))) for name, pieces in values)
        works = [running.work for running in list(self._running.values())]
        needed = {digest, *others, *(each.digest for each in sent), *(work.program for work in works)}
        needed |= {each.digest for work in works for each in work.sent} | self.ledger.kept_digests()
        self.blobs.keep(needed | {work.state.first.digest for work in works if work.state is not None})
        return digest, sent

    # Phases: called in the event loop.

    async def open(self, key: PhaseKey, work: PhaseWork, terms: RoundTerms, cohort: Sequence[Selected]) -> Running:
        """Begins a phase, or goes on with it if it is in the ledger.

        Raises:
            CoordinatorError: if it was begun with another program or other values.
        """
        sent = tuple(each.digest for each in work.sent)
        found = await self._in_thread(self.ledger.find_phase, key)
        if found is None:
            await self._in_thread(self.spool.open_phase, key)
            found = await asyncio.wrap_future(
                self.ledger.open_phase(key, work.program, sent, terms, cohort, work.whole, work.starts)
            )
        elif found.program != work.program or found.sent != sent:
            raise CoordinatorError(
                f"the phase {key.text} was begun with another program, or other values: what they are made of is not "
                "reproducible, or has changed; begin another run"
            )
        else:
            await self._in_thread(self.spool.open_phase, key)
        running = Running(found, work, found.phase, Watched(found.phase))
        if work.state is not None:
            last = await self._in_thread(self.ledger.last_counted, replace(key, stage=work.last_stage))
            running.versions = {device: each.call_id for device, each in last.items()}
        self._running[key] = running
        self._tasks.update({key.task_id(device): running for device in found.phase.tasks})
        await self.happened(running, rounds.Passed(0.0))
        for device in found.phase.tasks:
            self._wake(device)
        return running

    async def end(self, running: Running) -> None:
        """The result was given."""
        await self.happened(running, rounds.Committed())
        self._forget(running)

    async def leave(self, running: Running, for_ever: bool) -> None:
        """The caller has gone.

        Args:
            running: the phase.
            for_ever: whether nobody comes to go on with it.
        """
        if for_ever and self.failed is None:
            await self.happened(running, rounds.GivenUp("the caller has gone"))
        self._forget(running)

    async def give_up(self, run: str, reason: str) -> None:
        """Phases of a run that are open are given up."""
        for running in self._of(run):
            await self.happened(running, rounds.GivenUp(reason))

    async def interrupt(self, run: str, reason: str) -> None:
        """Whoever waits for a phase of a run has an error; the phase is as it was, to be gone on with."""
        for running in self._of(run):
            running.watched.fail(CoordinatorError(reason))

    def _of(self, run: str) -> list[Running]:
        return [running for running in self._running.values() if running.key.run == run]

    def _forget(self, running: Running) -> None:
        self._running.pop(running.key, None)
        for device in running.phase.tasks:
            self._tasks.pop(running.key.task_id(device), None)

    async def happened(
        self, running: Running, event: rounds.Event, data: bytes | None = None
    ) -> rounds.Give | rounds.Answer | None:
        """Tells the machine, and carries out what it says; gives what the device is told, when that may be told."""
        if self.failed is not None:
            raise CoordinatorError(f"the coordinator cannot go on: {self.failed}")
        phase, actions = rounds.step(running.phase, event)
        running.phase = phase
        saves: list[Future[None]] = []
        told: rounds.Give | rounds.Answer | None = None
        for action in actions:
            if (saving := self.ledger.carry_out(running.opened.id, action, data)) is not None:
                saves.append(saving)
            match action:
                case rounds.SaveTask(task):
                    self._count_strikes(task)
                    if data is not None and task.outcome is Outcome.COUNTED:
                        running.small[task.selected.device] = data
                case rounds.Give() | rounds.Answer():
                    told = action
        if isinstance(told, rounds.Answer) and told.outcome is not None and not saves:
            saves.append(self.ledger.writer.flushed())  # of the request before, which had no answer
        if phase is not running.watched.after(None, 0.0):
            running.watched.show(phase)
        if isinstance(told, rounds.Give):
            return told  # whether it has come for its task need not be on the disk
        try:
            await asyncio.gather(*map(asyncio.wrap_future, saves))
        except Exception as error:
            self._fail(error)
            raise CoordinatorError(f"the ledger cannot be written: {error}") from error
        return told

    async def tick(self) -> None:
        """Time passes for all phases; what an operator has changed in the ledger is taken over."""
        if self._changes.are_new():
            await self._in_thread(self.refresh)
        if self._clock() - self._noted >= _NOTED_EVERY:
            self.note_seen()
        now = self._clock()
        seconds, self._ticked = min(_LONGEST_TICK, max(0.0, now - self._ticked)), now
        for running in list(self._running.values()):
            if running.phase.status is Status.OPEN:
                await self.happened(running, rounds.Passed(seconds))

    async def poll(self, device: Device, wait: float) -> Order | None:
        """The order of a device that has a task; None if there is none after some seconds."""
        until = self._clock() + wait
        while True:
            self._seen[device.name] = self._clock()
            if self._devices[device.name].revoked:
                return None
            for running in list(self._running.values()):
                if device.name in running.phase.tasks:
                    told = await self.happened(running, rounds.Asked(device.name))
                    if isinstance(told, rounds.Give) and told.task is not None:
                        return self._order(running, told.task, told.seconds_left)
            left = until - self._clock()
            if left <= 0 or self.failed is not None or self._is_closing:
                return None
            event = self._waiting[device.name] = asyncio.Event()
            try:
                await asyncio.wait_for(event.wait(), left)
            except TimeoutError:
                pass
            finally:
                if self._waiting.get(device.name) is event:
                    del self._waiting[device.name]

    def release(self) -> None:
        """Whoever waits for a task is told that there is none: the coordinator ends."""
        self._is_closing = True
        for device in list(self._waiting):
            self._wake(device)

    def running(self, task_id: str, device: Device) -> Running | None:
        """The phase of a task that is open or not yet committed, if the task is this device's."""
        running = self._tasks.get(task_id)
        if running is None or running.key.task_id(device.name) != task_id:
            return None
        return running

    async def ended(self, task_id: str, device: Device) -> Task | None:
        """How a task of earlier has ended; None if the device had none of this name."""
        found: Task | None = await self._in_thread(self.ledger.find_task, task_id, device.name)
        return found

    def seen(self, device: Device) -> None:
        """The device was heard of."""
        self._seen[device.name] = self._clock()

    def contribution(self, running: Running, selected: Selected) -> bytes | Path:
        """A contribution that counts: its bytes, or the file in which they are. Called from any thread."""
        small = running.small.get(selected.device)
        if small is None:
            path = self.spool.path(running.key, selected.device)
            if path.exists():
                return path
            small = self.ledger.contribution(running.opened.id, selected.device)
        if small is None:
            raise CoordinatorError(
                f"the contribution of {selected.device!r} to {running.key.text} is not here any more: the run has gone "
                "on beyond this round; go on from its newest checkpoint, or begin another run"
            )
        return small

    def preview(self, device: Device) -> Order | None:
        """The order that a device has, or would have if it were asked, of what goes on; it need not do it."""
        selected = Selected(device.name, 0, device.client_id, device.number)
        running = list(self._running.values())
        for each in sorted(running, key=lambda each: device.name not in each.phase.tasks):
            return self._order(each, each.phase.tasks.get(device.name) or Task(selected), each.phase.terms.deadline)
        return None

    def _order(self, running: Running, task: Task, seconds_left: float) -> Order:
        work, selected = running.work, task.selected
        return Order(
            running.key.task_id(selected.device),
            running.key,
            work.computation,
            work.program,
            work.program_size,
            work.sent,
            work.inputs,
            selected.client_id,
            selected.number,
            work.plan,
            work.boundary.most_bytes,
            running.phase.terms.lease,
            seconds_left,
            work.unprotected,
            None if work.state is None else replace(work.state, version=running.versions.get(selected.device)),
            len(running.phase.tasks),
            work.signature,
        )

    def _count_strikes(self, task: Task) -> None:
        device = self._devices.get(task.selected.device)
        if device is not None and task.outcome in (Outcome.COUNTED, Outcome.INVALID):
            strikes = device.strikes + 1 if task.outcome is Outcome.INVALID else 0
            quarantined = device.quarantined or strikes >= MOST_STRIKES
            self._devices[device.name] = replace(device, strikes=strikes, quarantined=quarantined)

    def _wake(self, device: str) -> None:
        if (event := self._waiting.get(device)) is not None:
            event.set()

    def _fail(self, error: BaseException) -> None:
        self.failed = self.failed or error
        for running in self._running.values():
            running.watched.fail(self.failed)

    @staticmethod
    async def _in_thread(function: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(None, function, *args)
