"""Small integers in as few bytes as they need."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

_TRITS = np.array([1, 3, 9, 27, 81])
"""Five digits to the base of three are in one byte."""


def pack(codes: Any, bits: int) -> Any:
    """Integers below `2**bits`, in `ceil(n * bits / 8)` bytes: the first has the highest bits of the first byte."""
    if bits == 8:
        return codes.astype(jnp.uint8)
    if bits == 1:
        return jnp.packbits(codes.astype(jnp.uint8))
    if 8 % bits == 0:
        each = 8 // bits
        codes = jnp.pad(codes.astype(jnp.uint8), (0, -codes.size % each)).reshape(-1, each)
        places = [codes[:, i] << (8 - bits * (i + 1)) for i in range(each)]
        return sum(places[1:], places[0])
    digits = codes.astype(jnp.uint32)[:, None] >> jnp.arange(bits - 1, -1, -1, dtype=jnp.uint32)
    return jnp.packbits((digits & 1).astype(jnp.uint8).reshape(-1))


def unpack(packed: Any, bits: int, size: int) -> Any:
    """The integers of `pack`, as uint8, or uint32 if they have more than 8 bits."""
    if bits == 8:
        return packed[:size]
    if bits == 1:
        return jnp.unpackbits(packed)[:size]
    if 8 % bits == 0:
        places = [(packed >> (8 - bits * (i + 1))) & (2**bits - 1) for i in range(8 // bits)]
        return jnp.stack(places, 1).reshape(-1)[:size]
    dtype = jnp.uint8 if bits < 8 else jnp.uint32
    digits = jnp.unpackbits(packed)[: size * bits].reshape(size, bits).astype(dtype)
    return (digits << jnp.arange(bits - 1, -1, -1, dtype=dtype)).sum(1, dtype=dtype)


def pack_trits(codes: Any) -> Any:
    """Integers below 3, five in a byte."""
    digits = jnp.pad(codes.astype(jnp.uint8), (0, -codes.size % 5)).reshape(-1, 5)
    return sum((digits[:, i] * jnp.uint8(_TRITS[i]) for i in range(1, 5)), digits[:, 0])


def unpack_trits(packed: Any, size: int) -> Any:
    """The integers of `pack_trits`."""
    return jnp.stack([packed // jnp.uint8(place) % jnp.uint8(3) for place in _TRITS], 1).reshape(-1)[:size]
