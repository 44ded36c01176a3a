"""The losses of `torch.nn.functional`. A reduction is 0 (none), 1 (mean) or 2 (sum)."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from hansa.aten.reductions import _root
from hansa.aten.table import Unsupported, operation


def _reduced(losses: Any, reduction: int) -> Any:
    return losses if reduction == 0 else losses.mean() if reduction == 1 else losses.sum()


@operation("cross_entropy_loss")
def _cross_entropy(
    x: Any, target: Any, weight: Any = None, reduction: int = 1, ignore_index: int = -100, smoothing: float = 0.0
) -> Any:
    axis = 0 if x.ndim == 1 else 1
    logs = jax.nn.log_softmax(x, axis)
    if not jnp.issubdtype(target.dtype, jnp.floating):
        return _nll(logs, target, weight, reduction, ignore_index, smoothing)
    if smoothing:
        target = target * (1 - smoothing) + smoothing / x.shape[axis]
    scaled = logs if weight is None else logs * _by_class(weight, logs)
    losses = -(scaled * target).sum(axis)
    if reduction == 1:
        count: Any = 1
        for size in losses.shape:
            count = count * size
        return losses.sum() / count
    return _reduced(losses, reduction)


def _by_class(weight: Any, logs: Any) -> Any:
    return weight.reshape(-1) if logs.ndim == 1 else weight.reshape(1, -1, *(1,) * (logs.ndim - 2))


@operation("nll_loss_nd", "nll_loss", "nll_loss2d")
def _nll(
    logs: Any, target: Any, weight: Any = None, reduction: int = 1, ignore_index: int = -100, smoothing: float = 0.0
) -> Any:
    """The negative logarithms of the labels' probabilities, which are along axis 1."""
    if logs.ndim == 1:
        losses = _nll(logs[None], target[None], weight, reduction, ignore_index, smoothing)
        return losses[0] if reduction == 0 else losses
    kept = target != ignore_index
    safe = jnp.where(kept, target, 0)
    scale = kept.astype(logs.dtype) * (1 if weight is None else jnp.take(weight, safe))
    losses = -jnp.take_along_axis(logs, jnp.expand_dims(safe, 1), 1).squeeze(1) * scale
    if smoothing:
        own = logs if weight is None else logs * _by_class(weight, logs)
        losses = (1 - smoothing) * losses - smoothing / logs.shape[1] * own.sum(1) * kept
    return losses.sum() / scale.sum() if reduction == 1 else _reduced(losses, reduction)


@operation("nll_loss_forward", "nll_loss2d_forward")
def _nll_forward(logs: Any, target: Any, weight: Any, reduction: int, ignore_index: int) -> Any:
    return _nll(logs, target, weight, reduction, ignore_index), jnp.zeros((), logs.dtype)


@operation("mse_loss")
def _mse(x: Any, y: Any, reduction: int = 1) -> Any:
    return _reduced(jnp.square(x - y), reduction)


@operation("l1_loss")
def _l1(x: Any, y: Any, reduction: int = 1) -> Any:
    return _reduced(jnp.abs(x - y), reduction)


@operation("smooth_l1_loss")
def _smooth_l1(x: Any, y: Any, reduction: int = 1, beta: float = 1.0) -> Any:
    if beta == 0:
        return _l1(x, y, reduction)
    apart = jnp.abs(x - y)
    return _reduced(jnp.where(apart < beta, 0.5 * jnp.square(apart) / beta, apart - 0.5 * beta), reduction)


@operation("huber_loss")
def _huber(x: Any, y: Any, reduction: int = 1, delta: float = 1.0) -> Any:
    apart = jnp.abs(x - y)
    return _reduced(jnp.where(apart <= delta, 0.5 * jnp.square(apart), delta * (apart - 0.5 * delta)), reduction)


@operation("binary_cross_entropy")
def _bce(x: Any, y: Any, weight: Any = None, reduction: int = 1) -> Any:
    losses = -(y * jnp.maximum(jnp.log(x), -100) + (1 - y) * jnp.maximum(jnp.log1p(-x), -100))
    return _reduced(losses if weight is None else losses * weight, reduction)


@operation("binary_cross_entropy_with_logits")
def _bce_with_logits(x: Any, y: Any, weight: Any = None, pos_weight: Any = None, reduction: int = 1) -> Any:
    scale = 1 if pos_weight is None else (pos_weight - 1) * y + 1
    losses = (1 - y) * x - scale * jax.nn.log_sigmoid(x)
    return _reduced(losses if weight is None else losses * weight, reduction)


