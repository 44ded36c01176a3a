"""Devices of this process, with what lies on them: packed arguments, the data of populations, compiled programs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import jax
import numpy as np
import numpy.typing as npt
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from hansa.compiler.narrowing import Path
from hansa.compiler.sequences import Columns
from hansa.runtimes.arguments import Arguments, Static, pack
from hansa.runtimes.columns import Packed, pad_rows
from hansa.runtimes.dealt import AXIS, Dealt, ToDeal, Turns
from hansa.runtimes.replicas import keep, shared, whole_of
from hansa.runtimes.stages.compiled import Compiled
from hansa.runtimes.stages.executable import Executable
from hansa.runtimes.stages.round import Cohort
from hansa.types import Struct, Type
from hansa.types.examples import Examples


class Devices:
    """Some devices of one kind.

    Args:
        devices: at least one.

    Attributes:
        compilations: how many XLA programs have been compiled.
    """

    def __init__(self, devices: Sequence[jax.Device]) -> None:
        self.compilations = 0
        self._mesh = Mesh(np.array(devices), (AXIS,))
        self._alone = Mesh(np.array(devices[:1]), (AXIS,))
        self._resident: WeakKeyDictionary[Examples, dict[Any, tuple[Any, ...]]] = WeakKeyDictionary()

    def pack(
        self,
        compiled: Compiled,
        argument: Any,
        what: str,
        only: npt.NDArray[np.int64] | None = None,
        of: tuple[Type, frozenset[Path]] | None = None,
        turns: Turns | None = None,
    ) -> tuple[Any, Static]:
        """The argument on every device, with the data of all clients or of some, and its layout.

        Args:
            compiled: the program.
            argument: what the caller passed.
            what: how messages name it.
            only: the positions of these clients.
            of: the argument's type, and its tensors that are computed with in 32 bits; by default of the parameter.
            turns: who works for whom, in which order. What lies in rows is dealt out by it, if it is read at all, and
                left out without it.
        """
        kind, narrow = of or (compiled.program.signature.parameter, compiled.narrow)
        arguments = pack(kind, argument, compiled.room, what, only, narrow)
        sizes = compiled.sizes_with(arguments.sequences)
        static = tuple((packed.capacity, sizes) for packed in arguments.sequences)

        def deal(rows: ToDeal) -> Dealt | None:
            is_read = of is not None or compiled.reads(rows.path)
            return self.deal(compiled, rows, turns) if turns is not None and is_read else None

        fixed = frozenset() if of is not None else compiled.handed_on
        return self._put(arguments, self._mesh_of(compiled), deal, fixed), static

    def deal(self, compiled: Compiled, rows: ToDeal, turns: Turns) -> Dealt:
        """Rows on the devices that work for their clients."""
        return rows.deal(turns, turns_of(compiled, turns), self._mesh_of(compiled))

    def spread(self, compiled: Compiled, value: Any) -> Any:
        """A value on every device of which arrays may be on the first only; what is in host memory and small stays."""
        everywhere = NamedSharding(self._mesh_of(compiled), P())
        leaves, tree = jax.tree.flatten(value)
        for i, leaf in enumerate(leaves):
            if isinstance(leaf, jax.Array) and leaf.sharding != everywhere:
                (leaves[i],) = self._moved([leaf], everywhere)
        return jax.tree.unflatten(tree, leaves)

    def execute(
        self,
        compiled: Compiled,
        key: Any,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        in_specs: Any,
        out_specs: Any,
        donated: tuple[int, ...] = (),
        alone: bool = False,
    ) -> Any:
        """The result of a function of the program, known by a key, that runs on every device.

        Args:
            compiled: the program.
            key: what tells the function from others of the program.
            function: JAX code. It is kept with what it sees, which must not be the data of a call.
            args: its arguments.
            in_specs: how each lies on the devices.
            out_specs: how the result lies on the devices.
            donated: the positions of arguments that are not used again.
            alone: whether only the first device runs it.
        """
        if key not in compiled.executables:

            def named(*args: Any) -> Any:
                return function(*args)

            named.__name__ = f"hansa_{compiled.program.name}"
            mesh = self._alone if alone else self._mesh_of(compiled)
            compiled.executables[key] = Executable(
                named, mesh, in_specs, out_specs, self._count_compilation, compiled.at_clients, donated
            )
        return compiled.executables[key](*args)

    def _mesh_of(self, compiled: Compiled) -> Mesh:
        return self._mesh if compiled.at_clients else self._alone

    def _count_compilation(self) -> None:
        self.compilations += 1

    def _put(
        self, arguments: Arguments, mesh: Mesh, deal: Callable[[ToDeal], Dealt | None], fixed: frozenset[Path]
    ) -> Any:
        """The packed argument on every device of a mesh; what is `fixed` and arrays of `ClientBatches` stay there for
        the next call."""
        everywhere = NamedSharding(mesh, P())
        placed = self._place(arguments.packed, iter(arguments.sequences), everywhere, deal)
        leaves, tree = jax.tree.flatten(placed, is_leaf=lambda part: isinstance(part, Dealt))
        # The program takes arrays in host memory to the devices itself, at a fraction of the cost of a put.
        on_one = [i for i, leaf in enumerate(leaves) if isinstance(leaf, jax.Array) and leaf.sharding != everywhere]
        moving = []
        for i in on_one:
            whole = whole_of(leaves[i], everywhere)
            if whole is None:
                moving.append(i)
            else:
                leaves[i] = whole
        if not moving:
            return jax.tree.unflatten(tree, leaves)
        returning = {id(leaf) for path in fixed for leaf in jax.tree.leaves(_part(arguments.packed, path))}
        for i, whole in zip(moving, self._moved([leaves[i] for i in moving], everywhere), strict=True):
            if id(leaves[i]) in returning:
                keep(leaves[i], whole)
            leaves[i] = whole
        return jax.tree.unflatten(tree, leaves)

    def _moved(self, arrays: list[jax.Array], everywhere: NamedSharding) -> list[jax.Array]:
        """Arrays on every device; CPU devices share their memory."""
        with jax.enable_x64(True):
            found = [shared(array, everywhere) for array in arrays]
            others = iter(jax.device_put([a for a, b in zip(arrays, found, strict=True) if b is None], everywhere))
        return [next(others) if array is None else array for array in found]

    # Not a function in `_put`: one that calls itself is a cycle, which keeps what it sees until garbage is collected.
    def _place(
        self, value: Any, layouts: Iterator[Packed], everywhere: NamedSharding, deal: Callable[[ToDeal], Dealt | None]
    ) -> Any:
        if isinstance(value, Columns):
            packed = next(layouts)
            if packed.resident is not None:
                arrays = self._residents(packed, everywhere)
                value = Columns(arrays, value.starts, value.lengths, value.first, value.counts)
            return value
        if isinstance(value, Struct):
            return Struct((name, self._place(part, layouts, everywhere, deal)) for name, part in value._items())
        if isinstance(value, ToDeal):
            return deal(value)
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


def _part(packed: Any, path: Path) -> Any:
    for i in path:
        packed = packed[i]
    return packed


def cohort_of(
    compiled: Compiled,
    own: Mapping[str, npt.NDArray[Any]],
    turns: Turns,
    positions: npt.NDArray[np.int64],
) -> Cohort:
    """Some clients of a cohort, and whose turn it is on each device.

    Args:
        compiled: the program, which says how much room there is.
        own: what the runtime has for each client of the whole cohort, by name.
        turns: each device's clients in order, by position in the whole cohort.
        positions: where in the whole cohort these clients are, in order.
    """
    room = turns_of(compiled, turns)
    capacity = len(turns) * room
    padded = {name: np.zeros((capacity, *values.shape[1:]), values.dtype) for name, values in own.items()}
    for name, values in own.items():
        padded[name][: len(positions)] = values[positions]
    order = np.zeros((len(turns), room), np.int32)
    for row, clients in zip(order, turns, strict=True):
        row[: len(clients)] = np.searchsorted(positions, clients)
    return Cohort(padded, order, np.array([len(clients) for clients in turns], np.int32))


def turns_of(compiled: Compiled, turns: Turns) -> int:
    """For how many clients a device has room."""
    capacity = compiled.room.turns if compiled.keeps_much else compiled.room.clients
    return capacity("turns", max(map(len, turns)))
