"""What rules are written with: aggregations of a function, and who is counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp

from hansa.aggregators.aggregation import Aggregation
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
        return step(state, value, weight)

    return Aggregation(initialize, next)


def stateless(step: Callable[[Any, Any], Any], value: Type, weight: Type) -> Aggregation:
    """An aggregation that has no state and measures nothing: a function of values and weights."""
    return aggregation(
        none, lambda state, values, weights: MeasuredOutput(state, step(values, weights), nothing()), value, weight
    )


def counted(value: Any, weight: Any, *, any_number: bool = False) -> Any:
    """`<value,weight,one>` of each client, all zero for one that is left out, and `one` 1 for each other.

    Left out is a client whose weight is not a finite number above 0, and one whose value is not finite, unless the rule
    takes any number. What is zero here has no part in any sum.
    """

    def count(value: Any, weight: Any) -> Any:
        there = (weight > 0) & jnp.isfinite(weight)
        if not any_number:
            there &= is_finite(value)
        kept = jax.tree.map(lambda leaf: jnp.where(there, leaf, jnp.zeros((), leaf.dtype)), value)
        return {
            "value": kept,
            "weight": jnp.where(there, weight, jnp.zeros((), weight.dtype)),
            "one": there.astype(jnp.int32),
        }

    return on.federated_map(jax_computation(count), [value, weight])
