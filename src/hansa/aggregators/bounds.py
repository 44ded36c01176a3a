"""Values of no more than a size: clipped to a bound, or set to zero beyond it.

The bound is fixed, or moves to a quantile of the sizes (Andrew et al. 2021, arXiv:1905.03871, Algorithm 1 without
noise).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from hansa.aggregators.aggregation import Aggregation
from hansa.aggregators.factory import Factory, check_factory, check_floats, check_number
from hansa.aggregators.norms import norm
from hansa.aggregators.states import nested, parts, state_around, state_within
from hansa.aggregators.sums import mean
from hansa.aggregators.writing import FLOAT, aggregation, counted
from hansa.language import intrinsics as on
from hansa.language.computation import Computation
from hansa.language.tracing import federated_computation, jax_computation
from hansa.templates import MeasuredOutput
from hansa.types import SERVER, TensorType, Type


def clipping(
    inner: Factory | None = None, *, bound: float = 1.0, quantile: float | None = None, rate: float = 0.2
) -> Factory:
    """Values whose Euclidean norm is above a bound are shortened to it, and then go into another rule.

    With u the norm of a client's value v, over all its tensors, v becomes v min(1, C / u). With a quantile q, the bound
    C is a part of the state. After a round in which the share b of the counted clients was within it, it becomes
    C exp(-rate (b - q)) (Andrew et al. 2021, Algorithm 1).

    Args:
        inner: the rule that takes the clipped values; by default `mean()`.
        bound: C; with a quantile, the first one.
        quantile: the share of clients that the bound is to leave as they are, between 0 and 1.
        rate: how fast the bound moves.

    Returns:
        A rule for values of float dtypes. It needs what the inner one needs. It measures `bound`, as it was in the
        round, and `num_clipped`. Where nobody is counted, the bound stays.

    Raises:
        TypeError, ValueError: if an argument is not what is said above.

    Examples:
        >>> aggregation = hansa.aggregators.clipping(bound=5.0)("float32[2]")
        >>> output = aggregation.next(aggregation.initialize(), [[3.0, 4.0], [30.0, 40.0]], [1.0, 1.0])
        >>> np.asarray(output.result), output.measurements
        (array([3., 4.], dtype=float32), <bound=5.0,num_clipped=1>)
    """

    def clip(value: Any, bound: Any) -> tuple[Any, Any]:
        size = norm(value)
        scale = jnp.minimum(1.0, bound / jnp.maximum(size, np.finfo(np.float32).tiny))
        return jax.tree.map(lambda leaf: (leaf * scale).astype(leaf.dtype), value), size <= bound

    return _bounded("clipping", clip, "num_clipped", inner, bound, quantile, rate)


def zeroing(
    inner: Factory | None = None, *, bound: float = 10.0, quantile: float | None = None, rate: float = math.log(10)
) -> Factory:
    """Values of which a number is larger than a bound, signs apart, or not a number, become zero.

    They are counted as before: a client that is zeroed weighs as much in a mean as it would have. With a quantile the
    bound moves as that of `clipping` does, by the largest number of each client's value.

    Args:
        inner: the rule that takes the values; by default `mean()`.
        bound: the bound; with a quantile, the first one.
        quantile: the share of clients that the bound is to leave as they are, between 0 and 1.
        rate: how fast the bound moves.

    Returns:
        A rule for values of float dtypes. It needs what the inner one needs. It measures `bound`, as it was in the
        round, and `num_zeroed`. Where nobody is counted, the bound stays.

    Raises:
        TypeError, ValueError: if an argument is not what is said above.

    Examples:
        >>> aggregation = hansa.aggregators.zeroing(hansa.aggregators.sum())("float32[2]")
        >>> output = aggregation.next(aggregation.initialize(), [[3.0, 4.0], [30.0, np.nan]], [1.0, 1.0])
        >>> np.asarray(output.result), output.measurements
        (array([3., 4.], dtype=float32), <bound=10.0,num_zeroed=1>)
    """

    def zero(value: Any, bound: Any) -> tuple[Any, Any]:
        within = jnp.stack(
            [jnp.all(jnp.abs(leaf) <= bound) for leaf in jax.tree.leaves(value)] or [jnp.bool_(True)]
        ).all()
        return jax.tree.map(lambda leaf: jnp.where(within, leaf, jnp.zeros((), leaf.dtype)), value), within

    return _bounded("zeroing", zero, "num_zeroed", inner, bound, quantile, rate, any_number=True)


def _bounded(
    name: str,
    cut: Callable[[Any, Any], tuple[Any, Any]],
    count: str,
    inner: Factory | None,
    bound: float,
    quantile: float | None,
    rate: float,
    *,
    any_number: bool = False,
) -> Factory:
    """The rule whose values are cut at a bound."""
    inside = mean() if inner is None else check_factory(inner, f"hansa.aggregators.{name}")
    first = np.float32(check_number(f"bound of {name}", bound, above=0))
    settings: dict[str, object] = {"inner": inside, "bound": bound}
    if quantile is not None:
        check_number(f"quantile of {name}", quantile, above=0, below=1)
        check_number(f"rate of {name}", rate, above=0)
        settings |= {"quantile": quantile, "rate": rate}

    target = 0.0 if quantile is None else quantile

    @jax_computation
    def move(bound: Any, beyond: Any, number: Any) -> Any:
        share = (number - beyond) / jnp.maximum(number, 1)
        return jnp.where(number > 0, bound * jnp.exp(-rate * (share - target)), bound).astype(jnp.float32)

    def create(value: Type, weight: Type) -> Aggregation:
        check_floats(name, value)
        within = inside(value, weight)

        @jax_computation(value, TensorType("int32"), FLOAT)
        def cut_one(value: Any, one: Any, bound: Any) -> Any:
            kept, fits = cut(value, bound)
            return {"value": kept, "beyond": jnp.where(fits, 0, one)}

        @federated_computation
        def initialize() -> Any:
            own = {} if quantile is None else {"bound": on.federated_value(first, SERVER)}
            return state_around(own, inside.name, within.initialize())

        def step(state: Any, values: Any, weights: Any) -> MeasuredOutput:
            now = on.federated_value(first, SERVER) if quantile is None else parts(state).server.bound
            of_each = counted(values, weights, any_number=any_number)
            done = on.federated_map(cut_one, [of_each.value, of_each.one, on.federated_broadcast(now)])
            beyond = on.federated_sum(done.beyond)
            then = within.next(state_within(state, inside.name, within.state_type), done.value, of_each.weight)
            own = {}
            if quantile is not None:
                own["bound"] = on.federated_map(move, [now, beyond, on.federated_sum(of_each.one)])
            return MeasuredOutput(
                state_around(own, inside.name, then.state),
                then.result,
                nested({"bound": now, count: beyond}, inside.name, then.measurements),
            )

        return aggregation(cast(Computation, initialize), step, value, weight)

    return Factory(name, create, settings)
