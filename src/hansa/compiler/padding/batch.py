"""A batch padded to a fixed capacity, and what is known of a value's rows after it: what all rules of padding share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import export, lax
from jax.extend.core import ClosedJaxpr, Jaxpr

# Rows of this many elements are written one by one rather than selected, on a CPU (measured: from about 64 on).
_LARGE_ROW = 64


class Unsupported(Exception):
    """The function does something across a batch for which no rule is known."""


class Rows(NamedTuple):
    """A value, and what is known of the rows after the batch.

    Attributes:
        value: the array.
        zero: they are zero.
        like: they are what the function computes from a copy of a row of the batch, so finite if the batch's are.
            Values without a batch axis are `like`.
    """

    value: Any
    zero: bool = False
    like: bool = True

    @property
    def finite(self) -> bool:
        """They cannot turn a product with zero into NaN."""
        return self.zero or self.like


@dataclass(frozen=True)
class Batch:
    """The batch that is evaluated.

    Attributes:
        size: its true size, an int32 scalar that may be traced.
        capacity: the rows there are.
        least: it has no fewer examples.
    """

    size: Any
    capacity: int
    least: int = 1

    def rows(self, dim: Any) -> int:
        """The number of rows that stand for a size, which may be symbolic."""
        return self.capacity * multiple(dim) if export.is_symbolic_dim(dim) else dim

    def true(self, dim: Any) -> Any:
        """The true value of a size, which may be symbolic."""
        return jnp.asarray(_evaluate(dim, self.size), jnp.int32)

    def mask(self, rows: Rows, aval: Any, fill: Any = 0) -> Any:
        """The array with `fill` in the rows after the batch."""
        axis = batch_axis(aval.shape)
        if axis is None:
            return rows.value
        shape = jnp.shape(rows.value)
        index = lax.broadcasted_iota(jnp.int32, shape, axis)
        inside = index < jnp.asarray(self.size, jnp.int32) * jnp.int32(multiple(aval.shape[axis]))
        return jnp.where(inside, rows.value, jnp.asarray(fill, rows.value.dtype))


@cache
def multiple(dim: Any) -> int:
    """c, of a symbolic size c * b."""
    # The large ones tell b from min(b, 7) and mod(b, 8).
    sizes = (1, 2, 3, 7, 10**9 + 7, 10**18 + 9)
    values = [_evaluate(dim, n) for n in sizes]
    if values != [values[0] * n for n in sizes]:
        raise Unsupported(f"an array of {dim} rows")
    return int(values[0])


def _evaluate(dim: Any, size: Any) -> Any:
    """A symbolic size as a function of the batch's; `str(dim)` is JAX's documented notation of it."""
    functions = {"floordiv": lambda a, b: a // b, "mod": lambda a, b: a % b, "max": jnp.maximum, "min": jnp.minimum}
    if isinstance(size, int):
        functions |= {"max": max, "min": min}
    return eval(str(dim).replace("^", "**"), {"__builtins__": {}}, {"b": size, **functions})


def batch_axis(shape: Sequence[Any]) -> int | None:
    """The axis of a shape that holds the batch, or None."""
    axes = [axis for axis, dim in enumerate(shape) if export.is_symbolic_dim(dim)]
    if len(axes) > 1:
        raise Unsupported(f"an array of shape {tuple(shape)}")
    return axes[0] if axes else None


def copy_first(value: Any, shape: Sequence[Any], batch: Batch) -> Any:
    """Puts copies of the first row after the batch: the rows are then `like` the batch, whatever was there.

    Args:
        value: the padded array.
        shape: its shape with the batch symbolic, of which one row may be several of the array.
        batch: the batch.
    """
    axis = batch_axis(shape)
    if axis is None:
        return value
    rows = multiple(shape[axis])
    first = lax.slice_in_dim(value, 0, rows, axis=axis)
    select, write = (partial(form, axis=axis, batch=batch, rows=rows) for form in (_select_first, _write_first))
    if first.size < _LARGE_ROW:
        return select(value, first)
    return lax.platform_dependent(value, first, cpu=write, default=select)


def _select_first(value: Any, first: Any, *, axis: int, batch: Batch, rows: int) -> Any:
    if rows > 1:
        first = jnp.tile(first, [batch.capacity if i == axis else 1 for i in range(first.ndim)])
    index = lax.broadcasted_iota(jnp.int32, jnp.shape(value), axis)
    return jnp.where(index < batch.size * rows, value, first)


def _write_first(value: Any, first: Any, *, axis: int, batch: Batch, rows: int) -> Any:
    """Writes the missing rows, none in a full batch, where a selection would read and write all (slowly, on a CPU)."""

    def write(row: Any, value: Any) -> Any:
        return lax.dynamic_update_slice_in_dim(value, first, row * rows, axis)

    return lax.fori_loop(jnp.int32(batch.size), jnp.asarray(batch.capacity, jnp.int32), write, value)


def bind(eqn: Any, values: Sequence[Any], batch: Batch) -> list[Any]:
    """Applies an equation's primitive to arrays, with the capacity in the place of `b` in its parameters."""
    params = eqn.primitive.get_bind_params({name: _at_capacity(param, batch) for name, param in eqn.params.items()})
    with eqn.ctx.manager:
        outs = eqn.primitive.bind(*values, **params)
    return list(outs) if eqn.primitive.multiple_results else [outs]


def _at_capacity(param: Any, batch: Batch) -> Any:
    if type(param) in (tuple, list):
        return type(param)(_at_capacity(element, batch) for element in param)
    return batch.rows(param) if export.is_symbolic_dim(param) else param


def mentions_batch(eqn: Any) -> bool:
    """Whether the batch's size stands anywhere in an equation, or in a jaxpr it holds."""
    if any(_symbolic(atom.aval) for atom in [*eqn.invars, *eqn.outvars]):
        return True
    return any(_param_mentions_batch(param) for param in eqn.params.values())


def _param_mentions_batch(param: Any) -> bool:
    if isinstance(param, ClosedJaxpr):
        param = param.jaxpr
    if isinstance(param, Jaxpr):
        return any(mentions_batch(eqn) for eqn in param.eqns)
    if isinstance(param, tuple | list):
        return any(_param_mentions_batch(element) for element in param)
    return bool(export.is_symbolic_dim(param))


def _symbolic(aval: Any) -> bool:
    return any(export.is_symbolic_dim(dim) for dim in getattr(aval, "shape", ()))


def check_rows(aval: Any) -> None:
    """Raises `Unsupported` unless the batch is on at most one axis, in whole rows: what every rule relies on."""
    shape = getattr(aval, "shape", ())
    axis = batch_axis(shape)
    if axis is not None:
        multiple(shape[axis])


def leading(shape: Sequence[Any], axis: int) -> int:
    """The number of elements in the axes before `axis`."""
    return math.prod(shape[:axis])
