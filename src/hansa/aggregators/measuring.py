"""The rule that measures the clients' values before another one takes them."""

from __future__ import annotations

from typing import Any, cast

import jax.numpy as jnp

from hansa.aggregators.aggregation import Aggregation
from hansa.aggregators.checks import check_floats
from hansa.aggregators.factory import Factory, check_factory
from hansa.aggregators.norms import norm
from hansa.aggregators.states import nested, state_around, state_within
from hansa.aggregators.sums import mean
from hansa.aggregators.writing import aggregation, counted
from hansa.language import intrinsics as on
from hansa.language.computation import Computation
from hansa.language.tracing import federated_computation, jax_computation
from hansa.templates import MeasuredOutput
from hansa.types import FederatedType, Type


def measured(inner: Factory | None = None) -> Factory:
    """Values go into another rule as they are, and their norms are measured.

    Args:
        inner: the rule that takes the values; by default `mean()`.

    Returns:
        A rule for values of float dtypes. It needs the least and the greatest norm, and what the inner one needs. It
        measures `min_norm`, `mean_norm` and `max_norm`, the Euclidean norms of the values of clients that are counted,
        without weights; `result_norm`, that of the result; `num_clients`, how many are counted; and `num_non_finite`,
        how many have a weight, but a value that is not finite, of which no norm is measured. Without clients all are
        zero.

    Raises:
        TypeError: if `inner` is no rule.

    Examples:
        >>> aggregation = hansa.aggregators.measured(hansa.aggregators.clipping(bound=5.0))("float32[2]")
        >>> values = [[3.0, 4.0], [6.0, 8.0], [np.inf, 0.0]]
        >>> aggregation.next(aggregation.initialize(), values, [1.0, 1.0, 1.0]).measurements.clipping
        <bound=5.0,num_clipped=1>
        >>> told = aggregation.next(aggregation.initialize(), values, [1.0, 1.0, 1.0]).measurements
        >>> told.min_norm, told.mean_norm, told.max_norm, told.num_clients, told.num_non_finite
        (np.float32(5.0), np.float32(7.5), np.float32(10.0), np.int32(2), np.int32(1))
    """
    inside = mean() if inner is None else check_factory(inner, "hansa.aggregators.measured")

    def create(value: Type, weight: Type) -> Aggregation:
        check_floats("measured", value)
        within = inside(value, weight)
        result = within.result_type
        assert isinstance(result, FederatedType)
        check_floats("the result of measured", result.member)

        @jax_computation
        def measure(value: Any, weight: Any, one: Any) -> Any:
            size = norm(value).astype(jnp.float32)
            there = one > 0
            return {
                "least": jnp.where(there, size, jnp.inf),
                "greatest": jnp.where(there, size, 0),
                "sum": jnp.where(there, size, 0),
                "non_finite": ((weight > 0) & jnp.isfinite(weight) & ~there).astype(jnp.int32),
            }

        @jax_computation
        def told(least: Any, greatest: Any, mean: Any, result: Any, number: Any, non_finite: Any) -> Any:
            return {
                "min_norm": jnp.where(number > 0, least, 0),
                "mean_norm": mean,
                "max_norm": jnp.where(number > 0, greatest, 0),
                "result_norm": norm(result).astype(jnp.float32),
                "num_clients": number,
                "num_non_finite": non_finite,
            }

        @federated_computation
        def initialize() -> Any:
            return state_around({}, inside.name, within.initialize())

        def step(state: Any, values: Any, weights: Any) -> MeasuredOutput:
            of_each = counted(values, weights)
            of = on.federated_map(measure, [of_each.value, weights, of_each.one])
            then = within.next(state_within(state, inside.name, within.state_type), values, weights)
            parts = {
                "least": on.federated_min(of.least),
                "greatest": on.federated_max(of.greatest),
                "mean": on.federated_mean(of.sum, of_each.one),
                "result": then.result,
                "number": on.federated_sum(of_each.one),
                "non_finite": on.federated_sum(of.non_finite),
            }
            own = on.federated_map(told, on.federated_zip(parts))
            fields = {name: own[name] for name in own.type_signature.member.names}  # type: ignore[attr-defined]
            return MeasuredOutput(
                state_around({}, inside.name, then.state), then.result, nested(fields, inside.name, then.measurements)
            )

        return aggregation(cast(Computation, initialize), step, value, weight)

    return Factory("measured", create, {"inner": inside})
