"""Skellam numbers, differences of two Poisson numbers, in JAX: noise whose sums are of the same kind.

Poisson numbers are drawn by transformed rejection (Hörmann 1993, "The transformed rejection method for generating
Poisson random variables", algorithm PTRS), in float64, with bits of a cipher stream. For means of 10**10 its test is
rounded by some 10**-5; a device that is to be trusted draws with exact integers.
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import jax.numpy as jnp
import numpy as np
from jax import lax

from hansa.language.cipher_stream import words

Array: TypeAlias = Any

_LEAST = 10.0
"""The least mean for which the method is."""


def skellam(key: Array, stddev: float, number: int) -> Array:
    """Independent Skellam numbers of mean 0, int64 [number].

    Args:
        key: uint32 [8].
        stddev: their standard deviation.
        number: how many.

    Raises:
        ValueError: if the standard deviation is too small for the method.
    """
    mean = stddev**2 / 2
    if mean < _LEAST:
        raise ValueError(f"noise of a standard deviation of {stddev:g} steps is too small to be drawn as Skellam noise")
    both = _poisson(key, mean, 2 * number)
    return both[:number] - both[number:]


def _poisson(key: Array, mean: float, number: int) -> Array:
    """Poisson numbers, int64 [number]; drawn again, each with further bits of the stream, until all are accepted."""
    root, log = math.sqrt(mean), math.log(mean)
    b = 0.931 + 2.53 * root
    a = -0.059 + 0.02483 * b
    inverse = 1.1239 + 1.1328 / (b - 3.4)
    edge = 0.9277 - 3.6224 / (b - 2)
    blocks = -(-4 * number // 16)

    def step(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        attempt, accepted, found = carry
        drawn = words(key, 4 * number, first=attempt * blocks).reshape(number, 4).astype(jnp.uint64)
        u, v = (_uniform(drawn[:, i] << np.uint64(32) | drawn[:, i + 1]) for i in (0, 2))
        u = u - 0.5
        away = 0.5 - jnp.abs(u)
        candidate = jnp.floor((2 * a / away + b) * u + mean + 0.43)
        inside = (away >= 0.07) & (v <= edge)
        possible = (candidate >= 0) & ~((away < 0.013) & (v > away))
        k = jnp.maximum(candidate, 0)
        left = jnp.log(v) + jnp.log(inverse) - jnp.log(a / (away * away) + b)
        good = inside | (possible & (left <= -mean + k * log - lax.lgamma(k + 1)))
        return attempt + jnp.uint32(1), accepted | good, jnp.where(good & ~accepted, candidate, found)

    start = (jnp.uint32(0), jnp.zeros((number,), bool), jnp.zeros((number,), jnp.float64))
    _, _, found = lax.while_loop(lambda carry: ~jnp.all(carry[1]), step, start)
    return found.astype(jnp.int64)


def _uniform(bits: Array) -> Array:
    """Numbers between 0 and 1, neither of them, float64."""
    return ((bits >> np.uint64(11)).astype(jnp.float64) + 0.5) * 2.0**-53
