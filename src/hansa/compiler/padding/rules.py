"""What each JAX primitive does to a padded batch (see `walk`): the rules, by the primitive's name.

A rule takes the equation, its inputs as `Rows` and the `Batch`, and returns the outputs as `Rows`. It must be exact:
where a primitive could mix rows of the batch with those after it in a way the rule does not handle, it raises
`Unsupported`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from hansa.compiler.padding.batch import Batch, Rows, Unsupported, batch_axis, bind, copy_first, leading, multiple
from hansa.compiler.padding.walk import rule


def values(inputs: Sequence[Rows]) -> list[Any]:
    """The arrays."""
    return [x.value for x in inputs]


def all_like(inputs: Sequence[Rows]) -> bool:
    """Whether the rows after the batch are like it in all of them."""
    return all(x.like for x in inputs)


def refuse(eqn: Any, why: str) -> Unsupported:
    """The error for an operation that no rule covers."""
    return Unsupported(f"the operation {eqn.primitive.name!r} {why}")


def axis_of(eqn: Any, i: int = 0) -> int | None:
    """The batch's axis in an input, or None."""
    return batch_axis(eqn.invars[i].aval.shape)


# Element by element: `zero` follows the arithmetic.


@rule(
    "rem", "pow", "atan2", "nextafter", "and", "or", "xor", "not", "eq", "ne", "lt", "le", "gt", "ge", "clamp",
    "eq_to", "lt_to", "le_to", "one_minus_square", "polynomial", "log2",
    "exp", "exp2", "log", "logistic", "cos", "acos", "cosh", "acosh", "rsqrt", "is_finite", "erf_inv", "erfc",
    "lgamma", "digamma", "polygamma", "igamma", "igammac", "igamma_grad_a", "random_gamma_grad", "zeta",
    "bessel_i0e", "bessel_i1e", "regularized_incomplete_beta", "complex", "bitcast_convert_type", "shift_left",
    "shift_right_logical", "shift_right_arithmetic", "population_count", "clz", "mulhi", "threefry2x32",
    "random_wrap", "random_unwrap", "random_clone", "random_fold_in", "random_seed", "optimization_barrier",
)  # fmt: skip
def elementwise(eqn: Any, inputs: Sequence[Rows], batch: Batch) -> list[Rows]:
    """The operation of each element, or of each row, by itself."""
    return [Rows(out, like=all_like(inputs)) for out in bind(eqn, values(inputs), batch)]


@rule(
    "neg", "sign", "convert_element_type", "real", "imag", "conj", "abs", "sqrt", "square", "sin", "tan", "asin",
    "atan", "sinh", "asinh", "tanh", "atanh", "expm1", "log1p", "erf", "floor", "ceil", "round", "cbrt", "copy",
    "copy_p", "name", "reduce_precision", "stop_gradient", "add", "sub", "add_any", "max", "min",
)  # fmt: skip
def _zero_to_zero(eqn: Any, inputs: Sequence[Rows], batch: Batch) -> list[Rows]:
    zero = all(x.zero for x in inputs)
    return [Rows(out, zero=zero, like=all_like(inputs)) for out in bind(eqn, values(inputs), batch)]


@rule("integer_pow")
def _integer_pow(eqn: Any, inputs: Sequence[Rows], batch: Batch) -> list[Rows]:
    return (_zero_to_zero if eqn.params["y"] > 0 else elementwise)(eqn, inputs, batch)


@rule("mul")
def _mul(eqn: Any, inputs: Sequence[Rows], batch: Batch) -> list[Rows]:
    a, b = inputs
    zero = (a.zero and b.finite) or (b.zero and a.finite)
    return [Rows(out, zero=zero, like=all_like(inputs)) for out in bind(eqn, values(inputs), batch)]


@rule("div")
def _div(eqn: Any, inputs: Sequence[Rows], batch: Batch) -> list[Rows]:
    a, b = inputs
    return [Rows(out, zero=a.zero and b.like, like=all_like(inputs)) for out in bind(eqn, values(inputs), batch)]


