"""Operations that read and write elements by their numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax

from hansa.aten.table import Unsupported, as_array, operation


@operation("embedding")
def _embedding(weight: Any, index: Any, padding_idx: int = -1, *_: Any) -> Any:
    """Rows by number; the row `padding_idx` has no gradient."""
    rows = jnp.take(weight, index, axis=0)
    if not isinstance(padding_idx, int) or padding_idx < 0:
        return rows
    return jnp.where((index == padding_idx)[..., None], lax.stop_gradient(rows), rows)


@operation("embedding_bag", "_embedding_bag", "_embedding_bag_forward_only")
def _embedding_bag(
    weight: Any,
    index: Any,
    offsets: Any,
    scale_grad_by_freq: bool = False,
    mode: int = 0,
    sparse: bool = False,
    per_sample_weights: Any = None,
    include_last_offset: bool = False,
    padding_idx: int | None = -1,
) -> Any:
    """The sum (0), mean (1) or maximum (2) of the rows of each bag; a bag begins at each offset."""
    if scale_grad_by_freq:
        raise Unsupported("an EmbeddingBag with scale_grad_by_freq=True")
    bags = offsets.shape[0] - bool(include_last_offset)
    place = jnp.arange(index.shape[0])
    of = jnp.searchsorted(offsets[:bags], place, side="right") - 1
    rows = jnp.take(weight, index, axis=0)
    kept = jnp.ones(index.shape, bool) if padding_idx is None or padding_idx < 0 else index != padding_idx
    if include_last_offset:
        kept &= place < offsets[-1]
    if per_sample_weights is not None:
        rows = rows * per_sample_weights[:, None]
    counts = jnp.zeros(bags, weight.dtype).at[of].add(kept.astype(weight.dtype))
    if mode == 2:
        best = jnp.full((bags, weight.shape[1]), -jnp.inf, weight.dtype)
        best = best.at[of].max(jnp.where(kept[:, None], rows, -jnp.inf))
        found = jnp.where(counts[:, None] > 0, best, 0)
    else:
        found = jnp.zeros((bags, weight.shape[1]), weight.dtype).at[of].add(jnp.where(kept[:, None], rows, 0))
        found = found / jnp.maximum(counts, 1)[:, None] if mode == 1 else found
    return found, of, counts, counts


@operation("index_select")
def _index_select(x: Any, dim: int, index: Any) -> Any:
    return jnp.take(x, jnp.atleast_1d(index), dim)


@operation("take")
def _take(x: Any, index: Any) -> Any:
    return jnp.take(x.reshape(-1), index)


@operation("take_along_dim")
def _take_along_dim(x: Any, index: Any, dim: int | None = None) -> Any:
    return jnp.take_along_axis(x, index, dim)


@operation("gather")
def _gather(x: Any, dim: int, index: Any, sparse_grad: bool = False) -> Any:
    if x.ndim == 0:
        return jnp.broadcast_to(x, index.shape)
    return jnp.take_along_axis(_cut_to(x, dim, index), index, dim)


def _cut_to(x: Any, dim: int, index: Any) -> Any:
    """The array, no larger than the index but along the axis: what lies beyond is never read."""
    starts = [0] * x.ndim
    sizes = [n if axis == dim % x.ndim else m for axis, (n, m) in enumerate(zip(x.shape, index.shape, strict=True))]
    return x if tuple(sizes) == tuple(x.shape) else lax.slice(x, starts, sizes)


def _places(x: Any, dim: int, index: Any) -> tuple[Any, ...]:
    """Where in the array each element of the index along an axis lies."""
    return tuple(
        index if axis == dim % x.ndim else lax.broadcasted_iota(jnp.int32, index.shape, axis) for axis in range(x.ndim)
    )


def _given(source: Any, index: Any, x: Any) -> Any:
    """What is written at each place."""
    if not getattr(source, "ndim", 0):
        return jnp.broadcast_to(as_array(source).astype(x.dtype), index.shape)
    return lax.slice(source, [0] * source.ndim, index.shape) if source.shape != index.shape else source


@operation("scatter")
def _scatter(x: Any, dim: int, index: Any, source: Any, reduce: str | None = None) -> Any:
    at = x.at[_places(x, dim, index)]
    given = _given(source, index, x)
    return at.add(given) if reduce == "add" else at.multiply(given) if reduce == "multiply" else at.set(given)


@operation("scatter_add")
def _scatter_add(x: Any, dim: int, index: Any, source: Any) -> Any:
    return x.at[_places(x, dim, index)].add(_given(source, index, x))


@operation("scatter_reduce")
def _scatter_reduce(x: Any, dim: int, index: Any, source: Any, reduce: str, include_self: bool = True) -> Any:
    where, given = _places(x, dim, index), _given(source, index, x)
    if not include_self:
        touched = jnp.zeros(x.shape, bool).at[where].set(True)
        none = {"sum": 0, "mean": 0, "prod": 1, "amax": -jnp.inf, "amin": jnp.inf}[reduce]
        x = jnp.where(touched, jnp.asarray(none, x.dtype), x)
    if reduce == "mean":
        counts = jnp.full(x.shape, float(include_self), x.dtype).at[where].add(1)
        return x.at[where].add(given) / jnp.maximum(counts, 1)
    at = x.at[where]
    return {"sum": at.add, "prod": at.multiply, "amax": at.max, "amin": at.min}[reduce](given)


@operation("index_add")
def _index_add(x: Any, dim: int, index: Any, source: Any, alpha: Any = 1) -> Any:
    return x.at[(slice(None),) * (dim % x.ndim) + (index,)].add(source if alpha == 1 else source * alpha)


@operation("index_copy")
def _index_copy(x: Any, dim: int, index: Any, source: Any) -> Any:
    return x.at[(slice(None),) * (dim % x.ndim) + (index,)].set(source)


@operation("index_fill")
def _index_fill(x: Any, dim: int, index: Any, value: Any) -> Any:
    return x.at[(slice(None),) * (dim % x.ndim) + (index,)].set(value)


def _where(x: Any, indices: Sequence[Any]) -> tuple[Any, ...]:
    for index in indices:
        if index is not None and index.dtype == bool:
            raise Unsupported(
                "indexing with a mask, x[mask], whose result has a size that depends on values (write torch.where)"
            )
    return tuple(slice(None) if index is None else index for index in indices)


@operation("index", "_unsafe_index")
def _index(x: Any, indices: Sequence[Any]) -> Any:
    return x[_where(x, indices)]


@operation("index_put", "_unsafe_index_put")
def _index_put(x: Any, indices: Sequence[Any], values: Any, accumulate: bool = False) -> Any:
    masks = [index for index in indices if index is not None and index.dtype == bool]
    if len(masks) == len(indices) == 1 and values.size == 1 and not accumulate:
        mask = masks[0].reshape(*masks[0].shape, *(1,) * (x.ndim - masks[0].ndim))
        return jnp.where(mask, values.reshape(()), x)
    at = x.at[_where(x, indices)]
    return at.add(values) if accumulate else at.set(values)


@operation("select_scatter")
def _select_scatter(x: Any, source: Any, dim: int, index: Any) -> Any:
    return x.at[(slice(None),) * (dim % x.ndim) + (index,)].set(source)


@operation("slice_scatter")
def _slice_scatter(x: Any, source: Any, dim: int = 0, start: Any = None, end: Any = None, step: int = 1) -> Any:
    end = None if isinstance(end, int) and end >= 2**62 else end
    if start in (None, 0) and step == 1 and (end is None or source.shape == x.shape):
        return source
    return x.at[(slice(None),) * (dim % x.ndim) + (slice(start, end, step),)].set(source)


@operation("diagonal_scatter")
def _diagonal_scatter(x: Any, source: Any, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Any:
    moved = jnp.moveaxis(x, (dim1, dim2), (-2, -1))
    rows = jnp.arange(source.shape[-1])
    moved = moved.at[..., rows + max(-offset, 0), rows + max(offset, 0)].set(source)
    return jnp.moveaxis(moved, (-2, -1), (dim1, dim2))


@operation("masked_scatter")
def _masked_scatter(x: Any, mask: Any, source: Any) -> Any:
    mask = jnp.broadcast_to(mask, x.shape)
    number = jnp.cumsum(mask.reshape(-1)).reshape(x.shape) - 1
    return jnp.where(mask, source.reshape(-1)[jnp.clip(number, 0)], x)


@operation("bucketize")
def _bucketize(x: Any, boundaries: Any, out_int32: bool = False, right: bool = False) -> Any:
    return jnp.searchsorted(boundaries, x, side="right" if right else "left")


@operation("searchsorted")
def _searchsorted(
    ordered: Any, x: Any, out_int32: bool = False, right: bool = False, side: Any = None, **_: Any
) -> Any:
    if ordered.ndim != 1:
        raise Unsupported("searchsorted in more than one row")
    return jnp.searchsorted(ordered, x, side=side or ("right" if right else "left"))


@operation("bincount")
def _bincount(x: Any, weights: Any = None, minlength: int = 0) -> Any:
    raise Unsupported("bincount, whose result has a size that depends on values (write F.one_hot(x, classes).sum(0))")
