"""Random bits of a cipher stream, and normal numbers of them, in JAX: of the same key, the same bits.

The cipher is ChaCha20 (RFC 8439, section 2.3), of a key of 256 bits, with a counter of 32 bits and a nonce of zeros: a
key is for one stream only. What JAX itself draws is of a key of 64 bits, too short for secrets.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import jax.numpy as jnp
import numpy as np
from jax import lax

Array: TypeAlias = Any

_CONSTANTS = np.frombuffer(b"expand 32-byte k", "<u4")
_MOST_BLOCKS = 2**32


def words(key: Array, count: int, nonce: Sequence[int] = (0, 0, 0), first: int = 0) -> Array:
    """The first numbers of the stream of a key.

    Args:
        key: uint32 [8].
        count: how many numbers.
        nonce: three numbers of 32 bits.
        first: the counter of the first block.

    Returns:
        uint32 [count], those of a block one after another, in its order.

    Raises:
        ValueError: if the stream of a key has fewer.
    """
    blocks = -(-count // 16)
    if blocks > _MOST_BLOCKS:
        raise ValueError(f"a stream has {16 * _MOST_BLOCKS} numbers; {count} are asked for")
    counter = lax.iota(jnp.uint32, blocks) + jnp.uint32(first)

    def everywhere(word: Array) -> Array:
        return jnp.full((blocks,), word, jnp.uint32)

    constants = jnp.stack([everywhere(jnp.uint32(word)) for word in _CONSTANTS])
    keys = [jnp.stack([everywhere(key[i]) for i in part]) for part in (range(4), range(4, 8))]
    last = jnp.stack([counter, *(everywhere(jnp.uint32(word)) for word in nonce)])
    start = (constants, *keys, last)

    def two_rounds(_: Any, state: tuple[Array, ...]) -> tuple[Array, ...]:
        a, b, c, d = _quarter_rounds(*state)
        b, c, d = (_rolled(row, by) for row, by in ((b, 1), (c, 2), (d, 3)))
        a, b, c, d = _quarter_rounds(a, b, c, d)
        return a, _rolled(b, 3), _rolled(c, 2), _rolled(d, 1)

    state = lax.fori_loop(0, 10, two_rounds, start)
    whole = jnp.concatenate([row + begun for row, begun in zip(state, start, strict=True)])
    return whole.T.reshape(-1)[:count]


def normals(key: Array, shape: tuple[int, ...], first: int = 0) -> Array:
    """Independent standard normal numbers, float64, of the stream of a key (Box and Muller 1958).

    They reach 9.4 standard deviations; of `jax.random.normal` in float32 none is beyond 5.42.

    Args:
        key: uint32 [8].
        shape: of the result.
        first: how many numbers of the stream have been used before, a multiple of 4.
    """
    number = math.prod(shape)
    pairs = -(-number // 2)
    block, rest = divmod(2 * first, 16)
    drawn = words(key, 4 * pairs + rest, first=block)[rest:].reshape(pairs, 4).astype(jnp.uint64)
    radius, turn = (drawn[:, i] << np.uint64(32) | drawn[:, i + 1] for i in (0, 2))
    # Numbers of an operation are kept, so that no compiler joins a product and a sum, which would change a bit.
    length = jnp.sqrt(-2.0 * jnp.log((radius.astype(jnp.float64) + 0.5) * 2.0**-64))
    angle = lax.optimization_barrier((turn >> np.uint64(11)).astype(jnp.float64) * (2 * math.pi * 2.0**-53))
    sides = lax.optimization_barrier((length, jnp.cos(angle), jnp.sin(angle)))
    both = jnp.stack([sides[0] * sides[1], sides[0] * sides[2]], axis=1)
    return lax.optimization_barrier(both.reshape(-1)[:number]).reshape(shape)


def _quarter_rounds(a: Array, b: Array, c: Array, d: Array) -> tuple[Array, Array, Array, Array]:
    a = a + b
    d = _rotated(d ^ a, 16)
    c = c + d
    b = _rotated(b ^ c, 12)
    a = a + b
    d = _rotated(d ^ a, 8)
    c = c + d
    b = _rotated(b ^ c, 7)
    return a, b, c, d


def _rotated(word: Array, bits: int) -> Array:
    return word << np.uint32(bits) | word >> np.uint32(32 - bits)


def _rolled(row: Array, by: int) -> Array:
    return jnp.concatenate([row[by:], row[:by]])
