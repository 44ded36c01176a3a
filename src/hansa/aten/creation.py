"""Operations that make tensors of numbers. The evaluator casts them to their dtypes."""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp

from hansa.aten.table import as_array, operation, register_all

register_all(
    {
        "full": lambda shape, value, **_: jnp.full(shape, as_array(value)),
        "full_like": lambda x, value, **_: jnp.full(x.shape, as_array(value)),
        "zeros empty empty_permuted": lambda shape, *_, **__: jnp.zeros(shape),
        "ones": lambda shape, **_: jnp.ones(shape),
        "ones_like": lambda x, **_: jnp.ones_like(x),
        "zeros_like empty_like": lambda x, **_: jnp.zeros_like(x),
        "new_zeros new_empty": lambda x, shape, **_: jnp.zeros(shape, x.dtype),
        "new_empty_strided": lambda x, shape, stride, **_: jnp.zeros(shape, x.dtype),
        "empty_strided": lambda shape, stride, **_: jnp.zeros(shape),
        "new_ones": lambda x, shape, **_: jnp.ones(shape, x.dtype),
        "new_full": lambda x, shape, value, **_: jnp.full(shape, as_array(value).astype(x.dtype)),
        "fill": lambda x, value: jnp.full(x.shape, as_array(value).astype(x.dtype)),
        "copy": lambda x, source, *_: jnp.broadcast_to(source, x.shape),
        "scalar_tensor": lambda value, **_: as_array(value),
        "eye": lambda n, m=None, **_: jnp.eye(n, m),
    }
)


@operation("arange")
def _arange(*given: Any, **_: Any) -> Any:
    if all(isinstance(x, int | float) for x in given) and any(isinstance(x, float) for x in given):
        start, end, step = (0, given[0], 1) if len(given) == 1 else (*given, 1)[:3]
        return start + jnp.arange(math.ceil((end - start) / step)) * step
    return jnp.arange(*given)


@operation("linspace")
def _linspace(start: Any, end: Any, steps: int, **_: Any) -> Any:
    return jnp.linspace(start, end, steps)


@operation("tril_indices")
def _tril_indices(row: int, column: int, offset: int = 0, **_: Any) -> Any:
    return jnp.stack(jnp.tril_indices(row, offset, column))


@operation("triu_indices")
def _triu_indices(row: int, column: int, offset: int = 0, **_: Any) -> Any:
    return jnp.stack(jnp.triu_indices(row, offset, column))


@operation("one_hot")
def _one_hot(x: Any, classes: int = -1) -> Any:
    return (x[..., None] == jnp.arange(classes)).astype(jnp.int32)
