"""Aggregates that are no sums, as JAX code: their contributions are folded in the order of `hansa.runtimes.leaves`.

Devices work for the clients that they are dealt, in an order of their own, and keep the contributions to such
aggregates. These are put in the cohort's order, and every device folds all of them: what is sent between devices is
contributions, and no states. A program that has sums only knows nothing of this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from hansa.compiler.aggregates import Aggregate
from hansa.compiler.evaluate import member
from hansa.compiler.program import ClientStage, Program
from hansa.runtimes.leaves import LEAF
from hansa.types.queries import tensor_sizes


class Progress(NamedTuple):
    """A fold of which some clients are done.

    Attributes:
        zero: the state of no clients.
        clients: how many are done, int32.
        leaf: the state of those since the last leaf that is whole and has a successor.
        whole: stacks of states: number k is that of 2**k leaves, where bit k of the number of leaves before is set.
    """

    zero: Any
    clients: Any
    leaf: Any
    whole: Any


class Given(NamedTuple):
    """What clients have given to an aggregate.

    Attributes:
        stacks: for each contribution arrays with a row for each client, in any order.
        rows: which row each client has, in the cohort's order, int32; there may be room for more clients.
        clients: how many there are, int32.
    """

    stacks: list[Any]
    rows: Any
    clients: Any


def in_order(aggregate: Aggregate) -> bool:
    """Whether an aggregate is folded in the cohort's order: not if its states merge in one operation, in any order."""
    return aggregate.collective is None


def split(stage: ClientStage) -> tuple[ClientStage, tuple[Aggregate, ...]]:
    """A stage whose clients keep, after all else, what they give to aggregates in order; and these aggregates."""
    ordered = tuple(filter(in_order, stage.aggregates))
    if not ordered:
        return stage, ()
    rest = tuple(aggregate for aggregate in stage.aggregates if not in_order(aggregate))
    given = (node for aggregate in ordered for node in aggregate.contributions)
    return replace(stage, aggregates=rest, kept=(*stage.kept, *given)), ordered


def apart(stage: ClientStage, states: list[Any]) -> tuple[list[Any], list[Any]]:
    """The states of a stage's aggregates: of those that are not in order, and of those that are."""
    pairs = list(zip(stage.aggregates, states, strict=True))
    rest = [state for aggregate, state in pairs if not in_order(aggregate)]
    return rest, [state for aggregate, state in pairs if in_order(aggregate)]


def together(stage: ClientStage, rest: list[Any], ordered: list[Any]) -> list[Any]:
    """What `apart` has taken apart."""
    each, others = iter(ordered), iter(rest)
    return [next(each if in_order(aggregate) else others) for aggregate in stage.aggregates]


def by_aggregate(ordered: tuple[Aggregate, ...], kept: list[Any]) -> list[list[Any]]:
    """What was kept of contributions, the last of all that was kept, for each aggregate."""
    rest = iter(kept[len(kept) - sum(len(aggregate.contributions) for aggregate in ordered) :])
    return [[next(rest) for _ in aggregate.contributions] for aggregate in ordered]


def is_needed(program: Program) -> bool:
    """Whether a program has such aggregates."""
    return any(in_order(aggregate) for stage in program.clients for aggregate in stage.aggregates)


def contribution_bytes(program: Program) -> int:
    """How much a client gives to the aggregates in order of a stage, at most; what no type says is not counted."""
    return max((sum(_sizes(stage)) for stage in program.clients), default=0)


def _sizes(stage: ClientStage) -> Iterator[int]:
    for aggregate in filter(in_order, stage.aggregates):
        for node in aggregate.contributions:
            yield from (size or 0 for size in tensor_sizes(member(node.type)))


def folded(aggregate: Aggregate, zero: Any, given: Given) -> Any:
    """The state of all clients."""
    return ended(aggregate, further(aggregate, begun(zero, given.rows.shape[0]), given))


