"""The gradient of max-pooling, which XLA's CPU backend computes one window at a time."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
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
        least = jnp.asarray(-jnp.inf, operand.dtype)
        padded = lax.pad(operand, least, [(low, high, 0) for low, high in padding])
        offsets = list(itertools.product(*map(range, window)))

        def spans(offset: tuple[int, ...]) -> tuple[list[int], list[int]]:
            stops = [start + (n - 1) * s + 1 for start, n, s in zip(offset, source.shape, strides, strict=True)]
            return list(offset), stops

        best = lax.slice(padded, *spans(offsets[0]), strides)
        chosen = jnp.zeros(source.shape, jnp.int32)
        for number, offset in enumerate(offsets[1:], 1):
            element = lax.slice(padded, *spans(offset), strides)
            better = ~(best >= element)
            best = jnp.where(better, element, best)
            chosen = jnp.where(better, number, chosen)
        total = None
        for number, offset in enumerate(offsets):
            part = jnp.where(chosen == number, source, jnp.zeros((), source.dtype))
            starts, stops = spans(offset)
            around = [
                (start, size - stop, stride - 1)
                for start, stop, size, stride in zip(starts, stops, padded.shape, strides, strict=True)
            ]
            spread = lax.pad(part, jnp.zeros((), source.dtype), around)
            total = spread if total is None else total + spread
        assert total is not None
        lows = [low for low, _ in padding]
        return lax.slice(total, lows, [low + size for low, size in zip(lows, operand.shape, strict=True)])

    rewritten.__name__ = "maximum_gradient"
    return rewritten
