"""`NetworkRuntime`: a computation's server stages here, its client stages on devices. One round for each client stage.

    1. Compute the server stage, and make blobs of what is sent.
    2. Choose who is asked, and write that down.
    3. Fold contributions as they come, in the order that matters, until the phase is cut.
    4. Report, and go on with the next stage, of those that were counted.

What is random is a function of the run and the round, and who was counted is in the ledger. So the same call after a
kill goes on where it was, and gives the same bits.
"""

from __future__ import annotations

import hashlib
import json
import math
import threading
import time
from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from hansa._tracebacks import boundaries
from hansa.compiler.artifacts.ports import Port
from hansa.compiler.noise import noise_at_clients, with_noise
from hansa.language.computation import Computation
from hansa.language.counted import Counted
from hansa.language.noised import mechanisms_in
from hansa.language.occasions import AbandonedError, Occasion, current_occasion, new_run
from hansa.network import rounds, wire
from hansa.network.coordinator import Coordinator
from hansa.network.devices import Devices, devices_of
from hansa.network.folding import Fold, digest_of
from hansa.network.orders import Sent, StateOrder
from hansa.network.phases import PhaseWork, Running
from hansa.network.programs import ClientWork, NetworkProgram, described
from hansa.network.registry import Device
from hansa.network.server import Server
from hansa.network.signing import Signer
from hansa.network.spool import Spool
from hansa.network.tasks import Outcome, PhaseKey, RoundTerms, Selected, Status
from hansa.runtimes.inprocess.runtime import InProcessRuntime
from hansa.runtimes.stages.executor import Stages
from hansa.runtimes.stages.round import NeedsWideSums
from hansa.types import StructType, Type
from hansa.types.elsewhere import Elsewhere
from hansa.types.values import field_values


@boundaries
class NetworkRuntime:
    """Executes computations on devices; what has no devices for its clients runs in this process.

    Args:
        coordinator: who knows the devices.
        server: its port.
        unprotected: whether contributions may come that nobody but the client is to see. There is no secure aggregation
            yet, so the coordinator sees them.
        signer: who signs programs; nobody, by default.

    Attributes:
        reaches_elsewhere: True: it takes `hansa.Elsewhere` for clients' values.
        sums: "exact".
    """

    reaches_elsewhere = True
    sums = "exact"

    def __init__(
        self, coordinator: Coordinator, server: Server, unprotected: bool = False, signer: Signer | None = None
    ) -> None:
        self._coordinator, self._server, self._unprotected = coordinator, server, unprotected
        self._signer = signer
        self._here = InProcessRuntime()
        self._programs: WeakKeyDictionary[Computation, NetworkProgram] = WeakKeyDictionary()
        self._last = threading.local()  # of a thread, as several may have calls at a time

    def invoke(self, computation: Computation, argument: Any) -> Any:
        """Runs a computation; see `hansa.language.context.Runtime`.

        Raises:
            hansa.AbandonedError: if fewer devices than `least` have contributed.
            TypeError: if a part of the computation does not travel, or is protected.
            CoordinatorError: if the ledger cannot be written, or the call was begun with other values.
        """
        parameter = computation.type_signature.parameter
        if parameter is None or not _has_elsewhere(parameter, argument):
            return self._here.invoke(computation, argument)
        _check_noise(computation)
        if not noise_at_clients(computation):  # whose keys devices draw themselves
            computation, argument = with_noise(computation, argument)
        parameter = computation.type_signature.parameter
        assert parameter is not None
        program = self.prepare(computation)
        occasion = current_occasion() or Occasion(new_run(), 0, part="call")
        call = _Call(self._coordinator, self._server, program, occasion, self._unprotected, self._signer)
        try:
            result = call.run(argument, devices_of(program.at_clients(argument), computation.name))
        finally:
            self._last.call = occasion, call.counted
        return result

    def prepare(self, computation: Computation, argument: Any = None) -> NetworkProgram:
        """Makes what devices are sent of a computation, and says what of it does not travel.

        Raises:
            TypeError: as `invoke`.

        Examples:
            >>> @hansa.federated_computation("{float32}@CLIENTS")
            ... def average(readings):
            ...     return hansa.federated_mean(readings)
            >>> with hansa.network.serve("coordinator", port=0) as network:
            ...     (work,) = network.prepare(average).clients
            >>> work.boundary.ports
            (Port(name='the argument', type=to_type('float32')),)
        """
        if computation not in self._programs:
            program = NetworkProgram(computation)
            protected = [name for work in program.clients for name in work.protected]
            if protected and not self._unprotected:
                raise TypeError(
                    f"{computation.name!r} has aggregates of which nobody is to see a client's contribution "
                    f"({', '.join(protected)}), and there is no secure aggregation over the network yet; "
                    "unprotected=True, here and on the devices, lets the coordinator see them"
                )
            self._programs[computation] = program
        return self._programs[computation]

    def end_run(self, run: str, reason: str, *, for_ever: bool = True) -> None:
        """Ends the open rounds of a run, for which a call in another thread waits.

        Args:
            run: which one; see `hansa.Occasion`.
            reason: for the ledger, and for who waits.
            for_ever: whether they are given up, and who waits has an `hansa.AbandonedError`. Else who waits has a
                `CoordinatorError`, and the same call goes on later with what has come.

        Examples:
            >>> with hansa.network.serve("coordinator", port=0) as network:
            ...     network.end_run("no such run", "an operator stops it")
        """
        end = self._coordinator.give_up if for_ever else self._coordinator.interrupt
        self._server.run(end(run, reason)).result()

    def counted(self, occasion: Occasion) -> Counted | None:
        """Who was counted in the last call of this thread, if it was this one.

        Examples:
            >>> with hansa.network.serve("coordinator", port=0) as network:
            ...     print(network.counted(hansa.Occasion("run", round=1)))
            None
        """
        made, counted = getattr(self._last, "call", (None, None))
        return counted if made == occasion else None


