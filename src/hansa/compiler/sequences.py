"""Sequences inside a program: what `sequence_map`, `sequence_reduce` and `sequence_sum` compile to.

A sequence is a number of elements and a function that reads one; mapping composes with that function, and reducing is
one loop with a traced bound, so neither the number of batches nor their sizes are compiled in. Batches are padded to
one capacity, and what is called on them sees their true size (`padding`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import export, lax
from jax.extend.core import jaxpr_as_fun

from hansa.compiler import padding
from hansa.language.local import Traced, tensors
from hansa.language.sizes import batch_symbols
from hansa.types import SequenceType

Aval = jax.ShapeDtypeStruct
Trace = Callable[[tuple[Aval, ...]], Traced]
"""Makes the jaxpr of a function for the shapes of its leaves."""


class NeedsSizes(Exception):
    """A function of batches has to be compiled for each size of batch, and the sizes were not given."""


@dataclass(frozen=True)
class Sequence:
    """A sequence in a program that is being traced.

    Attributes:
        avals: the shapes of an element's leaves; the batch is symbolic in them.
        count: the number of elements, an int32 scalar.
        read: from the number of an element to its leaves, padded, and its batch.
        sizes: the sizes of batch that occur, if they are to be compiled in.
        origin: the arrays it lies in, unless its elements are computed.
    """

    avals: tuple[Aval, ...]
    count: Any
    read: Callable[[Any], tuple[list[Any], padding.Batch]]
    sizes: tuple[int, ...] | None
    origin: Origin | None = None


@dataclass(frozen=True)
class Columns:
    """Where the elements of many sequences lie (`hansa.runtimes.columns` lays them out).

    Attributes:
        arrays: one per tensor of an element. Of a batched tensor (leading size `?`) `[rows, ...]`, with at least
            `capacity` rows from the start of any element; of any other `[elements, ...]`.
        starts: the first row of each element, int32 [elements].
        lengths: the number of rows of each element, int32 [elements].
        first: the number of each sequence's first element, int32 [sequences].
        counts: how many elements each sequence has, int32 [sequences].
    """

    arrays: tuple[Any, ...]
    starts: Any
    lengths: Any
    first: Any
    counts: Any


jax.tree_util.register_dataclass(Columns, ["arrays", "starts", "lengths", "first", "counts"], [])


class Origin(NamedTuple):
    """Where a sequence lies: the columns, its number in them, and the rows of a padded batch."""

    columns: Columns
    which: Any
    capacity: int


@dataclass(frozen=True)
class Stack:
    """Elements of one shape each, stacked.

    Attributes:
        arrays: one per tensor of an element, `[capacity, ...]`.
        count: how many there are, int32 scalar.
    """

    arrays: tuple[Any, ...]
    count: Any


jax.tree_util.register_dataclass(Stack, ["arrays", "count"], [])


def from_stack(stack: Stack) -> Sequence:
    """The sequence of a stack's elements."""

    def read(i: Any) -> tuple[list[Any], padding.Batch]:
        one = padding.Batch(jnp.int32(1), 1)
        return [lax.dynamic_index_in_dim(array, i, keepdims=False) for array in stack.arrays], one

    room = stack.arrays[0].shape[0] if stack.arrays else 1
    each = jnp.ones(room, jnp.int32)
    columns = Columns(stack.arrays, each, each, jnp.zeros(1, jnp.int32), jnp.asarray(stack.count, jnp.int32)[None])
    avals = tuple(Aval(a.shape[1:], a.dtype) for a in stack.arrays)
    return Sequence(avals, stack.count, read, None, Origin(columns, jnp.int32(0), 1))


def select(trace: Trace, keys: Any, count: Any, source: list[Any]) -> Sequence:
    """The sequence of a function of (`source`, key), for each of the keys, which are clipped to 0 to `count - 1`."""
    key_aval = Aval((), keys.dtype)
    traced = trace((*(Aval(jnp.shape(leaf), leaf.dtype) for leaf in source), key_aval))

    def read(i: Any) -> tuple[list[Any], padding.Batch]:
        return list(jaxpr_as_fun(traced.jaxpr)(*source, nearest(keys[i], count))), padding.Batch(jnp.int32(1), 1)

    avals = tuple(Aval(aval.shape, aval.dtype) for aval in traced.jaxpr.out_avals)
    return Sequence(avals, jnp.int32(keys.shape[0]), read, None)


