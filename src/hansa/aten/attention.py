"""Scaled dot product attention (Vaswani et al. 2017, arXiv:1706.03762), with masks, causal, and of grouped heads."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from hansa.aten.random import dropout
from hansa.aten.table import operation


@operation("scaled_dot_product_attention", draws=True)
def _attention(
    key: Any,
    query: Any,
    keys: Any,
    values: Any,
    mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """Each query's mean of the values.

    Args:
        key: for dropout.
        query: [..., queries, features].
        keys: [..., keys, features].
        values: [..., keys, results].
        mask: broadcastable to [..., queries, keys]: of bool, where a query may look, or added to the scores.
        dropout_p: the part of the weights that is set to zero.
        is_causal: whether a query looks only at the keys up to its own number.
        scale: of the scores, by default one by the root of the number of features.
        enable_gqa: whether several heads of queries share one of keys and values.
    """
    if enable_gqa:
        keys, values = (jnp.repeat(part, query.shape[-3] // part.shape[-3], -3) for part in (keys, values))
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    scores = jnp.matmul(query * scale, jnp.swapaxes(keys, -1, -2))
    if is_causal:
        causal = jnp.tril(jnp.ones(scores.shape[-2:], bool))
        scores = jnp.where(causal, scores, -jnp.inf)
    if mask is None:
        weights = jax.nn.softmax(scores, -1)
    elif mask.dtype == bool:
        some = mask.any(-1, keepdims=True)  # a query that may look nowhere gets zeros, as in PyTorch
        weights = jax.nn.softmax(jnp.where(mask | ~some, scores, -jnp.inf), -1) * some.astype(scores.dtype)
    else:
        weights = jax.nn.softmax(scores + mask, -1)
    return jnp.matmul(dropout(key, weights, dropout_p, True), values)


@operation("_safe_softmax")
def _safe_softmax(x: Any, dim: int, *_: Any) -> Any:
    nothing = jnp.all(x == -jnp.inf, dim, keepdims=True)
    return jnp.where(nothing, 0, jax.nn.softmax(jnp.where(nothing, 0, x), dim))
