"""Rules that choose clients whose values are near those of others (Blanchard et al. 2017, arXiv:1703.02757)."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hansa.aggregators.checks import check_whole
from hansa.aggregators.factory import Factory
from hansa.aggregators.norms import at_least_single
from hansa.aggregators.rows import OfRows


def krum(byzantine: int) -> Factory:
    """The value of one client, which is the nearest to others (Blanchard et al. 2017, section 3).

    Of n clients, f of which may send anything, a client's score is the sum of the squared distances between its value
    and the n - f - 2 nearest ones, at least one. The value of the least score is the result. The rule's guarantee is
    for n of at least 2 f + 3. Clients with a weight above 0 count the same.

    Args:
        byzantine: f.

    Returns:
        A rule for values of float dtypes, which needs each client's value. It is compiled anew for each number of
        clients. Where nobody is counted, the result is zero.

    Raises:
        ValueError: if `byzantine` is not an integer of at least 0.

    Examples:
        >>> aggregation = hansa.aggregators.krum(byzantine=1)("float32")
        >>> values = [1.0, 1.2, 1.3, 1.9, 1000.0]
        >>> aggregation.next(aggregation.initialize(), values, [1.0] * 5).result
        np.float32(1.2)
    """
    f = check_whole("byzantine of krum", byzantine, 0)
    return _nearest("krum", f, 1, {"byzantine": f})


def multi_krum(byzantine: int, keep: int) -> Factory:
    """The mean of the values of the clients with the least scores of `krum` (Blanchard et al. 2017, section 4).

    Args:
        byzantine: f.
        keep: m, of how many clients.

    Returns:
        A rule for values of float dtypes, which needs each client's value. It is compiled anew for each number of
        clients. Where fewer than `keep` are counted, it is the mean of these.

    Raises:
        ValueError: if `byzantine` is not an integer of at least 0, or `keep` one of at least 1.

    Examples:
        >>> aggregation = hansa.aggregators.multi_krum(byzantine=1, keep=3)("float32")
        >>> values = [1.0, 1.25, 1.5, 3.0, 1000.0]
        >>> aggregation.next(aggregation.initialize(), values, [1.0] * 5).result
        np.float32(1.25)
    """
    f = check_whole("byzantine of multi_krum", byzantine, 0)
    m = check_whole("keep of multi_krum", keep, 1)
    return _nearest("multi_krum", f, m, {"byzantine": f, "keep": m})


def bulyan(byzantine: int) -> Factory:
    """The middle of chosen values, each coordinate by itself (El Mhamdi et al. 2018, arXiv:1802.07927, section 4).

    Of n clients, f of which may send anything, n - 2 f are chosen one after another, each time the one with the least
    score of `krum` among those that are left. The result is, in each coordinate, the mean of the n - 4 f chosen values
    nearest to their median, at least one. The rule's guarantee is for n of at least 4 f + 3. Clients with a weight
    above 0 count the same.

    Args:
        byzantine: f.

    Returns:
        A rule for values of float dtypes, which needs each client's value. It is compiled anew for each number of
        clients. Where nobody is counted, the result is zero.

    Raises:
        ValueError: if `byzantine` is not an integer of at least 0.

    Examples:
        >>> aggregation = hansa.aggregators.bulyan(byzantine=1)("float32")
        >>> values = [1.0, 1.25, 1.5, 1.5, 2.0, 1.75, 1000.0]
        >>> f"{aggregation.next(aggregation.initialize(), values, [1.0] * 7).result:.2f}"
        '1.42'
    """
    f = check_whole("byzantine of bulyan", byzantine, 0)

    def rule(rows: Any) -> Any:
        there, apart = rows.one > 0, _apart(rows)
        number = rows.one.sum()
        wanted = jnp.maximum(number - 2 * f, jnp.minimum(number, 1))

        def choose(turn: Any, chosen: Any) -> Any:
            place = jnp.argsort(jnp.argsort(_scores(apart, there & ~chosen, f)))
            return chosen | ((place == 0) & (turn < wanted))

        chosen = jax.lax.fori_loop(0, there.size, choose, jnp.zeros(there.shape, bool))
        kept = jnp.maximum(wanted - 2 * f, 1)

        def middle(values: Any) -> Any:
            mask = chosen.reshape(-1, *(1,) * (values.ndim - 1))
            rank = jnp.arange(there.size).reshape(mask.shape)
            ordered = jnp.sort(jnp.where(mask, values, jnp.nan), 0)
            low, high = (jnp.where(rank == place, ordered, 0).sum(0) for place in ((wanted - 1) // 2, wanted // 2))
            distance = jnp.where(mask, jnp.abs(values - (low * 0.5 + high * 0.5)), jnp.nan)
            _, nearest = jax.lax.sort((distance, jnp.where(mask, values, 0)), dimension=0, num_keys=1)
            return (jnp.where(rank < kept, nearest, 0).sum(0) / kept).astype(values.dtype)

        return jax.tree.map(middle, rows.value)

    return OfRows("bulyan", rule, {"byzantine": f})


def _nearest(name: str, byzantine: int, keep: int, settings: dict[str, object]) -> Factory:
    """The mean of the values of the `keep` least scores."""

    def rule(rows: Any) -> Any:
        there = rows.one > 0
        scores = _scores(_apart(rows), there, byzantine)
        place = jnp.argsort(jnp.argsort(scores))
        chosen = there & (place < keep)

        def mean_of_chosen(values: Any) -> Any:
            mask = chosen.reshape(-1, *(1,) * (values.ndim - 1))
            total = jnp.where(mask, values, 0).sum(0)
            return (total / jnp.maximum(chosen.sum(), 1)).astype(values.dtype)

        return jax.tree.map(mean_of_chosen, rows.value)

    return OfRows(name, rule, settings)


def _apart(rows: Any) -> Any:
    """The squared distances between each two values."""
    number = rows.one.shape[0]
    apart = jnp.zeros((number, number), jnp.float32)
    for leaf in at_least_single(rows.value):
        difference = leaf[:, None] - leaf[None]
        apart += jnp.square(difference).sum(tuple(range(2, difference.ndim)))
    return apart


def _scores(apart: Any, there: Any, byzantine: int) -> Any:
    """The scores of Krum among the clients that are there; infinite for others."""
    rank = jnp.arange(there.shape[0])
    # Who is left out, a client itself, and a value that is not a number are the farthest.
    pairs = there[:, None] & there[None] & (rank[:, None] != rank[None]) & ~jnp.isnan(apart)
    near = rank < jnp.maximum(there.sum() - byzantine - 2, 1)
    scores = jnp.where(near[None], jnp.sort(jnp.where(pairs, apart, jnp.inf), 1), 0).sum(1)
    return jnp.where(there, jnp.minimum(scores, np.finfo(np.float32).max), jnp.inf)
