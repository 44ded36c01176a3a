"""Values of no more than a size: clipped to a bound, or set to zero beyond it.

The bound is fixed, or moves to a quantile of the sizes (Andrew et al. 2021, arXiv:1905.03871, Algorithm 1 without
noise).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np

from hansa.aggregators.aggregation import Aggregation
from hansa.aggregators.checks import check_floats, check_number
from hansa.aggregators.factory import Factory, check_factory, of_finite
from hansa.aggregators.norms import at_least_single, norm
from hansa.aggregators.states import nested, parts, state_around, state_within
from hansa.aggregators.sums import mean
from hansa.aggregators.writing import FLOAT, aggregation, counting
from hansa.language import intrinsics as on
from hansa.language.computation import Computation
from hansa.language.tracing import federated_computation, jax_computation
from hansa.templates import MeasuredOutput
from hansa.types import SERVER, Type


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

    def clip(value: Any, size: Any, bound: Any) -> Any:
        scale = jnp.minimum(1.0, bound / jnp.maximum(size, np.finfo(np.float32).tiny))
        return jax.tree.map(lambda leaf: (leaf * scale).astype(leaf.dtype), value)

    return _bounded("clipping", norm, clip, "num_clipped", inner, _Bound(bound, quantile, rate))


def zeroing(
    inner: Factory | None = None,
    *,
    bound: float = 10.0,
    quantile: float | None = None,
    rate: float = math.log(10),
    multiplier: float = 1.0,
    increment: float = 0.0,
) -> Factory:
    """Values of which a number is larger than a bound, signs apart, or not a number, become zero.

    They are counted as before: a client that is zeroed weighs as much in a mean as it would have. With a quantile the
    bound moves as that of `clipping` does, by the largest number of each client's value.

    Args:
        inner: the rule that takes the values; by default `mean()`.
        bound: the bound; with a quantile, the first one.
        quantile: the share of clients that the bound is to leave as they are, between 0 and 1.
        rate: how fast the bound moves.
        multiplier: with a quantile, by what the moving bound is multiplied before values are compared with it.
        increment: what is added to that. With a quantile of 0.98, a multiplier of 2 and an increment of 1 only what is
            far above the largest values so far becomes zero.

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

    def largest(value: Any) -> Any:
        return jnp.stack([jnp.abs(leaf).max(initial=0) for leaf in at_least_single(value)] or [jnp.float32(0)]).max()

    def zero(value: Any, size: Any, bound: Any) -> Any:
        return jax.tree.map(lambda leaf: jnp.where(size <= bound, leaf, jnp.zeros((), leaf.dtype)), value)

    limit = _Bound(bound, quantile, rate, multiplier, increment)
    return _bounded("zeroing", largest, zero, "num_zeroed", inner, limit, any_number=True)


def excluding(
    inner: Factory | None = None, *, bound: float = 1.0, quantile: float | None = None, rate: float = 0.2
) -> Factory:
    """Clients whose value has a Euclidean norm above a bound are left out, and the others go into another rule.

    That is what `max_norm` of `federated_sum` and `federated_mean` does, for any rule: a client that exceeds it has the
    weight 0. It is filtering by norms; what the literature calls norm bounding (Sun et al. 2019, arXiv:1911.07963,
    section 5) is mostly `clipping`. With a quantile the bound moves as that of `clipping` does.

    Args:
        inner: the rule that takes the values of clients that are kept; by default `mean()`.
        bound: the bound; with a quantile, the first one.
        quantile: the share of clients that the bound is to keep, between 0 and 1.
        rate: how fast the bound moves.

    Returns:
        A rule for values of float dtypes. It needs what the inner one needs. It measures `bound`, as it was in the
        round, and `num_excluded`. Where nobody is counted, the bound stays.

    Raises:
        TypeError, ValueError: if an argument is not what is said above.

    Examples:
        >>> aggregation = hansa.aggregators.excluding(bound=5.0)("float32[2]")
        >>> output = aggregation.next(aggregation.initialize(), [[3.0, 4.0], [30.0, 40.0]], [1.0, 1.0])
        >>> np.asarray(output.result), output.measurements
        (array([3., 4.], dtype=float32), <bound=5.0,num_excluded=1>)
    """

    limit = _Bound(bound, quantile, rate)
    return _bounded("excluding", norm, lambda value, size, bound: value, "num_excluded", inner, limit, excludes=True)


