"""Normal numbers of random bits (Box and Muller 1958), in float64, by arithmetic whose bits no compiler changes.

Only sums, products, quotients and square roots are taken, which IEEE 754 rounds in one way. A product that is added to
something would still be joined with the sum by some compilers, and by others not: such products are guarded. So noise
has the same bits on any processor, in any program; and it is quick, as libraries' logarithms and sines are called for
one number after another.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import jax.numpy as jnp
import numpy as np
from jax import lax

Array: TypeAlias = Any
Guard: TypeAlias = Callable[[Array], Array]

_HALF_ROOT = np.float64(math.sqrt(0.5)).view(np.int64)
_MANTISSA = np.int64((1 << 52) - 1)
_LN2_HIGH = math.floor(math.log(2) * 2**32) / 2**32  # so that its products with exponents are exact
_LOGARITHM = [1 / (2 * k + 1) for k in range(1, 11)]
_SINE = [(-1) ** k / math.factorial(2 * k + 1) for k in range(1, 9)]


def guard_of(bits: Array) -> Guard:
    """What keeps products from being joined with sums.

    Their bits are combined with zeros of which no compiler knows that they are: the square of an odd number is one more
    than a multiple of eight, so no square has both its lowest bit and its third one.

    Args:
        bits: any number, uint32.
    """
    square = bits * bits
    zero = (square >> np.uint32(2) & square & np.uint32(1)).astype(jnp.int64)

    def guard(product: Array) -> Array:
        found = lax.bitcast_convert_type(product, jnp.int64) ^ zero
        return lax.bitcast_convert_type(found, jnp.float64)

    return guard


def pairs(words: tuple[Array, Array, Array, Array], guard: Guard) -> tuple[Array, Array]:
    """Two independent standard normal numbers of four random words; they reach 9.4 standard deviations.

    Args:
        words: uint32, of one shape.
        guard: of `guard_of`.
    """
    radius, turn = (words[i].astype(jnp.uint64) << np.uint64(32) | words[i + 1] for i in (0, 2))
    length = jnp.sqrt(-2.0 * _logarithm((radius.astype(jnp.float64) + 0.5) * 2.0**-64, guard))
    # Of the turn 52 bits are an angle within a quarter, from -pi / 4 to pi / 4, and two say which quarter.
    within = (turn >> np.uint64(12)).astype(jnp.float64) - (2.0**51 - 0.5)
    sine = _sine(guard(within * (math.pi / 2 * 2.0**-52)), guard)
    cosine = jnp.sqrt(1.0 - guard(sine * sine))
    is_odd, is_back = (turn & np.uint64(1)) != 0, (turn & np.uint64(2)) != 0
    sign = jnp.where(is_back, -1.0, 1.0)
    first, second = jnp.where(is_odd, -sine, cosine), jnp.where(is_odd, cosine, sine)
    return length * (sign * first), length * (sign * second)


def _logarithm(x: Array, guard: Guard) -> Array:
    """The natural logarithm of normal positive numbers, by the series of the inverse hyperbolic tangent."""
    bits = lax.bitcast_convert_type(x, jnp.int64) - _HALF_ROOT
    exponent = (bits >> np.int64(52)).astype(jnp.float64)
    away = lax.bitcast_convert_type((bits & _MANTISSA) + _HALF_ROOT, jnp.float64) - 1.0
    ratio = away / (2.0 + away)
    square = ratio * ratio
    rest = ratio * (square * _polynomial(square, _LOGARITHM, guard))
    small = guard(2.0 * rest) + guard(exponent * (math.log(2) - _LN2_HIGH))
    return exponent * _LN2_HIGH + (guard(2.0 * ratio) + small)


def _sine(x: Array, guard: Guard) -> Array:
    """The sine of numbers from -pi / 4 to pi / 4, by its series."""
    square = x * x
    return x + guard(x * (square * _polynomial(square, _SINE, guard)))


def _polynomial(x: Array, coefficients: list[float], guard: Guard) -> Array:
    found: Array = coefficients[-1]
    for coefficient in reversed(coefficients[:-1]):
        found = guard(found * x) + coefficient
    return found
