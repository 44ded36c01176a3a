"""The states of a stage's aggregates on the devices: how they take in a client's contributions, and how they merge."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from hansa.compiler.aggregates import Aggregate
from hansa.compiler.evaluate import member
from hansa.language.local import tensors, unflatten
from hansa.runtimes.dealt import AXIS
from hansa.runtimes.stages import in_order


class Packing:
    """Small arrays of the states of a stage's aggregates, put together in one for all that merge alike: XLA makes a
    program of its own of each array that a loop adds to, which takes longer to compile than to run.

    Args:
        aggregates: they take in contributions as they merge: an array at a time, by "sum", "or", "min" or "max".
        states: one of each.
        shared: the positions of arrays of which each device is to have a part, where all devices' are collected.
    """

    def __init__(
        self, aggregates: Sequence[Aggregate], states: list[Any], shared: frozenset[int] = frozenset()
    ) -> None:
        self._aggregates, self._shared = aggregates, shared
        leaves, self._tree = jax.tree.flatten(states)
        self._shapes = [leaf.shape for leaf in leaves]
        self._operations = _operations(aggregates, states)
        groups: dict[tuple[str, Any], list[int]] = {}
        for i, (leaf, operation) in enumerate(zip(leaves, self._operations, strict=True)):
            if leaf.size <= _SMALL:
                groups.setdefault((operation, leaf.dtype), []).append(i)
        self._groups = {key: group for key, group in groups.items() if len(group) > 1}
        together = {i for group in self._groups.values() for i in group}
        self._others = [i for i in range(len(leaves)) if i not in together]

    def pack(self, states: list[Any]) -> tuple[list[Any], list[Any]]:
        """The arrays that stay as they are, and one for each group of small ones."""
        leaves = jax.tree.leaves(states)
        together = [lax.concatenate([leaves[i].reshape(-1) for i in group], 0) for group in self._groups.values()]
        return [leaves[i] for i in self._others], together

    def begin(self, zeros: list[Any]) -> tuple[list[Any], list[Any]]:
        """The packed states of no clients."""
        leaves = jax.tree.leaves(zeros)
        return [leaves[i] for i in self._others], self._nobody()

    def _nobody(self) -> list[Any]:
        sizes = [sum(math.prod(self._shapes[i]) for i in group) for group in self._groups.values()]
        return [jnp.full(size, _nothing(*key), key[1]) for key, size in zip(self._groups, sizes, strict=True)]

    def unpack(self, packed: tuple[list[Any], list[Any]]) -> list[Any]:
        """The states again."""
        others, together = packed
        leaves: list[Any] = [None] * len(self._shapes)
        for i, leaf in zip(self._others, others, strict=True):
            leaves[i] = leaf
        for group, array in zip(self._groups.values(), together, strict=True):
            start = 0
            for i in group:
                size = math.prod(self._shapes[i])
                leaves[i] = lax.slice_in_dim(array, start, start + size).reshape(self._shapes[i])
                start += size
        states: list[Any] = jax.tree.unflatten(self._tree, leaves)
        return states

    def accumulate(self, packed: tuple[list[Any], list[Any]], contributions: list[list[Any]]) -> Any:
        """The packed states with one more client's contributions."""
        others, together = packed
        # What a client adds to small arrays is what becomes of the states of nobody.
        after = [
            in_order.accumulated(aggregate, state, given)
            for aggregate, state, given in zip(
                self._aggregates, self.unpack((others, self._nobody())), contributions, strict=True
            )
        ]
        leaves = jax.tree.leaves(after)
        return [leaves[i] for i in self._others], [
            _added(operation, array, [leaves[i].reshape(-1) for i in group])
            for ((operation, _), group), array in zip(self._groups.items(), together, strict=True)
        ]

    def collected(self, packed: tuple[list[Any], list[Any]]) -> tuple[list[Any], list[Any]]:
        """The packed states of all devices."""
        others, together = packed
        return (
            [
                lax.psum_scatter(leaf.reshape(-1), AXIS, tiled=True)
                if i in self._shared
                else _COLLECTIVES[self._operations[i]](leaf)
                for i, leaf in zip(self._others, others, strict=True)
            ],
            [_COLLECTIVES[operation](array) for (operation, _), array in zip(self._groups, together, strict=True)],
        )


def merge_devices(aggregates: Sequence[Aggregate], states: list[Any], devices: int) -> list[Any]:
    """The states of all devices' clients."""
    return states if devices == 1 else _merged(aggregates, _settled(aggregates, states))


