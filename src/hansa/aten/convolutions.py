"""Convolutions of every kind: strided, dilated, grouped, transposed, in one to three dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax

from hansa.aten.table import many, operation


@operation("convolution", "_convolution", "convolution_overrideable")
def convolution(
    x: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    output_padding: Any,
    groups: int,
    *_: Any,
) -> Any:
    """A convolution or its transpose.

    Args:
        x: [batch, channels, *space], or without the batch.
        weight: [results, channels / groups, *window]; transposed [channels, results / groups, *window].
        bias: [results], or None.
        stride: how far the window moves; transposed, how far the elements of `x` are apart.
        padding: zeros on both sides of each axis of space; transposed, what is cut off.
        dilation: how far the window's elements are apart.
        transposed: whether it is the transpose.
        output_padding: of the transpose, how much larger the result is on the high side.
        groups: how many parts the channels are in, each convolved by itself.
    """
    n = weight.ndim - 2
    stride, padding, dilation, extra = (many(v, n) for v in (stride, padding, dilation, output_padding))
    pads: Sequence[tuple[int, int]]
    if transposed:
        weight = jnp.flip(weight, range(2, weight.ndim))
        weight = weight.reshape(groups, weight.shape[0] // groups, *weight.shape[1:])
        weight = jnp.swapaxes(weight, 1, 2).reshape(-1, weight.shape[1], *weight.shape[3:])
        reach = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
        pads = [(r - p, r - p + e) for r, p, e in zip(reach, padding, extra, strict=True)]
        window, inflate = (1,) * n, stride
    else:
        pads, window, inflate = [(p, p) for p in padding], stride, (1,) * n
    letters = "DHW"[3 - n :]
    form = (f"N{letters}C", f"{letters}IO", f"N{letters}C")
    alone = x.ndim == n + 1
    x = x[None] if alone else x
    # In XLA's fast layout, with the channels last, which pooling has, too: transposes between them cancel out.
    x, weight = jnp.moveaxis(x, 1, -1), jnp.moveaxis(weight, (0, 1), (-1, -2))
    y = lax.conv_general_dilated(x, weight, window, pads, inflate, dilation, form, feature_group_count=groups)
    y = jnp.moveaxis(y if bias is None else y + bias, -1, 1)
    return y[0] if alone else y


def _padding(padding: Any, weight: Any, stride: Any, dilation: Any, x: Any) -> tuple[Any, Any]:
    """Numbers of `padding="same"` or `"valid"`, and `x` with what of it is not on both sides alike."""
    n = weight.ndim - 2
    if padding == "valid":
        return x, (0,) * n
    if padding != "same":
        return x, padding
    total = [d * (k - 1) for d, k in zip(many(dilation, n), weight.shape[2:], strict=True)]
    more = [(0, t % 2, 0) for t in total]
    if any(t % 2 for t in total):
        x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0)] * (x.ndim - n) + more)
    return x, [t // 2 for t in total]


@operation("conv1d", "conv2d", "conv3d")
def _conv(
    x: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Any:
    x, padding = _padding(padding, weight, stride, dilation, x)
    return convolution(x, weight, bias, stride, padding, dilation, False, 0, groups)


@operation("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def _conv_transpose(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Any:
    return convolution(x, weight, bias, stride, padding, dilation, True, output_padding, groups)


@operation("im2col")
def _im2col(x: Any, kernel: Any, dilation: Any, padding: Any, stride: Any) -> Any:
    """Each window of a picture as a column: [batch, channels * window, windows]."""
    pads = [(p, p) for p in many(padding, 2)]
    patches = lax.conv_general_dilated_patches(
        x, many(kernel, 2), many(stride, 2), pads, rhs_dilation=many(dilation, 2)
    )
    return patches.reshape(*patches.shape[:2], patches.shape[2] * patches.shape[3])


@operation("col2im")
def _col2im(x: Any, size: Any, kernel: Any, dilation: Any, padding: Any, stride: Any) -> Any:
    """The sum of windows, each at its place: the transpose of `im2col`."""
    (height, width), (kh, kw) = many(size, 2), many(kernel, 2)
    (dh, dw), (ph, pw), (sh, sw) = many(dilation, 2), many(padding, 2), many(stride, 2)
    rows = (height + 2 * ph - dh * (kh - 1) - 1) // sh + 1
    columns = (width + 2 * pw - dw * (kw - 1) - 1) // sw + 1
    parts = x.reshape(x.shape[0], -1, kh, kw, rows, columns)
    total: Any = 0
    for i in range(kh):
        for j in range(kw):
            space = [
                (start, full - start - (n - 1) * step - 1, step - 1)
                for start, full, n, step in (
                    (i * dh, height + 2 * ph, rows, sh), (j * dw, width + 2 * pw, columns, sw),
                )
            ]  # fmt: skip
            total = total + lax.pad(parts[:, :, i, j], jnp.zeros((), x.dtype), [(0, 0, 0), (0, 0, 0), *space])
    return total[:, :, ph : ph + height, pw : pw + width]
