"""Operations that rearrange elements: views, joining and cutting, padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax

from hansa.aten.table import Unsupported, axes, operation, register_all

_END = 2**62


def _permute(x: Any, dims: Sequence[int]) -> Any:
    return jnp.transpose(x, [d % x.ndim for d in dims])


register_all(
    {
        "view reshape _unsafe_view _reshape_alias view_copy": lambda x, shape, *_: jnp.reshape(x, shape),
        "view_as reshape_as expand_as": lambda x, other: (
            jnp.broadcast_to(x, other.shape) if x.size != other.size else jnp.reshape(x, other.shape)
        ),
        "t numpy_T mT": lambda x: jnp.swapaxes(x, -1, -2) if x.ndim > 1 else x,
        "transpose swapaxes": lambda x, a, b: jnp.swapaxes(x, a, b) if x.ndim else x,
        "permute": _permute,
        "unsqueeze": lambda x, dim: jnp.expand_dims(x, dim),
        "flip": lambda x, dims: jnp.flip(x, axes(x, dims)),
        "movedim": lambda x, source, target: jnp.moveaxis(x, source, target),
        "triu": lambda x, diagonal=0: jnp.triu(x, diagonal),
        "tril": lambda x, diagonal=0: jnp.tril(x, diagonal),
        "repeat tile": lambda x, repeats: jnp.tile(x, repeats),
        "stack": lambda xs, dim=0: jnp.stack(xs, dim),
        "hstack": lambda xs: jnp.hstack(xs),
        "vstack": lambda xs: jnp.vstack(xs),
        "rot90": lambda x, k=1, dims=(0, 1): jnp.rot90(x, k, tuple(dims)),
        "atleast_1d": jnp.atleast_1d,
        "atleast_2d": jnp.atleast_2d,
        "meshgrid": lambda xs, indexing="ij": list(jnp.meshgrid(*xs, indexing=indexing)),
        "broadcast_tensors": lambda xs: list(jnp.broadcast_arrays(*xs)),
    }
)


@operation("sym_size")
def _size(x: Any, dim: int) -> Any:
    return x.shape[dim]


@operation("sym_numel", "numel")
def _numel(x: Any) -> Any:
    count: Any = 1
    for size in x.shape:
        count = count * size
    return count


@operation("flatten")
def _flatten(x: Any, start: int = 0, end: int = -1) -> Any:
    if x.ndim == 0:
        return x.reshape(1)
    start, end = start % x.ndim, end % x.ndim
    middle: Any = 1
    for size in x.shape[start : end + 1]:
        middle = middle * size
    return jnp.reshape(x, (*x.shape[:start], middle, *x.shape[end + 1 :]))


@operation("unflatten")
def _unflatten(x: Any, dim: int, sizes: Sequence[Any]) -> Any:
    dim %= x.ndim
    if -1 in [size for size in sizes if isinstance(size, int)]:
        rest = x.shape[dim]
        for size in sizes:
            rest = rest if isinstance(size, int) and size == -1 else rest // size
        sizes = [rest if isinstance(size, int) and size == -1 else size for size in sizes]
    return jnp.reshape(x, (*x.shape[:dim], *sizes, *x.shape[dim + 1 :]))


@operation("squeeze")
def _squeeze(x: Any, dims: Any = None) -> Any:
    """Without axes of size 1; a batch's axis, whose size is not known, stays."""
    wanted = range(x.ndim) if dims is None else axes(x, dims)
    return jnp.squeeze(x, tuple(d for d in wanted if isinstance(x.shape[d], int) and x.shape[d] == 1))


@operation("expand", "broadcast_to")
def _expand(x: Any, shape: Sequence[Any], implicit: bool = False) -> Any:
    own = (1,) * (len(shape) - x.ndim) + x.shape
    kept = [of if isinstance(size, int) and size == -1 else size for size, of in zip(shape, own, strict=True)]
    return jnp.broadcast_to(x, kept)


@operation("cat", "concat", "concatenate")
def _cat(xs: Sequence[Any], dim: int = 0) -> Any:
    kept = [x for x in xs if not (x.ndim == 1 and x.shape[0] == 0)]
    return jnp.concatenate(kept or list(xs), dim)


@operation("select")
def _select(x: Any, dim: int, index: Any) -> Any:
    return x[(slice(None),) * (dim % x.ndim) + (index,)]


@operation("slice")
def _slice(x: Any, dim: int = 0, start: Any = None, end: Any = None, step: int = 1) -> Any:
    dim %= x.ndim
    whole = end is None or (isinstance(end, int) and end >= _END) or end is x.shape[dim]
    if whole and start in (None, 0) and step == 1:
        return x
    return x[(slice(None),) * dim + (slice(start, None if whole else end, step),)]


@operation("narrow")
def _narrow(x: Any, dim: int, start: Any, length: Any) -> Any:
    return _slice(x, dim, start, start + length)


def _parts(x: Any, sizes: Sequence[int], dim: int) -> list[Any]:
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    return [lax.slice_in_dim(x, i, i + n, axis=dim) for i, n in zip(starts, sizes, strict=True)]


@operation("split_with_sizes", "split.sizes")
def _split_with_sizes(x: Any, sizes: Sequence[int], dim: int = 0) -> list[Any]:
    return _parts(x, sizes, dim % x.ndim)


@operation("split")
def _split(x: Any, size: int, dim: int = 0) -> list[Any]:
    whole = x.shape[dim]
    if not isinstance(whole, int):
        raise Unsupported("cutting a batch into parts of so many examples")
    return _parts(x, [min(size, whole - i) for i in range(0, whole, size)], dim % x.ndim)