def reported(aggregates: Sequence[Aggregate], states: list[Any], devices: int) -> list[tuple[Any, Any]]:
    """The results of aggregates, of the states of all devices' clients, and what these may have lost; None for nothing.

    Of a large array that is reported element by element each device adds up and reports a part.
    """
    if devices > 1:
        states = _settled(aggregates, states)
        states = _merged(aggregates, states, _shared(aggregates, states, devices))
    found = []
    for aggregate, state in zip(aggregates, states, strict=True):
        value, kind = aggregate.report(state), member(aggregate.node.type)
        if devices > 1 and aggregate.by_element is not None:
            leaves = zip(jax.tree.leaves(value), tensors(kind), strict=True)
            value = unflatten(kind, [_whole(array, leaf.shape) for array, leaf in leaves])
        found.append((value, None if aggregate.lost is None else aggregate.lost(state)))
    return found


def _settled(aggregates: Sequence[Aggregate], states: list[Any]) -> list[Any]:
    return [
        state if aggregate.settled is None else aggregate.settled(state)
        for aggregate, state in zip(aggregates, states, strict=True)
    ]


def _merged(aggregates: Sequence[Aggregate], states: list[Any], shared: frozenset[int] = frozenset()) -> list[Any]:
    packing = Packing(aggregates, states, shared)
    return packing.unpack(packing.collected(packing.pack(states)))


def _shared(aggregates: Sequence[Aggregate], states: list[Any], devices: int) -> frozenset[int]:
    """The positions of the arrays of which each device is to have a part."""
    alone: list[bool] = []
    for aggregate, state in zip(aggregates, states, strict=True):
        by_element = aggregate.by_element or (lambda state: jax.tree.map(lambda _: False, state))
        alone += jax.tree.leaves(by_element(state))
    leaves = jax.tree.leaves(states)
    return frozenset(
        i for i, leaf in enumerate(leaves) if alone[i] and leaf.size >= _LARGE and leaf.size % devices == 0
    )


def _whole(array: Any, shape: tuple[Any, ...]) -> Any:
    """An array of which each device may have a part."""
    return array if array.shape == shape else lax.all_gather(array, AXIS, tiled=True).reshape(shape)


def _added(operation: str, array: Any, parts: list[Any]) -> Any:
    """An array to whose elements those of some arrays are added, one array after another, by pads: XLA computes these
    in the loop in which it computes the sum. What is concatenated is computed before it, each in a loop of its own."""
    nothing = lax.full((), _nothing(operation, array.dtype), array.dtype)
    begin, found = 0, None
    for part in parts:
        padded = lax.pad(part, nothing, [(begin, array.size - begin - part.size, 0)])
        found = padded if found is None else _OPERATIONS[operation](found, padded)
        begin += part.size
    return _OPERATIONS[operation](array, found)


def _operations(aggregates: Sequence[Aggregate], states: list[Any]) -> list[str]:
    """For each array of some states, how it merges."""
    each = jax.tree.map(
        lambda operation, part: jax.tree.map(lambda _: operation, part),
        [fold.collective for fold in aggregates],
        states,
    )
    return list(jax.tree.leaves(each))


def _nothing(operation: str, dtype: Any) -> Any:
    """What an operation leaves every other number as it is with."""
    if operation in ("sum", "or"):
        return 0
    if jnp.issubdtype(dtype, jnp.floating):
        return np.inf if operation == "min" else -np.inf
    limits = np.iinfo(dtype)
    return limits.max if operation == "min" else limits.min


_OPERATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "sum": lax.add,
    "or": lax.bitwise_or,
    "min": lax.min,
    "max": lax.max,
}

# XLA's own smallest and largest over devices leave NaN out on CPUs, so that it would depend on who works where.
_COLLECTIVES: dict[str, Callable[[Any], Any]] = {
    "sum": lambda leaf: lax.psum(leaf, AXIS),
    "or": lambda leaf: lax.reduce_or(lax.all_gather(leaf, AXIS), (0,)),
    "min": lambda leaf: lax.all_gather(leaf, AXIS).min(0),
    "max": lambda leaf: lax.all_gather(leaf, AXIS).max(0),
}

_SMALL = 64
"""Elements of an array that is small."""

_LARGE = 4096
"""Elements of an array that is worth a transfer more."""
