"""Devices of several processes as one mesh (`jax.distributed`): every process makes the same calls with the same data.

Nothing else could be worked on: a program reads its data from the process whose device runs it. What is not the same
would be counted twice or not at all, so it is compared before each call.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import jax
import numpy as np

from hansa.runtimes.stages.call import Call
from hansa.types.batches import Batches, ClientBatches
from hansa.types.client_values import ClientValues
from hansa.types.examples import Examples
from hansa.types.structs import Struct

_PARTS = (
    "the computation",
    "who takes part, or in which batches",
    "the clients' examples",
    "the rest of the argument, such as the state",
)
_BYTES = 16

Hash = Callable[[bytes], None]


class Meeting:
    """All processes of `jax.distributed`, as they make a call.

    Args:
        devices: of all of them.

    Raises:
        ValueError: if a process has none of the devices.
    """

    def __init__(self, devices: Sequence[jax.Device]) -> None:
        found = {device.process_index for device in devices}
        if len(found) < jax.process_count():
            raise ValueError(
                f"devices are of the processes {sorted(found)}, and there are {jax.process_count()}, which all make "
                "the same calls; give devices of each, such as jax.devices(), or those of one: jax.local_devices()"
            )
        self._examples: WeakKeyDictionary[Examples, bytes] = WeakKeyDictionary()

    @classmethod
    def of(cls, devices: Sequence[jax.Device]) -> Meeting | None:
        """The processes that meet on some devices; None if they are all of one."""
        return cls(devices) if len({device.process_index for device in devices}) > 1 else None

    def check(self, name: str, call: Call) -> None:
        """Waits for all processes, and compares what they are about to do.

        Args:
            name: of the computation.
            call: the call.

        Raises:
            ValueError: in each process, if it is not the same in all.
        """
        from jax.experimental import multihost_utils

        mine = np.frombuffer(b"".join(self._digests(name, call)), np.uint8).reshape(len(_PARTS), _BYTES)
        everybodys = np.asarray(multihost_utils.process_allgather(mine)).reshape(-1, *mine.shape)
        for process, theirs in enumerate(everybodys):
            other = [what for what, a, b in zip(_PARTS, everybodys[0], theirs, strict=True) if not np.array_equal(a, b)]
            if other:
                raise ValueError(
                    f"processes 0 and {process} differ in {other[0]}, in a call of {name!r} in process 0: all "
                    "processes must make the same calls with the same data and seeds; where each is to have data of "
                    "its own, there is hansa.RayRuntime"
                )

    def _digests(self, name: str, call: Call) -> list[bytes]:
        hashes = [hashlib.blake2b(digest_size=_BYTES) for _ in _PARTS]
        computation, clients, examples, rest = hashes
        computation.update(name.encode())
        clients.update(repr(call.client_ids.tolist()).encode())
        for leaf in jax.tree.leaves(call.argument):
            if isinstance(leaf, ClientBatches | Batches):
                clients.update(repr((leaf.batching, leaf.unrolled, leaf.capacity)).encode())
                starts = leaf.starts if isinstance(leaf, ClientBatches) else np.array([leaf.start])
                rows = leaf.rows if isinstance(leaf, ClientBatches) else np.array([leaf.size])
                clients.update(np.stack([starts, rows]).tobytes())
                examples.update(self._of(leaf.examples, starts, rows))
            elif isinstance(leaf, ClientValues):
                rest.update(repr(leaf.client_ids.tolist()).encode())
            elif isinstance(leaf, np.ndarray | np.generic | jax.Array | int | float | bool | str):
                _add(np.asarray(leaf), rest.update)
            else:
                rest.update(type(leaf).__name__.encode())
        return [each.digest() for each in hashes]

    def _of(self, examples: Examples, starts: Any, rows: Any) -> bytes:
        """Of all examples, once; of those on disk, or of one call, of the clients that take part."""
        found = hashlib.blake2b(digest_size=_BYTES)
        if examples.on_disk or examples.passing:
            for start, count in zip(starts.tolist(), rows.tolist(), strict=True):
                for array in _arrays(examples.rows):
                    _add(array[start : start + count], found.update)
            return found.digest()
        if examples not in self._examples:
            for array in _arrays(examples.rows):
                _add(array, found.update)
            self._examples[examples] = found.digest()
        return self._examples[examples]


def _arrays(value: Any) -> list[Any]:
    return [leaf for part in value for leaf in _arrays(part)] if isinstance(value, Struct) else [value]


def _add(array: Any, add: Hash) -> None:
    add(f"{array.dtype}{array.shape}".encode())
    add(np.ascontiguousarray(array).tobytes())
