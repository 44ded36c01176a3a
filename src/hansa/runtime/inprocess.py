"""The runtime in this process: a call is one XLA program over this machine's devices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from hansa.compiler.partition import compile_computation
from hansa.compiler.program import Program
from hansa.compiler.sequences import Columns, NeedsSizes
from hansa.language.computations import Computation
from hansa.language.graph import Node
from hansa.runtime import round as rounds
from hansa.runtime.arguments import Arguments, Static, pack
from hansa.runtime.columns import Packed, Room, pad_rows
from hansa.runtime.results import assemble, computed_parts
from hansa.runtime.schedule import schedule
from hansa.types import Struct
from hansa.types.batches import Examples


@dataclass
class Compiled:
    """A computation's program, and what has been compiled of it."""

    program: Program
    outputs: list[Node]
    room: Room = field(default_factory=Room)
    executables: dict[Any, Callable[..., Any]] = field(default_factory=dict)
    sizes: set[int] | None = None


class InProcessRuntime:
    """Executes computations on the devices of this process.

    A cohort's clients are spread over the devices and worked on one after another on each; a round has one reduction
    over devices at its end. Programs are compiled once per computation: the sizes of cohorts, clients and batches are
    data, up to capacities that grow as needed.

    Args:
        devices: the JAX devices to use; by default all of the default backend.
        default_num_clients: how many clients take part in a computation whose argument does not say.

    Attributes:
        compilations: how many XLA programs have been compiled, for tests and for the curious.
    """

    def __init__(self, devices: Sequence[jax.Device] | None = None, default_num_clients: int = 0) -> None:
        self.devices = tuple(jax.devices() if devices is None else devices)
        self.default_num_clients = default_num_clients
        self.compilations = 0
        self._mesh = Mesh(np.array(self.devices), (rounds.AXIS,))
        self._everywhere = NamedSharding(self._mesh, P())
        self._compiled: WeakKeyDictionary[Computation, Compiled] = WeakKeyDictionary()
        self._resident: WeakKeyDictionary[Examples, dict[Any, tuple[Any, ...]]] = WeakKeyDictionary()

    def __repr__(self) -> str:
        return f"InProcessRuntime({len(self.devices)} x {self.devices[0].device_kind})"

    def invoke(self, computation: Computation, argument: Any) -> Any:
        """Run `computation`; see `hansa.language.context.Runtime`."""
        compiled = self._compile(computation)
        program = compiled.program
        parameter = program.signature.parameter
        arguments = pack(parameter, argument, compiled.room, f"the argument of {computation.name!r}")
        values = self._run(compiled, arguments) if compiled.outputs else []
        clients = self.default_num_clients if arguments.clients is None else arguments.clients
        return assemble(program, argument, dict(zip(compiled.outputs, values, strict=True)), clients)

    def _compile(self, computation: Computation) -> Compiled:
        if computation not in self._compiled:
            program = compile_computation(computation)
            self._compiled[computation] = Compiled(program, computed_parts(program))
        return self._compiled[computation]

    def _run(self, compiled: Compiled, arguments: Arguments) -> list[Any]:
        cohort = self._cohort(compiled.room, arguments)
        packed = self._put(arguments)
        static = self._static(compiled, arguments)
        try:
            return self._call(compiled, packed, cohort, static)
        except NeedsSizes:
            if compiled.sizes is not None:
                raise
            compiled.sizes = set()
            return self._call(compiled, packed, cohort, self._static(compiled, arguments))

    def _static(self, compiled: Compiled, arguments: Arguments) -> Static:
        if compiled.sizes is None:
            return tuple((packed.capacity, None) for packed in arguments.sequences)
        for packed in arguments.sequences:
            compiled.sizes |= packed.sizes | {packed.capacity}
        sizes = tuple(sorted(compiled.sizes))
        return tuple((packed.capacity, sizes) for packed in arguments.sequences)

    def _call(self, compiled: Compiled, packed: Any, cohort: rounds.Cohort, static: Static) -> list[Any]:
        if static not in compiled.executables:
            compiled.executables[static] = self._executable(compiled, static)
        with jax.enable_x64(True):
            return compiled.executables[static](packed, cohort)  # type: ignore[no-any-return]

    def _executable(self, compiled: Compiled, static: Static) -> Callable[..., Any]:
        devices = len(self.devices)

        def run(packed: Any, cohort: rounds.Cohort) -> list[Any]:
            self.compilations += 1
            return rounds.whole(compiled.program, packed, cohort, static, compiled.outputs, devices)

        run.__name__ = f"hansa_{compiled.program.name}"
        spread = jax.shard_map(run, mesh=self._mesh, in_specs=P(), out_specs=P(), check_vma=False)
        alone = devices > 1 and self.devices[0].platform == "cpu"
        return jax.jit(spread, compiler_options={"xla_cpu_multi_thread_eigen": False} if alone else None)

    def _cohort(self, room: Room, arguments: Arguments) -> rounds.Cohort:
        count = self.default_num_clients if arguments.clients is None else arguments.clients
        work = np.ones(count, np.int64) if arguments.work is None else arguments.work
        capacity = room.clients("cohort", count)
        ids = np.zeros(capacity, np.int32)
        ids[:count] = np.arange(count) if arguments.ids is None else arguments.ids
        turns = schedule(work, len(self.devices))
        order = np.zeros((len(turns), capacity), np.int32)
        for row, clients in zip(order, turns, strict=True):
            row[: len(clients)] = clients
        return rounds.Cohort(ids, order, np.array([len(clients) for clients in turns], np.int32))

    def _put(self, arguments: Arguments) -> Any:
        """The packed argument on every device; arrays of `ClientBatches` stay there for the next call."""
        layouts = iter(arguments.sequences)

        def place(value: Any) -> Any:
            if isinstance(value, Columns):
                packed = next(layouts)
                if packed.resident is not None:
                    value = Columns(self._residents(packed), value.starts, value.lengths, value.first, value.counts)
                return value
            if isinstance(value, Struct):
                return Struct((name, place(part)) for name, part in value._items())
            return value

        with jax.enable_x64(True):
            return jax.device_put(place(arguments.packed), self._everywhere)

    def _residents(self, packed: Packed) -> tuple[Any, ...]:
        assert packed.resident is not None
        kept = self._resident.setdefault(packed.resident, {})
        key = (packed.capacity, *map(id, packed.columns.arrays))
        if key not in kept:
            arrays = tuple(pad_rows(array, packed.capacity) for array in packed.columns.arrays)
            with jax.enable_x64(True):
                kept[key] = jax.device_put(arrays, self._everywhere)
        return kept[key]
