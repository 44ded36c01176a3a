"""What rules are written with: aggregations of a function, and who is counted."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, cast

import jax
import jax.numpy as jnp

from hansa.aggregators.aggregation import Aggregation
from hansa.aggregators.factory import given_finite
from hansa.aggregators.norms import is_finite
from hansa.aggregators.states import nothing, taken
from hansa.language import intrinsics as on
from hansa.language.computation import Computation
from hansa.language.tracing import federated_computation, jax_computation
from hansa.templates import MeasuredOutput
from hansa.types import CLIENTS, FederatedType, TensorType, Type

FLOAT = TensorType("float32")

none = cast(Computation, federated_computation(nothing))
"""The first state of a rule that has none."""


def aggregation(
    initialize: Computation, step: Callable[[Any, Any, Any], MeasuredOutput], value: Type, weight: Type
) -> Aggregation:
    """An aggregation of a function of the state, the clients' values and their weights."""
    places = [FederatedType(kind, CLIENTS) for kind in (value, weight)]

    @federated_computation(taken(initialize.type_signature.result), *places)
    def next(state: Any, value: Any, weight: Any) -> Any:
        token = _finite.set(value if given_finite() else None)
        try:
            return step(state, value, weight)
        finally:
            _finite.reset(token)

    return Aggregation(initialize, next)


def stateless(step: Callable[[Any, Any], Any], value: Type, weight: Type) -> Aggregation:
    """An aggregation that has no state and measures nothing: a function of values and weights."""
    return aggregation(
        none, lambda state, values, weights: MeasuredOutput(state, step(values, weights), nothing()), value, weight
    )


_finite: ContextVar[Any] = ContextVar("finite", default=None)
"""The clients' values of the aggregation that is being written, if all of them are known to be finite."""


def counted(value: Any, weight: Any, *, any_number: bool = False) -> Any:
    """`<value,weight,one>` of each client, all zero for one that is left out, and `one` 1 for each other.

    Left out is a client whose weight is not a finite number above 0, and one whose value is not finite, unless the rule
    takes any number. What is zero here has no part in any sum.
    """
    return on.federated_map(jax_computation(counting(value, any_number)), [value, weight])


def counting(value: Any, any_number: bool = False) -> Callable[[Any, Any], dict[str, Any]]:
    """What `counted` does at a client, as a function of JAX of its value and its weight."""
    looks = not any_number and value is not _finite.get()

    def count(value: Any, weight: Any) -> dict[str, Any]:
        there = (weight > 0) & jnp.isfinite(weight)
        if looks:
            there &= is_finite(value)
        return {
            "value": jax.tree.map(lambda leaf: jnp.where(there, leaf, jnp.zeros((), leaf.dtype)), value),
            "weight": jnp.where(there, weight, jnp.zeros((), weight.dtype)),
            "one": there.astype(jnp.int32),
        }

    return count