class _Call:
    """One call of a computation.

    Attributes:
        counted: who was counted, and who was not, by the outcome.
    """

    def __init__(
        self,
        coordinator: Coordinator,
        server: Server,
        program: NetworkProgram,
        occasion: Occasion,
        unprotected: bool,
        signer: Signer | None,
    ) -> None:
        self._coordinator, self._server, self._program = coordinator, server, program
        self._occasion, self._unprotected, self._signer = occasion, unprotected, signer
        self._left_out: dict[str, list[Any]] = {}
        self.counted = Counted(0)

    def run(self, argument: Any, devices: Devices) -> Any:
        """The result."""
        program, known = self._program, self._program.known(argument)
        if program.state and self._is_alone:
            raise TypeError(
                f"clients keep a part of the state of {program.name!r}, and on devices that goes from round to round "
                "of a run: hansa.program.train(process, network.devices(), rounds=…)"
            )
        first = program.first_states(argument)
        cohort: list[Selected] | None = None
        for work in program.clients:
            known |= program.stages.servers[work.number].run(known)._asdict()
            running = self._begun(work, known, devices, cohort, first)
            try:
                reports = self._folded(running, work, known)
                self._coordinator.ledger.save_result(running.opened.id, digest_of(reports))
                known |= reports
            except BaseException:
                self._server.run(self._coordinator.leave(running, self._is_alone)).result()
                raise
            finally:
                self._tell(running.phase)
            cohort = list(running.phase.counted)
            self._server.run(self._coordinator.end(running)).result()
        known |= program.stages.servers[-1].run(known)._asdict()
        if self._is_alone:  # nobody makes this call again
            self._forget(PhaseKey.of(self._occasion, 0), whole=True)
        return program.stages.result(known, [] if program.state else None)

    def _forget(self, key: PhaseKey, whole: bool = False) -> None:
        for old in self._coordinator.ledger.forget_before(key, self._coordinator.keep_rounds, whole):
            self._coordinator.spool.remove(old)

    @property
    def _is_alone(self) -> bool:
        return self._occasion.part == "call"

    def _begun(
        self,
        work: ClientWork,
        known: dict[str, Any],
        devices: Devices,
        before: list[Selected] | None,
        first: tuple[list[Port], list[Any]],
    ) -> Running:
        """The phase of a client stage, begun or gone on with."""
        key = PhaseKey.of(self._occasion, work.number)
        self._forget(key)
        found = self._coordinator.ledger.find_phase(key)
        if found is not None:
            terms, cohort = found.phase.terms, [each.selected for each in found.phase.tasks.values()]
        else:
            cohort = self._cohort(key, devices) if before is None else _again(before)
            target = min(len(devices), len(cohort)) if before is None else len(cohort)
            least = max(devices.least, work.least)
            if target < least:
                raise AbandonedError(f"{target} devices can be asked, and contributions of {least} are needed")
            terms = RoundTerms(target, least, devices.deadline, devices.lease)
        with self._coordinator.publishing:
            task = self._published(key, work, known, None if devices.data is None else devices.data.to_json(), first)
            return self._server.run(self._coordinator.open(key, task, terms, cohort)).result()

    def _published(
        self,
        key: PhaseKey,
        work: ClientWork,
        known: dict[str, Any],
        plan: Mapping[str, Any] | None,
        first: tuple[list[Port], list[Any]],
    ) -> PhaseWork:
        """What devices do, whose program and values are blobs now."""
        values = [(port.name, wire.encoded([port], [known[name]])) for port, name in work.sent]
        if self._program.state:
            values.append(("the state at first", wire.encoded(*first)))
        whole, starts = self._coordinator.blobs.put([self._program.file]), self._starts(work, known)
        program, sent = self._coordinator.publish(work.file, values, [whole, starts])
        return PhaseWork(
            self._program.name,
            program,
            len(work.file),
            sent[: len(work.sent)],
            tuple(map(tuple, described(work.inputs))),
            plan,
            work.boundary,
            self._unprotected,
            self._state(key, sent[-1]) if self._program.state else None,
            len(self._program.clients) - 1,
            whole,
            starts,
            None if self._signer is None else (self._signer.name, self._signer.sign(program.encode())),
        )

    def _starts(self, work: ClientWork, known: dict[str, Any]) -> str:
        """The blob of what states of no clients are made of."""
        ports = self._program.stages.clients[work.number].starts
        return self._coordinator.blobs.put(list(wire.encoded(ports, [known[port.name] for port in ports])))

    def _state(self, key: PhaseKey, first: Sent) -> StateOrder:
        parts, is_last = self._program.state, key.stage == len(self._program.clients) - 1
        types = tuple(part.type.compact() for part in parts)
        becomes = key.call_id if is_last else None
        return StateOrder(key.run, None, becomes, first, types, tuple(part.source for part in parts))

    def _cohort(self, key: PhaseKey, devices: Devices) -> list[Selected]:
        """Who is asked: those that are named, or drawn of those that are there."""
        if devices.client_ids is not None:
            enrolled = {(type(each.client_id), each.client_id): each for each in self._coordinator.devices()}
            missing = [each for each in devices.client_ids if (type(each), each) not in enrolled]
            if missing:
                raise ValueError(f"no device of client {missing[0]!r} is enrolled; {len(enrolled)} others are")
            named = [enrolled[type(each), each] for each in devices.client_ids]
            return _selected([each for each in named if each.may_be_asked])
        wanted = math.ceil(len(devices) * devices.over_select)
        there = self._there(wanted, devices.patience)
        if len(there) <= wanted:
            return _selected(there)
        seed = hashlib.sha256(json.dumps(key.text).encode()).digest()
        drawn = np.random.Generator(np.random.Philox(key=int.from_bytes(seed[:16]))).choice(
            len(there), wanted, replace=False
        )
        return _selected([there[i] for i in sorted(drawn.tolist())])

    def _there(self, wanted: int, patience: float) -> list[Device]:
        """The devices that are there, when there are as many as are wanted, or nobody waits any longer."""
        until = time.monotonic() + patience
        enrolled = sum(device.may_be_asked for device in self._coordinator.devices())
        while True:
            there = self._coordinator.there()
            if len(there) >= min(wanted, enrolled) or time.monotonic() > until:
                return there
            time.sleep(0.02)

    def _folded(self, running: Running, work: ClientWork, known: dict[str, Any]) -> dict[str, Any]:
        """What becomes of the contributions of a phase, folded as they come."""
        program, fold = self._program, self._fold(self._program.current, running, work, known)
        tasks = sorted(running.phase.tasks.values(), key=lambda task: task.selected.position)
        waiting = [task.selected for task in tasks]
        phase: rounds.Phase | None = None
        while phase is None or phase.status is Status.OPEN or waiting:
            phase = running.watched.after(phase)
            if phase.status is Status.ABANDONED:
                raise AbandonedError(_why(phase))
            left = []
            for place, selected in enumerate(waiting):
                outcome = phase.tasks[selected.device].outcome
                if outcome is None and work.is_ordered:
                    left += waiting[place:]
                    break
                if outcome is None:
                    left.append(selected)
                elif outcome is Outcome.COUNTED:
                    self._add(fold, running, work, selected)
            waiting = left
        try:
            return fold.report()
        except NeedsWideSums:
            fold = self._fold(program.widened(), running, work, known)
            for selected in phase.counted:
                self._add(fold, running, work, selected)
            return fold.report()

    def _fold(self, stages: Stages, running: Running, work: ClientWork, known: dict[str, Any]) -> Fold:
        return Fold(stages.clients[work.number], known, len(running.phase.tasks), work.is_ordered)

    def _add(self, fold: Fold, running: Running, work: ClientWork, selected: Selected) -> None:
        found = self._coordinator.contribution(running, selected)
        data = found if isinstance(found, bytes) else Spool.mapped(found)
        fold.add(work.grouped(wire.decoded(work.boundary.ports, data)))

    def _tell(self, phase: rounds.Phase) -> None:
        for task in phase.tasks.values():
            if task.outcome not in (None, Outcome.COUNTED):
                self._left_out.setdefault(str(task.outcome), []).append(task.selected.client_id)
        self.counted = Counted(phase.number_counted, self._left_out)


