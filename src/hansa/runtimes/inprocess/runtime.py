"""The runtime in this process: a call is one XLA program over this machine's devices."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any
from weakref import WeakKeyDictionary

import jax
import numpy as np
import numpy.typing as npt
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from hansa._tracebacks import boundaries
from hansa.compiler.evaluate import evaluate
from hansa.compiler.narrowing import Path, narrowed
from hansa.compiler.partition import compile_computation, is_stacked
from hansa.compiler.program import Program
from hansa.compiler.sequences import Columns, NeedsSizes
from hansa.language.computation import Computation
from hansa.language.graph import Node
from hansa.runtimes.arguments import Arguments, Static, pack, settle, survey
from hansa.runtimes.client_sizes import check_client_sizes
from hansa.runtimes.columns import Packed, Room, pad_rows
from hansa.runtimes.inprocess import chunks
from hansa.runtimes.inprocess import round as rounds
from hansa.runtimes.inprocess.ahead import ahead
from hansa.runtimes.inprocess.executable import Executable
from hansa.runtimes.inprocess.schedule import schedule
from hansa.runtimes.inprocess.vectorise import clients_at_once
from hansa.runtimes.patience import meets_in_programs
from hansa.runtimes.protected_sums import ProtectedSums
from hansa.runtimes.replicas import whole_of
from hansa.runtimes.results import assemble, computed_parts
from hansa.types import Struct
from hansa.types.batches import Examples


@dataclass
class Compiled:
    """A computation's program, and what has been compiled of it."""

    program: Program
    outputs: list[Node]
    room: Room = field(default_factory=Room)
    executables: dict[Any, Executable] = field(default_factory=dict)
    sizes: set[int] | None = None

    @cached_property
    def at_clients(self) -> bool:
        """Whether clients have any part in it; if not, one device does it all."""
        return bool(self.program.clients) or any(map(is_stacked, self.outputs))

    @cached_property
    def narrow(self) -> frozenset[Path]:
        """The tensors of the argument that are computed with in 32 bits."""
        return narrowed(self.program.parameter, self.program.result)

    @cached_property
    def protected(self) -> ProtectedSums:
        """Its protected sums."""
        return ProtectedSums(self.program)


