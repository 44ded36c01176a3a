"""The runtime in this process: a call is one XLA program over this machine's devices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal
from weakref import WeakKeyDictionary

import jax
import numpy as np
import numpy.typing as npt
from jax.sharding import PartitionSpec as P

from hansa._tracebacks import boundaries
from hansa.compiler.noise import with_noise
from hansa.compiler.partition import is_stacked
from hansa.compiler.sequences import NeedsSizes
from hansa.compiler.stacks import NeedsNumber
from hansa.language.computation import Computation
from hansa.language.terms import no_rows
from hansa.runtimes.arguments import Static
from hansa.runtimes.columns import without_elements
from hansa.runtimes.dealt import AXIS, Turns, rows_of
from hansa.runtimes.inprocess.meeting import Meeting
from hansa.runtimes.inprocess.vectorise import clients_at_once
from hansa.runtimes.patience import meets_in_programs
from hansa.runtimes.results import assemble
from hansa.runtimes.stages import in_order, loop
from hansa.runtimes.stages import round as rounds
from hansa.runtimes.stages.ahead import ahead
from hansa.runtimes.stages.call import Call
from hansa.runtimes.stages.chunks import Chunk, Chunks
from hansa.runtimes.stages.compiled import Compiled
from hansa.runtimes.stages.devices import Devices, cohort_of
from hansa.runtimes.stages.gathered import bytes_of_each
from hansa.runtimes.stages.schedule import schedule
from hansa.runtimes.stages.sums import check_sums


@boundaries
class InProcessRuntime:
    """Executes computations on the devices of this process.

    A cohort's clients are spread over the devices and worked on one after another on each; a round has one reduction
    over devices at its end. Programs are compiled once per computation: the sizes of cohorts, clients and batches are
    data, up to capacities that grow as needed.

    Args:
        devices: the JAX devices to use; by default all of the default backend. After `jax.distributed.initialize`
            these are of several processes, which then make the same calls with the same data: it is compared.
        clients_per_chunk: how many clients' data is packed and on the devices at a time, while that of as many others
            is made ready; by default that of all, or as much as is in 256 MiB if data on disk is more than that. The
            result does not depend on it.
        clients_at_once: how many clients a device works on in one vectorised computation; by default by a rule
            (`hansa.runtimes.inprocess.vectorise`), of which `hansa.explain` tells the outcome: one on a CPU, of which a
            client's step fills a core, and up to 32 on other devices. What clients compute agrees to rounding.
        default_num_clients: how many clients take part in a computation whose argument does not say.
        sums: "exact" or "fast". Exact sums and means of floats are those of the numbers as they are, rounded once at
            the end: they have the same bits in whatever order clients come, on any number of devices and in chunks.
            Where numbers are so large or so small that the usual form does not hold them, the call is made once more
            with one that does. Fast ones are added up in floats, one client after another on each device, so that
            their last bits depend on the order.

    Examples:
        >>> runtime = hansa.InProcessRuntime(clients_at_once=8)
        >>> runtime
        InProcessRuntime(... x ..., 8 clients at a time on each)
        >>> square = hansa.jax_computation(lambda x: x * x, "float32")
        >>> with hansa.runtime(runtime):
        ...     print(square(3.0))
        9.0
    """

    def __init__(
        self,
        devices: Sequence[jax.Device] | None = None,
        clients_per_chunk: int | None = None,
        clients_at_once: int | None = None,
        default_num_clients: int = 0,
        sums: Literal["exact", "fast"] = "exact",
    ) -> None:
        if sums not in ("exact", "fast"):
            raise ValueError(f"sums must be 'exact' or 'fast', found {sums!r}")
        for name, value in (("clients_per_chunk", clients_per_chunk), ("clients_at_once", clients_at_once)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise ValueError(f"{name} must be a positive number of clients, or None; found {value!r}")
        self.devices = tuple(jax.devices() if devices is None else devices)
        if not self.devices or not all(isinstance(device, jax.Device) for device in self.devices):
            raise TypeError(f"devices must be one or more JAX devices, such as jax.devices(), found {devices!r}")
        if isinstance(default_num_clients, bool) or not isinstance(default_num_clients, int | np.integer):
            raise TypeError(f"default_num_clients must be an integer, found {default_num_clients!r}")
        if default_num_clients < 0:
            raise ValueError(f"default_num_clients must not be negative, found {default_num_clients}")
        self.clients_per_chunk = clients_per_chunk
        self.clients_at_once = clients_at_once
        self.default_num_clients = default_num_clients
        self.sums = sums
        self._on = Devices(self.devices)
        self._meeting = Meeting.of(self.devices)
        self._compiled: WeakKeyDictionary[Computation, Compiled] = WeakKeyDictionary()

    @property
    def compilations(self) -> int:
        """How many XLA programs have been compiled, for tests and for the curious.

        Examples:
            >>> hansa.InProcessRuntime().compilations
            0
        """
        return self._on.compilations

    def __repr__(self) -> str:
        chosen = "" if self.clients_at_once is None else f", {_clients(self.clients_at_once)} at a time on each"
        sums = "" if self.sums == "exact" else f", {self.sums} sums"
        return f"InProcessRuntime({_devices(self.devices)}{chosen}{sums})"

    def plan(self, computation: Computation) -> str:
        """How the clients of a computation are worked on here, in a line.

        Examples:
            >>> hansa.InProcessRuntime(clients_at_once=8).plan(process.next)
            '8 clients at a time on each of ...'
        """
        if not self._compile(computation).program.clients:
            return ""
        return f"{_clients(self._at_once(self._compile(computation)))} at a time on each of {_devices(self.devices)}"

    def invoke(self, computation: Computation, argument: Any) -> Any:
        """Run `computation`; see `hansa.language.context.Runtime`.

        Examples:
            >>> add = hansa.jax_computation(lambda a, b: a + b, "int32", "int32")
            >>> hansa.InProcessRuntime().invoke(add, [1, 2])
            np.int32(3)
        """
        computation, argument = with_noise(computation, argument)
        compiled = self._compile(computation)
        call = Call.of(computation, argument, self.default_num_clients)
        if self._meeting is not None:
            self._meeting.check(computation.name, call)
        values = self._run_as_it_needs(compiled, call)
        parts = dict(zip(compiled.outputs, values, strict=True))
        return assemble(compiled.program, call.argument, parts, call.client_ids)

    def _run_as_it_needs(self, compiled: Compiled, call: Call) -> list[Any]:
        """The call's values; the program is compiled in another form where the first is not enough."""
        try:
            return self._run(compiled, call)
        except (NeedsSizes, NeedsNumber, rounds.NeedsWideSums) as error:
            compiled.otherwise(error)
        return self._run_as_it_needs(compiled, call)

    def prepare(self, computation: Computation, argument: Any) -> None:
        """Compile what a call with such an argument needs, so that the call does not; see `Runtime.prepare`.

        What is worked through in chunks is compiled at the call.

        Examples:
            >>> runtime = hansa.InProcessRuntime()
            >>> add = hansa.jax_computation(lambda a, b: a + b, "int32", "int32")
            >>> runtime.prepare(add, [0, 0])
            >>> runtime.compilations
            1
            >>> with hansa.runtime(runtime):
            ...     print(add(1, 2), runtime.compilations)
            3 1
        """
        computation, argument = with_noise(computation, argument, drawn=False)
        compiled = self._compile(computation)
        call = Call.of(computation, argument, self.default_num_clients)
        turns = schedule(call.work, len(self.devices)) if compiled.at_clients else [np.arange(0)]
        if self._turns_per_chunk(compiled, call, turns) is None:
            packed, static = self._on.pack(compiled, call.argument, call.what, turns=turns)
            jax.block_until_ready(self._whole(compiled, call, turns, without_elements(packed), static))

    def _at_once(self, compiled: Compiled) -> int:
        return self.clients_at_once or clients_at_once(compiled.program, self.devices[0])

    def _turns_per_chunk(self, compiled: Compiled, call: Call, turns: list[npt.NDArray[np.int64]]) -> int | None:
        """How many clients a device works on in a chunk; `None` if all stages are to be one program."""
        per_chunk = self.clients_per_chunk
        if not compiled.program.clients or not call.size:
            return None
        if per_chunk is None and call.on_disk > _AT_ONCE:
            per_chunk = max(len(self.devices), call.size * _AT_ONCE // call.on_disk)
        if each := in_order.contribution_bytes(compiled.program):
            per_chunk = min(per_chunk or call.size, max(len(self.devices), _CONTRIBUTIONS // each))
        # One program for all stages has what the server holds on every device, and each does what the server does.
        held = bytes_of_each(compiled.program)
        of_all = held * call.size * len(self.devices)
        apart = of_all > (_ON_EACH if len(self.devices) > 1 and self.devices[0].platform == "cpu" else _AT_ONCE)
        if of_all > _AT_ONCE:
            per_chunk = min(per_chunk or call.size, max(len(self.devices), _AT_ONCE // held))
        if per_chunk is not None and call.size > per_chunk:
            return -(-per_chunk // len(self.devices))
        return None if meets_in_programs(self.devices) and not (apart or of_all > _AT_ONCE) else max(map(len, turns))

    def _compile(self, computation: Computation) -> Compiled:
        if computation not in self._compiled:
            self._compiled[computation] = Compiled.of(computation, self.sums)
        return self._compiled[computation]

    def _run(self, compiled: Compiled, call: Call) -> list[Any]:
        program = compiled.program
        turns = schedule(call.work, len(self.devices)) if compiled.at_clients else [np.arange(0)]
        per_chunk = self._turns_per_chunk(compiled, call, turns)
        if per_chunk is not None:
            packed, static = self._on.pack(compiled, call.argument, call.what, np.zeros(0, np.int64))
            check_sums(self._on, compiled, call.size, packed, static)
            run, deal, spread = (partial(each, compiled) for each in (self._on.execute, self._on.deal, self._on.spread))
            clients = Chunks(
                lambda: ahead(self._chunks(compiled, call, turns, per_chunk)),
                len(self.devices),
                call.size,
                self._at_once(compiled),
                run,
                deal,
                spread,
            )
            room, stack = compiled.room.clients("collected", call.size), compiled.stack_size(call.size)
            return loop.run(program, packed, static, compiled.outputs, clients, call.size, room, stack, run, spread)
        packed, static = self._on.pack(compiled, call.argument, call.what, turns=turns)
        check_sums(self._on, compiled, call.size, packed, static)
        try:
            values = self._whole(compiled, call, turns, packed, static)
        except (NeedsSizes, rounds.NeedsWideSums):
            raise
        except Exception as error:  # whatever a function of no rows raises
            if call.size or not compiled.stacks:
                raise
            raise no_rows(compiled.stacks[0].name, compiled.stacks[0].where, error) from error
        return [
            rows_of(value, turns, call.size) if is_stacked(node) else value
            for node, value in zip(compiled.outputs, values, strict=True)
        ]

    def _whole(self, compiled: Compiled, call: Call, turns: Turns, packed: Any, static: Static) -> list[Any]:
        """What a call computes, all stages in one program; at the clients, for each of a device's by turn."""
        if not compiled.outputs:
            return []

        # It is kept with what it sees, which must not be the data of this call.
        program, outputs, devices, at_once = compiled.program, compiled.outputs, len(turns), self._at_once(compiled)

        def whole(packed: Any, cohort: rounds.Cohort) -> tuple[list[Any], Any]:
            return rounds.whole(program, packed, cohort, static, outputs, devices, at_once)

        everybody = np.arange(call.size)
        cohort = cohort_of(compiled, call.own, turns, everybody) if compiled.at_clients else rounds.NOBODY
        cohort = replace(cohort, stack=compiled.stack_size(call.size))
        lying = ([P(AXIS) if is_stacked(node) else P() for node in outputs], P())
        values, lost = self._on.execute(compiled, ("whole", static), whole, (packed, cohort), (P(), P()), lying)
        rounds.check(lost, [fold for stage in program.clients for fold in stage.aggregates])
        return list(values)

    def _chunks(self, compiled: Compiled, call: Call, turns: list[npt.NDArray[np.int64]], each: int) -> Iterator[Chunk]:
        for own in self._shares(compiled, call, turns, each):
            positions = np.sort(np.concatenate(own))
            packed, static = self._on.pack(compiled, call.argument, call.what, positions, turns=own)
            yield packed, cohort_of(compiled, call.own, own, positions), static, own

    def _shares(
        self, compiled: Compiled, call: Call, turns: list[npt.NDArray[np.int64]], each: int
    ) -> Iterator[list[npt.NDArray[np.int64]]]:
        """Each device's clients in each chunk, by position."""
        if not in_order.is_needed(compiled.program):
            yield from (
                [turn[first : first + each] for turn in turns] for first in range(0, max(map(len, turns)), each)
            )
            return
        for first in range(0, call.size, each * len(turns)):
            work = call.work[first : first + each * len(turns)]
            yield [first + turn for turn in schedule(work, len(turns))]


def _clients(number: int) -> str:
    return "one client" if number == 1 else f"{number} clients"


def _devices(devices: tuple[jax.Device, ...]) -> str:
    return f"{len(devices)} x {devices[0].device_kind}"


_AT_ONCE = 2**28
"""Bytes of data from disk that are in memory at a time, and as many again that are being read; and of what the server
has of each client, on all devices together."""

_ON_EACH = 2**23
"""Bytes of what the server has of each client, on all devices together, from which on the first of several CPU devices
alone does what the server does. The others would do it again, with the same cores (measured: half of the CPU time of a
round with a median of 20 clients' 159,010 weights). Less is done sooner in one program."""

_CONTRIBUTIONS = 2**26
"""Bytes of what clients give to aggregates that are folded in the cohort's order, which are in memory at a time."""