def nearest(key: Any, count: Any) -> Any:
    """The key of 0 to `count - 1` that is nearest."""
    return jnp.clip(key, 0, jnp.maximum(count, 1) - 1)


def is_batched(shape: tuple[int | None, ...]) -> bool:
    """Whether a tensor of an element's type holds a batch: its leading size is not known."""
    return bool(shape) and shape[0] is None


def from_columns(
    kind: SequenceType, columns: Columns, which: Any, capacity: int, sizes: tuple[int, ...] | None
) -> Sequence:
    """The sequence number `which` of `columns`.

    Args:
        kind: its type.
        columns: the arrays.
        which: int32 scalar.
        capacity: the largest number of rows of an element.
        sizes: the numbers of rows that occur, if they are to be compiled in.
    """
    b = batch_symbols()[0]
    batched = [is_batched(leaf.shape) for leaf in tensors(kind.element)]
    arrays = list(zip(columns.arrays, batched, strict=True))
    avals = tuple(Aval((b, *array.shape[1:]) if rows else array.shape[1:], array.dtype) for array, rows in arrays)
    first = columns.first[which]

    def read(i: Any) -> tuple[list[Any], padding.Batch]:
        index = first + i
        batch = padding.Batch(columns.lengths[index], capacity)

        def leaf(array: Any, rows: bool, aval: Aval) -> Any:
            if rows:
                padded = lax.dynamic_slice_in_dim(array, columns.starts[index], capacity)
                return padding.copy_first(padded, aval.shape, batch)
            return lax.dynamic_index_in_dim(array, index, keepdims=False)

        return [leaf(array, rows, aval) for (array, rows), aval in zip(arrays, avals, strict=True)], batch

    return Sequence(avals, columns.counts[which], read, sizes, Origin(columns, which, capacity))


def sequence_map(trace: Trace, sequence: Sequence) -> Sequence:
    """The sequence of a function's results."""
    avals = _result_avals(trace, sequence)
    for aval in avals:
        _check_rows(aval.shape)

    def read(i: Any) -> tuple[list[Any], padding.Batch]:
        leaves, batch = sequence.read(i)
        results = call(trace, [], sequence, leaves, batch)
        return [padding.copy_first(x, aval.shape, batch) for x, aval in zip(results, avals, strict=True)], batch

    return Sequence(avals, sequence.count, read, sequence.sizes)


def sequence_reduce(trace: Trace, sequence: Sequence, zero: list[Any], given: list[Any]) -> list[Any]:
    """Folds a function of (the state's leaves, an element's leaves, those given) over a sequence, from `zero`."""
    start = [lax.convert_element_type(x, x.dtype) for x in map(jnp.asarray, zero)]

    def body(i: Any, state: list[Any]) -> list[Any]:
        after = call(trace, state, sequence, *sequence.read(i), given)
        return [lax.convert_element_type(x, y.dtype) for x, y in zip(after, state, strict=True)]

    return list(lax.fori_loop(jnp.int32(0), sequence.count, body, start))


def sequence_sum(sequence: Sequence, zero: list[Any]) -> list[Any]:
    """The sum of the elements, from `zero`."""

    def body(i: Any, state: list[Any]) -> list[Any]:
        leaves, _ = sequence.read(i)
        return [total + leaf.astype(total.dtype) for total, leaf in zip(state, leaves, strict=True)]

    return list(lax.fori_loop(jnp.int32(0), sequence.count, body, zero))


def call(
    trace: Trace,
    before: list[Any],
    sequence: Sequence,
    leaves: list[Any],
    batch: padding.Batch,
    after: list[Any] | None = None,
) -> list[Any]:
    """A function of the leaves `before`, those of an element and those `after`, on the element's true batch.

    Raises:
        NeedsSizes: if it cannot be evaluated on a padded batch and `sequence.sizes` is None.
    """
    first, last = (tuple(Aval(jnp.shape(x), x.dtype) for x in fixed) for fixed in (before, after or []))
    arguments = [*before, *leaves, *(after or [])]

    def among(avals: tuple[Aval, ...]) -> Traced:
        return trace((*first, *avals, *last))

    if not any(_has_batch(aval) for aval in sequence.avals):
        return list(jaxpr_as_fun(among(sequence.avals).jaxpr)(*arguments))
    traced, why = _symbolically(among, sequence.avals)
    if traced is not None:
        try:
            return padding.evaluate(traced.jaxpr, arguments, batch)
        except padding.Unsupported as error:
            why = str(error)
    if sequence.sizes is None:
        raise NeedsSizes(why)
    own = slice(len(before), len(before) + len(leaves))
    return _branches(among, arguments, own, sequence, batch)


