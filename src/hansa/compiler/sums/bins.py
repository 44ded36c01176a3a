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

DOUBLE = Split((-20, -58), 53)
"""For float64."""


class Bins(NamedTuple):
    """A sum for each element of an array.

    Attributes:
        parts: float64 […] for each part of a split.
        seen: which exponents the addends had, before they were weighted, uint32 […]: bit k for eight of them.
    """

    parts: tuple[Any, ...]
    seen: Any


def merge_of(split: Split) -> Bins:
    """How the sums of two groups of addends become those of all: an operation for each array."""
    return Bins(("sum",) * (len(split.places) + 1), "or")


def zero(shape: tuple[int, ...], split: Split) -> Bins:
    """The sums of nothing."""
    parts = tuple(jnp.zeros(shape, np.float64) for _ in range(len(split.places) + 1))
    return Bins(parts, jnp.zeros(shape, np.uint32))


def add(total: Bins, value: Any, weight: Any | None, split: Split) -> Bins:
    """The sums with an array of addends, each times a weight."""
    parts = list(total.parts)
    for rest in products(value, weight, usual=True):
        for i, place in enumerate(split.places):
            # To add and subtract this constant leaves a multiple of 2**place. XLA would take the two for nothing.
            constant = lax.optimization_barrier(jnp.float64(1.5 * 2.0 ** (_MANTISSA - 1 + place)))
            rounded = (rest + constant) - constant
            parts[i] = parts[i] + rounded
            rest = rest - rounded
        parts[-1] = parts[-1] + rest
    return Bins(tuple(parts), total.seen | _exponents(value))


def _exponents(value: Any) -> Any:
    """A bit for the exponent of each number, of which there are 32 by eights; none for zero."""
    single = value.astype(np.float32)
    exponent = (lax.bitcast_convert_type(single, np.uint32) >> np.uint32(23)) & np.uint32(255)
    return jnp.where(value == 0, np.uint32(0), np.uint32(1) << (exponent >> np.uint32(3)))


def lost(total: Bins, weights: Weights, split: Split) -> Any:
    """Whether a sum may not be exact."""
    seen = lax.reduce_or(total.seen, tuple(range(total.seen.ndim)))
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


def rounded(total: Bins, split: Split) -> Any:
    """Each sum as the float64 nearest to it, the even one of two, if nothing was lost."""
    if len(total.parts) == 2:
        return total.parts[0] + total.parts[1]
    limits = wide.Range.of(-180, 64)
    whole = wide.zero(total.seen.shape, limits)
    for part in total.parts:
        whole = wide.add(whole, part, limits)
    return wide.rounded(whole, limits)