@operation("chunk")
def _chunk(x: Any, count: int, dim: int = 0) -> list[Any]:
    parts: list[Any] = _split(x, -(-x.shape[dim] // count), dim)
    return parts


@operation("tensor_split")
def _tensor_split(x: Any, sections: Any, dim: int = 0) -> list[Any]:
    return list(jnp.array_split(x, sections if isinstance(sections, int) else list(sections), dim))


@operation("unbind")
def _unbind(x: Any, dim: int = 0) -> list[Any]:
    return [_select(x, dim, i) for i in range(x.shape[dim])]


@operation("roll")
def _roll(x: Any, shifts: Sequence[int], dims: Sequence[int] = ()) -> Any:
    if not dims:
        return jnp.roll(x.reshape(-1), shifts[0]).reshape(x.shape)
    return jnp.roll(x, tuple(shifts), tuple(dims))


@operation("diagonal")
def _diagonal(x: Any, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Any:
    return jnp.diagonal(x, offset, dim1, dim2)


@operation("diag")
def _diag(x: Any, diagonal: int = 0) -> Any:
    return jnp.diag(x, diagonal)


@operation("diag_embed")
def _diag_embed(x: Any, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Any:
    n = x.shape[-1] + abs(offset)
    rows = jnp.arange(x.shape[-1])
    out = jnp.zeros((*x.shape[:-1], n, n), x.dtype)
    out = out.at[..., rows + max(-offset, 0), rows + max(offset, 0)].set(x)
    return jnp.moveaxis(out, (-2, -1), (dim1, dim2))


@operation("repeat_interleave.self_int", "repeat_interleave")
def _repeat_interleave(x: Any, repeats: Any, dim: int | None = None, output_size: Any = None) -> Any:
    if not isinstance(repeats, int):
        raise Unsupported("repeat_interleave with a tensor of counts, whose result has a size that depends on values")
    x, dim = (x.reshape(-1), 0) if dim is None else (x, dim % x.ndim)
    spread = jnp.broadcast_to(jnp.expand_dims(x, dim + 1), (*x.shape[: dim + 1], repeats, *x.shape[dim + 1 :]))
    return spread.reshape(*x.shape[:dim], x.shape[dim] * repeats, *x.shape[dim + 1 :])


@operation("unfold")
def _unfold(x: Any, dim: int, size: int, step: int) -> Any:
    dim %= x.ndim
    starts = jnp.arange(0, x.shape[dim] - size + 1, step)
    windows = jnp.take(x, starts[:, None] + jnp.arange(size), dim)
    return jnp.moveaxis(windows, dim + 1, -1)


# Padding.


def _pairs(x: Any, pad: Sequence[int]) -> list[tuple[int, int]]:
    """The padding of all axes, low and high; PyTorch says it from the last axis on."""
    last = list(zip(pad[::2], pad[1::2], strict=True))[::-1]
    return [(0, 0)] * (x.ndim - len(last)) + last


@operation("constant_pad_nd")
def _constant_pad(x: Any, pad: Sequence[int], value: Any = 0) -> Any:
    return lax.pad(x, jnp.asarray(value, x.dtype), [(low, high, 0) for low, high in _pairs(x, pad)])


@operation("pad")
def _pad(x: Any, pad: Sequence[int], mode: str = "constant", value: Any = None) -> Any:
    if mode == "constant":
        return _constant_pad(x, pad, value or 0)
    return _pad_by(x, pad, {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}[mode])


def _pad_by(x: Any, pad: Sequence[int], mode: str) -> Any:
    for axis, (low, high) in enumerate(_pairs(x, pad)):
        if low < 0 or high < 0:
            x = lax.slice_in_dim(x, max(-low, 0), x.shape[axis] - max(-high, 0), axis=axis)
        if low > 0 or high > 0:
            widths = [(max(low, 0), max(high, 0)) if i == axis else (0, 0) for i in range(x.ndim)]
            x = jnp.pad(x, widths, mode=mode)
    return x


operation("reflection_pad1d", "reflection_pad2d", "reflection_pad3d")(lambda x, pad: _pad_by(x, pad, "reflect"))
operation("replication_pad1d", "replication_pad2d", "replication_pad3d")(lambda x, pad: _pad_by(x, pad, "edge"))
operation("_pad_circular")(lambda x, pad: _pad_by(x, pad, "wrap"))


# Pictures.


@operation("pixel_shuffle")
def _pixel_shuffle(x: Any, r: int) -> Any:
    *lead, c, h, w = x.shape
    parts = x.reshape(*lead, c // r**2, r, r, h, w)
    n = len(lead)
    order = [*range(n + 1), n + 3, n + 1, n + 4, n + 2]
    return jnp.transpose(parts, order).reshape(*lead, c // r**2, h * r, w * r)


@operation("pixel_unshuffle")
def _pixel_unshuffle(x: Any, r: int) -> Any:
    *lead, c, h, w = x.shape
    parts = x.reshape(*lead, c, h // r, r, w // r, r)
    n = len(lead)
    order = [*range(n + 1), n + 2, n + 4, n + 1, n + 3]
    return jnp.transpose(parts, order).reshape(*lead, c * r**2, h // r, w // r)


@operation("channel_shuffle", "native_channel_shuffle")
def _channel_shuffle(x: Any, groups: int) -> Any:
    n, c, *space = x.shape
    return jnp.swapaxes(x.reshape(n, groups, c // groups, *space), 1, 2).reshape(x.shape)