@operation("kl_div")
def _kl_div(x: Any, y: Any, reduction: int = 1, log_target: bool = False) -> Any:
    if log_target:
        return _reduced(jnp.exp(y) * (y - x), reduction)
    none = y <= 0
    return _reduced(jnp.where(y == 0, 0, y * (jnp.log(jnp.where(none, 1, y)))) - y * x, reduction)


@operation("poisson_nll_loss")
def _poisson_nll(
    x: Any, y: Any, log_input: bool = True, full: bool = False, eps: float = 1e-8, reduction: int = 1
) -> Any:
    losses = jnp.exp(x) - y * x if log_input else x - y * jnp.log(x + eps)
    if full:
        large = jnp.where(y > 1, y, 2)
        losses = losses + jnp.where(y > 1, y * jnp.log(large) - y + 0.5 * jnp.log(2 * jnp.pi * large), 0)
    return _reduced(losses, reduction)


@operation("hinge_embedding_loss")
def _hinge_embedding(x: Any, y: Any, margin: float = 1.0, reduction: int = 1) -> Any:
    losses = jnp.where(y != 1, jnp.where(margin - x > 0, margin - x, 0), 0) + jnp.where(y != -1, x, 0)
    return _reduced(losses, reduction)


@operation("margin_ranking_loss")
def _margin_ranking(a: Any, b: Any, y: Any, margin: float = 0.0, reduction: int = 1) -> Any:
    found = -y * (a - b) + margin
    return _reduced(jnp.where(found >= 0, found, 0), reduction)


@operation("soft_margin_loss")
def _soft_margin(x: Any, y: Any, reduction: int = 1) -> Any:
    return _reduced(jnp.log1p(jnp.exp(-y * x)), reduction)


@operation("cosine_embedding_loss")
def _cosine_embedding(a: Any, b: Any, y: Any, margin: float = 0.0, reduction: int = 1) -> Any:
    eps = 1e-12
    product, size_a, size_b = (a * b).sum(-1), jnp.square(a).sum(-1) + eps, jnp.square(b).sum(-1) + eps
    cosine = product / jnp.sqrt(size_a * size_b)
    beyond = jnp.where(cosine - margin > 0, cosine - margin, 0)
    return _reduced(jnp.where(y == 1, 1 - cosine, jnp.where(y == -1, beyond, 0)), reduction)


@operation("multi_margin_loss")
def _multi_margin(x: Any, target: Any, p: float = 1, margin: float = 1, weight: Any = None, reduction: int = 1) -> Any:
    own = jnp.take_along_axis(x, target[..., None], -1)
    apart = margin - own + x
    losses = jnp.where(apart > 0, apart, 0) ** int(p)
    if weight is not None:
        losses = losses * jnp.take(weight, target)[..., None]
    others = target[..., None] != jnp.arange(x.shape[-1])
    return _reduced(jnp.where(others, losses, 0).sum(-1) / x.shape[-1], reduction)


@operation("multilabel_margin_loss", "multilabel_margin_loss_forward")
def _multilabel_margin(x: Any, target: Any, reduction: int = 1) -> Any:
    raise Unsupported("multilabel_margin_loss (write F.multilabel_soft_margin_loss)")


@operation("triplet_margin_loss")
def _triplet_margin(
    anchor: Any, positive: Any, negative: Any, margin: float = 1.0, p: float = 2.0, eps: float = 1e-6,
    swap: bool = False, reduction: int = 1,
) -> Any:  # fmt: skip
    def distance(a: Any, b: Any) -> Any:
        apart = a - b + eps
        return _root(jnp.square(apart).sum(-1)) if p == 2 else (jnp.abs(apart) ** p).sum(-1) ** (1 / p)

    far = distance(anchor, negative)
    if swap:
        far = jnp.minimum(far, distance(positive, negative))
    found = margin + distance(anchor, positive) - far
    return _reduced(jnp.where(found >= 0, found, 0), reduction)


@operation("pairwise_distance")
def _pairwise_distance(a: Any, b: Any, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Any:
    apart = a - b + eps
    found = _root(jnp.square(apart).sum(-1)) if p == 2 else (jnp.abs(apart) ** p).sum(-1) ** (1 / p)
    return found[..., None] if keepdim else found


@operation("cosine_similarity")
def _cosine_similarity(a: Any, b: Any, dim: int = 1, eps: float = 1e-8) -> Any:
    a, b = jnp.broadcast_arrays(a, b)
    sizes = [jnp.maximum(_root(jnp.square(x).sum(dim, keepdims=True)), eps) for x in (a, b)]
    return (a / sizes[0] * (b / sizes[1])).sum(dim)


@operation("ctc_loss", "_ctc_loss")
def _ctc(*_: Any, **__: Any) -> Any:
    raise Unsupported("ctc_loss (write a forward pass in JAX, with optax.ctc_loss, for functional_model)")
