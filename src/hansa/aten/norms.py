"""Normalisation: over features, groups, channels, and the batch with running statistics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax

from hansa.aten.table import operation


def _affine(y: Any, weight: Any, bias: Any, shape: Sequence[int]) -> Any:
    y = y if weight is None else y * weight.reshape(shape)
    return y if bias is None else y + bias.reshape(shape)


def _standardised(x: Any, over: Sequence[int], eps: Any) -> tuple[Any, Any, Any]:
    """The array with mean 0 and variance 1 over axes, their mean, and one by their deviation."""
    mean = x.mean(over, keepdims=True)
    centred = x - mean
    by = lax.rsqrt(jnp.square(centred).mean(over, keepdims=True) + eps)
    return centred * by, mean, by


@operation("native_layer_norm")
def _layer_norm(x: Any, shape: Sequence[int], weight: Any, bias: Any, eps: float) -> Any:
    y, mean, by = _standardised(x, range(x.ndim - len(shape), x.ndim), eps)
    return _affine(y, weight, bias, shape), mean, by


@operation("layer_norm")
def _layer_norm_alone(
    x: Any, shape: Sequence[int], weight: Any = None, bias: Any = None, eps: float = 1e-5, *_: Any
) -> Any:
    return _layer_norm(x, shape, weight, bias, eps)[0]


@operation("rms_norm", "_fused_rms_norm")
def _rms_norm(x: Any, shape: Sequence[int], weight: Any = None, eps: float | None = None) -> Any:
    eps = float(jnp.finfo(x.dtype).eps) if eps is None else eps  # type: ignore[no-untyped-call]
    over = tuple(range(x.ndim - len(shape), x.ndim))
    return _affine(x * lax.rsqrt(jnp.square(x).mean(over, keepdims=True) + eps), weight, None, shape)


def _channels(x: Any) -> tuple[int, ...]:
    return (1, -1, *(1,) * (x.ndim - 2))


@operation("group_norm")
def _group_norm(x: Any, groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5, *_: Any) -> Any:
    n, channels, *space = x.shape
    parts = x.reshape(n, groups, channels // groups, *space)
    y, _mean, _by = _standardised(parts, range(2, parts.ndim), eps)
    return _affine(y.reshape(x.shape), weight, bias, _channels(x))


@operation("native_group_norm")
def _native_group_norm(
    x: Any, weight: Any, bias: Any, n: Any, channels: Any, space: Any, groups: int, eps: float
) -> Any:
    return _group_norm(x, groups, weight, bias, eps), None, None


@operation("_native_batch_norm_legit_functional", "_native_batch_norm_legit", "native_batch_norm",
           "_batch_norm_with_update_functional")  # fmt: skip
def _batch_norm(x: Any, weight: Any, bias: Any, mean: Any, var: Any, *given: Any) -> Any:
    """By the batch's own statistics, which move the running ones, or by those.

    Returns:
        The result, two that nothing uses, and the running mean and variance after it.
    """
    training, momentum, eps = given if len(given) == 3 else (True, *given)
    over, shape = (0, *range(2, x.ndim)), _channels(x)
    if not training:
        y = (x - mean.reshape(shape)) * lax.rsqrt(var.reshape(shape) + eps)
        return _affine(y, weight, bias, shape), None, None, mean, var
    now = x.mean(over)
    spread = jnp.square(x - now.reshape(shape)).mean(over)
    y = _affine((x - now.reshape(shape)) * lax.rsqrt(spread.reshape(shape) + eps), weight, bias, shape)
    if mean is None:
        return y, None, None, None, None
    count: Any = 1
    for axis in over:
        count = count * x.shape[axis]
    count = jnp.asarray(count, jnp.float32).astype(x.dtype)
    unbiased = spread * (count / (count - 1))
    return y, None, None, (1 - momentum) * mean + momentum * now, (1 - momentum) * var + momentum * unbiased


@operation("_native_batch_norm_legit.no_stats", "_native_batch_norm_legit_functional.no_stats")
def _batch_norm_without_statistics(x: Any, weight: Any, bias: Any, training: bool, momentum: float, eps: float) -> Any:
    return _batch_norm(x, weight, bias, None, None, True, momentum, eps)[:3]


@operation("_native_batch_norm_legit_no_training", "_batch_norm_no_update")
def _batch_norm_no_training(x: Any, weight: Any, bias: Any, mean: Any, var: Any, momentum: float, eps: float) -> Any:
    return _batch_norm(x, weight, bias, mean, var, False, momentum, eps)[:3]


@operation("renorm")
def _renorm(x: Any, p: float, dim: int, most: float) -> Any:
    over = tuple(axis for axis in range(x.ndim) if axis != dim % x.ndim)
    size = (jnp.abs(x) ** p).sum(over, keepdims=True) ** (1 / p)
    return jnp.where(size > most, x * most / (size + 1e-7), x)
