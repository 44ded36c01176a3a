"""How the clients' contributions become one value at the server, as a fold that can be split over workers.

Every aggregate is a monoid: `zero`, `accumulate` a contribution, `merge` two partial states, and `report` the result.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from hansa.compiler.evaluate import call, conform, member, wide
from hansa.compiler.stored import StoredFold
from hansa.language.graph import Intrinsic, Node
from hansa.language.local import tensors, unflatten
from hansa.language.terms import NO_TERMS, Terms
from hansa.types import Struct, Type


@dataclass(frozen=True)
class Aggregate:
    """One aggregation in a client stage.

    Attributes:
        node: its result, a value at the server.
        contributions: what each client gives, values at the clients.
        start: the value that `zero` is made from, or None if it needs none; of a protected sum, the bounds of what each
            client gives (`hansa.language.protected_sums`).
        collective: how partial states of several devices merge in one operation: "sum", "min", "max" or "or", or one of
            these for each part of the state; None if they do not.
        zero: from the value of `start` to the state of no clients.
        accumulate: (state, contributions) -> state.
        merge: (state, state) -> state.
        report: state -> result.
        terms: what else holds for the contributions.
        settled: state -> what is needed of it when no client comes any more, to be merged and reported; None if all is.
        by_element: state -> for each of its arrays, whether it is added up and reported element by element, so that
            devices may do this for some elements each; None if none is.
        lost: state -> 0, or more if its result may not be the right one, so that the call is to be made again in
            another form (`hansa.compiler.sums.exact.FORMS`); None if that cannot be.
    """

    node: Intrinsic
    contributions: tuple[Node, ...]
    start: Node | None
    collective: Any
    zero: Callable[[Any], Any]
    accumulate: Callable[[Any, list[Any]], Any]
    merge: Callable[[Any, Any], Any]
    report: Callable[[Any], Any]
    terms: Terms = NO_TERMS
    settled: Callable[[Any], Any] | None = None
    by_element: Callable[[Any], Any] | None = None
    lost: Callable[[Any], Any] | None = None

    def state(self, start: Any) -> Any:
        """The shapes of a state's arrays, from the shapes in the value of `start`."""
        with jax.enable_x64(True):
            return jax.eval_shape(lambda start: jax.tree.map(jnp.asarray, self.zero(start)), start)

    @property
    def protected(self) -> bool:
        """Whether only the result is to be seen, and no client's contribution."""
        return self.terms.protected

    @property
    def name(self) -> str:
        """What messages call it: `sum`, `mean` and so on."""
        return self.node.name.removeprefix("federated_")


def is_folded(node: Node) -> bool:
    """Whether a node is a value at the server into which the clients' contributions are folded."""
    return isinstance(node, Intrinsic) and node.name in _MAKERS


def aggregate(node: Intrinsic) -> Aggregate:
    """The aggregation that an intrinsic stands for."""
    if node.functions and isinstance(node.functions[0], StoredFold):
        return _stored(node, node.functions[0])
    return replace(_MAKERS[node.name](node), terms=node.terms)


def _leafwise(function: Callable[[Any, Any], Any], state: Any, given: Any) -> Any:
    """The state with the function of its arrays and those of another value, whose structs may be of other classes."""
    leaves, tree = jax.tree.flatten(state)
    return jax.tree.unflatten(tree, map(function, leaves, jax.tree.leaves(given)))


def as_written(given: Aggregate) -> Aggregate:
    """The aggregation in terms of JAX, where it was loaded from a file and is not the user's own."""
    node = given.node
    own = node.name == "federated_aggregate" or not any(isinstance(fold, StoredFold) for fold in node.functions)
    return given if own else replace(_MAKERS[node.name](node), terms=node.terms)


def _stored(node: Intrinsic, fold: StoredFold) -> Aggregate:
    count = len(fold.contributions)
    return Aggregate(
        node,
        node.arguments[:count],
        start=node.arguments[count] if len(node.arguments) > count else None,
        collective=fold.collective,
        zero=fold.zero,
        accumulate=fold.accumulate,
        merge=fold.merge,
        report=fold.report,
        terms=node.terms,
    )


def _add(a: Any, b: Any) -> Any:
    return _leafwise(lambda x, y: x + y, a, b)


def _filled(kind: Type, fill: Callable[[Any], Any]) -> Any:
    return unflatten(kind, [jnp.full(leaf.shape, fill(leaf.dtype), leaf.dtype) for leaf in tensors(kind)])


