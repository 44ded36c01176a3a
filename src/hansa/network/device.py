"""A device: it asks for tasks, computes them on its own data, and sends what they give.

    1. Ask for a task, and wait.
    2. Fetch the stage and what is sent with it, by digest; what is here is not fetched again.
    3. Look whether it may be done, and compute it.
    4. Put the contribution on the disk, send it, and go on with that until the coordinator has it.

Whenever it dies, it is given the same task again, and sends the same bytes.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from hansa._lock import Lock
from hansa._tracebacks import boundaries
from hansa.compiler.artifacts.device import DeviceStage
from hansa.network.blobs import Blobs
from hansa.network.confined import ConfinedWorker
from hansa.network.device_log import DeviceLog
from hansa.network.device_spending import DeviceSpending
from hansa.network.device_states import DeviceStates
from hansa.network.durable import Disk
from hansa.network.holdings import Holdings, RefusedError
from hansa.network.link import TurnedAwayError, UnreachableError, waiting
from hansa.network.membership import Membership
from hansa.network.orders import Order, OrderError
from hansa.network.outbox import Outbox
from hansa.network.policy import Policy
from hansa.network.power import is_plugged
from hansa.network.tasks import Outcome
from hansa.network.worker import CrashedError, Worker

_MOST_TRACEBACK = 10_000
_CLOSED = 20.0
"""Seconds between looks at the clock and the plug, while the policy does not let it ask."""
_RENEWAL = 3600.0
"""Seconds between looks at the certificate."""


@dataclass(frozen=True)
class Preview:
    """What a device is asked for, before it does it.

    Attributes:
        order: the task.
        stage: its program.
        refused: why the device would refuse it; None if it would do it.
    """

    order: Order
    stage: DeviceStage
    refused: str | None


@boundaries
class Device:
    """A device that has joined a network.

    Args:
        member: what it is there.
        holdings: the data of its client.
        worker: what computes; several devices of one process may share it. By default programs run in this process;
            with `hansa.network.confined.ConfinedWorker` in one of their own, with limits and without network.
        unprotected: whether it gives what nobody but itself is to see. There is no secure aggregation yet, so the
            coordinator sees it.
        disk: the disk.
        poll_seconds: for how long it waits for a task at a time.
        stopped: what stops it when it is set; by default `stop` alone does.
        policy: what its owner allows; by default everything that can be asked for.
        told: called with each line of its log.

    Raises:
        hansa._lock.InUseError: if another process is this device.
        ValueError: if the policy limits seconds, and the worker cannot.

    Examples:
        >>> from hansa.network.holdings import Holdings
        >>> with hansa.network.serve("coordinator", port=0) as network:
        ...     member = hansa.network.join("ann", network.invite("ann"))
        ...     device = hansa.network.Device(member, Holdings({"reading": np.float32(18.5)}), poll_seconds=0.1)
        ...     print(device.once(), device.preview())  # nobody asks
        ...     device.stop()
        ...     device.run()
        ...     device.close()
        None None
    """

    def __init__(
        self,
        member: Membership,
        holdings: Holdings,
        worker: Worker | ConfinedWorker | None = None,
        unprotected: bool = False,
        disk: Disk | None = None,
        poll_seconds: float = 25.0,
        stopped: threading.Event | None = None,
        policy: Policy | None = None,
        told: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        if policy is not None and policy.seconds_per_task is not None and not isinstance(worker, ConfinedWorker):
            raise ValueError("seconds_per_task limits a process of its own: pass worker=ConfinedWorker(…)")
        self._member, self._holdings, self._worker = member, holdings, worker or Worker()
        self._unprotected, self._disk, self._poll_seconds = unprotected, disk or Disk(), poll_seconds
        self._lock = Lock(member.folder)
        self._blobs = Blobs(member.folder / "blobs", self._disk)
        self._outbox = Outbox(member.folder, self._disk)
        self._states = DeviceStates(member.folder, self._disk)
        self._link = member.link()
        self._stopped = stopped or threading.Event()
        self._looked = -_RENEWAL
        self._policy, self._told, self._log = policy or Policy(), told, DeviceLog(member.folder)
        self._spending = DeviceSpending(member.folder, self._policy)

    def stop(self) -> None:
        """It asks for no more tasks; called from any thread."""
        self._stopped.set()

    def run(self) -> None:
        """Does what it is asked for, until it is stopped.

        Raises:
            TurnedAwayError: if the coordinator does not want it, as after it was revoked.
        """
        failed = 0
        try:
            while not self._stopped.is_set():
                if not (self._policy.is_open(datetime.now()) and self._policy.has_power(is_plugged)):
                    self._stopped.wait(_CLOSED)
                    continue
                try:
                    self._renew()
                    self.once()
                    failed = 0
                except UnreachableError as error:
                    self._stopped.wait(waiting(failed, error.seconds))
                    failed += 1
        finally:
            self.close()

    def close(self) -> None:
        """Gives its connection and its folder up."""
        self._link.close()
        self._lock.release()

    def once(self) -> Outcome | None:
        """Asks for one task, and does it; gives how it has ended, or None if there was none.

        Raises:
            UnreachableError: if the coordinator was not reached.
            TurnedAwayError: if it does not want this device.
        """
        answer = self._link.send("GET", f"/v1/poll?wait={self._poll_seconds:g}", seconds=self._poll_seconds + 30.0)
        if answer.status == 204:
            return None
        if answer.status != 200:
            raise UnreachableError(f"a poll is answered with status {answer.status}", 5.0)
        try:
            order = Order.from_json(answer.json)
        except OrderError as error:
            raise UnreachableError(str(error), 60.0) from None
        return self._do(order)

    def _do(self, order: Order) -> Outcome:
        started = time.time()
        try:
            if self._outbox.find(order.task) is None:
                self._compute(order)
            told = self._send(order)
        except RefusedError as error:
            told = self._tell(order, Outcome.REFUSED, str(error))
        except (UnreachableError, TurnedAwayError):
            raise
        except CrashedError as error:
            told = self._tell(order, Outcome.CRASHED, str(error)[-_MOST_TRACEBACK:])
        except Exception:
            told = self._tell(order, Outcome.CRASHED, traceback.format_exc()[-_MOST_TRACEBACK:])
        outcome = Outcome(told["outcome"])
        self._note(order, started, outcome, told.get("reason"))
        self._outbox.remove(order.task)
        sent = [*order.sent, *([] if order.state is None else [order.state.first])]
        self._blobs.keep([order.program, *(each.digest for each in sent)])
        return outcome

    def _compute(self, order: Order) -> None:
        with _Progress(self._member, order, self._worker.seconds):
            stage = self._looked_at(order)
            for each in order.sent:
                self._link.fetch(each.digest, each.size, self._blobs)
            sent = [self._blobs.path(each.digest) for each in order.sent]
            kept, state = self._kept(order), ()  # type: Any, Any
            if order.state is not None:
                self._link.fetch(order.state.first.digest, order.state.first.size, self._blobs)
                state = self._states.read(order.state, self._blobs)
            done = self._worker.work(order, self._blobs.path(order.program), sent, self._holdings, kept, state)
            self._policy.check_leaving(sum(map(len, done.contribution)), self._log.left_today())
            # Noise that never leaves costs nothing; what may leave from now on is charged.
            self._spending.charge(order, stage, self._holdings)
            self._outbox.keep(order.key, stage.kept, done.kept)
            if order.state is not None:
                self._states.write(order.state, kept)
            self._outbox.put(order.task, done.contribution)

    def _looked_at(self, order: Order) -> DeviceStage:
        """The stage of a task, if the device does it.

        Raises:
            RefusedError: if the policy does not allow it, or the data is not of its types.
        """
        self._policy.check_signer(order)
        self._link.fetch(order.program, order.program_size, self._blobs)
        stage = self._worker.stage(order, self._blobs.path(order.program))
        if any(part.protected for part in stage.contributions) and not (self._unprotected and order.unprotected):
            raise RefusedError(
                "it asks for contributions that nobody else is to see, and there is no secure aggregation yet; "
                "both sides may allow them to be seen by the coordinator, with unprotected"
            )
        self._policy.check_task(order, stage, self._holdings.size)
        self._holdings.check(stage, order)
        self._spending.check(order, stage, self._holdings)
        return stage

    def preview(self) -> Preview | None:
        """What it is asked for now, or would be if it were selected, without doing it; None if nothing goes on.

        Raises:
            UnreachableError: if the coordinator was not reached.
            TurnedAwayError: if it does not want this device.
        """
        answer = self._link.send("GET", "/v1/preview")
        if answer.status == 204:
            return None
        order = Order.from_json(answer.json)
        self._link.fetch(order.program, order.program_size, self._blobs)
        stage = self._worker.stage(order, self._blobs.path(order.program))
        try:
            self._looked_at(order)
            self._policy.check_leaving(0, self._log.left_today())
        except RefusedError as error:
            return Preview(order, stage, str(error))
        return Preview(order, stage, None)

    def _kept(self, order: Order) -> Callable[[int, int], Any]:
        def kept(stage: int, index: int) -> Any:
            values = self._outbox.kept(order.key, stage)
            if values is None:
                raise RefusedError("what this client kept of an earlier stage of the call is not here any more")
            return values[index]

        return kept

    def _send(self, order: Order) -> dict[str, Any]:
        """Sends a contribution, and goes on with that until the coordinator has said how the task has ended."""
        failed = 0
        while True:
            found = self._outbox.find(order.task)
            assert found is not None
            digest, path = found
            self._log.leaving(order.task, digest, path.stat().st_size)
            try:
                return self._link.upload(order.task, digest, path)
            except UnreachableError as error:
                if self._stopped.wait(waiting(failed, error.seconds)):
                    raise
                failed += 1

    def _tell(self, order: Order, outcome: Outcome, reason: str) -> dict[str, Any]:
        """Tells how a task has ended without a contribution."""
        failed = 0
        while True:
            try:
                answer = self._link.send(
                    "POST", f"/v1/tasks/{order.task}/outcome", {"outcome": outcome, "reason": reason}
                )
                if answer.status == 403:
                    return {"outcome": Outcome.REFUSED, "reason": "the task is none of this device"}
                if answer.status != 200:
                    raise UnreachableError(f"the outcome was not taken: status {answer.status}")
                told: dict[str, Any] = answer.json
                return told
            except UnreachableError as error:
                if self._stopped.wait(waiting(failed, error.seconds)):
                    raise
                failed += 1

    def _renew(self) -> None:
        if time.monotonic() - self._looked >= _RENEWAL:
            self._member.renew(self._link, self._disk)
            self._looked = time.monotonic()

    def _note(self, order: Order, started: float, outcome: Outcome, reason: str | None) -> None:
        """A line in the device's own log, for its owner: what was done, and what has left."""
        found = self._outbox.find(order.task)
        line = {
            "at": started,
            "seconds": round(time.time() - started, 3),
            "task": order.task,
            "phase": order.key.text,
            "computation": order.computation,
            "program": order.program,
            "digest": None if found is None else found[0],
            "bytes": 0 if found is None else found[1].stat().st_size,
            "outcome": outcome,
            "reason": reason,
        }
        self._log.add(line)
        if self._told is not None:
            self._told(line)


class _Progress:
    """Tells the coordinator, from a thread of its own, that a task goes on, as long as the process computes."""

    def __init__(self, member: Membership, order: Order, seconds: Callable[[], float]) -> None:
        self._member, self._order, self._seconds = member, order, seconds
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hansa-progress", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *exception: object) -> None:
        self._done.set()

    def _run(self) -> None:
        link, every = None, max(1.0, min(10.0, self._order.lease / 3))
        while not self._done.wait(every):
            try:
                link = link or self._member.link()
                link.send("POST", f"/v1/tasks/{self._order.task}/progress", {"figure": self._seconds()}, seconds=10.0)
            except (UnreachableError, TurnedAwayError, OSError):
                continue
        if link is not None:
            link.close()
