"""What clients have, dealt out: each client's row lies with the device that works for it, in the order of its turns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import numpy.typing as npt
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from hansa.types import Type
from hansa.types.aligned import aligned
from hansa.types.client_values import shaped
from hansa.types.rows import Block, Rows

AXIS = "clients"
"""The one axis of a mesh of devices."""

Turns = Sequence[npt.NDArray[np.int64]]
"""Each device's clients in the order of its turns, by position in the whole cohort."""


@dataclass(frozen=True)
class Dealt:
    """Values at the clients in an argument: a struct of arrays `[devices * turns, ...]`, each device's part with it."""

    arrays: Any


jax.tree_util.register_dataclass(Dealt, ["arrays"], [])


@dataclass(frozen=True)
class ToDeal:
    """The same before it is known which device works for whom: rows of a type, by position in the cohort.

    Attributes:
        kind: the type of a row.
        rows: one for each client.
        path: where in the argument they are.
    """

    kind: Type
    rows: Rows
    path: tuple[int, ...] = ()

    def deal(self, turns: Turns, room: int, mesh: Mesh) -> Dealt:
        """On each device of a mesh the rows of its clients, with room for so many."""
        devices, like = list(mesh.devices.flat), self.rows.blocks[0].arrays
        sharding, here = NamedSharding(mesh, P(AXIS)), jax.process_index()
        with jax.enable_x64(True):
            lying = [
                _lying(self.rows.select(clients), room, device)
                for clients, device in zip(turns, devices, strict=True)
                if device.process_index == here
            ]
            whole = [
                jax.make_array_from_single_device_arrays(
                    (len(devices) * room, *array.shape[1:]), sharding, [part[i] for part in lying]
                )
                for i, array in enumerate(like)
            ]
        return Dealt(shaped(self.kind, iter(whole)))


def _lying(rows: Rows, room: int, device: Any) -> Any:
    """The rows on a device: the block that is there already, if it has just these, or a copy."""
    first = rows.blocks[rows.block[0]] if len(rows) else None
    if first is not None and first.size == room and (rows.block == rows.block[0]).all():
        here = all(isinstance(array, jax.Array) and array.devices() == {device} for array in first.arrays)
        if here and np.array_equal(rows.row, np.arange(len(rows))):
            return list(first.arrays)
    part = [aligned((room, *array.shape[1:]), array.dtype, zeroed=False) for array in rows.blocks[0].arrays]
    rows.write(part)
    return jax.device_put(part, device)


def rows_of(values: Any, turns: Turns, entries: int) -> Rows:
    """What devices have computed for their clients, of each `[devices * turns, ...]`, by position in the cohort.

    The arrays stay where they are, but for those of devices of other processes, which this one has in host memory.
    """
    arrays = [_by_device(leaf, len(turns)) for leaf in jax.tree.leaves(values)]
    block, row = np.full(entries, -1, np.int32), np.zeros(entries, np.int32)
    for device, clients in enumerate(turns):
        block[clients], row[clients] = device, np.arange(len(clients))
    return Rows(tuple(Block([parts[device] for parts in arrays]) for device in range(len(turns))), block, row)


def _by_device(array: Any, devices: int) -> list[Any]:
    """Each device's part of an array, in the order of its first axis."""
    if not array.is_fully_addressable:
        from jax.experimental import multihost_utils

        with jax.enable_x64(True):
            return np.split(np.asarray(multihost_utils.process_allgather(array, tiled=True)), devices)
    shards = sorted(array.addressable_shards, key=lambda shard: shard.index[0].start or 0)
    return [shard.data for shard in shards]