def _sum(node: Intrinsic) -> Aggregate:
    kind = member(node.type)

    # Of a protected sum, which older files do not have; what else a sum takes says whether a client counts.
    bounds = node.name.startswith("federated_secure") and len(node.arguments) > 1

    def report(state: Any) -> Any:
        totals = zip(jax.tree.leaves(state), tensors(kind), strict=True)
        return unflatten(kind, [lax.convert_element_type(total, leaf.dtype) for total, leaf in totals])

    return Aggregate(
        node,
        node.arguments[:1] if bounds else node.arguments,
        start=node.arguments[1] if bounds else None,
        collective="sum",
        zero=lambda _: unflatten(kind, [jnp.zeros(leaf.shape, wide(leaf.dtype)) for leaf in tensors(kind)]),
        accumulate=lambda state, given: _leafwise(lambda x, y: x + y.astype(x.dtype), state, given[0]),
        merge=_add,
        report=report,
    )


def _extreme(node: Intrinsic) -> Aggregate:
    kind, lowest = member(node.type), node.name == "federated_min"
    choose: Callable[[Any, Any], Any] = jnp.minimum if lowest else jnp.maximum

    def identity(dtype: Any) -> Any:
        if jnp.issubdtype(dtype, jnp.floating):
            return np.inf if lowest else -np.inf
        return np.iinfo(dtype).max if lowest else np.iinfo(dtype).min

    def merge(a: Any, b: Any) -> Any:
        return _leafwise(choose, a, b)

    return Aggregate(
        node,
        node.arguments,
        start=None,
        collective="min" if lowest else "max",
        zero=lambda _: _filled(kind, identity),
        accumulate=lambda state, given: merge(state, given[0]),
        merge=merge,
        report=lambda state: state,
    )


def _mean(node: Intrinsic) -> Aggregate:
    kind = member(node.type)

    def zero(_: Any) -> Any:
        # In 64 bits weight * value and its sum stay in range wherever the mean does, and counts up to 2**53 are exact.
        totals = [jnp.zeros(leaf.shape, np.promote_types(leaf.dtype, np.float64)) for leaf in tensors(kind)]
        return Struct([("sum", unflatten(kind, totals)), ("weight", jnp.zeros((), np.float64))])

    def accumulate(state: Any, given: list[Any]) -> Any:
        value, *weights = given
        weight = weights[0] if weights else jnp.ones((), np.float64)
        scaled = _leafwise(
            lambda total, x: total + x.astype(total.dtype) * weight.astype(total.dtype), state.sum, value
        )
        return Struct([("sum", scaled), ("weight", state.weight + weight.astype(state.weight.dtype))])

    def report(state: Any) -> Any:
        nothing = state.weight == 0

        def mean(total: Any, leaf: Any) -> Any:
            divided = total / jnp.where(nothing, 1, state.weight)
            return lax.convert_element_type(jnp.where(nothing, jnp.zeros_like(total), divided), leaf.dtype)

        leaves = [mean(total, leaf) for total, leaf in zip(jax.tree.leaves(state.sum), tensors(kind), strict=True)]
        return unflatten(kind, leaves)

    return Aggregate(node, node.arguments, None, "sum", zero, accumulate, _add, report)


def _general(node: Intrinsic) -> Aggregate:
    value, start = node.arguments
    accumulate, merge, report = node.functions

    def fold(function: Any, a: Any, b: Any) -> Any:
        result = call(function, conform(Struct([(None, a), (None, b)]), function.type_signature.parameter))
        return conform(result, start.type)

    return Aggregate(
        node,
        (value,),
        start=start,
        collective=None,
        zero=lambda given: conform(given, start.type),
        accumulate=lambda state, given: fold(accumulate, state, given[0]),
        merge=lambda a, b: fold(merge, a, b),
        report=lambda state: call(report, state),
    )


_MAKERS: dict[str, Callable[[Intrinsic], Aggregate]] = {
    "federated_sum": _sum,
    "federated_secure_sum": _sum,
    "federated_secure_sum_bitwidth": _sum,
    "federated_secure_modular_sum": _sum,
    "federated_min": _extreme,
    "federated_max": _extreme,
    "federated_mean": _mean,
    "federated_aggregate": _general,
}

FOLDS = frozenset(_MAKERS)
"""The operations that fold."""
