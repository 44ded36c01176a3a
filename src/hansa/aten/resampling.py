"""Resampling of signals, pictures and volumes: nearest, linear, cubic, and at given places."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from typing import Any

import jax.numpy as jnp
import numpy as np

from hansa.aten.table import operation


def _sizes(x: Any, sizes: Any, factors: Any) -> tuple[list[int], list[float | None]]:
    """How large the result is, and by which factors; PyTorch has either of them, or both."""
    space = x.shape[2:]
    factors = [None] * len(space) if factors is None else list(factors)
    if sizes is None:
        sizes = [math.floor(float(n) * f) for n, f in zip(space, factors, strict=True)]
    return list(sizes), factors


def _along(x: Any, axis: int, weights: np.ndarray) -> Any:
    """A product with a constant matrix along an axis: [result, source]."""
    return jnp.moveaxis(jnp.tensordot(x, jnp.asarray(weights, x.dtype), ((axis,), (1,))), -1, axis)


def _source(size: int, full: int, factor: float | None, align: bool) -> np.ndarray:
    """Where in the source each element of the result lies."""
    place = np.arange(size, dtype=np.float64)
    if align:
        return place * ((full - 1) / (size - 1)) if size > 1 else place * 0
    scale = 1 / factor if factor else full / size
    return (place + 0.5) * scale - 0.5


def _linear_weights(size: int, full: int, factor: float | None, align: bool) -> np.ndarray:
    at = np.maximum(_source(size, full, factor, align), 0)
    low = np.minimum(at.astype(int), full - 1)
    high = np.minimum(low + 1, full - 1)
    weights = np.zeros((size, full))
    rows, part = np.arange(size), np.clip(at - low, 0, 1)
    np.add.at(weights, (rows, low), 1 - part)
    np.add.at(weights, (rows, high), part)
    return weights


def _cubic_weights(size: int, full: int, factor: float | None, align: bool) -> np.ndarray:
    """Keys's kernel with a = -0.75, the edge repeated."""
    at, a = _source(size, full, factor, align), -0.75
    low = np.floor(at).astype(int)
    weights = np.zeros((size, full))
    for tap in range(-1, 3):
        t = np.abs(at - low - tap)
        near, far = ((a + 2) * t - (a + 3)) * t * t + 1, ((t - 5) * t + 8) * t * a - 4 * a
        np.add.at(weights, (np.arange(size), np.clip(low + tap, 0, full - 1)), np.where(t <= 1, near, far))
    return weights


def _nearest(x: Any, sizes: Sequence[int], factors: Sequence[float | None], exact: bool) -> Any:
    for axis, (size, factor) in enumerate(zip(sizes, factors, strict=True), 2):
        full = x.shape[axis]
        if size % full == 0 and (factor is None or factor == size / full):
            x = jnp.repeat(x, size // full, axis)
            continue
        scale = np.float32(1 / factor if factor else full / size)
        place = (np.arange(size, dtype=np.float32) + np.float32(0.5 if exact else 0)) * scale
        x = jnp.take(x, np.minimum(place.astype(int), full - 1), axis)
    return x


def _nearest_operation(dimensions: int, exact: bool) -> Any:
    def run(x: Any, sizes: Any, *factors: Any) -> Any:
        given = factors[0] if len(factors) == 1 and isinstance(factors[0], list | tuple) else (factors or None)
        given = given if given is not None and len(given) == dimensions else None
        return _nearest(x, *_sizes(x, sizes, given), exact)

    return run


for _n in (1, 2, 3):
    operation(f"upsample_nearest{_n}d")(_nearest_operation(_n, False))
    operation(f"_upsample_nearest_exact{_n}d")(_nearest_operation(_n, True))


def _smooth(weights: Any) -> Any:
    def run(x: Any, sizes: Any, align: bool, *factors: Any) -> Any:
        given = factors[0] if len(factors) == 1 and isinstance(factors[0], list | tuple) else factors
        sizes, found = _sizes(x, sizes, given if given and len(given) == x.ndim - 2 else None)
        for axis, (size, factor) in enumerate(zip(sizes, found, strict=True), 2):
            if size != x.shape[axis] or (factor and factor != 1):
                x = _along(x, axis, weights(size, x.shape[axis], factor, align))
        return x

    return run


operation("upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d")(_smooth(_linear_weights))
operation("upsample_bicubic2d")(_smooth(_cubic_weights))


@operation("affine_grid_generator")
def _affine_grid(theta: Any, size: Sequence[Any], align: bool) -> Any:
    def places(n: int) -> np.ndarray:
        found = np.linspace(-1, 1, n) if n > 1 else np.zeros(1)
        return found if align else found * (n - 1) / n

    grids = np.meshgrid(*(places(n) for n in size[2:]), indexing="ij")
    base = np.stack([*grids[::-1], np.ones_like(grids[0])], -1)
    return jnp.einsum("...i,bji->b...j", jnp.asarray(base, theta.dtype), theta)


@operation("grid_sampler", "grid_sampler_2d", "grid_sampler_3d")
def _grid_sampler(x: Any, grid: Any, mode: int = 0, padding: int = 0, align: bool = False) -> Any:
    """The array at the places of a grid, from -1 to 1: bilinear (0) or nearest (1); beyond it zeros (0) or the edge
    (1)."""
    from hansa.aten.table import Unsupported

    if mode > 1 or padding > 1:
        raise Unsupported("grid_sample with mode='bicubic' or padding_mode='reflection'")
    space = x.shape[2:]
    at = []
    for axis, full in enumerate(reversed(space)):
        place = grid[..., axis]
        place = (place + 1) / 2 * (full - 1) if align else ((place + 1) * full - 1) / 2
        at.append(jnp.clip(place, 0, full - 1) if padding == 1 else place)
    at.reverse()
    rows = jnp.arange(x.shape[0]).reshape(-1, *(1,) * (grid.ndim - 2))
    by_channel = jnp.moveaxis(x, 1, -1)

    def read(corner: Sequence[Any]) -> Any:
        inside: Any = True
        for place, full in zip(corner, space, strict=True):
            inside = inside & (place >= 0) & (place <= full - 1)
        index = [jnp.clip(p, 0, n - 1).astype(jnp.int32) for p, n in zip(corner, space, strict=True)]
        return jnp.where(jnp.asarray(inside)[..., None], by_channel[(rows, *index)], 0)

    if mode == 1:
        return jnp.moveaxis(read([jnp.round(place) for place in at]), -1, 1)
    low = [jnp.floor(place) for place in at]
    total: Any = 0
    for corner in product((0, 1), repeat=len(space)):
        weight: Any = 1
        for place, start, up in zip(at, low, corner, strict=True):
            weight = weight * (place - start if up else 1 - (place - start))
        total = total + weight[..., None] * read([start + up for start, up in zip(low, corner, strict=True)])
    return jnp.moveaxis(total, -1, 1)