@rule("select_n")
def _select_n(eqn: Any, inputs: Sequence[Rows], batch: Batch) -> list[Rows]:
    zero = all(x.zero for x in inputs[1:])
    return [Rows(out, zero=zero, like=all_like(inputs)) for out in bind(eqn, values(inputs), batch)]


# The batch's axis is moved, made or looked at.


@rule("dim_as_value")
def _dim_as_value(eqn: Any, inputs: Sequence[Rows], batch: Batch) -> list[Rows]:
    return [Rows(batch.true(eqn.params["dim"]).astype(eqn.outvars[0].aval.dtype))]


@rule("iota")
def _iota(eqn: Any, inputs: Sequence[Rows], batch: Batch) -> list[Rows]:
    along = batch_axis(eqn.params["shape"]) == eqn.params["dimension"]
    return [Rows(out, like=not along) for out in bind(eqn, values(inputs), batch)]


@rule("random_bits", "random_split")
def _random_bits(eqn: Any, inputs: Sequence[Rows], batch: Batch) -> list[Rows]:
    """Draws for the batch are the first of those for the capacity, where the generator counts draws one by one."""
    aval, axis = eqn.outvars[0].aval, batch_axis(eqn.outvars[0].aval.shape)
    if axis_of(eqn) is not None or axis is None:  # a key for each row, or nothing to do with rows
        return elementwise(eqn, inputs, batch)
    counted = eqn.ctx.threefry_partitionable and str(eqn.invars[0].aval.dtype) == "key<fry>"
    if not counted or leading(aval.shape, axis) != 1:
        raise refuse(eqn, "whose draws depend on the batch's size")
    (out,) = bind(eqn, values(inputs), batch)
    if eqn.primitive.name == "random_split":
        return [Rows(out, like=False)]
    return [Rows(copy_first(out, aval.shape, batch))]


@rule("broadcast_in_dim")
def _broadcast_in_dim(eqn: Any, inputs: Sequence[Rows], batch: Batch) -> list[Rows]:
    (x, *_), aval = inputs, eqn.outvars[0].aval
    (out,) = bind(eqn, values(inputs), batch)
    axis = batch_axis(aval.shape)
    enters = axis is not None and axis_of(eqn) is None
    if (
        enters
        and eqn.invars[0].aval.shape == ()
        and not _is_literal(eqn.invars[0])
        and jnp.issubdtype(aval.dtype, jnp.floating)
    ):
        # A computed scalar that is spread over the batch is most often the gradient of a mean: zero here is zero in all
        # that follows from it, and no contraction needs a mask.
        return [Rows(batch.mask(Rows(out), aval), zero=True, like=False)]
    return [Rows(out, zero=x.zero, like=x.like)]


def _is_literal(atom: Any) -> bool:
    return hasattr(atom, "val")


@rule("transpose", "squeeze", "expand_dims")
def _moved(eqn: Any, inputs: Sequence[Rows], batch: Batch) -> list[Rows]:
    return [Rows(out, zero=inputs[0].zero, like=all_like(inputs)) for out in bind(eqn, values(inputs), batch)]


@rule("reshape")
def _reshape(eqn: Any, inputs: Sequence[Rows], batch: Batch) -> list[Rows]:
    before, after = eqn.invars[0].aval.shape, eqn.outvars[0].aval.shape
    i, j = batch_axis(before), batch_axis(after)
    if (i is None) != (j is None) or (i is not None and leading(before, i) != leading(after, j)):  # type: ignore[arg-type]
        raise refuse(eqn, f"from {before} to {after}, which takes the batch apart")
    return _moved(eqn, inputs, batch)


@rule("slice")
def _slice(eqn: Any, inputs: Sequence[Rows], batch: Batch) -> list[Rows]:
    axis = axis_of(eqn)
    if axis is None and batch_axis(eqn.outvars[0].aval.shape) is not None:
        raise refuse(eqn, "of as many rows as the batch has")
    if axis is not None:
        start, limit = eqn.params["start_indices"][axis], eqn.params["limit_indices"][axis]
        stride = (eqn.params["strides"] or {axis: 1})[axis]
        whole = start == 0 and stride == 1 and limit == eqn.invars[0].aval.shape[axis]
        if (start, limit) == (0, 1):
            return [Rows(out) for out in bind(eqn, values(inputs), batch)]
        if not whole:
            raise refuse(eqn, "of a part of the batch")
    return _moved(eqn, inputs, batch)


