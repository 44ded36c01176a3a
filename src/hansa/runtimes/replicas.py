"""Small arrays on every device that have been given to the caller as arrays on one.

A round's result is on every device; what the caller gets is the part on the first, an array like any other. When it
comes back as the next round's argument, it need not be copied to the other devices once more.
"""

from __future__ import annotations

from typing import Any
from weakref import ref

import jax
import numpy as np
from jax.sharding import SingleDeviceSharding

_WHOLES: dict[int, tuple[ref[Any], Any]] = {}
_MOST = 2**22
"""Bytes that an array may have on the other devices together, to be kept there for as long as the caller keeps it."""


def first_part(whole: Any) -> Any:
    """The part on the first device of an array that is on every device in full."""
    part = whole.addressable_data(0)
    if part.nbytes * (len(whole.sharding.device_set) - 1) > _MOST:
        return part
    # An object of the caller's own: the whole keeps its parts, and is to go when the caller's goes.
    own = jax.make_array_from_single_device_arrays(part.shape, part.sharding, [part])
    keep(own, whole)
    return own


def shared(part: Any, sharding: Any) -> Any | None:
    """An array that is on every device, of one on a CPU, whose memory other CPU devices use, too; None of others."""
    alone = isinstance(part.sharding, SingleDeviceSharding) and part.is_fully_addressable
    devices = sharding.device_set | part.sharding.device_set
    if not alone or any(device.platform != "cpu" for device in devices):
        return None
    # Of an object of our own: it is kept by those that share its memory, and the caller's is to go when he wants.
    own = jax.make_array_from_single_device_arrays(part.shape, part.sharding, [part.addressable_data(0)])
    return jax.device_put(np.asarray(own), sharding)


def keep(part: Any, whole: Any) -> None:
    """Keeps an array on every device for as long as the caller keeps one on one device, whatever its size."""
    key, wholes = id(part), _WHOLES
    wholes[key] = (ref(part, lambda _: wholes.pop(key, None)), whole)


def whole_of(part: Any, sharding: Any) -> Any | None:
    """The array, lying so, of which an array is the first part; None if there is none."""
    kept = _WHOLES.get(id(part))
    if kept is None:
        return None
    owner, whole = kept
    return whole if owner() is part and whole.sharding == sharding else None