def begun(zero: Any, capacity: int) -> Progress:
    """A fold before any client, with room for so many."""
    levels = ((max(capacity, 1) - 1) // LEAF).bit_length()
    whole = jax.tree.map(lambda leaf: jnp.zeros((levels, *leaf.shape), leaf.dtype), zero)
    return Progress(zero, jnp.int32(0), zero, whole)


def further(aggregate: Aggregate, progress: Progress, given: Given) -> Progress:
    """The fold with more clients, the next ones of the cohort."""
    levels = jax.tree.leaves(progress.whole)[0].shape[0] if jax.tree.leaves(progress.whole) else 0

    def leaf_after(carry: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
        first, state, whole = carry
        done = progress.clients + first
        is_full = (done > 0) & (done % np.int32(LEAF) == 0)
        if levels:
            before = done // np.int32(LEAF) - np.int32(1)
            whole = lax.cond(is_full, _with_leaf(aggregate), lambda whole, *_: whole, whole, state, before)
            state = jax.tree.map(lambda zero, leaf: jnp.where(is_full, zero, leaf), progress.zero, state)
        last = jnp.minimum(given.clients, first + np.int32(LEAF) - done % np.int32(LEAF))
        return last, _chained(aggregate, state, given, first, last), whole

    _, leaf, whole = lax.while_loop(
        lambda carry: carry[0] < given.clients, leaf_after, (jnp.int32(0), progress.leaf, progress.whole)
    )
    return Progress(progress.zero, progress.clients + given.clients, leaf, whole)


def _with_leaf(aggregate: Aggregate) -> Callable[[Any, Any, Any], Any]:
    """Takes one leaf more to some that are whole: it is merged with what there is of its size, as one carries."""

    def push(whole: Any, state: Any, before: Any) -> Any:
        def carry(held: tuple[Any, Any]) -> tuple[Any, Any]:
            level, state = held
            return level + np.int32(1), merged(aggregate, _at(whole, level), state)

        level, state = lax.while_loop(lambda held: (before >> held[0]) & 1 == 1, carry, (jnp.int32(0), state))
        return jax.tree.map(lambda stack, leaf: lax.dynamic_update_index_in_dim(stack, leaf, level, 0), whole, state)

    return push


def ended(aggregate: Aggregate, progress: Progress) -> Any:
    """The state of all clients."""
    whole = jax.tree.leaves(progress.whole)
    before = jnp.maximum(progress.clients - np.int32(1), np.int32(0)) // np.int32(LEAF)

    def take(level: Any, state: Any) -> Any:
        there = (before >> level) & 1 == 1
        return lax.cond(there, lambda: merged(aggregate, _at(progress.whole, level), state), lambda: state)

    levels = whole[0].shape[0] if whole else 0
    return lax.fori_loop(np.int32(0), np.int32(levels), take, progress.leaf) if levels else progress.leaf


def _at(stacks: Any, index: Any) -> Any:
    return jax.tree.map(lambda stack: lax.dynamic_index_in_dim(stack, index, keepdims=False), stacks)


def chained(aggregate: Aggregate, state: Any, contributions: list[Any], clients: Any) -> Any:
    """A state with the first clients of some stacks, one after another."""
    rows = jnp.arange(jax.tree.leaves(contributions)[0].shape[0], dtype=jnp.int32)
    return _chained(aggregate, state, Given(contributions, rows, clients), jnp.int32(0), clients)


def _chained(aggregate: Aggregate, state: Any, given: Given, first: Any, last: Any) -> Any:
    def take(client: Any, state: Any) -> Any:
        row = given.rows[client]
        return accumulated(aggregate, state, jax.tree.map(lambda stack: stack[row], given.stacks))

    return lax.fori_loop(first, last, take, state)


def accumulated(aggregate: Aggregate, state: Any, given: list[Any]) -> Any:
    """The state with one more client's contributions."""
    return _as_before(aggregate.accumulate(state, given), state)


def merged(aggregate: Aggregate, a: Any, b: Any) -> Any:
    """The state of two groups of clients."""
    return _as_before(aggregate.merge(a, b), a)


def _as_before(new: Any, state: Any) -> Any:
    """A state in the dtypes that it had."""
    leaves = [
        lax.convert_element_type(x, y.dtype) for x, y in zip(jax.tree.leaves(new), jax.tree.leaves(state), strict=True)
    ]
    return jax.tree.unflatten(jax.tree.structure(state), leaves)
