"""Which clients have a part in a round: those with examples, and only finite numbers. The others are counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from hansa.models.model import FunctionalModel
from hansa.types import FederatedType, Struct, StructType, Type


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
    return jnp.stack([_all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree) if is_float(leaf)] or [True]).all()


def finite(tree: Any) -> Any:
    """Whether no float in a pytree is NaN or infinite: `all_finite`, by the norms of large arrays, which is faster."""
    return _finite(lambda x: x, _squared_norm, tree)


def finite_difference(after: Any, before: Any) -> Any:
    """Whether no float in `after - before` is NaN or infinite."""
    # Two arrays with finite squared norms have a finite difference.
    return _finite(lambda x, y: x - y, lambda x, y: _squared_norm(x) + _squared_norm(y), after, before)


def stays_finite(after: Any, before: Any) -> Any:
    """Whether each float of a pytree that was finite `before` is finite `after`.

    What was not finite may stay so: an optimizer's state may begin with an infinite loss, to be the least so far.
    """
    return _finite(lambda x, y: jnp.where(jnp.isfinite(y), x, 0), lambda x, _: _squared_norm(x), after, before)


def _finite(looked_at: Callable[..., Any], squared: Callable[..., Any], *trees: Any) -> Any:
    """Whether what is to be looked at of the floats in pytrees, an array for those in each place, is finite.

    The squared norm of a large array is finite only if the array is. It is one product, which costs a tenth of looking
    at each element, and takes no time to compile. Only where some `squared` norm of what was given is not finite, which
    may be for an overflow, that of what is to be looked at tells, made so small that it cannot overflow.
    """
    places = [place for place in zip(*map(jax.tree.leaves, trees), strict=True) if is_float(place[0])]
    large = [place for place in places if place[0].size >= _LARGE and place[0].dtype == jnp.float32]
    exact = all_finite([looked_at(*x) for x in places if x[0].size < _LARGE or x[0].dtype != jnp.float32])
    if not large:
        return exact

    def small() -> Any:
        return jnp.isfinite(sum(_squared_norm(looked_at(*place) * jnp.float32(2.0**-96)) for place in large))

    return exact & lax.cond(jnp.isfinite(sum(squared(*place) for place in large)), lambda: jnp.bool_(True), small)


_LARGE = 4096
"""Elements, from which on XLA has a library multiply two arrays."""


def _squared_norm(x: Any) -> Any:
    axes = tuple(range(x.ndim))
    return lax.dot_general(x, x, ((axes, axes), ((), ())))


def _all(flags: Any) -> Any:
    """Whether all of some flags are set.

    XLA takes a reduction along more than 32 elements apart, into programs that take a tenth of a second to compile: so
    those of an array that is not large lie along several dimensions.
    """
    if not isinstance(flags.size, int) or not 32 < flags.size < _LARGE:
        return flags.all()
    blocks = -(-flags.size // 1024)
    filled = lax.pad(flags.reshape(-1), True, [(0, 1024 * blocks - flags.size, 0)])
    return filled.reshape(blocks, 32, 32).all()


def zero_unless(condition: Any, tree: Any) -> Any:
    """A pytree of arrays, or zeros in its place."""
    with jax.enable_x64(True):
        return jax.tree.map(lambda leaf: jnp.where(condition, leaf, jnp.zeros((), leaf.dtype)), tree)


def struct_of(kind: Type) -> StructType:
    """A struct type, or the one that a federated type holds at each place."""
    member = kind.member if isinstance(kind, FederatedType) else kind
    assert isinstance(member, StructType)
    return member