@rule("dynamic_slice")
def _dynamic_slice(eqn: Any, inputs: Sequence[Rows], batch: Batch) -> list[Rows]:
    axis, sizes = axis_of(eqn), eqn.params["slice_sizes"]
    if axis is not None and isinstance(sizes[axis], int):
        check_enough(eqn, axis, sizes[axis], batch)
        x, *starts = inputs
        first = starts[axis].value
        last = batch.true(eqn.invars[0].aval.shape[axis]) - sizes[axis]
        starts[axis] = Rows(jnp.clip(first, 0, last.astype(first.dtype)))
        return [Rows(out) for out in bind(eqn, values([x, *starts]), batch)]
    check_part(eqn, axis, sizes)
    return _moved(eqn, inputs, batch)


def check_enough(eqn: Any, axis: int, count: int, batch: Batch) -> None:
    """Raises `Unsupported` unless a batch has at least so many rows along the axis."""
    if count > batch.least * multiple(eqn.invars[0].aval.shape[axis]):
        raise refuse(eqn, f"of {count} rows, which a batch may not have")


def check_part(eqn: Any, axis: int | None, sizes: Sequence[Any]) -> None:
    """Raises `Unsupported` unless a part of these sizes has the whole batch if the first input does, or else none."""
    if batch_axis(sizes) != axis or (axis is not None and sizes[axis] != eqn.invars[0].aval.shape[axis]):
        raise refuse(eqn, "of a part of the batch")


@rule("dynamic_update_slice")
def _dynamic_update_slice(eqn: Any, inputs: Sequence[Rows], batch: Batch) -> list[Rows]:
    check_part(eqn, axis_of(eqn), eqn.invars[1].aval.shape)
    zero = inputs[0].zero and inputs[1].zero
    return [Rows(out, zero=zero, like=all_like(inputs)) for out in bind(eqn, values(inputs), batch)]


@rule("pad")
def _pad(eqn: Any, inputs: Sequence[Rows], batch: Batch) -> list[Rows]:
    axis = axis_of(eqn)
    if axis is not None and tuple(eqn.params["padding_config"][axis]) != (0, 0, 0):
        raise refuse(eqn, "along the batch")
    zero = inputs[0].zero and inputs[1].zero
    return [Rows(out, zero=zero, like=all_like(inputs)) for out in bind(eqn, values(inputs), batch)]


@rule("concatenate")
def _concatenate(eqn: Any, inputs: Sequence[Rows], batch: Batch) -> list[Rows]:
    if any(axis_of(eqn, i) == eqn.params["dimension"] for i in range(len(inputs))):
        raise refuse(eqn, "along the batch")
    zero = all(x.zero for x in inputs)
    return [Rows(out, zero=zero, like=all_like(inputs)) for out in bind(eqn, values(inputs), batch)]


@rule("stack", "unstack")
def _stack(eqn: Any, inputs: Sequence[Rows], batch: Batch) -> list[Rows]:
    if eqn.primitive.name == "unstack" and axis_of(eqn) == eqn.params["axis"]:
        raise refuse(eqn, "along the batch")
    zero = all(x.zero for x in inputs)
    return [Rows(out, zero=zero, like=all_like(inputs)) for out in bind(eqn, values(inputs), batch)]


@rule("tile")
def _tile(eqn: Any, inputs: Sequence[Rows], batch: Batch) -> list[Rows]:
    axis, reps = axis_of(eqn), eqn.params["reps"]
    if axis is not None and (reps[axis] != 1 or batch_axis(reps) is not None):
        raise refuse(eqn, "along the batch")
    return _moved(eqn, inputs, batch)


@rule("split")
def _split(eqn: Any, inputs: Sequence[Rows], batch: Batch) -> list[Rows]:
    if axis_of(eqn) == eqn.params["axis"]:
        raise refuse(eqn, "along the batch")
    return _moved(eqn, inputs, batch)