class _Bound(NamedTuple):
    """A bound, which moves if there is a quantile, and what is made of it before values are cut.

    The fields are the arguments of `zeroing`.
    """

    bound: float
    quantile: float | None
    rate: float
    multiplier: float = 1.0
    increment: float = 0.0

    def settings(self, name: str) -> dict[str, object]:
        """Those of a rule, which are checked."""
        check_number(f"bound of {name}", self.bound, above=0)
        own: dict[str, object] = {"bound": self.bound}
        plain = (self.multiplier, self.increment) == (1, 0)
        if self.quantile is None:
            if not plain:
                raise ValueError(f"multiplier and increment of {name} are of a bound that moves: give a quantile, too")
            return own
        check_number(f"quantile of {name}", self.quantile, above=0, below=1)
        check_number(f"rate of {name}", self.rate, above=0)
        own |= {"quantile": self.quantile, "rate": self.rate}
        if not plain:
            check_number(f"multiplier of {name}", self.multiplier, above=0)
            check_number(f"increment of {name}", self.increment)
            own |= {"multiplier": self.multiplier, "increment": self.increment}
        return own

    def applied(self, bound: Any) -> Any:
        """What values are compared with."""
        return self.multiplier * bound + self.increment

    def after(self, bound: Any, beyond: Any, number: Any) -> Any:
        """The bound after a round in which some of so many clients were beyond it."""
        share = (number - beyond) / jnp.maximum(number, 1)
        moved = bound * jnp.exp(-self.rate * (share - (self.quantile or 0)))
        return jnp.where(number > 0, moved, bound).astype(jnp.float32)


def _bounded(
    name: str,
    size: Callable[[Any], Any],
    cut: Callable[[Any, Any, Any], Any],
    count: str,
    inner: Factory | None,
    limit: _Bound,
    *,
    any_number: bool = False,
    excludes: bool = False,
) -> Factory:
    """The rule whose values are cut at a bound.

    Args:
        name: the rule.
        size: what of a value is bounded.
        cut: from a value, its size and the bound to the value that is cut.
        count: what the number of clients beyond the bound is called.
        inner: the rule that takes the values.
        limit: the bound.
        any_number: whether the rule takes numbers that are not finite.
        excludes: whether who is beyond the bound is left out.
    """
    inside = mean() if inner is None else check_factory(inner, f"hansa.aggregators.{name}")
    settings = {"inner": inside, **limit.settings(name)}
    moves, first = limit.quantile is not None, np.float32(limit.bound)
    plain = (limit.multiplier, limit.increment) == (1, 0)
    move, apply = jax_computation(limit.after), jax_computation(FLOAT)(limit.applied)

    def create(value: Type, weight: Type) -> Aggregation:
        check_floats(name, value)
        # What is cut is finite: a value is no larger than it was, and zero where it was not finite.
        within = of_finite(inside, value, weight)

        def cut_one(count: Callable[[Any, Any], dict[str, Any]], value: Any, weight: Any, bound: Any) -> Any:
            of_one, at = count(value, weight), limit.applied(bound)
            # The size of what is counted, but of the given value: its squares are summed up for both in one pass.
            found = jnp.where(of_one["one"] > 0, size(value), 0)
            kept = jnp.where(found <= at, of_one["weight"], 0) if excludes else of_one["weight"]
            return {
                "value": cut(of_one["value"], found, at),
                "weight": kept.astype(weight.dtype),
                "one": of_one["one"],
                "beyond": jnp.where(found <= at, 0, of_one["one"]),
                "above": jnp.where(found <= bound, 0, of_one["one"]),
            }

        @federated_computation
        def initialize() -> Any:
            own = {"bound": on.federated_value(first, SERVER)} if moves else {}
            return state_around(own, inside.name, within.initialize())

        def step(state: Any, values: Any, weights: Any) -> MeasuredOutput:
            now = parts(state).server.bound if moves else on.federated_value(first, SERVER)
            work = jax_computation(value, weight, FLOAT)(partial(cut_one, counting(values, any_number)))
            done = on.federated_map(work, [values, weights, on.federated_broadcast(now)])
            beyond = on.federated_sum(done.beyond)
            then = within.next(state_within(state, inside.name, within.state_type), done.value, done.weight)
            own, applied = {}, now
            if moves:
                above = beyond if plain else on.federated_sum(done.above)
                own["bound"] = on.federated_map(move, [now, above, on.federated_sum(done.one)])
                applied = now if plain else on.federated_map(apply, now)
            return MeasuredOutput(
                state_around(own, inside.name, then.state),
                then.result,
                nested({"bound": applied, count: beyond}, inside.name, then.measurements),
            )

        return aggregation(cast(Computation, initialize), step, value, weight)

    return Factory(name, create, settings)
