"""Federated sums and means whose floats are exact sums, rounded once: no order of clients, no number of devices or
chunks changes a bit of them.

    sum:  the nearest float64 to the exact sum, in the value's dtype
    mean: the nearest float64 to the exact sum of weight * value, divided by that to the exact sum of weights

Floats are added up in `bins`, which hold those of usual sizes and otherwise say that something may be lost; the call is
then to be made again with one part more for each float32, and if that is not enough with `wide` sums, which hold any.
All give the same bits where they are exact. Integers are added as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from hansa.compiler.aggregates import Aggregate
from hansa.compiler.evaluate import member
from hansa.compiler.program import Program
from hansa.compiler.sums import bins, weights, wide
from hansa.language.graph import Node
from hansa.language.local import tensors, unflatten


class Adding(NamedTuple):
    """How one array of numbers is added up.

    Attributes:
        zero: () -> the state before any addend.
        add: (state, array, weight or None) -> state.
        merge: for each part of the state, the operation that merges those of two groups.
        rounded: state -> the sums, in float64 or as integers, in the array's shape.
        split: how addends are split, if the sums are in bins, and so may lose something.
    """

    zero: Callable[[], Any]
    add: Callable[[Any, Any, Any], Any]
    merge: Any
    rounded: Callable[[Any], Any]
    split: bins.Split | None = None


class State(NamedTuple):
    """The state of a sum or a mean.

    Attributes:
        sums: of each array.
        weights: what is known of the weights; None where no sum can lose anything.
        weight: their sum; None for a sum.
    """

    sums: tuple[Any, ...]
    weights: Any
    weight: Any


Form = Literal["usual", "deep", "wide"]
"""How floats are added up: as they usually are, with smaller ones among them, or any, at several times the cost."""

FORMS: tuple[Form, ...] = ("usual", "deep", "wide")


def exact(program: Program, form: Form, forms: Mapping[Node, Form] = MappingProxyType({})) -> Program:
    """The program with exact sums and means.

    Args:
        program: a program.
        form: which numbers they are to hold.
        forms: for some aggregates, by their nodes, another one.
    """
    clients = tuple(
        replace(
            stage,
            aggregates=tuple(
                exact_aggregate(aggregate, forms.get(aggregate.node, form)) for aggregate in stage.aggregates
            ),
        )
        for stage in program.clients
    )
    return replace(program, clients=clients)


def exact_aggregate(given: Aggregate, form: Form) -> Aggregate:
    """A sum or a mean of floats with exact sums; any other aggregate as it is."""
    node, kind = given.node, member(given.node.type)
    leaves, averages = tensors(kind), node.name == "federated_mean"
    if not averages and (node.name != "federated_sum" or not any(map(_is_inexact, leaves))):
        return given
    weighing = tensors(member(node.arguments[1].type))[0].dtype if averages and len(given.contributions) > 1 else None
    integers = weighing is None or not jnp.issubdtype(weighing, jnp.floating)
    each = [adding for leaf in leaves for adding in _adding(leaf, weighing, form)]
    of_weights = None
    if averages:
        of_weights = _of_weights(weighing, form)
    loses = any(adding.split is not None for adding in each)

    def zero(_: Any) -> State:
        weight = None if of_weights is None else of_weights.zero()
        return State(tuple(adding.zero() for adding in each), weights.none_yet(integers) if loses else None, weight)

    def accumulate(state: State, contributions: list[Any]) -> State:
        value, *weighed = contributions
        weight = weighed[0].astype(np.float64) if averages and weighed else None
        arrays = [array for leaf in jax.tree.leaves(value) for array in _real(leaf)]
        sums = tuple(
            adding.add(total, array, weight) for adding, total, array in zip(each, state.sums, arrays, strict=True)
        )
        of_all = state.weight
        if of_weights is not None:
            of_all = of_weights.add(of_all, weighed[0] if weighed else np.int32(1), None)
        return State(sums, weights.known(state.weights, weight) if loses else None, of_all)

    merging = State(
        tuple(adding.merge for adding in each),
        weights.merge_of(integers) if loses else None,
        None if of_weights is None else of_weights.merge,
    )

    def report(state: State) -> Any:
        totals = [adding.rounded(total) for adding, total in zip(each, state.sums, strict=True)]
        if of_weights is not None:
            weight = of_weights.rounded(state.weight).astype(np.float64)
            nothing = weight == 0
            totals = [jnp.where(nothing, 0.0, _divided(total, jnp.where(nothing, 1.0, weight))) for total in totals]
        found = iter(totals)
        return unflatten(kind, [_typed(leaf, found) for leaf in leaves])

    def seen(state: State) -> dict[bins.Split, Any]:
        found: dict[bins.Split, list[bins.Bins]] = {}
        for adding, total in zip(each, state.sums, strict=True):
            if adding.split is not None:
                found.setdefault(adding.split, []).append(total)
        return {split: bins.exponents(totals) for split, totals in found.items()}

    def settled(state: State) -> State:
        left = seen(state)
        sums = [
            total if adding.split is None else total._replace(seen=left.pop(adding.split, np.uint32(0)))
            for adding, total in zip(each, state.sums, strict=True)
        ]
        return state._replace(sums=tuple(sums))

    def by_element(state: State) -> State:
        alone = [adding.split is not None for adding in each]
        sums = [jax.tree.map(lambda _, own=own: own, total) for own, total in zip(alone, state.sums, strict=True)]
        others: State = jax.tree.map(lambda _: False, state._replace(sums=()))
        return others._replace(sums=tuple(sums))

    def lost(state: State) -> Any:
        flags = [_missing(found, state.weights, split) for split, found in seen(state).items()]
        if of_weights is not None and of_weights.split is not None:
            alone = weights.alone(state.weights)
            flags.append(_missing(bins.exponents([state.weight]), alone, of_weights.split))
        return jnp.stack(flags).max()

    return replace(
        given,
        collective=merging,
        zero=zero,
        accumulate=accumulate,
        merge=lambda a, b: merged(merging, a, b),
        report=report,
        settled=settled if loses else None,
        by_element=by_element if loses else None,
        lost=lost if loses else None,
    )


def _missing(seen: Any, known: Any, split: bins.Split) -> Any:
    """Whether a sum may not be exact, as a place in `FORMS` of one that is: 0 for this one."""
    lost = bins.lost(seen, known, split)
    deeper = bins.lost(seen, known, bins.DEEP) if split is bins.NARROW else lost
    return lost.astype(np.int32) + (lost & deeper).astype(np.int32)


_OPERATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "sum": jnp.add,
    "min": jnp.minimum,
    "or": lambda a, b: a | b,
}


def merged(merging: Any, a: Any, b: Any) -> Any:
    """Two states as one, each part by an operation."""
    return jax.tree.map(lambda name, x, y: jax.tree.map(_OPERATIONS[name], x, y), merging, a, b)


def _is_inexact(leaf: Any) -> bool:
    return bool(jnp.issubdtype(leaf.dtype, jnp.inexact))


def _adding(leaf: Any, weighing: Any, form: Form) -> list[Adding]:
    """How an array is added up: a complex one as two."""
    if not _is_inexact(leaf):
        return [_integers(leaf.shape, leaf.dtype)]
    if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
        real = jnp.dtype(np.float32 if leaf.dtype.itemsize == 8 else np.float64)
        return [_floats(leaf.shape, real, weighing, form)] * 2
    return [_floats(leaf.shape, leaf.dtype, weighing, form)]


def _integers(shape: tuple[int, ...], dtype: Any) -> Adding:
    return Adding(
        zero=lambda: jnp.zeros(shape, dtype),
        add=lambda total, array, weight: total + array.astype(dtype),
        merge="sum",
        rounded=lambda total: total,
    )


def _floats(shape: tuple[int, ...], dtype: Any, weighing: Any, form: Form) -> Adding:
    if form == "wide":
        return _widely(shape, _range(dtype, weighing))
    split = bins.DOUBLE if dtype == np.float64 else bins.DEEP if form == "deep" else bins.NARROW
    return Adding(
        zero=lambda: bins.zero(shape, split),
        add=lambda total, array, weight: bins.add(total, array, weight, split),
        merge=bins.MERGE,
        rounded=bins.rounded,
        split=split,
    )


def _of_weights(weighing: Any, form: Form) -> Adding:
    """How weights are added up; int64 holds the sum of any whose dtype has 32 bits, or that are 1."""
    if weighing is None or (jnp.issubdtype(weighing, jnp.integer) and weighing.itemsize <= 4):
        return _integers((), np.dtype(np.int64))
    dtype = np.dtype(np.float64) if jnp.issubdtype(weighing, jnp.integer) else weighing
    adding = _floats((), dtype, None, form)
    return adding._replace(add=lambda total, weight, _: adding.add(total, weight.astype(dtype), None))


def _widely(shape: tuple[int, ...], limits: wide.Range) -> Adding:
    def add(total: Any, array: Any, weight: Any) -> Any:
        for addend in weights.products(array, weight, usual=False):
            total = wide.add(total, addend, limits)
        return total

    return Adding(
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
