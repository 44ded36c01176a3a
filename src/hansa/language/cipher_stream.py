"""Random bits of a cipher stream, in JAX: of the same key, the same bits.

The cipher is ChaCha20 (RFC 8439, section 2.3), of a key of 256 bits, with a counter of 32 bits and a nonce of zeros: a
key is for one stream only. What JAX itself draws is of a key of 64 bits, too short for secrets.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import jax.numpy as jnp
import numpy as np
from jax import lax

Array: TypeAlias = Any

_CONSTANTS = np.frombuffer(b"expand 32-byte k", "<u4")
_MOST_BLOCKS = 2**32


def words(key: Array, count: int, nonce: Sequence[int] = (0, 0, 0), first: Any = 0) -> Array:
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
    return jnp.stack(blocks(key, -(-count // 16), nonce, first), axis=1).reshape(-1)[:count]


def blocks(key: Array, count: int, nonce: Sequence[int] = (0, 0, 0), first: Any = 0) -> list[Array]:
    """Blocks of the stream of a key: the first number of each, the second, and so on, 16 times uint32 [count].

    Args:
        key, nonce, first: as of `words`.
        count: how many blocks.

    Raises:
        ValueError: if the stream of a key has fewer.
    """
    if count > _MOST_BLOCKS:
        raise ValueError(f"a stream has {_MOST_BLOCKS} blocks of 16 numbers; {count} are asked for")
    counter = lax.iota(jnp.uint32, count) + jnp.asarray(first).astype(jnp.uint32)
    given = [*(jnp.uint32(word) for word in _CONSTANTS), *(key[i] for i in range(8)), counter, *nonce]
    start = tuple(jnp.broadcast_to(jnp.asarray(word).astype(jnp.uint32), (count,)) for word in given)
    state = lax.fori_loop(0, 10, _two_rounds, start)
    return [row + begun for row, begun in zip(state, start, strict=True)]


def _two_rounds(_: Any, state: tuple[Array, ...]) -> tuple[Array, ...]:
    """A round of the columns, and one of the diagonals."""
    after = list(state)
    for shift in (0, 1):
        for i in range(4):
            at = [4 * row + (i + shift * row) % 4 for row in range(4)]
            made = _quarter_round(*(after[place] for place in at))
            for place, word in zip(at, made, strict=True):
                after[place] = word
    return tuple(after)


def _quarter_round(a: Array, b: Array, c: Array, d: Array) -> tuple[Array, Array, Array, Array]:
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
