"""Weights of a sum's addends: exact products with them, and what to know of them all to trust the sum of these."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax

_FAR = 5000
"""Beyond all exponents."""

BITS = 26
"""Bits of a usual weight: float64 holds its product with a float32, and with half of a float64's mantissa."""


class Weights(NamedTuple):
    """Of all addends' weights together.

    Attributes:
        sizes: float64 [2]: how many there are, and the sum of their magnitudes. These bound something, so that their
            own rounding does not matter.
        unit: they are multiples of 2**unit, int32; it is below all exponents if one is not usual, or not finite. None
            for integers.
    """

    sizes: Any
    unit: Any

    @property
    def lowest(self) -> Any:
        """They are multiples of two to this power; it is below all exponents if there is no such thing."""
        if self.unit is not None:
            return self.unit
        small = lax.lt(lax.index_in_dim(self.sizes, 1, keepdims=False), np.float64(2.0**BITS))
        return lax.select(small, np.int32(0), np.int32(-_FAR))


def merge_of(integers: bool) -> Weights:
    """How those of two groups of addends become those of all: an operation for each."""
    return Weights("sum", None if integers else "min")


def none_yet(integers: bool) -> Weights:
    """Those of no addend."""
    return Weights(jnp.zeros(2, np.float64), None if integers else jnp.int32(_FAR))


def known(before: Weights, weight: Any | None) -> Weights:
    """Those of one addend more, whose weight is a float64, or 1."""
    if weight is None:
        return Weights(lax.add(before.sizes, np.float64(1)), before.unit)
    sizes = lax.add(before.sizes, _pair(np.float64(1), lax.abs(weight)))
    if before.unit is None:
        return Weights(sizes, None)
    bits = lax.bitcast_convert_type(weight, np.uint64)
    exponent = ((bits >> np.uint64(52)) & np.uint64(2047)).astype(np.int32)
    mantissa = bits & np.uint64(2**52 - 1) | np.uint64(2**52)
    zeros = lax.population_count(mantissa ^ (mantissa - np.uint64(1))).astype(np.int32) - np.int32(1)
    usual = (exponent > 0) & (exponent < 2047) & (zeros >= np.int32(53 - BITS))
    unit = jnp.where(usual, exponent - np.int32(1075) + zeros, np.int32(-_FAR))
    unit = jnp.where(weight == 0, np.int32(_FAR), unit)
    return Weights(sizes, jnp.minimum(before.unit, unit))


def alone(known: Weights) -> Weights:
    """Those of as many addends that all have the weight 1."""
    count = lax.index_in_dim(known.sizes, 0, keepdims=False)
    return Weights(_pair(count, count), None)


def _pair(one: Any, other: Any) -> Any:
    return lax.concatenate([lax.reshape(one, [1]), lax.reshape(other, [1])], 0)


def products(value: Any, weight: Any | None, usual: bool) -> list[Any]:
    """Arrays of float64 whose sum is the value times the weight, without rounding where that is finite.

    Args:
        value: floats of any dtype.
        weight: a float64 scalar, or None for 1.
        usual: whether the weight has at most `BITS` bits, or it does not matter what comes of one that has more.
    """
    plain = value.astype(np.float64)
    if weight is None:
        return [plain]
    double = value.dtype == np.float64
    values = _parts(plain, (26, 27)) if double else [plain]
    if usual:
        return [part * weight for part in values]
    product = plain * weight
    finite = jnp.isfinite(product)
    weights = _parts(weight, (18, 18, 17) if double else (26, 27))
    exact = [jnp.where(finite, w * x, 0.0) for w in weights for x in values]
    return [jnp.where(finite, exact[0], product), *exact[1:]]


def _parts(value: Any, bits: tuple[int, ...]) -> list[Any]:
    """A finite float64 as a sum: of the first bits of its mantissa, the next ones and so on, 53 in all."""
    pattern, before, found = lax.bitcast_convert_type(value, np.uint64), jnp.zeros_like(value), []
    for count in np.cumsum(bits[:-1]):
        head = lax.bitcast_convert_type(pattern & np.uint64(2**64 - 2 ** (53 - int(count))), np.float64)
        found.append(head - before)
        before = head
    return [*found, value - before]
