"""Convolutions in the one layout for which XLA's CPU backend has a fast kernel, and without groups.

XLA brings a convolution at the top of a program to that layout itself, but not one in the body of a loop, where the
gradient of a convolution's kernel takes a hundred times as long as it should. The layout is batch, space, channels for
the operand and space, channels, kernels for the kernel; transposes before and after change nothing but the order.

The gradient of a kernel is itself a convolution, in which the examples of the batch take the place of channels, and the
gradient of the result that of the kernel. That is large, and read once for each row of the result: by a part of the
examples at a time, it stays in the cache of a core. The gradient of one example is one matrix product, of all that the
kernel's taps have seen.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

# A depthwise convolution is written out tap by tap up to this many taps (measured: slower from about 60 on).
_MANY_TAPS = 49
# Grouped convolutions are written out group by group up to this many groups.
_MANY_GROUPS = 16
# The gradient of a kernel by one example is written out tap by tap up to this many taps.
_MANY_TAPS_OF_ONE = 64
# A kernel that is larger than its result is taken by parts of so many bytes (measured: best for cores with 1 to 2 MiB).
_PART = 2**19


def convolution(eqn: Any) -> Callable[..., Any] | None:
    """The rule for `conv_general_dilated`."""
    params = dict(eqn.params)
    numbers = params.pop("dimension_numbers")
    (operand, kernel), result = (atom.aval for atom in eqn.invars), eqn.outvars[0].aval
    if not jnp.issubdtype(operand.dtype, jnp.floating) or 0 in (*operand.shape, *kernel.shape, *result.shape):
        return None
    rank = len(operand.shape)
    into = _Layout(numbers, rank)
    groups, batch_groups = params.pop("feature_group_count"), params.pop("batch_group_count")
    taps = math.prod(kernel.shape[axis] for axis in numbers.rhs_spec[2:])
    if groups > 1 and groups == operand.shape[numbers.lhs_spec[1]]:
        if taps > _MANY_TAPS:
            return None

        def form(x: Any, w: Any) -> Any:
            return _depthwise(x, w, **params)
    elif max(groups, batch_groups) <= _MANY_GROUPS:

        def form(x: Any, w: Any) -> Any:
            return _grouped(x, w, groups, batch_groups, **params)
    else:
        return None

    def arranged(x: Any, w: Any) -> Any:
        return form(into.operand(x), into.kernel(w))

    window, space = (
        math.prod(a.shape[i] for i in spec[2:]) for a, spec in ((kernel, numbers.rhs_spec), (result, numbers.out_spec))
    )
    each = _PART // (window * kernel.shape[numbers.rhs_spec[0]] * kernel.dtype.itemsize)
    large = window > space and max(groups, batch_groups) == 1 and result.dtype == operand.dtype
    of_one = operand.shape[numbers.lhs_spec[1]] == 1 and max(params["lhs_dilation"]) == 1
    if large and of_one and space <= _MANY_TAPS_OF_ONE:

        def by_taps(x: Any, w: Any) -> Any:
            return into.result(_one_product(into.operand(x), into.kernel(w), **params))

        by_taps.__name__ = "convolution"
        return by_taps
    fast = _by_parts(arranged, numbers.lhs_spec[1], numbers.rhs_spec[1], max(1, each)) if large else arranged

    def rewritten(x: Any, w: Any) -> Any:
        return into.result(fast(x, w))

    rewritten.__name__ = "convolution"
    return rewritten


def _one_product(
    x: Any,
    w: Any,
    *,
    window_strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    rhs_dilation: Sequence[int],
    precision: Any,
    **_: Any,
) -> Any:
    """A convolution of one channel: the operand at each place of the result, and these times the kernel.

    Args:
        x: [batch, *space, 1].
        w: [*window, 1, kernels].
    """
    batch, window = x.shape[0], w.shape[:-2]
    padded = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *((low, high, 0) for low, high in padding), (0, 0, 0)])
    sizes = [
        (size - (taps - 1) * gap - 1) // stride + 1
        for size, taps, gap, stride in zip(padded.shape[1:-1], window, rhs_dilation, window_strides, strict=True)
    ]
    seen = jnp.moveaxis(padded[..., 0], 0, -1)
    for axis, (size, taps, gap, stride) in enumerate(zip(sizes, window, rhs_dilation, window_strides, strict=True)):
        span = (taps - 1) * gap + 1
        parts = [lax.slice_in_dim(seen, i * stride, i * stride + span, gap, axis) for i in range(size)]
        seen = jnp.stack(parts, -2)
    places = math.prod(window)
    product = lax.dot_general(
        seen.reshape(places, -1), w.reshape(places, -1), (((0,), (0,)), ((), ())), precision=precision
    )
    return jnp.moveaxis(product.reshape(*sizes, batch, -1), -2, 0)


def _by_parts(function: Callable[[Any, Any], Any], axis: int, other: int, each: int) -> Callable[[Any, Any], Any]:
    """A function that contracts these axes of its operands, as a sum over parts of `each` elements, the last one filled
    up with zeros. Parts are the same where the size is known only later, so that the sum has the same bits."""

    def summed(x: Any, w: Any) -> Any:
        size = x.shape[axis]
        count = (size + each - 1) // each
        rest = count * each - size if isinstance(size, int) else each  # of which as many are read as are needed
        x, w = _extended(x, axis, rest), _extended(w, other, rest)

        def take(turn: Any, total: Any) -> Any:
            start = turn * each
            return total + function(
                lax.dynamic_slice_in_dim(x, start, each, axis), lax.dynamic_slice_in_dim(w, start, each, other)
            )

        zero = jax.eval_shape(lambda: take(jnp.int32(0), 0))
        return lax.fori_loop(jnp.int32(0), jnp.asarray(count, jnp.int32), take, jnp.zeros(zero.shape, zero.dtype))

    def either(x: Any, w: Any) -> Any:
        size = x.shape[axis]
        if isinstance(size, int):
            return function(x, w) if size <= each else summed(x, w)
        return lax.cond(jnp.asarray(size) <= each, function, summed, x, w)

    return either


def _extended(x: Any, axis: int, rest: int) -> Any:
    """An array with so many zeros more along an axis."""
    if rest == 0:
        return x
    zeros = [(0, rest if i == axis else 0, 0) for i in range(x.ndim)]
    return lax.pad(x, jnp.zeros((), x.dtype), zeros)


class _Layout:
    """Brings arrays to the layout of the fast kernel, and results back from it."""

    def __init__(self, numbers: Any, rank: int) -> None:
        operand, kernel, result = numbers.lhs_spec, numbers.rhs_spec, numbers.out_spec
        self._operand = (operand[0], *operand[2:], operand[1])
        self._kernel = (*kernel[2:], kernel[1], kernel[0])
        order = (result[0], *result[2:], result[1])
        self._result = tuple(order.index(axis) for axis in range(rank))

    def operand(self, x: Any) -> Any:
        return lax.transpose(x, self._operand)

    def kernel(self, w: Any) -> Any:
        return lax.transpose(w, self._kernel)

    def result(self, y: Any) -> Any:
        return lax.transpose(y, self._result)


def _grouped(x: Any, w: Any, groups: int, batch_groups: int, **params: Any) -> Any:
    """A convolution for each group, whose results lie side by side in the channels."""
    count = max(groups, batch_groups)
    if count == 1:
        return _plain(x, w, **params)
    operands = jnp.split(x, count, axis=-1 if groups > 1 else 0)
    kernels = jnp.split(w, count, axis=-1)
    return jnp.concatenate([_plain(a, b, **params) for a, b in zip(operands, kernels, strict=True)], axis=-1)


def _plain(x: Any, w: Any, **params: Any) -> Any:
    rank = x.ndim
    spaces = tuple(range(1, rank - 1))
    layout = (0, rank - 1, *spaces)
    kernel = (rank - 1, rank - 2, *range(rank - 2))
    return lax.conv_general_dilated(x, w, dimension_numbers=lax.ConvDimensionNumbers(layout, kernel, layout), **params)


def _depthwise(
    x: Any,
    w: Any,
    *,
    window_strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int],
    rhs_dilation: Sequence[int],
    preferred_element_type: Any,
    **_: Any,
) -> Any:
    """The sum over the kernel's taps of the shifted operand times the tap: every channel is convolved by itself.

    Args:
        x: [batch, *space, channels].
        w: [*window, 1, channels * multiplier].
    """
    channels, window = x.shape[-1], w.shape[:-2]
    multiplier = w.shape[-1] // channels
    dtype = preferred_element_type or x.dtype
    space = [(low, high, step - 1) for (low, high), step in zip(padding, lhs_dilation, strict=True)]
    padded = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *space, (0, 0, 0)]).astype(dtype)
    sizes = [
        (size - (taps - 1) * gap - 1) // stride + 1
        for size, taps, gap, stride in zip(padded.shape[1:-1], window, rhs_dilation, window_strides, strict=True)
    ]
    total = None
    for tap in itertools.product(*map(range, window)):
        starts = [i * gap for i, gap in zip(tap, rhs_dilation, strict=True)]
        stops = [
            start + (size - 1) * stride + 1 for start, size, stride in zip(starts, sizes, window_strides, strict=True)
        ]
        part = lax.slice(padded, (0, *starts, 0), (x.shape[0], *stops, channels), (1, *window_strides, 1))
        weight = w[tap][0].astype(dtype).reshape(channels, multiplier)
        term = part[..., None] * weight
        total = term if total is None else total + term
    assert total is not None
    return total.reshape(x.shape[0], *sizes, channels * multiplier)
