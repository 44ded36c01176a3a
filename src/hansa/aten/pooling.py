"""Pooling: maxima and means of windows, also rounded up at the edge, and adaptive to any size of result."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import prod
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from hansa.aten.table import Unsupported, many, operation


class _Windows:
    """The windows of the last `n` axes of an array.

    Attributes:
        shape, strides, dilation: of the windows, for all axes.
        pads: what the windows need on both sides.
        size: how many windows there are along each of the last axes.
    """

    def __init__(
        self, x: Any, n: int, kernel: Any, stride: Any, padding: Any, dilation: Any = 1, ceil: bool = False
    ) -> None:
        kernel, padding, dilation = (many(v, n) for v in (kernel, padding, dilation))
        stride = many(stride, n) if stride not in (None, [], ()) else kernel
        lead = (1,) * (x.ndim - n)
        self.shape, self.strides, self.dilation = (*lead, *kernel), (*lead, *stride), (*lead, *dilation)
        self.size, self.pads = [], [(0, 0)] * (x.ndim - n)
        for full, k, s, p, d in zip(x.shape[x.ndim - n :], kernel, stride, padding, dilation, strict=True):
            reach = d * (k - 1) + 1
            count = (full + 2 * p - reach + (s - 1 if ceil else 0)) // s + 1
            if ceil and (count - 1) * s >= full + p:  # a window begins within the array or its padding before it
                count -= 1
            self.size.append(count)
            self.pads.append((p, max((count - 1) * s + reach - full - p, p if not ceil else 0)))

    def reduce(self, x: Any, start: Any, function: Any) -> Any:
        """What is made of each window. The channels are the last axis meanwhile, as they are in a fast convolution."""
        channels = x.ndim - len(self.size) - 1
        if channels < 0:
            return lax.reduce_window(x, start, function, self.shape, self.strides, self.pads)
        order = [axis for axis in range(x.ndim) if axis != channels] + [channels]
        shape, strides = ([values[i] for i in order] for values in (self.shape, self.strides))
        pads = [self.pads[i] for i in order]
        found = lax.reduce_window(jnp.moveaxis(x, channels, -1), start, function, shape, strides, pads)
        return jnp.moveaxis(found, -1, channels)


def _least(x: Any) -> Any:
    return -np.inf if jnp.issubdtype(x.dtype, jnp.floating) else np.iinfo(x.dtype).min


@operation("max_pool1d", "max_pool2d", "max_pool3d")
def _max_pool(x: Any, kernel: Any, stride: Any = (), padding: Any = 0, dilation: Any = 1, ceil: bool = False) -> Any:
    windows = _Windows(x, len(kernel), kernel, stride, padding, dilation, ceil)
    if any(d > 1 for d in windows.dilation):  # of which JAX has no gradient
        return _maximum_by_taps(x, windows)
    return windows.reduce(x, _least(x), lax.max)


def _maximum_by_taps(x: Any, windows: _Windows) -> Any:
    """The maxima, from an array for each place in a window; of equal ones the first has the gradient."""
    padded = lax.pad(x, jnp.asarray(_least(x), x.dtype), [(low, high, 0) for low, high in windows.pads])
    best: Any = None
    counts = (*x.shape[: x.ndim - len(windows.size)], *windows.size)
    for tap in product(*map(range, windows.shape)):
        starts = [i * d for i, d in zip(tap, windows.dilation, strict=True)]
        stops = [a + (n - 1) * s + 1 for a, n, s in zip(starts, counts, windows.strides, strict=True)]
        element = lax.slice(padded, starts, stops, windows.strides)
        best = element if best is None else jnp.where(element > best, element, best)
    return best


@operation("max_pool2d_with_indices", "max_pool3d_with_indices", "max_pool1d_with_indices")
def _max_pool_with_indices(
    x: Any, kernel: Any, stride: Any = (), padding: Any = 0, dilation: Any = 1, ceil: bool = False
) -> Any:
    """The maxima, and where in the array they are; what is not used is left out by XLA."""
    n = len(kernel)
    values = _max_pool(x, kernel, stride, padding, dilation, ceil)
    windows = _Windows(x, n, kernel, stride, padding, dilation, ceil)
    space = x.shape[x.ndim - n :]
    numbers = jnp.broadcast_to(jnp.arange(prod(space), dtype=jnp.int32).reshape(space), x.shape)

    def first(a: Any, b: Any) -> Any:
        takes = (b[0] > a[0]) | ((b[0] == a[0]) & (b[1] < a[1]))
        return jnp.where(takes, b[0], a[0]), jnp.where(takes, b[1], a[1])

    start = jnp.asarray(-jnp.inf, x.dtype), jnp.int32(2**31 - 1)
    _, index = lax.reduce_window(
        (lax.stop_gradient(x), numbers), start, first, windows.shape, windows.strides, windows.pads,
        window_dilation=windows.dilation,
    )  # fmt: skip
    return values, index


@operation("max_unpool2d", "max_unpool3d")
def _max_unpool(x: Any, index: Any, size: Any, *_: Any) -> Any:
    n = len(size)
    lead = x.shape[: x.ndim - n]
    flat = jnp.zeros((*lead, prod(size)), x.dtype)
    count = prod(x.shape[x.ndim - n :])
    given, places = x.reshape(*lead, count), index.reshape(*lead, count)
    return jnp.put_along_axis(flat, places, given, -1, inplace=False).reshape(*lead, *size)


@operation("avg_pool1d", "avg_pool2d", "avg_pool3d")
def _avg_pool(
    x: Any,
    kernel: Any,
    stride: Any = (),
    padding: Any = 0,
    ceil: bool = False,
    count_include_pad: bool = True,
    divisor: Any = None,
) -> Any:
    n = len(kernel)
    windows = _Windows(x, n, kernel, stride, padding, 1, ceil)
    total = windows.reduce(x, np.zeros((), x.dtype), lax.add)
    if divisor is not None:
        return total / divisor
    # How many elements of the array, or of it with its padding, each window has: a product along the axes.
    counts: Any = jnp.ones((1,) * n, x.dtype)
    for axis, (full, k, s, (low, _), count, p) in enumerate(
        zip(x.shape[x.ndim - n :], many(kernel, n), windows.strides[-n:], windows.pads[-n:], windows.size,
            many(padding, n), strict=True)
    ):  # fmt: skip
        begin, end = (-p, full + p) if count_include_pad else (0, full)
        within = [min(i * s - low + k, end) - max(i * s - low, begin) for i in range(count)]
        counts = counts * jnp.asarray(within, x.dtype).reshape([-1 if i == axis else 1 for i in range(n)])
    return total / counts


def _adaptive(x: Any, sizes: Sequence[Any], along: Any) -> Any:
    """Each of the last axes in so many parts, which may overlap by one, of which `along` makes one element."""
    for axis, size in zip(range(x.ndim - len(sizes), x.ndim), sizes, strict=True):
        full = x.shape[axis]
        size = full if size is None else size
        if not isinstance(full, int):
            raise Unsupported("adaptive pooling along the batch")
        if full % size == 0:
            parts = x.reshape(*x.shape[:axis], size, full // size, *x.shape[axis + 1 :])
            x = along(parts, axis + 1)
        else:
            bounds = [(i * full // size, -(-(i + 1) * full // size)) for i in range(size)]
            x = jnp.stack([along(lax.slice_in_dim(x, low, high, axis=axis), axis) for low, high in bounds], axis)
    return x


@operation("adaptive_avg_pool1d", "adaptive_avg_pool2d", "_adaptive_avg_pool2d", "adaptive_avg_pool3d",
           "_adaptive_avg_pool3d")  # fmt: skip
def _adaptive_avg_pool(x: Any, sizes: Any) -> Any:
    if all(size == 1 for size in sizes):
        return x.mean(tuple(range(x.ndim - len(sizes), x.ndim)), keepdims=True)
    return _adaptive(x, sizes, lambda parts, axis: parts.mean(axis))


@operation("adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d")
def _adaptive_max_pool(x: Any, sizes: Any) -> Any:
    """The maxima; where they are is not told."""
    n = len(sizes)
    full = x.shape[x.ndim - n :]
    if all(f % s == 0 for f, s in zip(full, sizes, strict=True)):
        return _max_pool(x, [f // s for f, s in zip(full, sizes, strict=True)]), None
    return _adaptive_windows(x, sizes), None


def _adaptive_windows(x: Any, sizes: Sequence[int]) -> Any:
    return _adaptive(x, sizes, lambda parts, axis: parts.max(axis))
