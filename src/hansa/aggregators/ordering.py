"""Rules that order the clients' values, each coordinate by itself (Yin et al. 2018, arXiv:1803.01498, Algorithm 1)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from hansa.aggregators.factory import Factory
from hansa.aggregators.rows import OfRows


def median() -> Factory:
    """The median of each coordinate over the clients (Yin et al. 2018, Algorithm 1, option I).

    Of an even number of clients it is the mean of the two in the middle. Clients with a weight above 0 count the same.

    Returns:
        A rule for values of float dtypes, which needs each client's value. What is not a number counts as larger than
        all numbers. Where nobody is counted, the median is zero.

    Examples:
        >>> aggregation = hansa.aggregators.median()("float32")
        >>> aggregation.next(aggregation.initialize(), [1.0, 2.0, 1000.0, 4.0], [1.0, 1.0, 1.0, 0.0]).result
        np.float32(2.0)
    """

    def of_tensor(values: Any, there: Any, number: Any) -> Any:
        keys = jnp.where(there, _keys(values), _greatest(_bits(values)))
        low = _select(keys, jnp.maximum(number - 1, 0) // 2)
        # The next one is the same where more values are as great, and else the least of those above.
        above = jnp.where(keys > low, keys, _greatest(keys.dtype)).min(0)
        high = jnp.where((keys <= low).astype(jnp.int32).sum(0) > number // 2, low, above)
        low, high = (_numbers(each, values.dtype) for each in (low, high))
        return jnp.where(number > 0, low * 0.5 + high * 0.5, 0)

    return _of_tensors("median", of_tensor, {})


def trimmed_mean(share: float = 0.1) -> Factory:
    """The mean of each coordinate over the clients without the least and the greatest (Yin et al. 2018, option II).

    Args:
        share: beta, the share of the clients that is left out at each end, from 0 to below 0.5: of n clients
            floor(beta n). Clients with a weight above 0 count the same.

    Returns:
        A rule for values of float dtypes, which needs each client's value. What is not a number counts as larger than
        all numbers. Where nobody is counted, the mean is zero.

    Raises:
        ValueError: if `share` is not from 0 to below 0.5.

    Examples:
        >>> aggregation = hansa.aggregators.trimmed_mean(0.25)("float32")
        >>> aggregation.next(aggregation.initialize(), [1.0, 2.0, 1000.0, 4.0], [1.0, 1.0, 1.0, 1.0]).result
        np.float32(3.0)
    """
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share < 0.5:
        raise ValueError(f"share of trimmed_mean must be a number from 0 to below 0.5, found {share!r}")

    def of_tensor(values: Any, there: Any, number: Any) -> Any:
        # Who is left out is at the end: NaN comes after all numbers.
        ordered = jnp.sort(jnp.where(there, values, jnp.nan), 0)
        rank = jnp.arange(values.shape[0]).reshape(there.shape)
        # 0.29 of 100 are 29, though the product of floats is a little less.
        cut = jnp.floor(share * number + 1e-5).astype(jnp.int32)
        kept = (rank >= cut) & (rank < number - cut)
        return jnp.where(kept, ordered, 0).sum(0) / jnp.maximum(number - 2 * cut, 1)

    return _of_tensors("trimmed_mean", of_tensor, {"share": share})


def _of_tensors(name: str, of_tensor: Callable[[Any, Any, Any], Any], settings: dict[str, object]) -> Factory:
    """The rule that is a function of a tensor's values, of who counts, in as many dimensions, and of how many do."""

    def rule(rows: Any) -> Any:
        def each(values: Any) -> Any:
            if values.shape[0] == 0:  # Nobody is there, of whom a row could be read.
                return jnp.zeros(values.shape[1:], values.dtype)
            there = (rows.one > 0).reshape(-1, *(1,) * (values.ndim - 1))
            return of_tensor(values, there, rows.one.sum()).astype(values.dtype)

        return jax.tree.map(each, rows.value)

    return OfRows(name, rule, settings)


def _select(keys: Any, rank: Any) -> Any:
    """The key of a rank along the first axis, from 0, in each place: its bits one after another, from the highest.

    Sorting would compare each two of them, one column at a time; this reads all of them once for each bit.
    """
    bits = np.iinfo(keys.dtype).bits
    lowest = jnp.array(np.iinfo(keys.dtype).min, keys.dtype)  # by which the sign's bit is like the others

    def with_bit(number: Any, found: Any) -> Any:
        one = jnp.left_shift(jnp.ones((), keys.dtype), (bits - 1 - number).astype(keys.dtype))
        tried = found | one
        below = (keys < (tried ^ lowest)).astype(jnp.int32).sum(0)
        return jnp.where(below <= rank, tried, found)

    return lax.fori_loop(0, bits, with_bit, jnp.zeros(keys.shape[1:], keys.dtype)) ^ lowest


def _keys(values: Any) -> Any:
    """Integers in the order of floats; what is not a number is the greatest."""
    kind = _bits(values)
    bits, flipped = lax.bitcast_convert_type(values, kind), _greatest(kind)
    return jnp.where(jnp.isnan(values), flipped, jnp.where(bits < 0, bits ^ flipped, bits))


def _numbers(keys: Any, dtype: Any) -> Any:
    """The floats of keys."""
    return lax.bitcast_convert_type(jnp.where(keys < 0, keys ^ _greatest(keys.dtype), keys), dtype)


def _bits(values: Any) -> Any:
    """The dtype of integers of as many bits."""
    return jnp.dtype(f"int{8 * values.dtype.itemsize}")


def _greatest(dtype: Any) -> Any:
    return jnp.array(np.iinfo(dtype).max, dtype)