def _symbolically(trace: Trace, avals: tuple[Aval, ...]) -> tuple[Traced | None, str]:
    try:
        return trace(avals), ""
    except NeedsSizes:
        raise
    except Exception as error:
        # Whatever a function raises on a symbolic size; what is wrong with it for any size is raised again by a branch.
        return None, f"it cannot be traced for a batch of any size: {type(error).__name__}: {error}"


def _branches(trace: Trace, leaves: list[Any], own: slice, sequence: Sequence, batch: padding.Batch) -> list[Any]:
    """`call`, with a branch for each size of batch; the leaves of the element are those at `own`."""
    assert sequence.sizes is not None
    sizes = [size for size in sequence.sizes if size <= batch.capacity]

    def branch(size: int) -> Callable[..., list[Any]]:
        avals = tuple(_at(aval, size) for aval in sequence.avals)

        def run(*args: Any) -> list[Any]:
            cut = list(args)
            cut[own] = [lax.slice(x, (0,) * x.ndim, aval.shape) for x, aval in zip(args[own], avals, strict=True)]
            outs = jaxpr_as_fun(trace(avals).jaxpr)(*cut)
            for x, shape in zip(outs, results, strict=True):
                if x.shape != _at(Aval(shape, x.dtype), size).shape:
                    raise TypeError(_rows_message(x.shape, size))
            return [_padded(x, shape, batch) for x, shape in zip(outs, results, strict=True)]

        return run

    results = [aval.shape for aval in _by_example(trace, sequence)]
    index = jnp.searchsorted(jnp.asarray(sizes, jnp.int32), batch.size)
    return list(lax.switch(index, [branch(size) for size in sizes], *leaves))


def _result_avals(trace: Trace, sequence: Sequence) -> tuple[Aval, ...]:
    traced, _ = _symbolically(trace, sequence.avals)
    if traced is None:
        return _by_example(trace, sequence)
    return tuple(Aval(aval.shape, aval.dtype) for aval in traced.jaxpr.out_avals)


def _by_example(trace: Trace, sequence: Sequence) -> tuple[Aval, ...]:
    """The shapes of the results, symbolic in the batch, from two sizes of it."""
    b = batch_symbols()[0]

    def of(size: int) -> Any:
        return trace(tuple(_at(aval, size) for aval in sequence.avals)).jaxpr.out_avals

    size, first, second = _two_sizes(of)
    shapes = [
        tuple(m if m == n else m + (n - m) * (b - size) for m, n in zip(one.shape, two.shape, strict=True))
        for one, two in zip(first, second, strict=True)
    ]
    return tuple(Aval(shape, aval.dtype) for shape, aval in zip(shapes, first, strict=True))


def _two_sizes(of: Callable[[int], Any]) -> tuple[int, Any, Any]:
    """A size, and what `of` gives for it and for the next: for the first few that it takes, as some need so many."""
    raised = None
    for size in (1, 2, 4, 8, 16, 32):
        try:
            return size, of(size), of(size + 1)
        except Exception as error:
            raised = raised or error
    assert raised is not None
    raise raised


def _check_rows(shape: tuple[Any, ...]) -> None:
    try:
        axis = padding.batch_axis(shape)
        if axis is not None:
            padding.multiple(shape[axis])
    except padding.Unsupported:
        raise TypeError(_rows_message(shape)) from None


def _rows_message(shape: tuple[Any, ...], size: Any = "b") -> str:
    return (
        f"the function of sequence_map returns a tensor of shape ({', '.join(map(str, shape))}) for a batch of {size} "
        "examples: "
        "it must return the same number of rows for each example, on one axis; for anything else work in the op of "
        "hansa.sequence_reduce"
    )


def _at(aval: Aval, size: int) -> Aval:
    batch = padding.Batch(size, size)
    return Aval(tuple(batch.rows(dim) for dim in aval.shape), aval.dtype)


def _padded(value: Any, shape: tuple[Any, ...], batch: padding.Batch) -> Any:
    widths = [(0, batch.rows(dim) - n) for dim, n in zip(shape, value.shape, strict=True)]
    return jnp.pad(value, widths) if any(width != (0, 0) for width in widths) else value


def _has_batch(aval: Aval) -> bool:
    return any(export.is_symbolic_dim(dim) for dim in aval.shape)