def _check_noise(computation: Computation) -> None:
    """Checks that what clients add of noise is as much as each of their reports needs.

    Raises:
        TypeError: if it is not, or the server adds some, too.
    """
    places = {mechanism.place for mechanism in mechanisms_in(computation)}
    if "clients" in places:
        raise TypeError(
            f"in {computation.name!r} each client adds a share of the noise that a sum needs, which hides nothing of a "
            "report that the coordinator sees by itself, and there is no secure aggregation over the network yet; take "
            "noise for each report, hansa.privacy.local or hansa.privacy.dpsgd, or the server's, hansa.privacy.gaussian"
        )
    if len(places) > 1:
        raise TypeError(
            f"in {computation.name!r} both the server and the clients add noise, and over a network one of them does"
        )


def _has_elsewhere(kind: Type, value: Any) -> bool:
    if isinstance(value, Elsewhere):
        return True
    if not isinstance(kind, StructType):
        return False
    return any(
        _has_elsewhere(part, each) for part, each in zip(kind, field_values(value, kind, "the argument"), strict=True)
    )


def _selected(devices: list[Device]) -> list[Selected]:
    return [Selected(each.name, i, each.client_id, each.number) for i, each in enumerate(devices)]


def _again(counted: list[Selected]) -> list[Selected]:
    """Those that were counted in one stage, as the cohort of the next."""
    return [Selected(each.device, i, each.client_id, each.number) for i, each in enumerate(counted)]


def _why(phase: rounds.Phase) -> str:
    outcomes = [str(task.outcome) for task in phase.tasks.values()]
    said = ", ".join(f"{outcomes.count(each)} {each}" for each in Outcome if each in outcomes)
    return f"{phase.number_counted} of {len(outcomes)} devices were counted, and {phase.terms.least} are needed: {said}"
