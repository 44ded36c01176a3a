"""The exact sum of floats of usual sizes, at the cost of two additions in float64.

An addend is split at fixed powers of two (`Split`), and each part is added to a float64 of its own. As long as that
float64 holds the sum of all parts without rounding, which it does for 53 bits, neither order nor grouping changes
anything, as with integers. Whether it does is known afterwards, from which exponents the addends had, how many there
were and how large their weights: `lost` says if any bit may have been lost. It is never too hopeful. If it says so, the
sum must be made again in the `wide` form.

The idea of splitting at fixed places is Demmel's and Nguyen's ("Parallel Reproducible Summation", 2015), who choose the
places by the largest addend.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from hansa.compiler.sums import wide
from hansa.compiler.sums.weights import Weights, products

_MANTISSA = 53
"""Bits of a float64."""


class Split(NamedTuple):
    """How addends are split.

    Attributes:
        places: each part but the last is a multiple of 2**place.
        bits: of an addend's mantissa.
    """

    places: tuple[int, ...]
    bits: int


NARROW = Split((-20,), 24)
"""For float32 and what is narrower: magnitudes that sum to less than 2**31, of numbers above about 2**-37."""

DEEP = Split((-20, -58), 24)
"""For the same, of up to 2**16 numbers above about 2**-79: differences of what is nearly equal are so small."""

DOUBLE = Split((-20, -58), 53)
"""For float64."""


_SMALL = 64
"""Elements; the parts of so few are in one array, which XLA adds to in one loop. For large ones that loop is slow."""


class Bins(NamedTuple):
    """A sum for each element of an array.

    Attributes:
        parts: float64 […] for each part of a split; of small arrays one array [parts, …].
        seen: which exponents the addends had, before they were weighted, uint32 […]: bit k for eight of them.
    """

    parts: Any
    seen: Any


MERGE = Bins("sum", "or")
"""How the sums of two groups of addends become those of all: an operation for each part."""


def zero(shape: tuple[int, ...], split: Split) -> Bins:
    """The sums of nothing."""
    count = len(split.places) + 1
    if math.prod(shape) <= _SMALL:
        return Bins(jnp.zeros((count, *shape), np.float64), jnp.zeros(shape, np.uint32))
    return Bins(tuple(jnp.zeros(shape, np.float64) for _ in range(count)), jnp.zeros(shape, np.uint32))


def add(total: Bins, value: Any, weight: Any | None, split: Split) -> Bins:
    """The sums with an array of addends, each times a weight."""
    parts: list[Any] = [np.float64(0)] * (len(split.places) + 1)
    for rest in products(value, weight, usual=True):
        for i, place in enumerate(split.places):
            # To add and subtract this constant leaves a multiple of 2**place. XLA would take the two for nothing.
            constant = lax.optimization_barrier(np.float64(1.5 * 2.0 ** (_MANTISSA - 1 + place)))
            rounded = lax.sub(lax.add(rest, constant), constant)
            parts[i] = lax.add(parts[i], rounded)
            rest = lax.sub(rest, rounded)
        parts[-1] = lax.add(parts[-1], rest)
    seen = lax.bitwise_or(total.seen, _exponents(value))
    if isinstance(total.parts, tuple):
        return Bins(tuple(map(lax.add, total.parts, parts)), seen)
    return Bins(lax.add(total.parts, lax.concatenate([lax.expand_dims(part, [0]) for part in parts], 0)), seen)


def _exponents(value: Any) -> Any:
    """A bit for the exponent of each number, of which there are 32 by eights; none for zero."""
    bits = lax.bitcast_convert_type(lax.convert_element_type(value, np.float32), np.uint32)
    eights = lax.bitwise_and(lax.shift_right_logical(bits, np.uint32(26)), np.uint32(31))
    seen = lax.shift_left(lax.full_like(eights, 1), eights)
    return lax.select(lax.eq(value, lax.full_like(value, 0)), lax.full_like(seen, 0), seen)


def exponents(totals: Sequence[Bins]) -> Any:
    """Those that any addend of these sums had, as in `Bins.seen`: a scalar."""
    each = [lax.reduce_or(total.seen, tuple(range(total.seen.ndim))) for total in totals]
    return functools.reduce(lax.bitwise_or, each)


def lost(seen: Any, weights: Weights, split: Split) -> Any:
    """Whether a sum may not be exact.

    Args:
        seen: the `exponents` of all its addends.
        weights: what is known of their weights.
        split: how they were split.
    """
    places = np.int32(split.places[0]), np.int32(split.places[-1])
    return _lost(seen, weights.lowest, weights.sizes, places, np.int32(split.bits))


@jax.jit
def _lost(seen: Any, unit_of_weights: Any, sizes: Any, places: tuple[Any, Any], bits: Any) -> Any:
    """`lost`, traced once for all sums of a program. A split at one place has it twice."""
    one = np.int32(1)
    highest = lax.sub(np.int32(31), lax.convert_element_type(lax.clz(seen), np.int32))
    zeros = lax.population_count(lax.bitwise_xor(seen, lax.sub(seen, np.uint32(1))))
    lowest = lax.sub(lax.convert_element_type(zeros, np.int32), one)
    # Of a float64 these are the exponents of the float32 nearest to it, which may be one too large.
    bias = lax.select(lax.eq(bits, np.int32(24)), np.int32(127), np.int32(128))
    least = lax.sub(lax.mul(np.int32(8), lowest), bias)
    # The addends are multiples of 2**unit.
    unit = lax.add(lax.sub(least, lax.sub(bits, one)), unit_of_weights)
    count, absolute = lax.index_in_dim(sizes, 0, keepdims=False), lax.index_in_dim(sizes, 1, keepdims=False)
    upper = lax.sub(lax.mul(np.int32(8), lax.add(highest, one)), np.int32(127))
    first, last = places
    kept = lax.lt(lax.mul(absolute, wide.power(upper)), wide.power(lax.add(first, np.int32(_MANTISSA - 2))))
    for above, below in ((first, lax.select(lax.eq(first, last), unit, last)), (last, unit)):
        # Each part is at most half of the place above it.
        half = lax.sub(above, np.int32(1 + _MANTISSA))
        digits = lax.sub(half, lax.clamp(np.int32(-500), below, np.int32(500)))
        kept = lax.bitwise_and(kept, lax.le(lax.mul(count, wide.power(digits)), np.float64(1)))
    for usual in (lax.lt(highest, np.int32(31)), lax.gt(lowest, np.int32(0))):  # finite, and normal
        kept = lax.bitwise_and(kept, usual)
    return lax.bitwise_and(lax.ne(seen, np.uint32(0)), lax.bitwise_not(kept))


def rounded(total: Bins) -> Any:
    """Each sum as the float64 nearest to it, the even one of two, if nothing was lost."""
    if len(total.parts) == 2:
        return lax.add(total.parts[0], total.parts[1])
    first, second, third = total.parts
    second, third = _both(second, third)
    first, second = _both(first, second)
    second, third = _both(second, third)
    # To odd what is added last: then the sum is rounded as if all of it were there (Boldo and Melquiond, 2008).
    bits, zero = lax.bitcast_convert_type(second, np.int64), np.float64(0)
    outwards = lax.eq(lax.gt(third, zero), lax.gt(second, zero))
    step = lax.select(outwards, lax.full_like(bits, 1), lax.full_like(bits, -1))
    even = lax.eq(lax.bitwise_and(bits, np.int64(1)), np.int64(0))
    odd = lax.bitcast_convert_type(lax.add(bits, step), np.float64)
    return lax.add(first, lax.select(lax.bitwise_and(lax.ne(third, zero), even), odd, second))


def _both(a: Any, b: Any) -> tuple[Any, Any]:
    """The sum of two float64s, and what its rounding has taken from it (Knuth's two-sum)."""
    total = lax.add(a, b)
    part = lax.sub(total, a)
    return total, lax.add(lax.sub(a, lax.sub(total, part)), lax.sub(b, part))
