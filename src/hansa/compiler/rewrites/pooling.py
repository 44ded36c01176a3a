"""The gradient of max-pooling, which XLA's CPU backend computes one window at a time."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax

# Windows are written out element by element up to this many (measured: slower from about 16 on).
_LARGE_WINDOW = 9


def maximum_gradient(eqn: Any) -> Callable[..., Any] | None:
    """The rule for `select_and_scatter_add`: to each window's first greatest element goes the window's gradient."""
    params = eqn.params
    window, strides, padding = params["window_dimensions"], params["window_strides"], params["padding"]
    select = params["select_prim"]
    gradient, operand = (atom.aval for atom in eqn.invars)
    floating = jnp.issubdtype(operand.dtype, jnp.floating)
    if select.name != "ge" or not floating or math.prod(window) > _LARGE_WINDOW or 0 in gradient.shape:
        return None

    def rewritten(source: Any, operand: Any) -> Any:
        # Each element of it is read at several places, and computed once for all of them.
        source = lax.optimization_barrier(source)
        least = jnp.asarray(-jnp.inf, operand.dtype)
        padded = lax.pad(operand, least, [(low, high, 0) for low, high in padding])
        offsets = list(itertools.product(*map(range, window)))
        best, chosen = None, jnp.zeros(source.shape, jnp.int32)
        for number, offset in enumerate(offsets):
            element = lax.slice(padded, *_span(offset, source.shape, strides), strides)
            if best is None:
                best = element
                continue
            better = ~(best >= element)
            best = jnp.where(better, element, best)
            chosen = jnp.where(better, number, chosen)
        spread = _side_by_side if tuple(window) == tuple(strides) else _overlapping
        total = spread(source, chosen, offsets, strides, padded.shape)
        lows = [low for low, _ in padding]
        return lax.slice(total, lows, [low + size for low, size in zip(lows, operand.shape, strict=True)])

    rewritten.__name__ = "maximum_gradient"
    return rewritten


def _span(offset: Sequence[int], counts: Sequence[Any], strides: Sequence[int]) -> tuple[list[int], list[Any]]:
    """Where the elements at this place of each window begin and end."""
    return list(offset), [start + (n - 1) * s + 1 for start, n, s in zip(offset, counts, strides, strict=True)]


def _side_by_side(
    source: Any, chosen: Any, offsets: Sequence[Sequence[int]], window: Sequence[int], shape: Sequence[Any]
) -> Any:
    """The gradient where no element is in two windows: each looks at its own."""
    split: list[Any] = []  # axes of windows, each before the axes within a window
    places, within = [], []
    for count, size in zip(source.shape, window, strict=True):
        places.append(len(split))
        split.append(count)
        if size > 1:
            within.append(len(split))
            split.append(size)
    numbers = jnp.arange(len(offsets), dtype=jnp.int32).reshape([size for size in window if size > 1])
    mine = lax.broadcast_in_dim(chosen, split, places) == lax.broadcast_in_dim(numbers, split, within)
    gradient = jnp.where(mine, lax.broadcast_in_dim(source, split, places), jnp.zeros((), source.dtype))
    covered = [count * size for count, size in zip(source.shape, window, strict=True)]
    rest = [(0, size - part, 0) for size, part in zip(shape, covered, strict=True)]
    return lax.pad(lax.reshape(gradient, covered), jnp.zeros((), source.dtype), rest)


def _overlapping(
    source: Any, chosen: Any, offsets: Sequence[Sequence[int]], strides: Sequence[int], shape: Sequence[Any]
) -> Any:
    """The gradient as a sum over the places in a window."""
    total = None
    for number, offset in enumerate(offsets):
        part = jnp.where(chosen == number, source, jnp.zeros((), source.dtype))
        starts, stops = _span(offset, source.shape, strides)
        around = [
            (start, size - stop, stride - 1)
            for start, stop, size, stride in zip(starts, stops, shape, strides, strict=True)
        ]
        spread = lax.pad(part, jnp.zeros((), source.dtype), around)
        total = spread if total is None else total + spread
    assert total is not None
    return total
