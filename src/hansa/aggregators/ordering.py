"""Rules that order the clients' values, each coordinate by itself (Yin et al. 2018, arXiv:1803.01498, Algorithm 1)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
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

    def of_ordered(ordered: Any, rank: Any, number: Any) -> Any:
        places = (jnp.maximum(number - 1, 0) // 2, number // 2)
        low, high = (lax.dynamic_index_in_dim(ordered, place, 0, keepdims=False) for place in places)
        return jnp.where(number > 0, low * 0.5 + high * 0.5, 0)

    return _by_rank("median", of_ordered, {})


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

    def of_ordered(ordered: Any, rank: Any, number: Any) -> Any:
        # 0.29 of 100 are 29, though the product of floats is a little less.
        cut = jnp.floor(share * number + 1e-5).astype(jnp.int32)
        kept = (rank >= cut) & (rank < number - cut)
        return jnp.where(kept, ordered, 0).sum(0) / jnp.maximum(number - 2 * cut, 1)

    return _by_rank("trimmed_mean", of_ordered, {"share": share})


def _by_rank(name: str, of_ordered: Callable[[Any, Any, Any], Any], settings: dict[str, object]) -> Factory:
    """The rule that is a function of a tensor's values in their order, of their ranks, and of how many count."""

    def rule(rows: Any) -> Any:
        there = rows.one > 0
        number = rows.one.sum()

        def of_tensor(values: Any) -> Any:
            if values.shape[0] == 0:  # Nobody is there, of whom a row could be read.
                return jnp.zeros(values.shape[1:], values.dtype)
            ones = (1,) * (values.ndim - 1)
            # Who is left out is at the end: NaN comes after all numbers.
            ordered = jnp.sort(jnp.where(there.reshape(-1, *ones), values, jnp.nan), 0)
            rank = jnp.arange(values.shape[0]).reshape(-1, *ones)
            return of_ordered(ordered, rank, number).astype(values.dtype)

        return jax.tree.map(of_tensor, rows.value)

    return OfRows(name, rule, settings)
