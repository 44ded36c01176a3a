"""Which clients have a part in a round: those with examples, and only finite numbers. The others are counted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from hansa.models.model import FunctionalModel
from hansa.types import FederatedType, Struct, StructType, Type

_LARGE = 1024


def counters(has_data: Any, finite: Any) -> Struct:
    """What a client adds to the counters of those that are left out."""
    return Struct.of(num_non_finite_clients=int64(has_data & ~finite), num_empty_clients=int64(~has_data))


def reported_metrics(model: FunctionalModel, counts: Sequence[str | None]) -> StructType:
    """The type of a model's metrics, beside which a round reports some counters.

    Raises:
        ValueError: if the model has no metrics, or one with the name of a counter.
    """
    metrics = struct_of(model.metrics.type_signature.result)
    if not len(metrics):
        raise ValueError(
            f"the model {model.name!r} has no metrics, so there is nothing to report: give it some, such as "
            "metrics={'accuracy': …}"
        )
    taken = set(metrics.names) & set(counts)
    if taken:
        raise ValueError(f"the metric {taken.pop()!r} has the name of a counter that every round reports; rename it")
    return metrics


def int64(value: Any) -> Any:
    """A number as int64, as counts are added up."""
    with jax.enable_x64(True):
        return jnp.asarray(value, jnp.int64)


def is_float(leaf: Any) -> bool:
    """Whether an array holds floats or complex numbers."""
    return bool(jnp.issubdtype(leaf.dtype, jnp.inexact))


def all_finite(tree: Any) -> Any:
    """Whether no float in a pytree is NaN or infinite."""
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree) if is_float(leaf)] or [True]).all()


def finite_difference(after: Any, before: Any) -> Any:
    """Whether no float in `after - before` is NaN or infinite.

    The squared norm of a large array is finite only if the array is, and costs a tenth of looking at each element; only
    where it is not, which may be for an overflow, is each element looked at. Two arrays with finite squared norms have
    a finite difference.
    """
    both = [(x, y) for x, y in zip(*map(jax.tree.leaves, (after, before)), strict=True) if is_float(x)]
    large = [(x, y) for x, y in both if x.size >= _LARGE and x.dtype == jnp.float32]
    exact = all_finite([x - y for x, y in both if x.size < _LARGE or x.dtype != jnp.float32])
    if not large:
        return exact
    squared = sum(_squared_norm(x) + _squared_norm(y) for x, y in large)
    return exact & lax.cond(
        jnp.isfinite(squared), lambda: jnp.bool_(True), lambda: all_finite([x - y for x, y in large])
    )


def finite(tree: Any) -> Any:
    """Whether no float in a pytree is NaN or infinite: `all_finite`, by the norms of large arrays, which is faster."""
    floats = [leaf for leaf in jax.tree.leaves(tree) if is_float(leaf)]
    large = [leaf for leaf in floats if leaf.size >= _LARGE and leaf.dtype == jnp.float32]
    exact = all_finite([leaf for leaf in floats if leaf.size < _LARGE or leaf.dtype != jnp.float32])
    if not large:
        return exact
    squared = sum(_squared_norm(leaf) for leaf in large)
    return exact & lax.cond(jnp.isfinite(squared), lambda: jnp.bool_(True), lambda: all_finite(large))


def stays_finite(after: Any, before: Any) -> Any:
    """Whether each float of a pytree that was finite `before` is finite `after`.

    What was not finite may stay so: an optimizer's state may begin with an infinite loss, to be the least so far.
    """
    both = [(x, y) for x, y in zip(*map(jax.tree.leaves, (after, before)), strict=True) if is_float(x)]
    if not both:
        return jnp.bool_(True)
    squared = sum(_squared_norm(x) for x, _ in both)
    return lax.cond(
        jnp.isfinite(squared),
        lambda: jnp.bool_(True),
        lambda: jnp.stack([(jnp.isfinite(x) | ~jnp.isfinite(y)).all() for x, y in both]).all(),
    )


def _squared_norm(x: Any) -> Any:
    axes = tuple(range(x.ndim))
    return lax.dot_general(x, x, ((axes, axes), ((), ())))


def zero_unless(condition: Any, tree: Any) -> Any:
    """A pytree of arrays, or zeros in its place."""
    with jax.enable_x64(True):
        return jax.tree.map(lambda leaf: jnp.where(condition, leaf, jnp.zeros((), leaf.dtype)), tree)


def struct_of(kind: Type) -> StructType:
    """A struct type, or the one that a federated type holds at each place."""
    member = kind.member if isinstance(kind, FederatedType) else kind
    assert isinstance(member, StructType)
    return member
