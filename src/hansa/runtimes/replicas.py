"""Small arrays on every device that have been given to the caller as arrays on one.

A round's result is on every device; what the caller gets is the part on the first, an array like any other. When it
comes back as the next round's argument, it need not be copied to the other devices once more.
"""

from __future__ import annotations

from typing import Any
from weakref import ref

import jax

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
    key, wholes = id(own), _WHOLES
    wholes[key] = (ref(own, lambda _: wholes.pop(key, None)), whole)
    return own


def whole_of(part: Any, sharding: Any) -> Any | None:
    """The array, lying so, of which an array is the first part; None if there is none."""
    kept = _WHOLES.get(id(part))
    if kept is None:
        return None
    owner, whole = kept
    return whole if owner() is part and whole.sharding == sharding else None