@boundaries
class InProcessRuntime:
    """Executes computations on the devices of this process.

    A cohort's clients are spread over the devices and worked on one after another on each; a round has one reduction
    over devices at its end. Programs are compiled once per computation: the sizes of cohorts, clients and batches are
    data, up to capacities that grow as needed.

    Args:
        devices: the JAX devices to use; by default all of the default backend.
        clients_per_chunk: how many clients' data is packed and on the devices at a time, while that of as many others
            is made ready; by default that of all, or as much as is in 256 MiB if data on disk is more than that. The
            result does not depend on it.
        clients_at_once: how many clients a device works on in one vectorised computation; by default by a rule
            (`hansa.runtimes.inprocess.vectorise`), of which `hansa.explain` tells the outcome: one on a CPU, of which a
            client's step fills a core, and up to 32 on other devices. Results agree to rounding.
        default_num_clients: how many clients take part in a computation whose argument does not say.

    Attributes:
        compilations: how many XLA programs have been compiled, for tests and for the curious.

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
    ) -> None:
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
        self.compilations = 0
        self._mesh = Mesh(np.array(self.devices), (rounds.AXIS,))
        self._alone = Mesh(np.array(self.devices[:1]), (rounds.AXIS,))
        self._compiled: WeakKeyDictionary[Computation, Compiled] = WeakKeyDictionary()
        self._resident: WeakKeyDictionary[Examples, dict[Any, tuple[Any, ...]]] = WeakKeyDictionary()

    def __repr__(self) -> str:
        chosen = "" if self.clients_at_once is None else f", {_clients(self.clients_at_once)} at a time on each"
        return f"InProcessRuntime({_devices(self.devices)}{chosen})"

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
        compiled = self._compile(computation)
        kind, what = computation.type_signature.parameter, f"the argument of {computation.name!r}"
        cohort = survey(kind, argument, what)
        argument = settle(kind, argument, what)
        check_client_sizes(kind, argument, what)
        size = self.default_num_clients if cohort.size is None else cohort.size
        work = np.ones(size, np.int64) if cohort.work is None else cohort.work
        turns = schedule(work, len(self.devices)) if compiled.at_clients else [np.arange(0)]
        ids = np.arange(size) if cohort.ids is None else cohort.ids
        call = Call(compiled, argument, what, ids, turns, self._turns_per_chunk(compiled, turns, cohort.on_disk))
        try:
            values = self._run(call)
        except NeedsSizes:
            if compiled.sizes is not None:
                raise
            compiled.sizes = set()
            values = self._run(call)
        return assemble(compiled.program, argument, dict(zip(compiled.outputs, values, strict=True)), size)

    def _at_once(self, compiled: Compiled) -> int:
        return self.clients_at_once or clients_at_once(compiled.program, self.devices[0])

    def _turns_per_chunk(self, compiled: Compiled, turns: list[npt.NDArray[np.int64]], on_disk: int) -> int | None:
        """How many clients a device works on in a chunk; `None` if all stages are to be one program."""
        size, per_chunk = sum(map(len, turns)), self.clients_per_chunk
        if not compiled.program.clients or not size:
            return None
        if per_chunk is None and on_disk > _AT_ONCE:
            per_chunk = max(len(self.devices), size * _AT_ONCE // on_disk)
        if per_chunk is not None and size > per_chunk:
            return -(-per_chunk // len(self.devices))
        return None if meets_in_programs(self.devices) else max(map(len, turns))

    def _compile(self, computation: Computation) -> Compiled:
        if computation not in self._compiled:
            program = compile_computation(computation)
            self._compiled[computation] = Compiled(program, computed_parts(program))
        return self._compiled[computation]

    def _run(self, call: Call) -> list[Any]:
        compiled, program = call.compiled, call.compiled.program
        size = sum(map(len, call.turns))
        if call.turns_per_chunk is not None:
            none = np.zeros(0, np.int64)
            packed, static = self._pack(call, none)
            self._check_sums(compiled, size, packed, static)
            return chunks.run(
                program,
                packed,
                static,
                lambda: ahead(self._chunks(call)),
                compiled.outputs,
                len(self.devices),
                size,
                compiled.room.clients("collected", size),
                self._at_once(compiled),
                partial(self._execute, compiled),
            )
        packed, static = self._pack(call, None)
        self._check_sums(compiled, size, packed, static)
        if not compiled.outputs:
            return []

        # It is kept with what it sees, which must not be the data of this call.
        outputs, devices, at_once = compiled.outputs, len(call.turns), self._at_once(compiled)

        def whole(packed: Any, cohort: rounds.Cohort) -> list[Any]:
            return rounds.whole(program, packed, cohort, static, outputs, devices, at_once)

        cohort = self._cohort(call, call.turns, np.arange(size)) if compiled.at_clients else rounds.NOBODY
        values: list[Any] = self._execute(compiled, ("whole", static), whole, (packed, cohort), (P(), P()), P())
        return values

    def _check_sums(self, compiled: Compiled, clients: int, packed: Any, static: Static) -> None:
        """Refuses a call whose protected sums might not fit, before any client works."""
        program, asked = compiled.program, list(compiled.protected.asked)

        def bounds(packed: Any) -> list[Any]:
            return evaluate(asked, rounds.server_environment(program, packed, static))

        values = self._execute(compiled, ("bounds", static), bounds, (packed,), (P(),), P()) if asked else []
        compiled.protected.check(clients, values)

    def _chunks(self, call: Call) -> Iterator[chunks.Chunk]:
        assert call.turns_per_chunk is not None
        each = call.turns_per_chunk
        for first in range(0, max(map(len, call.turns)), each):
            turns = [turn[first : first + each] for turn in call.turns]
            positions = np.sort(np.concatenate(turns))
            packed, static = self._pack(call, positions)
            yield packed, self._cohort(call, turns, positions), static, positions

    def _pack(self, call: Call, only: npt.NDArray[np.int64] | None) -> tuple[Any, Static]:
        """The argument on every device, with the data of all clients or of some, and its layout."""
        compiled = call.compiled
        arguments = pack(
            compiled.program.signature.parameter, call.argument, compiled.room, call.what, only, compiled.narrow
        )
        sizes = None
        if compiled.sizes is not None:
            for packed in arguments.sequences:
                compiled.sizes |= packed.sizes | {packed.capacity}
            sizes = tuple(sorted(compiled.sizes))
        return self._put(arguments, self._mesh_of(compiled)), tuple(
            (packed.capacity, sizes) for packed in arguments.sequences
        )

    def _execute(
        self,
        compiled: Compiled,
        key: Any,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        in_specs: Any,
        out_specs: Any,
        donated: tuple[int, ...] = (),
    ) -> Any:
        if key not in compiled.executables:
            function.__name__ = f"hansa_{compiled.program.name}"
            mesh = self._mesh_of(compiled)
            compiled.executables[key] = Executable(
                function, mesh, in_specs, out_specs, self._count_compilation, compiled.at_clients, donated
            )
        return compiled.executables[key](*args)

    def _mesh_of(self, compiled: Compiled) -> Mesh:
        return self._mesh if compiled.at_clients else self._alone

    def _count_compilation(self) -> None:
        self.compilations += 1

    def _cohort(
        self, call: Call, turns: list[npt.NDArray[np.int64]], positions: npt.NDArray[np.int64]
    ) -> rounds.Cohort:
        """Clients at these positions of the whole cohort, and each device's turns, which say positions of it too."""
        capacity = call.compiled.room.clients("cohort", len(positions))
        ids = np.zeros(capacity, np.int32)
        ids[: len(positions)] = call.ids[positions]
        order = np.zeros((len(turns), capacity), np.int32)
        for row, clients in zip(order, turns, strict=True):
            row[: len(clients)] = np.searchsorted(positions, clients)
        return rounds.Cohort(ids, order, np.array([len(clients) for clients in turns], np.int32))

    def _put(self, arguments: Arguments, mesh: Mesh) -> Any:
        """The packed argument on every device of a mesh; arrays of `ClientBatches` stay there for the next call."""
        everywhere = NamedSharding(mesh, P())
        leaves, tree = jax.tree.flatten(self._place(arguments.packed, iter(arguments.sequences), everywhere))
        # The program takes arrays in host memory to the devices itself, at a fraction of the cost of a put.
        on_one = [i for i, leaf in enumerate(leaves) if isinstance(leaf, jax.Array) and leaf.sharding != everywhere]
        moving = []
        for i in on_one:
            whole = whole_of(leaves[i], everywhere)
            if whole is None:
                moving.append(i)
            else:
                leaves[i] = whole
        if moving:
            with jax.enable_x64(True):
                moved = jax.device_put([leaves[i] for i in moving], everywhere)
            for i, leaf in zip(moving, moved, strict=True):
                leaves[i] = leaf
        return jax.tree.unflatten(tree, leaves)

    # Not a function in `_put`: one that calls itself is a cycle, which keeps what it sees until garbage is collected.
    def _place(self, value: Any, layouts: Iterator[Packed], everywhere: NamedSharding) -> Any:
        if isinstance(value, Columns):
            packed = next(layouts)
            if packed.resident is not None:
                arrays = self._residents(packed, everywhere)
                value = Columns(arrays, value.starts, value.lengths, value.first, value.counts)
            return value
        if isinstance(value, Struct):
            return Struct((name, self._place(part, layouts, everywhere)) for name, part in value._items())
        if isinstance(value, np.ndarray):
            return value.copy()  # The caller may write to it before the devices have read it.
        return None if isinstance(value, str) else value

    def _residents(self, packed: Packed, everywhere: NamedSharding) -> tuple[Any, ...]:
        assert packed.resident is not None
        kept = self._resident.setdefault(packed.resident, {})
        key = (everywhere, packed.capacity, *map(id, packed.columns.arrays))
        if key not in kept:
            arrays = tuple(pad_rows(array, packed.capacity) for array in packed.columns.arrays)
            with jax.enable_x64(True):
                kept[key] = jax.device_put(arrays, everywhere)
        return kept[key]


@dataclass(frozen=True)
class Call:
    """One call: the argument, the clients' numbers, each device's clients in order, by position in the cohort, and how
    many of these a device works on at a time, if the stages are to be programs of their own."""

    compiled: Compiled
    argument: Any
    what: str
    ids: npt.NDArray[Any]
    turns: list[npt.NDArray[np.int64]]
    turns_per_chunk: int | None


def _clients(number: int) -> str:
    return "one client" if number == 1 else f"{number} clients"


def _devices(devices: tuple[jax.Device, ...]) -> str:
    return f"{len(devices)} x {devices[0].device_kind}"


_AT_ONCE = 2**28
"""Bytes of data from disk that are in memory at a time, and as many again that are being read."""
