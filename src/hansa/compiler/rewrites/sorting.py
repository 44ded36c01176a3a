"""Sorts: of few rows that are long, which XLA's CPU backend does one column at a time; and those to be stable."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

# Up to this many rows are sorted by comparing whole rows (measured: 12 times as fast for 24 rows of 159,010 float32; a
# network of 32 rows has 191 comparisons, and takes a few seconds to compile).
_MOST_ROWS = 32
# Shorter rows are sorted as they are: there it makes no difference that would be worth the compilation.
_SHORT = 4096


def few_long_rows(eqn: Any) -> Callable[..., Any] | None:
    """The rule for `sort`, along an axis of a few elements: Batcher's network of minima and maxima of whole rows.

    Zeros are sorted by their sign, which XLA's comparison does not look at.
    """
    if not has_few_long_rows(eqn):
        return None
    axis = eqn.params["dimension"]
    return lambda values: [lax.concatenate(sorted_rows(values, axis), axis)]


def has_few_long_rows(eqn: Any) -> bool:
    """Whether it is a sort along an axis of a few elements, of many columns."""
    if eqn.primitive.name != "sort" or len(eqn.invars) != 1:
        return False
    aval = eqn.invars[0].aval
    number = aval.shape[eqn.params["dimension"]]
    if aval.dtype != np.float32 or not 1 < number <= _MOST_ROWS:
        return False
    return bool(math.prod(aval.shape) >= number * _SHORT)


def sorted_rows(values: Any, axis: int) -> list[Any]:
    """The rows along an axis in their order, each with that axis."""
    flipped = jnp.int32(2**31 - 1)
    bits = lax.bitcast_convert_type(values, jnp.int32)
    # Integers in the order of the floats; what is not a number is the greatest.
    keys = jnp.where(jnp.isnan(values), flipped, jnp.where(bits < 0, bits ^ flipped, bits))
    rows = [lax.index_in_dim(keys, place, axis, keepdims=True) for place in range(values.shape[axis])]
    for low, high in network(len(rows)):
        rows[low], rows[high] = jnp.minimum(rows[low], rows[high]), jnp.maximum(rows[low], rows[high])
    return [lax.bitcast_convert_type(jnp.where(row < 0, row ^ flipped, row), jnp.float32) for row in rows]


def network(number: int) -> Iterator[tuple[int, int]]:
    """Which places are compared, one pair after another, to sort so many (Batcher; Knuth 5.2.2, Algorithm M)."""
    most = 1 << max(0, (number - 1).bit_length() - 1)
    step = most
    while step:
        until, part, apart = most, 0, step
        while True:
            yield from ((low, low + apart) for low in range(number - apart) if low & step == part)
            if until == step:
                break
            apart, until, part = until - step, until // 2, step
        step //= 2


def stable_sort(eqn: Any) -> Callable[..., Any] | None:
    """The rule for `sort`."""
    if eqn.params["is_stable"]:
        return None

    def sort(*operands: Any) -> Any:
        return eqn.primitive.bind(*operands, **{**eqn.params, "is_stable": True})

    return sort
