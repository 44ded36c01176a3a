"""Norms of a client's value, whatever the sizes of its numbers, and whether these are numbers."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax


def at_least_single(value: Any) -> list[Any]:
    """The arrays of a value, those of half precision as float32, for norms and distances."""
    return [leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32)) for leaf in jax.tree.leaves(value)]


def squared_norm(leaves: list[Any]) -> Any:
    """The sum of the squares of all numbers in arrays, infinite where a square is beyond the dtype."""
    flat = [leaf.reshape(-1) for leaf in leaves]
    return sum((lax.dot(leaf, leaf) for leaf in flat), jnp.float32(0))


def norm(value: Any) -> Any:
    """The Euclidean norm of all numbers of a value of floats; not finite where one of them is not."""
    leaves = at_least_single(value)
    squares = squared_norm(leaves)

    def divided() -> Any:
        """By the largest number, so that no square is beyond the dtype."""
        largest = jnp.stack([jnp.max(jnp.abs(leaf), initial=0) for leaf in leaves] or [jnp.float32(0)]).max()
        unit = jnp.where(largest > 0, largest, 1)
        return (unit * jnp.sqrt(squared_norm([leaf / unit for leaf in leaves]))).astype(squares.dtype)

    return lax.cond(jnp.isfinite(squares) & (squares > 1e-30), lambda: jnp.sqrt(squares), divided)


def is_finite(value: Any) -> Any:
    """Whether no number of a value is NaN or infinite.

    Where the sum of the squares is finite, each number is; only where it is not, each is looked at.
    """
    inexact = [leaf for leaf in jax.tree.leaves(value) if jnp.issubdtype(leaf.dtype, jnp.inexact)]

    def of_each() -> Any:
        return jnp.stack([jnp.isfinite(leaf).all() for leaf in inexact] or [jnp.bool_(True)]).all()

    if any(jnp.iscomplexobj(leaf) for leaf in inexact):
        return of_each()
    squares = squared_norm(at_least_single(inexact))
    return lax.cond(jnp.isfinite(squares), lambda: jnp.bool_(True), of_each)
