"""Sums of many 32-bit numbers that are exact in 64 bits, computed in 32: a state is two words for each number.

Local computations see 32-bit JAX, and a float32 that counts stops at 2**24. So a float is kept as its sum and what
rounding has taken from it (Knuth's two-sum), an integer as the two halves of an int64.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hansa.language.local import tensors, unflatten
from hansa.types import Struct, TensorType, Type


def zero(kind: Type) -> Struct:
    """The state of no numbers, for contributions of a type."""
    highs: list[Any] = [np.zeros(_shape(leaf), leaf.dtype) for leaf in tensors(kind)]
    lows: list[Any] = [np.zeros(x.shape, x.dtype if x.dtype.kind == "f" else np.uint32) for x in highs]
    return Struct([("high", unflatten(kind, highs)), ("low", unflatten(kind, lows))])


def add(state: Struct, contribution: Any) -> Struct:
    """The state after a contribution of `summable` arrays."""
    highs, tree = jax.tree.flatten(state.high)
    given = zip(highs, jax.tree.leaves(state.low), jax.tree.leaves(contribution), strict=True)
    pairs = [_add_words(high, low, x) for high, low, x in given]
    return Struct(
        [(name, jax.tree.unflatten(tree, [pair[i] for pair in pairs])) for i, name in enumerate(("high", "low"))]
    )


def total(state: Struct) -> Any:
    """The sums, as float64 and int64."""
    with jax.enable_x64(True):
        return jax.tree.map(_join, state.high, state.low)


def summable(leaf: Any) -> Any:
    """A tensor as it is added up: float32 or int32."""
    leaf = jnp.asarray(leaf)
    if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
        raise TypeError(f"sums of metrics are real numbers, found {leaf.dtype.name}; report its real part, or its size")
    return leaf.astype(jnp.float32 if jnp.issubdtype(leaf.dtype, jnp.floating) else jnp.int32)


def narrow(tree: Any) -> Any:
    """64-bit arrays as 32-bit ones, as a user's function of one client's sums expects them."""
    to = {"int64": jnp.int32, "float64": jnp.float32}
    with jax.enable_x64(True):
        return jax.tree.map(lambda leaf: leaf.astype(to.get(leaf.dtype.name, leaf.dtype)), tree)


def wide(tree: Any) -> Any:
    """Floats as float64 and integers as int64, in which sums over many clients stay exact."""
    with jax.enable_x64(True):
        return jax.tree.map(
            lambda leaf: leaf.astype(jnp.float64 if jnp.issubdtype(leaf.dtype, jnp.floating) else jnp.int64), tree
        )


def _shape(leaf: TensorType) -> tuple[int, ...]:
    return tuple(n for n in leaf.shape if n is not None)


def _add_words(high: Any, low: Any, x: Any) -> tuple[Any, Any]:
    if jnp.issubdtype(x.dtype, jnp.floating):
        after = high + x
        taken = after - high
        return after, low + ((high - (after - taken)) + (x - taken))
    after = low + x.astype(jnp.uint32)
    carry = (after < low).astype(jnp.int32)
    return high + carry - (x < 0).astype(jnp.int32), after


def _join(high: Any, low: Any) -> Any:
    if jnp.issubdtype(high.dtype, jnp.floating):
        return high.astype(jnp.float64) + low.astype(jnp.float64)
    return high.astype(jnp.int64) * 2**32 + low.astype(jnp.int64)
