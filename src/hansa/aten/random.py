"""Operations that draw random numbers. They get a key; PyTorch's own numbers are others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from hansa.aten.table import operation


@operation("dropout", draws=True)
def dropout(key: Any, x: Any, p: float, train: bool) -> Any:
    """Elements set to zero with probability `p`, the others made larger, in training."""
    if not train or p == 0:
        return x
    if p == 1:
        return jnp.zeros_like(x)
    return jnp.where(jax.random.bernoulli(key, 1 - p, x.shape), x / (1 - p), 0)


@operation("native_dropout", draws=True)
def _native_dropout(key: Any, x: Any, p: float, train: bool | None) -> Any:
    return dropout(key, x, p, train is not False), None


@operation("feature_dropout", draws=True)
def _feature_dropout(key: Any, x: Any, p: float, train: bool) -> Any:
    """Whole channels set to zero."""
    if not train or p == 0:
        return x
    kept = jax.random.bernoulli(key, 1 - p, (*x.shape[:2], *(1,) * (x.ndim - 2)))
    return jnp.where(kept, x / (1 - p), 0)


_ALPHA = -1.7580993408473766


def _alpha_dropout(key: Any, x: Any, p: float, train: bool, shape: Sequence[Any]) -> Any:
    """Dropout that keeps mean and variance, for SELU (Klambauer et al. 2017, arXiv:1706.02515)."""
    if not train or p == 0:
        return x
    a = (1 / ((1 - p) * (1 + p * _ALPHA**2))) ** 0.5
    kept = jax.random.bernoulli(key, 1 - p, shape)
    return a * jnp.where(kept, x, _ALPHA) - a * _ALPHA * p


operation("alpha_dropout", draws=True)(lambda key, x, p, train: _alpha_dropout(key, x, p, train, x.shape))
operation("feature_alpha_dropout", draws=True)(
    lambda key, x, p, train: _alpha_dropout(key, x, p, train, (*x.shape[:2], *(1,) * (x.ndim - 2)))
)


@operation("bernoulli", draws=True)
def _bernoulli(key: Any, x: Any, p: Any = None, **_: Any) -> Any:
    return jax.random.bernoulli(key, x if p is None else p, x.shape)


@operation("rand", draws=True)
def _rand(key: Any, shape: Any, **_: Any) -> Any:
    return jax.random.uniform(key, shape)


@operation("randn", draws=True)
def _randn(key: Any, shape: Any, **_: Any) -> Any:
    return jax.random.normal(key, shape)


@operation("rand_like", draws=True)
def _rand_like(key: Any, x: Any, **_: Any) -> Any:
    return jax.random.uniform(key, x.shape)


@operation("randn_like", draws=True)
def _randn_like(key: Any, x: Any, **_: Any) -> Any:
    return jax.random.normal(key, x.shape)


@operation("uniform", draws=True)
def _uniform(key: Any, x: Any, low: Any = 0.0, high: Any = 1.0, **_: Any) -> Any:
    return low + (high - low) * jax.random.uniform(key, x.shape)


@operation("normal_functional", draws=True)
def _normal_like(key: Any, x: Any, mean: Any = 0.0, std: Any = 1.0, **_: Any) -> Any:
    return mean + std * jax.random.normal(key, x.shape)


@operation("normal", draws=True)
def _normal(key: Any, mean: Any = 0.0, std: Any = 1.0, shape: Any = None, **_: Any) -> Any:
    size = jnp.broadcast_shapes(jnp.shape(mean), jnp.shape(std)) if shape is None else shape
    return mean + std * jax.random.normal(key, size)


@operation("exponential", draws=True)
def _exponential(key: Any, x: Any, rate: Any = 1.0, **_: Any) -> Any:
    return jax.random.exponential(key, x.shape) / rate


@operation("randint", draws=True)
def _randint(key: Any, *given: Any, **_: Any) -> Any:
    *bounds, shape = given
    low, high = bounds if len(bounds) == 2 else (0, bounds[0])
    return jax.random.randint(key, shape, low, high)


@operation("randint_like", draws=True)
def _randint_like(key: Any, x: Any, *bounds: Any, **_: Any) -> Any:
    low, high = bounds if len(bounds) == 2 else (0, bounds[0])
    return jax.random.randint(key, x.shape, low, high)


@operation("randperm", draws=True)
def _randperm(key: Any, n: Any, **_: Any) -> Any:
    return jax.random.permutation(key, jnp.arange(n))


@operation("multinomial", draws=True)
def _multinomial(key: Any, weights: Any, count: int, replacement: bool = False, **_: Any) -> Any:
    logs = jnp.log(weights)
    if replacement:
        drawn = jax.random.categorical(key, logs[..., None, :], shape=(*logs.shape[:-1], count))
        return drawn
    noise = jax.random.gumbel(key, logs.shape)
    return jnp.argsort(logs + noise, -1, descending=True)[..., :count]


@operation("rrelu_with_noise_functional", "rrelu_with_noise", draws=True)
def _rrelu(key: Any, x: Any, noise: Any, low: Any = 0.125, high: Any = 1 / 3, train: bool = False, **_: Any) -> Any:
    if not train:
        return jnp.where(x > 0, x, x * (low + high) / 2), noise
    slope = jax.random.uniform(key, x.shape, minval=low, maxval=high)
    return jnp.where(x > 0, x, x * slope), slope
