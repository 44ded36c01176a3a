"""Federated sums and means whose floats are exact sums, rounded once: no order of clients, no number of devices or
chunks changes a bit of them.

    sum:  the nearest float64 to the exact sum, in the value's dtype
    mean: the nearest float64 to the exact sum of weight * value, divided by that to the exact sum of weights

Scalars and small arrays are added up in the `wide` form, which holds any sum. Large arrays are added up in `bins`,
which hold those of usual sizes and otherwise say that something may be lost; the call is then to be made again with
`wide` sums for them, too. Both give the same bits where both are exact. Integers are added as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from hansa.compiler.aggregates import Aggregate
from hansa.compiler.evaluate import member
from hansa.compiler.program import Program
from hansa.compiler.sums import bins, weights, wide
from hansa.language.local import tensors, unflatten

_SMALL = 1024
"""Words; sums of arrays that take no more of them are wide from the start."""


class Leaf(NamedTuple):
    """How one array of numbers is added up.

    Attributes:
        zero: () -> the state before any addend.
        add: (state, array, weight or None) -> state.
        merge: for each array of the state, the operation that merges those of two groups.
        rounded: state -> the sums, in float64 or as integers, in the array's shape.
        lost: (state, what is known of the weights) -> whether they may not be exact; None if they always are.
    """

    zero: Callable[[], Any]
    add: Callable[[Any, Any, Any], Any]
    merge: Any
    rounded: Callable[[Any], Any]
    lost: Callable[[Any, Any], Any] | None = None


class State(NamedTuple):
    """The state of a sum or a mean.

    Attributes:
        sums: of each array.
        weights: what is known of the weights; None where no sum can lose anything.
        weight: their exact sum; None for a sum.
    """

    sums: tuple[Any, ...]
    weights: Any
    weight: Any


def exact(program: Program, *, widely: bool) -> Program:
    """The program with exact sums and means.

    Args:
        program: a program.
        widely: whether large arrays are to be added up in the wide form, too.
    """
    clients = tuple(
        replace(stage, aggregates=tuple(exact_aggregate(aggregate, widely=widely) for aggregate in stage.aggregates))
        for stage in program.clients
    )
    return replace(program, clients=clients)


def exact_aggregate(given: Aggregate, *, widely: bool) -> Aggregate:
    """A sum or a mean of floats with exact sums; any other aggregate as it is."""
    node, kind = given.node, member(given.node.type)
    averages = node.name == "federated_mean"
    leaves = tensors(kind)
    if not averages and (node.name != "federated_sum" or not any(map(_is_inexact, leaves))):
        return given
    weighing = tensors(member(node.arguments[1].type))[0].dtype if averages and len(given.contributions) > 1 else None
    parts = [part for leaf in leaves for part in _leaves(leaf, weighing, widely)]
    integers = weighing is None or not jnp.issubdtype(weighing, jnp.floating)
    of_weights = (
        None if not averages else _integers((), np.dtype(np.int64)) if integers else _wide((), _range(weighing, None))
    )
    loses = any(part.lost is not None for part in parts)

    def zero(_: Any) -> State:
        weight = None if of_weights is None else of_weights.zero()
        return State(tuple(part.zero() for part in parts), weights.none_yet(integers) if loses else None, weight)

    def accumulate(state: State, contributions: list[Any]) -> State:
        value, *given = contributions
        weight = given[0].astype(np.float64) if given else None
        counted = np.int64(1) if weight is None else given[0]
        arrays = [array for leaf in jax.tree.leaves(value) for array in _real(leaf)]
        sums = tuple(
            part.add(total, array, weight) for part, total, array in zip(parts, state.sums, arrays, strict=True)
        )
        of_all = state.weight
        if of_weights is not None:
            of_all = of_weights.add(of_all, counted, None)
        return State(sums, weights.known(state.weights, weight) if loses else None, of_all)

    merging = State(
        tuple(part.merge for part in parts),
        weights.merge_of(integers) if loses else None,
        None if of_weights is None else of_weights.merge,
    )

    def report(state: State) -> Any:
        totals = [part.rounded(total) for part, total in zip(parts, state.sums, strict=True)]
        if of_weights is not None:
            weight = of_weights.rounded(state.weight).astype(np.float64)
            nothing = weight == 0
            totals = [jnp.where(nothing, 0.0, _divided(total, jnp.where(nothing, 1.0, weight))) for total in totals]
        found = iter(totals)
        return unflatten(kind, [_typed(leaf, found) for leaf in leaves])

    def lost(state: State) -> Any:
        flags = [
            part.lost(total, state.weights)
            for part, total in zip(parts, state.sums, strict=True)
            if part.lost is not None
        ]
        return jnp.stack(flags).any()

    return replace(
        given,
        collective=merging,
        zero=zero,
        accumulate=accumulate,
        merge=lambda a, b: merged(merging, a, b),
        report=report,
        lost=lost if loses else None,
    )


_OPERATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "sum": jnp.add,
    "min": jnp.minimum,
    "or": lambda a, b: a | b,
}


def merged(merging: Any, a: Any, b: Any) -> Any:
    """Two states as one, each array by an operation."""
    return jax.tree.map(lambda name, x, y: jax.tree.map(_OPERATIONS[name], x, y), merging, a, b)


def _is_inexact(leaf: Any) -> bool:
    return bool(jnp.issubdtype(leaf.dtype, jnp.inexact))


def _leaves(leaf: Any, weighing: Any, widely: bool) -> list[Leaf]:
    """How an array is added up: a complex one as two."""
    if not _is_inexact(leaf):
        return [_integers(leaf.shape, leaf.dtype)]
    if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
        real = jnp.dtype(np.float32 if leaf.dtype.itemsize == 8 else np.float64)
        return [_floats(leaf.shape, real, weighing, widely)] * 2
    return [_floats(leaf.shape, leaf.dtype, weighing, widely)]


def _integers(shape: tuple[int, ...], dtype: Any) -> Leaf:
    return Leaf(
        zero=lambda: jnp.zeros(shape, dtype),
        add=lambda total, array, weight: total + array.astype(dtype),
        merge="sum",
        rounded=lambda total: total,
    )


def _floats(shape: tuple[int, ...], dtype: Any, weighing: Any, widely: bool) -> Leaf:
    size, limits = int(np.prod(shape)), _range(dtype, weighing)
    if widely or size * limits.words <= _SMALL:
        return _wide(shape, limits)
    split = bins.DOUBLE if dtype == np.float64 else bins.NARROW
    return Leaf(
        zero=lambda: bins.zero(shape, split),
        add=lambda total, array, weight: bins.add(total, array, weight, split),
        merge=bins.merge_of(split),
        rounded=lambda total: bins.rounded(total, split),
        lost=lambda total, known: bins.lost(total, known, split),
    )


def _wide(shape: tuple[int, ...], limits: wide.Range) -> Leaf:
    def add(total: Any, array: Any, weight: Any) -> Any:
        for addend in weights.products(array, weight, usual=False):
            total = wide.add(total, addend, limits)
        return total

    return Leaf(
        zero=lambda: wide.zero(shape, limits),
        add=add,
        merge="sum",
        rounded=lambda total: wide.rounded(total, limits),
    )


def _range(dtype: Any, weighing: Any) -> wide.Range:
    """That of values of a dtype, times weights of another, if there are any."""
    if np.dtype(np.float64) in (dtype, weighing):
        return wide.ANY
    return wide.SINGLE if weighing is None else wide.PRODUCT


def _divided(total: Any, weight: Any) -> Any:
    """The quotient, rounded once. XLA would multiply by the inverse of one number for all, which is rounded, too."""
    return total / lax.optimization_barrier(jnp.broadcast_to(weight, total.shape))


def _real(leaf: Any) -> list[Any]:
    return [leaf.real, leaf.imag] if jnp.issubdtype(leaf.dtype, jnp.complexfloating) else [leaf]


def _typed(leaf: Any, found: Any) -> Any:
    """The next array, or two, as one of a dtype."""
    first = next(found)
    if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
        first = lax.complex(first, next(found))
    return lax.convert_element_type(first, leaf.dtype)
