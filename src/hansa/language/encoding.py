"""Clipped vectors as integers, so that the sensitivity of their sum is exact, and its bits are the same in any order.

A value of norm at most `bound` becomes integers of norm at most `STEPS`, which is checked in integers. Noise is a
Gaussian rounded to integers: as the sum is an integer, that is the Gaussian mechanism with its result rounded, and no
float's low bits say anything (Mironov 2012, "On significance of the least significant bits").
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax.numpy as jnp
import numpy as np
from jax import lax

from hansa.language.box_muller import guard_of, pairs
from hansa.language.cipher_stream import blocks
from hansa.language.mechanism import STEPS

Array: TypeAlias = Any

_PER_BLOCK = 8
"""Normal numbers of a block of a stream."""
_BLOCKS = 2048
"""Blocks of a stream that are drawn at once."""


def encode(leaves: Sequence[Array], bound: Array) -> list[Array]:
    """Float tensors as int64 tensors of the same shapes, whose norm, all together, is at most `STEPS`.

    Nothing is added up in floats, so the bits depend on no order of summation, and no compiler: the norm is that of the
    vector on a grid of a power of two, in whole numbers whose sums float64 holds. Rounding is towards zero, which
    makes no norm larger. A number is at most two steps from what it should be, and in a vector of 10**5 numbers that is
    shortened, five millionths of itself more. Where a number is not finite, or the bound is not above zero, all of them
    are zero.

    Args:
        leaves: the tensors.
        bound: a scalar, float64.
    """
    number = max(1, sum(math.prod(leaf.shape) for leaf in leaves))
    largest = jnp.zeros((), jnp.float64)
    for leaf in leaves:
        # NaN stays NaN. In float64, as all that follows, so that there is one array for all of it.
        largest = jnp.maximum(largest, jnp.max(jnp.abs(leaf.astype(jnp.float64)), initial=0.0))
    valid = jnp.isfinite(largest) & jnp.isfinite(bound) & (bound > 0)
    # On this grid, and within the bound, squares add up to less than 2^53: exactly, in any order.
    bits = min(20, (52 - math.ceil(math.log2(number))) // 2)
    _, exponent = jnp.frexp(jnp.where(valid & (largest > 0), largest, 1.0))
    exponent = jnp.maximum(exponent, -1000)
    squares = _squares(_times(leaves, jnp.ldexp(jnp.ones((), jnp.float64), bits - exponent), jnp.rint))
    norm = jnp.sqrt(squares) * jnp.ldexp(jnp.ones((), jnp.float64), exponent - bits)
    first = _times(leaves, STEPS / jnp.maximum(norm, jnp.where(valid, bound, 1.0)), jnp.trunc)
    found = _squares(first)
    # The grid may have made the norm a little too small.
    smaller = (1 - 2.0**-40) * STEPS / jnp.sqrt(jnp.maximum(found, 1.0))
    second = _times(first, jnp.where(found <= STEPS**2, 1.0, smaller), jnp.trunc)

    def is_within() -> Array:
        # Computed anew, of `first`, so that there is no array of `second` where this is not asked.
        return _squares(_times(first, smaller, jnp.trunc)) <= STEPS**2

    within = lax.cond(found <= STEPS**2, lambda: jnp.bool_(True), is_within)
    return [_integers(jnp.where(valid & within, leaf, 0.0)) for leaf in second]


def decode(total: Array) -> Array:
    """A sum modulo 2^32 or 2^64, uint32 or uint64, as the integer with a sign that it is nearest to zero: int64."""
    return total.astype(jnp.dtype(f"int{8 * total.dtype.itemsize}")).astype(jnp.int64)


def rounded_gaussian(keys: Array, weights: Sequence[float], number: int) -> Array:
    """Integer noise: what `weights` make of the draws of these keys, times `STEPS`, rounded; int64 [number].

    A draw is that of independent standard normal numbers, two of four words of the key's stream. Of the blocks that are
    drawn at once, the first of all pairs come first: which number is where depends on how many there are.

    Args:
        keys: uint32 [terms, 8]; of zeros where nothing is drawn.
        weights: one for each key.
        number: how many numbers.
    """
    keys, scales = jnp.asarray(keys), np.array(weights, np.float64) * STEPS
    drawn = jnp.where(jnp.any(keys != 0, axis=1), scales, 0.0)  # before the first round nothing was
    guard = guard_of(keys[0, 0])
    size = min(_BLOCKS, -(-number // _PER_BLOCK))

    def part(first: Any) -> Array:
        """The numbers of some blocks of the streams, [_PER_BLOCK * size]: few at once, which stay near a processor."""

        def added(i: Any, total: tuple[Array, Array]) -> tuple[Array, Array]:
            words = blocks(keys[i], size, first=first)
            of_four = jnp.stack(words).reshape(4, 4, size)  # pairs, and the words of each
            ones, others = pairs((of_four[:, 0], of_four[:, 1], of_four[:, 2], of_four[:, 3]), guard)
            return total[0] + guard(ones * drawn[i]), total[1] + guard(others * drawn[i])

        zeros = jnp.zeros((4, size), jnp.float64)
        total = lax.fori_loop(0, len(weights), added, (zeros, zeros)) if len(weights) > 1 else added(0, (zeros, zeros))
        total = lax.optimization_barrier(total)  # so that it is computed once
        return jnp.rint(jnp.stack(total)).astype(jnp.int64).reshape(-1)

    if number <= _PER_BLOCK * size:
        return part(0)[:number]
    firsts = jnp.arange(-(-number // (_PER_BLOCK * size)), dtype=jnp.uint32) * np.uint32(size)
    return lax.map(part, firsts).reshape(-1)[:number]


def _times(leaves: Sequence[Array], factor: Array, rounded: Callable[[Array], Array]) -> list[Array]:
    """The numbers times a factor, rounded to whole ones, float64."""
    return [rounded(leaf.astype(jnp.float64) * factor) for leaf in leaves]


def _integers(whole: Array) -> Array:
    """Whole numbers of less than 2**51, float64, as int64: the low bits of what they are beside 1.5 * 2**52."""
    beside = np.float64(1.5 * 2.0**52)
    return lax.bitcast_convert_type(whole + beside, jnp.int64) - beside.view(np.int64)


def _squares(leaves: Sequence[Array]) -> Array:
    """The sum of the squares of whole numbers: exact, as it is less than 2^53."""
    total = jnp.zeros((), jnp.float64)
    for leaf in leaves:
        flat = leaf.reshape(-1)
        total = total + lax.dot_general(flat, flat, (((0,), (0,)), ((), ())), precision=lax.Precision.HIGHEST)
    return total
