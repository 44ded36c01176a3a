"""Operations along axes: sums and other reductions, norms of vectors, running sums, sorting."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from hansa.aten.table import axes, operation


def _reduction(name: str, function: Any, casts: bool = False) -> None:
    def reduce(x: Any, dim: Any = None, keepdim: bool = False, **_: Any) -> Any:
        return function(x, axes(x, dim), keepdims=keepdim)

    operation(*name.split(), casts=casts)(reduce)


_reduction("sum", jnp.sum, casts=True)
_reduction("mean", jnp.mean, casts=True)
_reduction("prod", jnp.prod, casts=True)
_reduction("nansum", jnp.nansum, casts=True)
_reduction("nanmean", jnp.nanmean, casts=True)
_reduction("amax", jnp.max)
_reduction("amin", jnp.min)
_reduction("any", jnp.any)
_reduction("all", jnp.all)
_reduction("count_nonzero", jnp.count_nonzero)
_reduction("logsumexp special_logsumexp", jax.nn.logsumexp)


@operation("aminmax")
def _aminmax(x: Any, dim: Any = None, keepdim: bool = False) -> Any:
    return tuple(f(x, axes(x, dim), keepdims=keepdim) for f in (jnp.min, jnp.max))


@operation("argmax")
def _argmax(x: Any, dim: Any = None, keepdim: bool = False) -> Any:
    return jnp.argmax(x, dim, keepdims=keepdim)


@operation("argmin")
def _argmin(x: Any, dim: Any = None, keepdim: bool = False) -> Any:
    return jnp.argmin(x, dim, keepdims=keepdim)


operation("max")(lambda x: jnp.max(x))
operation("min")(lambda x: jnp.min(x))


def _chosen(x: Any, dim: int, index: Any, keepdim: bool) -> Any:
    """The elements of these numbers along an axis, and the numbers."""
    values = jnp.take_along_axis(x, index, dim)
    return (values, index) if keepdim else (jnp.squeeze(values, dim), jnp.squeeze(index, dim))


@operation("max.dim")
def _max(x: Any, dim: int, keepdim: bool = False) -> Any:
    return _chosen(x, dim, jnp.argmax(x, dim, keepdims=True), keepdim) if x.ndim else (x, jnp.int32(0))


@operation("min.dim")
def _min(x: Any, dim: int, keepdim: bool = False) -> Any:
    return _chosen(x, dim, jnp.argmin(x, dim, keepdims=True), keepdim) if x.ndim else (x, jnp.int32(0))


def _spread(x: Any, dim: Any, correction: Any, keepdim: bool) -> Any:
    """The variance, as PyTorch has it."""
    over = axes(x, dim)
    count = jnp.asarray(_count(x, over), x.dtype)
    centred = x - x.mean(over, keepdims=True)
    return jnp.sum(jnp.square(centred), over, keepdims=keepdim) / jnp.maximum(count - correction, 0)


def _count(x: Any, over: tuple[int, ...]) -> Any:
    count: Any = 1
    for axis in over:
        count = count * x.shape[axis]
    return count


def _corrected(function: Any) -> Any:
    """With the three ways to say the correction."""

    def run(x: Any, *given: Any, correction: Any = 1, keepdim: bool = False, unbiased: Any = None) -> Any:
        dim, *rest = given if given else (None,)
        if isinstance(dim, bool):
            dim, rest = None, [dim]
        if rest:
            unbiased = rest[0]
        keepdim = rest[1] if len(rest) > 1 else keepdim
        if unbiased is not None:
            correction = int(unbiased)
        return function(x, dim, 1 if correction is None else correction, keepdim)

    return run


def _root(x: Any) -> Any:
    """The square root, whose gradient at zero is zero."""
    none = x == 0
    return jnp.where(none, 0, jnp.sqrt(jnp.where(none, 1, x)))


operation("var")(_corrected(_spread))
operation("std")(_corrected(lambda *given: _root(_spread(*given))))


def _with_mean(of: Any) -> Any:
    """What is made of a variance, and the mean beside it."""

    def both(x: Any, dim: Any, correction: Any, keepdim: bool) -> Any:
        return of(_spread(x, dim, correction, keepdim)), x.mean(axes(x, dim), keepdims=keepdim)

    return _corrected(both)


operation("var_mean")(_with_mean(lambda variance: variance))
operation("std_mean")(_with_mean(_root))


@operation("linalg_vector_norm", casts=True)
def _vector_norm(x: Any, ord: Any = 2, dim: Any = None, keepdim: bool = False, **_: Any) -> Any:
    """The norm of vectors; its gradient at zero is zero."""
    over = axes(x, dim)
    if ord == 2:
        return _root(jnp.sum(jnp.square(x), over, keepdims=keepdim))
    size = jnp.abs(x)
    if ord == float("inf"):
        return jnp.max(size, over, keepdims=keepdim)
    if ord == float("-inf"):
        return jnp.min(size, over, keepdims=keepdim)
    if ord == 0:
        return jnp.sum(x != 0, over, keepdims=keepdim).astype(x.dtype)
    if ord == 1:
        return jnp.sum(size, over, keepdims=keepdim)
    none = size == 0
    powers = jnp.where(none, 0, jnp.where(none, 1, size) ** ord)
    total = jnp.sum(powers, over, keepdims=keepdim)
    empty = total == 0
    return jnp.where(empty, 0, jnp.where(empty, 1, total) ** (1 / ord))


@operation("norm", "linalg_norm", casts=True)
def _norm(x: Any, ord: Any = 2, dim: Any = None, keepdim: bool = False, **_: Any) -> Any:
    return _vector_norm(x, 2 if ord is None or ord == "fro" else ord, dim, keepdim)


@operation("softmax", "_softmax", "special_softmax", casts=True)
def _softmax(x: Any, dim: int, *_: Any) -> Any:
    return jax.nn.softmax(x, dim) if x.ndim else jnp.ones_like(x)


@operation("log_softmax", "_log_softmax", "special_log_softmax", casts=True)
def _log_softmax(x: Any, dim: int, *_: Any) -> Any:
    return jax.nn.log_softmax(x, dim) if x.ndim else jnp.zeros_like(x)


# Running reductions.


@operation("cumsum", casts=True)
def _cumsum(x: Any, dim: int, **_: Any) -> Any:
    return jnp.cumsum(x, dim) if x.ndim else x


@operation("cumprod", casts=True)
def _cumprod(x: Any, dim: int, **_: Any) -> Any:
    return jnp.cumprod(x, dim) if x.ndim else x


@operation("logcumsumexp")
def _logcumsumexp(x: Any, dim: int) -> Any:
    return lax.cumlogsumexp(x, dim % x.ndim)


def _running(x: Any, dim: int, better: Any) -> Any:
    """The best so far along an axis, and where it is: the last of equal ones, as PyTorch has it."""

    def best(a: Any, b: Any) -> Any:
        takes = better(b[0], a[0])
        return jnp.where(takes, b[0], a[0]), jnp.where(takes, b[1], a[1])

    dim %= x.ndim
    numbers = lax.broadcasted_iota(jnp.int32, x.shape, dim)
    _, index = lax.associative_scan(best, (lax.stop_gradient(x), numbers), axis=dim)
    return jnp.take_along_axis(x, index, dim), index


operation("cummax")(lambda x, dim: _running(x, dim, jnp.greater_equal))
operation("cummin")(lambda x, dim: _running(x, dim, jnp.less_equal))


@operation("diff")
def _diff(x: Any, n: int = 1, dim: int = -1) -> Any:
    return jnp.diff(x, n, dim)


# Order.


def _sorted(x: Any, dim: int, descending: bool) -> tuple[Any, Any]:
    if x.ndim == 0:
        return x, jnp.int32(0)
    index = jnp.argsort(lax.stop_gradient(x), dim, stable=True, descending=descending)
    return jnp.take_along_axis(x, index, dim), index


@operation("sort")
def _sort(x: Any, dim: int = -1, descending: bool = False, stable: Any = None) -> Any:
    return _sorted(x, dim, descending)


@operation("argsort")
def _argsort(x: Any, dim: int = -1, descending: bool = False, stable: Any = None) -> Any:
    return _sorted(x, dim, descending)[1]


@operation("topk")
def _topk(x: Any, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Any:
    if x.ndim == 0:
        return x, jnp.int32(0)
    _, index = _sorted(x, dim, largest)
    index = lax.slice_in_dim(index, 0, k, axis=dim % x.ndim)
    return jnp.take_along_axis(x, index, dim), index


@operation("kthvalue")
def _kthvalue(x: Any, k: int, dim: int = -1, keepdim: bool = False) -> Any:
    _, index = _sorted(x, dim, False)
    return _chosen(x, dim, lax.slice_in_dim(index, k - 1, k, axis=dim % x.ndim), keepdim)


@operation("median", "nanmedian")
def _median(x: Any) -> Any:
    """The middle one, the lower of two."""
    flat = x.reshape(-1)
    return _kthvalue(flat, (flat.shape[0] + 1) // 2)[0]


@operation("median.dim")
def _median_along(x: Any, dim: int, keepdim: bool = False) -> Any:
    return _kthvalue(x, (x.shape[dim] + 1) // 2, dim, keepdim)
