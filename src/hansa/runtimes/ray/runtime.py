"""`RayRuntime`: the same programs on the processes of a Ray cluster, with the same bits."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakKeyDictionary

import jax
import numpy as np

from hansa._extras import require
from hansa._tracebacks import boundaries
from hansa.compiler.artifact_error import ArtifactError
from hansa.compiler.artifacts.artifact import load, save
from hansa.compiler.noise import with_noise
from hansa.compiler.partition import is_stacked
from hansa.compiler.sequences import NeedsSizes
from hansa.compiler.stacks import NeedsNumber
from hansa.language.computation import Computation
from hansa.language.terms import no_rows
from hansa.runtimes.ray.session import connect
from hansa.runtimes.results import assemble
from hansa.runtimes.stages import loop
from hansa.runtimes.stages import round as rounds
from hansa.runtimes.stages.call import Call
from hansa.runtimes.stages.sums import check_sums
from hansa.runtimes.stages.workplace import Workplace
from hansa.types.rows import Rows

if TYPE_CHECKING:  # Ray is imported when it is used
    from hansa.runtimes.ray.pool import Pool
    from hansa.runtimes.ray.stored import Store


@boundaries
class RayRuntime:
    """Executes computations on the workers of a Ray cluster.

    Each worker is a process with one device. It has the compiled program and the population's data, folds the clients
    that it is given, and gives one state of their sums. The result has the bits of `InProcessRuntime` with the program
    as `hansa.save` keeps it, on the same kind of CPU: with any number of workers, whichever of them are lost. Who is
    lost is replaced; what it was working for is given to others.

    Args:
        workers: how many.
        resources: what each asks Ray for, as options of a Ray actor: `{"num_gpus": 1}`, `{"memory": 8 * 2**30}`. By
            default one CPU.
        address: of the cluster, as `ray.init` takes it: "auto", "local" or `host:port`. By default the cluster that the
            variable `RAY_ADDRESS` names, or one of this machine alone. If Ray has been started, that is used.
        mixed: what is done about workers whose versions of Hansa, JAX, NumPy or Python, or whose kind of device, are
            not the driver's: "refuse", or "warn", as the results then depend on who works for whom.
        patience: for how many seconds a call waits for the first worker.
        default_num_clients: how many clients take part in a computation whose argument does not say.

    Attributes:
        lost: how many workers have been lost.

    Ray is started, or joined, when the first call needs it.

    Raises:
        ModuleNotFoundError: if Ray is not installed.
        TypeError, ValueError: if an argument is not what is said above.

    Examples:
        >>> def one_round(state):
        ...     with hansa.RayRuntime(workers=2) as runtime, hansa.runtime(runtime):
        ...         print(runtime.plan(process.next), [worker["node"] for worker in runtime.describe()])
        ...         return process.next(state, data.cohort([0, 1, 2]))
        >>> runtime = hansa.RayRuntime(workers=16, resources={"num_gpus": 1}, address="auto")
        >>> runtime, runtime.lost
        (RayRuntime(16 workers), 0)
        >>> runtime.close()
    """

    reads_examples = True

    def __init__(
        self,
        workers: int = 2,
        resources: Mapping[str, Any] | None = None,
        address: str | None = None,
        *,
        mixed: Literal["refuse", "warn"] = "refuse",
        patience: float = 600.0,
        default_num_clients: int = 0,
    ) -> None:
        if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
            raise ValueError(f"workers must be a positive number of processes; found {workers!r}")
        if mixed not in ("refuse", "warn"):
            raise ValueError(f"mixed must be 'refuse' or 'warn', found {mixed!r}")
        if resources is not None and not isinstance(resources, Mapping):
            raise TypeError(f"resources must be a dict of a Ray actor's options, found {resources!r}")
        require("ray", "ray", "hansa.RayRuntime")
        self.workers, self.default_num_clients = workers, default_num_clients
        self._resources, self._address, self._mixed, self._patience = dict(resources or {}), address, mixed, patience
        self._mine = False
        self._programs: WeakKeyDictionary[Computation, _Program] = WeakKeyDictionary()
        self._paces: dict[Any, float | None] = {}

    @cached_property
    def _pool(self) -> Pool:
        """The workers, which are started when they are first asked for."""
        from hansa.runtimes.ray.pool import Pool

        self._mine = connect(self._address, math.ceil(self.workers * self._resources.get("num_cpus", 1)))
        return Pool(self.workers, self._resources, self._mixed, self._patience)

    @cached_property
    def _store(self) -> Store:
        from hansa.runtimes.ray.stored import Store

        return Store()

    def __repr__(self) -> str:
        return f"RayRuntime({self.workers} worker{'' if self.workers == 1 else 's'})"

    @property
    def lost(self) -> int:
        """How many workers have been lost, and replaced."""
        return self._pool.lost if "_pool" in self.__dict__ else 0

    def describe(self) -> list[Mapping[str, str | int]]:
        """What each worker runs on: versions, the kind of its device, its node and the number of its process.

        Waits until all workers are up.
        """
        return [member.described for member in self._pool.all_up()]

    def plan(self, computation: Computation) -> str:
        """How the clients of a computation are worked on here, in a line."""
        program = self._of(computation)
        return f"dealt out to {self.workers} workers on Ray" if program.place.compiled.program.clients else ""

    def close(self) -> None:
        """Ends the workers, and Ray if this runtime has started it. It cannot be used after that."""
        import ray

        if "_pool" in self.__dict__ and ray.is_initialized():
            self._pool.stop()
            if self._mine:
                ray.shutdown()

    def __enter__(self) -> RayRuntime:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def invoke(self, computation: Computation, argument: Any) -> Any:
        """Run `computation`; see `hansa.language.context.Runtime`.

        Examples:
            >>> def add(a, b):
            ...     with hansa.RayRuntime(workers=1) as runtime:
            ...         return runtime.invoke(hansa.jax_computation(jnp.add, "int32", "int32"), [a, b])
        """
        computation, argument = with_noise(computation, argument)
        program = self._of(computation)
        call = Call.of(computation, argument, self.default_num_clients)
        values = self._run_on_who_is_left(program, call)
        compiled = program.place.compiled
        parts = dict(zip(compiled.outputs, values, strict=True))
        return assemble(compiled.program, call.argument, parts, call.client_ids)

    def _run_on_who_is_left(self, program: _Program, call: Call) -> list[Any]:
        """The call's values; it is made again where a node is lost, with what it had computed."""
        for _ in range(_MOST_AGAIN):
            try:
                return self._run_as_it_needs(program, call)
            except _data_is_lost():
                pass
        raise RuntimeError(
            "a node of the cluster is lost, and with it what clients keep, which was nowhere else; go on from the "
            "newest checkpoint of the run, with hansa resume, or from an older state"
        )

    def _run_as_it_needs(self, program: _Program, call: Call) -> list[Any]:
        """The call's values; the program is compiled in another form where the first is not enough."""
        try:
            return self._run(program, call)
        except (NeedsSizes, NeedsNumber, rounds.NeedsWideSums) as error:
            program.place.otherwise(error)
        return self._run_as_it_needs(program, call)

    def _run(self, program: _Program, call: Call) -> list[Any]:
        from hansa.runtimes.ray.clients import RayClients
        from hansa.runtimes.ray.folding import StageFailed
        from hansa.runtimes.ray.worker import LOST_DATA

        place = program.place
        compiled, devices = place.compiled, place.devices
        if not compiled.outputs:
            return []
        packed, static = devices.pack(compiled, call.argument, call.what, np.zeros(0, np.int64))
        check_sums(devices, compiled, call.size, packed, static)
        told = {} if program.artifact is None else {program.key: (program.artifact, place.forms, place.widened)}
        clients = RayClients(self._pool, place, program.key, call, self._store, told, self._paces)
        try:
            values = loop.run(
                compiled.program,
                packed,
                static,
                compiled.outputs,
                clients,
                call.size,
                compiled.room.clients("collected", call.size),
                compiled.stack_size(call.size),
                partial(devices.execute, compiled),
                partial(devices.spread, compiled),
            )
            self._copy(values)
            return values
        except StageFailed as failed:
            if failed.wrong["kind"] == LOST_DATA:
                raise DataLost(failed.wrong["message"]) from None
            error = _ERRORS.get(failed.wrong["kind"], RuntimeError)(failed.wrong["message"])
            error.add_note(f"A worker has raised it:\n{failed.wrong['where']}")
            raise error from None
        except (NeedsSizes, NeedsNumber, rounds.NeedsWideSums):
            raise
        except Exception as error:  # whatever a function of no rows raises
            if call.size or not compiled.stacks:
                raise
            raise no_rows(compiled.stacks[0].name, compiled.stacks[0].where, error) from error

    def _copy(self, values: Sequence[Any]) -> None:
        """Has what clients keep after a call on a second node, where there is one, before the call is over."""
        from hansa.runtimes.ray.stored import StoredBlock

        blocks = [block for value in values if isinstance(value, Rows) for block in value.blocks]
        self._pool.keep(*(block for block in blocks if isinstance(block, StoredBlock)))

    def _of(self, computation: Computation) -> _Program:
        if computation not in self._programs:
            self._programs[computation] = _Program(computation, self._platforms)
        return self._programs[computation]

    def _platforms(self) -> list[str]:
        found = {member.described["platform"] for member in self._pool.up()} | {jax.devices()[0].platform}
        return sorted({"gpu": "cuda"}.get(name, name) for name in found)


class _Program:
    """A computation in use.

    Attributes:
        place: the program, as the driver has it.
        key: what workers know it by.
        artifact: a reference to its bytes; None where clients have no part in it.
    """

    def __init__(self, computation: Computation, platforms: Any) -> None:
        import ray

        self.key, self.artifact = f"{computation.name} {id(self)}", None
        self.place = Workplace(computation)
        compiled = self.place.compiled
        if compiled.program.clients or any(map(is_stacked, compiled.outputs)):
            file = io.BytesIO()
            try:
                save(computation, file, platforms=platforms())
            except ArtifactError as error:
                error.add_note("A RayRuntime sends programs to its workers as hansa.save keeps them.")
                raise
            self.artifact = ray.put(file.getvalue())
            self.place = Workplace(load(file.getvalue()), signature=computation.type_signature)


_ERRORS: dict[str, type[Exception]] = {"TypeError": TypeError, "ValueError": ValueError, "MemoryError": MemoryError}


class DataLost(Exception):
    """A worker needs what was on a node that is lost."""


def _data_is_lost() -> tuple[type[Exception], ...]:
    from ray.exceptions import ObjectLostError

    return DataLost, ObjectLostError


_MOST_AGAIN = 3
