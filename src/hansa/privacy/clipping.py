"""What a client gives to a private sum: its value, weighted and then shortened, to a bound that may move.

Weights are before clipping, so that no weight makes a client's part larger. A bound that moves follows a quantile of
the clients' norms (Andrew et al. 2021, arXiv:1905.03871, algorithm 1): each client says whether it is within the bound,
by one more coordinate of the same sum.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hansa._checks import check_number
from hansa._tracebacks import boundaries
from hansa.aggregators.norms import norm
from hansa.types import Struct


@boundaries
@dataclass(frozen=True)
class Adaptive:
    """A clipping norm that moves to a quantile of the norms of the clients' updates.

    In a round the norm C leaves the share b of the clients as they are; it becomes C exp(-rate (b - quantile)). Noise
    is in b, too. Source: Andrew et al. 2021, arXiv:1905.03871, algorithm 1 and theorem 1.

    Attributes:
        quantile: the share of clients that C is to leave as they are, between 0 and 1.
        rate: how fast C moves.
        start: C in the first round.
        count_stddev: the standard deviation of the noise in the number of these clients; by default a twentieth of the
            cohort that is expected.

    Raises:
        ValueError: if a number is out of its range.

    Examples:
        >>> hansa.privacy.gaussian(hansa.privacy.Adaptive(quantile=0.5), noise_multiplier=1.0, cohort=50)
        gaussian(clip=Adaptive(quantile=0.5, rate=0.2, start=0.1, count_stddev=None), noise_multiplier=1.0, cohort=50)
        >>> of_update, of_count = hansa.privacy.Adaptive().split(1.0, 100)
        >>> round(1.0 / of_update, 5), round(0.5 / of_count, 5)
        (1.00504, 5.0)
        >>> float(hansa.privacy.Adaptive().after(0.1, 0.0, of_count, 100))
        0.10000000149011612
    """

    quantile: float = 0.5
    rate: float = 0.2
    start: float = 0.1
    count_stddev: float | None = None

    def __post_init__(self) -> None:
        check_number("the quantile of Adaptive", self.quantile, above=0, below=1)
        check_number("the rate of Adaptive", self.rate, above=0)
        check_number("the start of Adaptive", self.start, above=0)
        if self.count_stddev is not None:
            check_number("the count_stddev of Adaptive", self.count_stddev, above=0)

    def split(self, stddev: float, cohort: float) -> tuple[float, float]:
        """How large the update's part of a vector of norm 1 is, and that of the coordinate of the count.

        Args:
            stddev: that of the noise in the sum of these vectors.
            cohort: how many clients are expected.

        Raises:
            ValueError: if the noise of the count alone would need all of it.
        """
        count = cohort / 20 if self.count_stddev is None else self.count_stddev
        part = max(stddev / (2 * count), 2.0**-10)  # so that it has enough integer steps
        if part >= 1:
            raise ValueError(
                f"counting clients with a noise of {count:g} needs all that noise of {stddev:g} in the sum allows: the "
                f"count_stddev of Adaptive must be above {stddev / 2:g}; by default it is a twentieth of the cohort, "
                f"{cohort:g}"
            )
        return math.sqrt(1 - part**2), part

    def after(self, bound: jax.Array | float, released: jax.Array | float, part: float, cohort: float) -> jax.Array:
        """The bound after a round.

        Args:
            bound: that of the round.
            released: the coordinate of the count in the noised sum.
            part: how large it is for one client.
            cohort: how many clients are expected.
        """
        share = released / np.float32(2 * part * cohort) + np.float32(0.5)
        return bound * jnp.exp(-np.float32(self.rate) * (share - np.float32(self.quantile)))


def weighed(value: Any, weight: Any, multiplies: bool) -> Any:
    """A client's value times its weight; zeros where the client has no part, and NaN where it is not finite."""
    there = (weight > 0) & jnp.isfinite(weight)
    factor = jnp.where(there, jnp.minimum(weight.astype(jnp.float32), 1.0) if multiplies else 1.0, 0.0)
    return jax.tree.map(lambda leaf: leaf * factor.astype(leaf.dtype), value)


def per_layer(value: Any, bound: float) -> Any:
    """A value of which each of the L tensors is shortened to bound / sqrt(L), so that all together are within the bound
    (McMahan et al. 2018, arXiv:1710.06963, section 2)."""
    leaves, tree = jax.tree.flatten(value)
    each = np.float32(bound / math.sqrt(max(1, len(leaves))))
    return jax.tree.unflatten(tree, [_shortened(leaf, each) for leaf in leaves])


def with_count(value: Any, there: Any, bound: Any, parts: tuple[float, float]) -> Struct:
    """A vector of norm 1 at most, of a value and of whether it is within a bound.

    Args:
        value: the value.
        there: whether the client has a part, if its value is finite.
        bound: the bound.
        parts: how large the two parts are.
    """
    of_value, of_count = parts
    size = norm(value)
    # A little less, so that the whole vector is not shortened once more, which would round the count down.
    scale = np.float32(of_value * (1 - 2.0**-18)) / jnp.maximum(jnp.maximum(size, bound), np.finfo(np.float32).tiny)
    within = jnp.where(size <= bound, np.float32(of_count), -np.float32(of_count))
    return Struct.of(
        value=jax.tree.map(lambda leaf: (leaf * scale).astype(leaf.dtype), value),
        within=jnp.where(there, within, 0).astype(np.float32),
    )


def _shortened(leaf: Any, bound: Any) -> Any:
    size = norm([leaf])
    return (leaf * (bound / jnp.maximum(size, bound))).astype(leaf.dtype)
