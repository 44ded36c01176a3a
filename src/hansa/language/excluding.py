"""What holds for clients' contributions to a sum or a mean, and the exclusion of those for which it does not hold."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hansa.language import operands
from hansa.language.context import Trace
from hansa.language.graph import Node
from hansa.language.terms import NO_TERMS, Terms
from hansa.language.tracing import wide_computation
from hansa.language.values import Value, select, to_node
from hansa.types import CLIENTS, SERVER, FederatedType, Struct


def terms_of(
    name: str,
    *,
    max_norm: float | None = None,
    max_weight: float | None = None,
    min_cohort: int | None = None,
    disclosure: str | None = None,
) -> Terms:
    """What an operation is told of its contributions.

    Raises:
        ValueError: if one of them is of another kind.
    """
    for argument, value in (("max_norm", max_norm), ("max_weight", max_weight)):
        plain: Any = value.item() if isinstance(value, np.generic) else value
        number = isinstance(plain, int | float) and not isinstance(plain, bool)
        if value is not None and not (number and 0 < plain <= sys.float_info.max):
            raise ValueError(f"the {argument} of {name} must be a positive number that is known here, found {value!r}")
    if disclosure not in (None, "each", "sum"):
        raise ValueError(f"the disclosure of {name} must be 'each' or 'sum', found {disclosure!r}")
    count = isinstance(min_cohort, int | np.integer) and not isinstance(min_cohort, bool)
    if min_cohort is not None and not (count and min_cohort > 0):
        raise ValueError(f"the min_cohort of {name} must be a positive number of clients, found {min_cohort!r}")
    return Terms(
        disclosure,
        None if max_norm is None else float(max_norm),
        None if max_weight is None else float(max_weight),
        None if min_cohort is None else int(min_cohort),
    )


def aggregated(
    name: str, trace: Trace, contributions: Sequence[Node], terms: Terms, count_excluded: bool, called: str
) -> Value:
    """The sum or mean, without the contributions that exceed its bounds; perhaps with how many these are.

    Args:
        name: the operation.
        trace: the computation that is traced.
        contributions: a value and, if it has one, its weight.
        terms: what holds for them.
        count_excluded: whether the result is a struct with the number of clients that are excluded.
        called: what the result is called in it.
    """
    kind = FederatedType(operands.member(contributions[0]), SERVER)
    if terms.bound is None and terms.max_weight is None:
        if count_excluded:
            bounds = "max_norm" if name == "federated_sum" else "max_norm or max_weight"
            raise ValueError(f"count_excluded of {name} counts clients that exceed a bound: give {bounds}, too")
        return operands.recorded(name, kind, trace, *contributions, terms=terms)
    kept = _kept(name, trace, contributions, terms)
    count = 1 if name == "federated_sum" and terms.min_cohort is None else 2  # a sum whose clients are counted
    total = operands.recorded(name, kind, trace, *(select(kept, i) for i in range(count)), terms=terms)
    if not count_excluded:
        return total
    seen = Terms(terms.disclosure, min_cohort=terms.min_cohort) if terms != NO_TERMS else NO_TERMS
    number = operands.recorded(
        "federated_sum", FederatedType(operands.member(select(kept, 2)), SERVER), trace, select(kept, 2), terms=seen
    )
    return Value(to_node({called: total, "num_excluded": number}, what=name), trace)


def _kept(name: str, trace: Trace, contributions: Sequence[Node], terms: Terms) -> Node:
    """At each client its value, its weight, and whether it is excluded; value and weight are zero then."""
    kinds = [operands.member(node) for node in contributions]

    def within_bounds(value: Any, weight: Any) -> Any:
        inside = jnp.bool_(True)
        if terms.bound is not None:
            inside &= _norm(value) <= terms.bound
        if terms.max_weight is not None:
            inside &= jnp.abs(weight.astype(np.float64)) <= terms.max_weight
        nothing = jax.tree.map(lambda leaf: jnp.where(inside, leaf, jnp.zeros((), leaf.dtype)), value)
        weighed = inside.astype(np.int32) if weight is None else jnp.where(inside, weight, jnp.zeros((), weight.dtype))
        return Struct.of(value=nothing, weight=weighed, excluded=(~inside).astype(np.int64))

    if len(kinds) == 2:
        local = wide_computation(*kinds)(within_bounds)
        given = operands.placed([Value(node, trace) for node in contributions], name)
    else:

        def alone(value: Any) -> Any:
            return within_bounds(value, None)

        alone.__name__ = within_bounds.__name__
        local = wide_computation(*kinds)(alone)
        given = contributions[0]
    kind = FederatedType(local.type_signature.result, CLIENTS)
    return operands.operation("federated_map", kind, given, functions=(local,))


def _norm(value: Any) -> Any:
    """The Euclidean norm of all numbers of a value."""
    squares = [jnp.square(jnp.abs(leaf).astype(np.float64)).sum() for leaf in jax.tree.leaves(value)]
    return jnp.sqrt(sum(squares, jnp.zeros((), np.float64)))
