"""Padding rules for what reads across rows: reductions, contractions, windows, gathering and scattering.

Where the batch is reduced, the rows after it are masked with the identity of the reduction, unless they are
zero already.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from hansa.compiler.padding.batch import Batch, Rows, batch_axis, bind
from hansa.compiler.padding.rules import all_like, axis_of, check_part, elementwise, refuse, values
from hansa.compiler.padding.walk import rule
from hansa.compiler.products import contract_few


def identity(name: str, dtype: Any) -> Any:
    """What a reduction makes of nothing."""
    if name in ("reduce_sum", "reduce_or", "reduce_xor"):
        return 0
    if name == "reduce_prod":
        return 1
    if name == "reduce_and":
        return np.invert(np.zeros((), dtype))
    highest = name in ("reduce_min", "argmin")
    if jnp.issubdtype(dtype, jnp.floating):
        return np.inf if highest else -np.inf
    if jnp.issubdtype(dtype, jnp.bool_):
        return highest
    info = jnp.iinfo(dtype)  # type: ignore[no-untyped-call]
    return info.max if highest else info.min


@rule(
    "reduce_sum", "reduce_prod", "reduce_max", "reduce_min", "reduce_and", "reduce_or", "reduce_xor", "argmax", "argmin"
)
def _reduction(eqn: Any, inputs: Sequence[Rows], batch: Batch) -> list[Rows]:
    (x,), name, aval = inputs, eqn.primitive.name, eqn.invars[0].aval
    if batch_axis(aval.shape) not in eqn.params["axes"]:
        zero = x.zero and name == "reduce_sum"
        return [Rows(out, zero=zero, like=x.like) for out in bind(eqn, [x.value], batch)]
    if not (x.zero and name == "reduce_sum"):
        x = Rows(batch.mask(x, aval, identity(name, aval.dtype)))
    return [Rows(out) for out in bind(eqn, [x.value], batch)]


def _contract(eqn: Any, a: Rows, b: Rows, batch: Batch) -> list[Rows]:
    """The product of two arrays over the batch: one of them zero after it, the other finite."""
    avals = [atom.aval for atom in eqn.invars]
    if not ((a.zero and b.finite) or (b.zero and a.finite)):
        if not a.finite or not b.finite:
            a, b = (
                x if x.finite else Rows(batch.mask(x, aval), zero=True) for x, aval in zip((a, b), avals, strict=True)
            )
        if not (a.zero or b.zero):
            b = Rows(batch.mask(b, avals[1]), zero=True)
    if eqn.primitive.name == "dot_general" and (few := contract_few(avals, eqn.params, batch.capacity)) is not None:
        return [Rows(few(a.value, b.value))]
    return [Rows(out) for out in bind(eqn, [a.value, b.value], batch)]


@rule("dot_general")
def _dot_general(eqn: Any, inputs: Sequence[Rows], batch: Batch) -> list[Rows]:
    a, b = inputs
    (over_a, over_b), _ = eqn.params["dimension_numbers"]
    axis_a, axis_b = axis_of(eqn, 0), axis_of(eqn, 1)
    if axis_a in over_a and axis_a is not None:
        if axis_b is None or tuple(over_b).index(axis_b) != tuple(over_a).index(axis_a):
            raise refuse(eqn, "that contracts the batch with something else")
        return _contract(eqn, a, b, batch)
    batch_axis(eqn.outvars[0].aval.shape)
    zero = (a.zero and axis_a is not None and b.finite) or (b.zero and axis_b is not None and a.finite)
    return [Rows(out, zero=zero, like=all_like(inputs)) for out in bind(eqn, [a.value, b.value], batch)]


@rule("conv_general_dilated")
def _convolution(eqn: Any, inputs: Sequence[Rows], batch: Batch) -> list[Rows]:
    (a, b), spec = inputs, eqn.params["dimension_numbers"]
    axis_a, axis_b = axis_of(eqn, 0), axis_of(eqn, 1)
    groups = eqn.params["feature_group_count"], eqn.params["batch_group_count"]
    if axis_b is None and axis_a == spec.lhs_spec[0] and groups[1] == 1:
        return [
            Rows(out, zero=a.zero and b.finite, like=all_like(inputs)) for out in bind(eqn, [a.value, b.value], batch)
        ]
    if axis_a == spec.lhs_spec[1] and axis_b == spec.rhs_spec[1] and groups[0] == 1:
        return _contract(eqn, a, b, batch)
    raise refuse(eqn, "in this layout")


@rule(
    "reduce_window_max",
    "reduce_window_min",
    "reduce_window_sum",
    "reduce_window",
    "select_and_gather_add",
    "select_and_scatter_add",
)
def _window(eqn: Any, inputs: Sequence[Rows], batch: Batch) -> list[Rows]:
    axis = axis_of(eqn)
    if axis is not None:
        windows = (
            eqn.params["window_dimensions"][axis],
            eqn.params["window_strides"][axis],
            *eqn.params["padding"][axis],
        )
        if windows != (1, 1, 0, 0):
            raise refuse(eqn, "along the batch")
    zero = inputs[0].zero and eqn.primitive.name in ("select_and_scatter_add", "reduce_window_sum")
    return [Rows(out, zero=zero, like=all_like(inputs)) for out in bind(eqn, values(inputs), batch)]


@rule("gather")
def _gather(eqn: Any, inputs: Sequence[Rows], batch: Batch) -> list[Rows]:
    (operand, indices), dims = inputs, eqn.params["dimension_numbers"]
    axis, sizes = axis_of(eqn, 0), eqn.params["slice_sizes"]
    if axis is not None and axis in dims.start_index_map and sizes[axis] == 1:
        within = _row_numbers(eqn, indices, dims.start_index_map.index(axis), axis, batch)
        like = all_like(inputs) and not _drops(eqn)
        return [Rows(out, like=like) for out in bind(eqn, [operand.value, within], batch)]
    if axis is None or axis not in dims.operand_batching_dims:
        check_part(eqn, axis, sizes)
    return [Rows(out, like=all_like(inputs)) for out in bind(eqn, values(inputs), batch)]


def _drops(eqn: Any) -> bool:
    """Whether a gather or scatter leaves out what lies outside, rather than take the nearest row."""
    return bool(eqn.params["mode"] == lax.GatherScatterMode.FILL_OR_DROP)


def _row_numbers(eqn: Any, indices: Rows, component: int, axis: int, batch: Batch) -> Any:
    """Indices whose `component` numbers rows of a batch, as if there were no rows after it."""
    rows = eqn.invars[0].aval.shape[axis]
    numbers = indices.value[..., component]
    true = batch.true(rows).astype(numbers.dtype)
    if _drops(eqn):
        inside = jnp.where(numbers < true, numbers, jnp.asarray(batch.rows(rows), numbers.dtype))
    else:
        inside = jnp.minimum(numbers, true - 1)
    return indices.value.at[..., component].set(inside)


@rule("scatter-add", "scatter-sub", "scatter", "scatter-mul", "scatter-min", "scatter-max")
def _scatter(eqn: Any, inputs: Sequence[Rows], batch: Batch) -> list[Rows]:
    (operand, indices, updates), dims = inputs, eqn.params["dimension_numbers"]
    axis, update_axis = axis_of(eqn, 0), axis_of(eqn, 2)
    adds = eqn.primitive.name in ("scatter-add", "scatter-sub")
    if axis is None and update_axis is not None:
        if not adds or update_axis in dims.update_window_dims:
            raise refuse(eqn, "of the batch into one array")
        if not updates.zero:
            updates = Rows(batch.mask(updates, eqn.invars[2].aval))
        return [Rows(out) for out in bind(eqn, [operand.value, indices.value, updates.value], batch)]
    if axis is not None and axis in dims.scatter_dims_to_operand_dims and axis in dims.inserted_window_dims:
        if update_axis is not None and not adds:
            raise refuse(eqn, "of the batch into its own rows")
        component = dims.scatter_dims_to_operand_dims.index(axis)
        given = updates.value if updates.zero else batch.mask(updates, eqn.invars[2].aval)
        within = _row_numbers(eqn, indices, component, axis, batch)
        return [Rows(out, zero=operand.zero, like=False) for out in bind(eqn, [operand.value, within, given], batch)]
    if axis is not None and axis not in dims.operand_batching_dims:
        windows = [
            i
            for i in range(len(eqn.invars[0].aval.shape))
            if i not in dims.inserted_window_dims + dims.operand_batching_dims
        ]
        whole = axis in windows and update_axis == dims.update_window_dims[windows.index(axis)]
        whole = whole and eqn.invars[0].aval.shape[axis] == eqn.invars[2].aval.shape[update_axis]
        if not whole or axis in dims.scatter_dims_to_operand_dims:
            raise refuse(eqn, "into rows of the batch by their number")
    zero = operand.zero and updates.zero and adds
    return [Rows(out, zero=zero, like=all_like(inputs)) for out in bind(eqn, values(inputs), batch)]


@rule(
    "cholesky", "triangular_solve", "lu", "lu_pivots_to_permutation", "qr", "householder_product", "eigh", "svd", "fft"
)
def _of_each_row(eqn: Any, inputs: Sequence[Rows], batch: Batch) -> list[Rows]:
    """Operations on the last axes of their inputs, one by one along those before."""
    apart = eqn.params["fft_lengths"] if eqn.primitive.name == "fft" else (0, 0)
    ranks = 1 if eqn.primitive.name == "lu_pivots_to_permutation" else len(apart)
    for i, atom in enumerate(eqn.invars):
        rank = 1 if eqn.primitive.name == "householder_product" and i == 1 else ranks
        axis = axis_of(eqn, i)
        if axis is not None and axis >= len(atom.aval.shape) - rank:
            raise refuse(eqn, "across the batch")
    return elementwise(eqn, inputs, batch)
