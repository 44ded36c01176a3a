"""The exact sum of any floats: an integer of many words, as wide as the range of the exponents.

A sum is the integer `sum(words[k] * 2**(32 * k))` times `2**lowest`. An addend is a float64, `m * 2**e` with an integer
m of 53 bits, and so touches three words. Integers are added, so neither order nor grouping changes a bit. A word takes
2**29 addends before it is full. (Kulisch, Computer Arithmetic and Validity, 2008: a complete register.) Three words
more count the addends that are not finite.

Sums are int64 arrays [words + 3, …]; two of them are merged by adding them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

_BITS = 32
"""Bits of the sum in a word; those above hold what many addends carry."""

_DIGIT = 2**_BITS - 1

_SMALLEST = -1074
"""The exponent of the smallest float64."""


class Range(NamedTuple):
    """Which addends a sum takes.

    Attributes:
        lowest: they are multiples of 2**lowest; what is finer is cut off, towards zero.
        words: how many words a sum has.
    """

    lowest: int
    words: int

    @staticmethod
    def of(lowest: int, highest: int) -> Range:
        """For addends from 2**lowest to 2**highest."""
        return Range(lowest, -(-(highest - lowest + 30) // _BITS))


ANY = Range.of(_SMALLEST, 1024)
"""All float64s."""

SINGLE = Range.of(-149, 128)
"""All float32s, and what is narrower."""

PRODUCT = Range.of(-149 - 149, 128 + 128)
"""All products of two float32s."""


def zero(shape: tuple[int, ...], limits: Range) -> Any:
    """The sums of nothing, for each element of an array."""
    return jnp.zeros((limits.words + 3, *shape), np.int64)


def add(total: Any, addend: Any, limits: Range) -> Any:
    """The sums with an array of float64s."""
    finite = jnp.isfinite(addend)
    bits = lax.bitcast_convert_type(addend, np.uint64)
    exponent = ((bits >> np.uint64(52)) & np.uint64(2047)).astype(np.int32)
    fraction = bits & np.uint64(2**52 - 1)
    mantissa = jnp.where(exponent > 0, fraction | np.uint64(2**52), fraction)
    place = jnp.maximum(exponent, 1) + np.int32(_SMALLEST - 1 - limits.lowest)  # of its last bit, in the sum
    mantissa = jnp.where(finite, mantissa >> jnp.clip(-place, 0, 63).astype(np.uint64), np.uint64(0))
    place = jnp.maximum(place, 0)
    first, shift = place // np.int32(_BITS), (place % np.int32(_BITS)).astype(np.uint64)
    lower, upper = (mantissa & np.uint64(_DIGIT)) << shift, (mantissa >> np.uint64(_BITS)) << shift
    digits = (
        lower & np.uint64(_DIGIT),
        (lower >> np.uint64(_BITS)) + (upper & np.uint64(_DIGIT)),
        upper >> np.uint64(_BITS),
    )
    sign = jnp.where(bits >> np.uint64(63) == 0, np.int64(1), np.int64(-1))
    index = lax.broadcasted_iota(np.int32, total.shape, 0)
    for i, digit in enumerate(digits):
        total = total + jnp.where(index == first + np.int32(i), sign * digit.astype(np.int64), np.int64(0))
    special = np.int32(limits.words) + jnp.where(jnp.isnan(addend), np.int32(2), (sign < 0).astype(np.int32))
    return total + (~finite & (index == special)).astype(np.int64)


def rounded(total: Any, limits: Range) -> Any:
    """Each sum as the float64 nearest to it, the even one of two; NaN or infinite where the addends' sum is."""
    digits = _carried(total[: limits.words])
    negative = digits[-1] < 0
    digits = jnp.where(negative, _negated(digits), digits)
    index = lax.broadcasted_iota(np.int32, digits.shape, 0)
    used = digits != 0
    top = jnp.max(jnp.where(used, index, np.int32(0)), axis=0)

    def digit(below: int) -> Any:
        return jnp.sum(jnp.where(index == top - np.int32(below), digits, np.int64(0)), axis=0).astype(np.uint64)

    # 64 bits from the first that is set on, of which the last says as well whether any is set further down.
    first, second, third = digit(0), digit(1), digit(2)
    shift = jnp.minimum(lax.clz(first) - np.uint64(_BITS), np.uint64(_BITS - 1))
    rest = third << shift
    head = (first << np.uint64(_BITS) | second) << shift | rest >> np.uint64(_BITS)
    further = (rest & np.uint64(_DIGIT) != 0) | jnp.any(used & (index < top - np.int32(2)), axis=0)
    head = head >> np.uint64(1) | (head & np.uint64(1)) | further.astype(np.uint64)
    exponent = np.int32(_BITS) * (top - np.int32(1)) - shift.astype(np.int32) + np.int32(limits.lowest + 1)
    magnitude = _scaled(head.astype(np.int64).astype(np.float64), exponent)
    upwards, downwards, nowhere = total[limits.words :] > 0
    special = jnp.where(nowhere | (upwards & downwards), np.nan, jnp.where(downwards, -np.inf, np.inf))
    return jnp.where(upwards | downwards | nowhere, special, jnp.where(negative, -magnitude, magnitude))


def _carried(words: Any) -> Any:
    """The same numbers with digits from 0 to 2**32 - 1 in all words but the last, which has the sign."""

    def step(carry: Any, word: Any) -> tuple[Any, Any]:
        word = word + carry
        return word >> np.int64(_BITS), word & np.int64(_DIGIT)

    carry, digits = jax.lax.scan(step, jnp.zeros_like(words[0]), words[:-1], unroll=8)
    return jnp.concatenate([digits, (words[-1] + carry)[None]])


def _negated(digits: Any) -> Any:
    """The digits of the negative numbers: complements above the last that is not zero, and one more at that."""
    index = lax.broadcasted_iota(np.int32, digits.shape, 0)
    last = jnp.min(jnp.where(digits != 0, index, np.int32(digits.shape[0])), axis=0)
    all_ones = jnp.where(index == digits.shape[0] - 1, np.int64(-1), np.int64(_DIGIT))
    return jnp.where(index > last, all_ones - digits, jnp.where(index == last, all_ones + np.int64(1) - digits, 0))


def _scaled(value: Any, exponent: Any) -> Any:
    """value * 2**exponent, as two powers that float64 has, so that only the result may be beyond its range."""
    half = exponent // np.int32(2)
    return value * power(half) * power(exponent - half)


def power(exponent: Any) -> Any:
    """2**exponent as float64, for exponents from -1022 to 1023."""
    biased = lax.add(lax.convert_element_type(exponent, np.int64), np.int64(1023))
    return lax.bitcast_convert_type(lax.shift_left(biased, np.int64(52)), np.float64)
