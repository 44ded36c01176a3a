"""Padding rules for what depends on the order of rows: sorting, the largest of them, turning around, running sums.

Rows after the batch are brought behind those of the batch: by values that come last, or by a key of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from hansa.compiler.padding.batch import Batch, Rows, bind
from hansa.compiler.padding.reductions import identity
from hansa.compiler.padding.rules import all_like, axis_of, check_enough, elementwise, values
from hansa.compiler.padding.walk import rule


@rule("sort")
def _sort(eqn: Any, inputs: Sequence[Rows], batch: Batch) -> list[Rows]:
    axis, params = axis_of(eqn), eqn.params
    if axis is None or axis != params["dimension"]:
        return elementwise(eqn, inputs, batch)
    if len(inputs) == 1:
        aval = eqn.invars[0].aval
        last = np.nan if jnp.issubdtype(aval.dtype, jnp.inexact) else identity("reduce_min", aval.dtype)
        return [Rows(out, like=False) for out in bind(eqn, [batch.mask(inputs[0], aval, last)], batch)]
    size = batch.true(eqn.invars[0].aval.shape[axis])
    after = lax.broadcasted_iota(jnp.int32, jnp.shape(inputs[0].value), axis) >= size
    outs = lax.sort(
        (after.astype(jnp.int32), *values(inputs)),
        dimension=axis,
        is_stable=params["is_stable"],
        num_keys=params["num_keys"] + 1,
    )
    return [Rows(out, like=False) for out in outs[1:]]


@rule("top_k")
def _top_k(eqn: Any, inputs: Sequence[Rows], batch: Batch) -> list[Rows]:
    aval = eqn.invars[0].aval
    rank = len(aval.shape)
    axis = axis_of(eqn)
    if axis is None or axis != eqn.params.get("axis", rank - 1) % rank:
        return elementwise(eqn, inputs, batch)
    check_enough(eqn, axis, eqn.params["k"], batch)
    # Of equal values those that come first are taken, so that none after the batch is before one of it.
    masked = batch.mask(inputs[0], aval, identity("reduce_max", aval.dtype))
    return [Rows(out) for out in bind(eqn, [masked], batch)]


@rule("rev")
def _rev(eqn: Any, inputs: Sequence[Rows], batch: Batch) -> list[Rows]:
    (x,), axis, turned = inputs, axis_of(eqn), eqn.params["dimensions"]
    if axis is None or axis not in turned:
        return [Rows(out, zero=x.zero, like=x.like) for out in bind(eqn, [x.value], batch)]
    rows = batch.true(eqn.invars[0].aval.shape[axis])
    number = jnp.clip(rows - 1 - jnp.arange(jnp.shape(x.value)[axis], dtype=jnp.int32), 0)
    out = jnp.take(lax.rev(x.value, [other for other in turned if other != axis]), number, axis)
    return [Rows(out, like=x.like)]


_OF_NONE = {
    "cumsum": "reduce_sum",
    "cumprod": "reduce_prod",
    "cummax": "reduce_max",
    "cummin": "reduce_min",
    "cumlogsumexp": "reduce_max",
}
"""The reductions that have the same value of nothing."""


@rule(*_OF_NONE)
def _cumulative(eqn: Any, inputs: Sequence[Rows], batch: Batch) -> list[Rows]:
    (x,), aval = inputs, eqn.invars[0].aval
    along = axis_of(eqn) == eqn.params["axis"]
    value = x.value
    if along and eqn.params["reverse"]:
        value = batch.mask(x, aval, identity(_OF_NONE[eqn.primitive.name], aval.dtype))
    return [Rows(out, like=all_like(inputs) and not along) for out in bind(eqn, [value], batch)]
