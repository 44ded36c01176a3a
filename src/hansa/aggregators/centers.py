"""The geometric median by weighted means: RFA (Pillutla et al. 2022, arXiv:1912.13445, Algorithm 2)."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from hansa.aggregators.aggregation import Aggregation
from hansa.aggregators.checks import check_floats, check_number, check_whole
from hansa.aggregators.factory import Factory
from hansa.aggregators.norms import at_least_single, norm
from hansa.aggregators.writing import counted, stateless
from hansa.language import intrinsics as on
from hansa.language.tracing import jax_computation
from hansa.types import Type


def geometric_median(passes: int = 4, smoothing: float = 1e-6) -> Factory:
    """The point with the least weighted sum of distances to the clients' values, by the smoothed Weiszfeld algorithm.

    It begins at the weighted mean z. In each pass a client's weight w is divided by its distance to z,
    b = w / max(nu, |v - z|), and z becomes sum(b v) / sum(b) (Pillutla et al. 2022, Algorithm 2). A pass is a stage of
    the clients: they keep their values, and the server sends z.

    Args:
        passes: how many there are after the mean.
        smoothing: nu, the least distance to divide by.

    Returns:
        A rule for values of float dtypes, which needs sums only. Where nobody is counted, the result is zero.

    Raises:
        ValueError: if `passes` is not an integer of at least 0, or `smoothing` not a number above 0.

    Examples:
        >>> aggregation = hansa.aggregators.geometric_median()("float32[2]")
        >>> values = [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [100.0, 100.0]]
        >>> result = aggregation.next(aggregation.initialize(), values, [1.0] * 4).result
        >>> bool(np.linalg.norm(result) < 2), aggregation.needs
        (True, 'sums')
    """
    passes = check_whole("passes of geometric_median", passes, 0)
    least = check_number("smoothing of geometric_median", smoothing, above=0)

    def create(value: Type, weight: Type) -> Aggregation:
        check_floats("geometric_median", value)

        @jax_computation(value, weight, value)
        def weigh(value: Any, weight: Any, center: Any) -> Any:
            distance = norm(jax.tree.map(lambda x, z: x - z, at_least_single(value), at_least_single(center)))
            return jnp.nan_to_num(weight / jnp.maximum(distance, least), nan=0).astype(jnp.float32)

        def step(values: Any, weights: Any) -> Any:
            of_each = counted(values, weights)
            center = on.federated_mean(of_each.value, of_each.weight)
            for _ in range(passes):
                again = on.federated_map(weigh, [of_each.value, of_each.weight, on.federated_broadcast(center)])
                center = on.federated_mean(of_each.value, again)
            return center

        return stateless(step, value, weight)

    settings: dict[str, object] = {"passes": passes, "smoothing": smoothing}
    return Factory("geometric_median", create, settings)
