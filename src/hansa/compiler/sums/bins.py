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
    parts: list[Any] = [0.0] * (len(split.places) + 1)
    for rest in products(value, weight, usual=True):
        for i, place in enumerate(split.places):
            # To add and subtract this constant leaves a multiple of 2**place. XLA would take the two for nothing.
            constant = lax.optimization_barrier(jnp.float64(1.5 * 2.0 ** (_MANTISSA - 1 + place)))
            rounded = (rest + constant) - constant
            parts[i] = parts[i] + rounded
            rest = rest - rounded
        parts[-1] = parts[-1] + rest
    seen = total.seen | _exponents(value)
    if isinstance(total.parts, tuple):
        return Bins(tuple(before + part for before, part in zip(total.parts, parts, strict=True)), seen)
    return Bins(total.parts + jnp.stack(parts), seen)


def _exponents(value: Any) -> Any:
    """A bit for the exponent of each number, of which there are 32 by eights; none for zero."""
    single = value.astype(np.float32)
    exponent = (lax.bitcast_convert_type(single, np.uint32) >> np.uint32(23)) & np.uint32(255)
    return jnp.where(value == 0, np.uint32(0), np.uint32(1) << (exponent >> np.uint32(3)))


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
    highest = np.int32(31) - lax.clz(seen).astype(np.int32)
    lowest = lax.population_count(seen ^ (seen - np.uint32(1))).astype(np.int32) - np.int32(1)
    # Of a float64 these are the exponents of the float32 nearest to it, which may be one too large.
    least = np.int32(8) * lowest - np.int32(127 if split.bits == 24 else 128)
    # The addends are multiples of 2**unit.
    unit = least - np.int32(split.bits - 1) + weights.lowest
    count, absolute = weights.sizes
    largest = absolute * wide.power(np.int32(8) * (highest + np.int32(1)) - np.int32(127))
    fits = largest < 2.0 ** (_MANTISSA - 2 + split.places[0])
    for above, below in zip(split.places, (*split.places[1:], unit), strict=True):
        # Each part is at most half of the place above it.
        fits &= count * wide.power(np.int32(above - 1 - _MANTISSA) - jnp.clip(below, -500, 500)) <= 1.0
    finite, normal = highest < np.int32(31), lowest > np.int32(0)
    return (seen != 0) & ~(fits & finite & normal)


def rounded(total: Bins) -> Any:
    """Each sum as the float64 nearest to it, the even one of two, if nothing was lost."""
    if len(total.parts) == 2:
        return total.parts[0] + total.parts[1]
    first, second, third = total.parts
    second, third = _both(second, third)
    first, second = _both(first, second)
    second, third = _both(second, third)
    # To odd what is added last: then the sum is rounded as if all of it were there (Boldo and Melquiond, 2008).
    bits = lax.bitcast_convert_type(second, np.int64)
    outwards = jnp.where((third > 0) == (second > 0), np.int64(1), np.int64(-1))
    odd = lax.bitcast_convert_type(bits + outwards, np.float64)
    return first + jnp.where((third != 0) & (bits & np.int64(1) == 0), odd, second)


def _both(a: Any, b: Any) -> tuple[Any, Any]:
    """The sum of two float64s, and what its rounding has taken from it (Knuth's two-sum)."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)
