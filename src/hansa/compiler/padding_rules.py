"""What each JAX primitive does to a padded batch (see `padding`): the rules, by the primitive's name.

A rule takes the equation, its inputs as `Rows` and the `Batch`, and returns the outputs as `Rows`. It must be exact:
where a primitive could mix rows of the batch with those after it in a way the rule does not handle, it raises
`Unsupported`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import export, lax
from jax.extend.core import ClosedJaxpr

from hansa.compiler.padding import (
    Batch,
    Rows,
    Unsupported,
    batch_axis,
    bind,
    copy_first,
    evaluate_rows,
    leading,
    mentions_batch,
)

Rule = Callable[[Any, Sequence[Rows], Batch], list[Rows]]
RULES: dict[str, Rule] = {}


def _rule(*names: str) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, rule))
        return rule

    return register


def _values(inputs: Sequence[Rows]) -> list[Any]:
    return [x.value for x in inputs]


def _like(inputs: Sequence[Rows]) -> bool:
    return all(x.like for x in inputs)


def _refuse(eqn: Any, why: str) -> Unsupported:
    return Unsupported(f"the operation {eqn.primitive.name!r} {why}")


def _axis(eqn: Any, i: int = 0) -> int | None:
    return batch_axis(eqn.invars[i].aval.shape)


# Element by element: `zero` follows the arithmetic.


@_rule(
    "rem", "pow", "atan2", "nextafter", "and", "or", "xor", "not", "eq", "ne", "lt", "le", "gt", "ge", "clamp",
    "exp", "exp2", "log", "logistic", "cos", "acos", "cosh", "acosh", "rsqrt", "is_finite", "erf_inv", "erfc",
    "lgamma", "digamma", "polygamma", "igamma", "igammac", "igamma_grad_a", "random_gamma_grad", "zeta",
    "bessel_i0e", "bessel_i1e", "regularized_incomplete_beta", "complex", "bitcast_convert_type", "shift_left",
    "shift_right_logical", "shift_right_arithmetic", "population_count", "clz", "mulhi", "threefry2x32",
    "random_wrap", "random_unwrap", "random_clone", "random_fold_in", "random_seed", "optimization_barrier",
)  # fmt: skip
def _elementwise(eqn: Any, inputs: Sequence[Rows], batch: Batch) -> list[Rows]:
    return [Rows(out, like=_like(inputs)) for out in bind(eqn, _values(inputs), batch)]


@_rule(
    "neg", "sign", "convert_element_type", "real", "imag", "conj", "abs", "sqrt", "square", "sin", "tan", "asin",
    "atan", "sinh", "asinh", "tanh", "atanh", "expm1", "log1p", "erf", "floor", "ceil", "round", "cbrt", "copy",
    "copy_p", "name", "reduce_precision", "stop_gradient", "add", "sub", "add_any", "max", "min",
)  # fmt: skip
def _zero_to_zero(eqn: Any, inputs: Sequence[Rows], batch: Batch) -> list[Rows]:
    zero = all(x.zero for x in inputs)
    return [Rows(out, zero=zero, like=_like(inputs)) for out in bind(eqn, _values(inputs), batch)]


@_rule("integer_pow")
def _integer_pow(eqn: Any, inputs: Sequence[Rows], batch: Batch) -> list[Rows]:
    return (_zero_to_zero if eqn.params["y"] > 0 else _elementwise)(eqn, inputs, batch)


@_rule("mul")
def _mul(eqn: Any, inputs: Sequence[Rows], batch: Batch) -> list[Rows]:
    a, b = inputs
    zero = (a.zero and b.finite) or (b.zero and a.finite)
    return [Rows(out, zero=zero, like=_like(inputs)) for out in bind(eqn, _values(inputs), batch)]


@_rule("div")
def _div(eqn: Any, inputs: Sequence[Rows], batch: Batch) -> list[Rows]:
    a, b = inputs
    return [Rows(out, zero=a.zero and b.like, like=_like(inputs)) for out in bind(eqn, _values(inputs), batch)]


@_rule("select_n")
def _select_n(eqn: Any, inputs: Sequence[Rows], batch: Batch) -> list[Rows]:
    zero = all(x.zero for x in inputs[1:])
    return [Rows(out, zero=zero, like=_like(inputs)) for out in bind(eqn, _values(inputs), batch)]


# The batch's axis is moved, made or looked at.


@_rule("dim_as_value")
def _dim_as_value(eqn: Any, inputs: Sequence[Rows], batch: Batch) -> list[Rows]:
    return [Rows(batch.true(eqn.params["dim"]).astype(eqn.outvars[0].aval.dtype))]


@_rule("iota")
def _iota(eqn: Any, inputs: Sequence[Rows], batch: Batch) -> list[Rows]:
    along = batch_axis(eqn.params["shape"]) == eqn.params["dimension"]
    return [Rows(out, like=not along) for out in bind(eqn, _values(inputs), batch)]


@_rule("random_bits", "random_split")
def _random_bits(eqn: Any, inputs: Sequence[Rows], batch: Batch) -> list[Rows]:
    """Draws for the batch are the first of those for the capacity, where the generator counts draws one by one."""
    aval, axis = eqn.outvars[0].aval, batch_axis(eqn.outvars[0].aval.shape)
    if _axis(eqn) is not None or axis is None:  # a key for each row, or nothing to do with rows
        return _elementwise(eqn, inputs, batch)
    counted = eqn.ctx.threefry_partitionable and str(eqn.invars[0].aval.dtype) == "key<fry>"
    if not counted or leading(aval.shape, axis) != 1:
        raise _refuse(eqn, "whose draws depend on the batch's size")
    (out,) = bind(eqn, _values(inputs), batch)
    if eqn.primitive.name == "random_split":
        return [Rows(out, like=False)]
    return [Rows(copy_first(out, aval.shape, batch))]


@_rule("broadcast_in_dim")
def _broadcast_in_dim(eqn: Any, inputs: Sequence[Rows], batch: Batch) -> list[Rows]:
    (x, *_), aval = inputs, eqn.outvars[0].aval
    (out,) = bind(eqn, _values(inputs), batch)
    axis = batch_axis(aval.shape)
    enters = axis is not None and _axis(eqn) is None
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


@_rule("transpose", "squeeze", "expand_dims")
def _moved(eqn: Any, inputs: Sequence[Rows], batch: Batch) -> list[Rows]:
    return [Rows(out, zero=inputs[0].zero, like=_like(inputs)) for out in bind(eqn, _values(inputs), batch)]


@_rule("reshape")
def _reshape(eqn: Any, inputs: Sequence[Rows], batch: Batch) -> list[Rows]:
    before, after = eqn.invars[0].aval.shape, eqn.outvars[0].aval.shape
    i, j = batch_axis(before), batch_axis(after)
    if (i is None) != (j is None) or (i is not None and leading(before, i) != leading(after, j)):  # type: ignore[arg-type]
        raise _refuse(eqn, f"from {before} to {after}, which takes the batch apart")
    return _moved(eqn, inputs, batch)


@_rule("slice")
def _slice(eqn: Any, inputs: Sequence[Rows], batch: Batch) -> list[Rows]:
    axis = _axis(eqn)
    if axis is None and batch_axis(eqn.outvars[0].aval.shape) is not None:
        raise _refuse(eqn, "of as many rows as the batch has")
    if axis is not None:
        start, limit = eqn.params["start_indices"][axis], eqn.params["limit_indices"][axis]
        stride = (eqn.params["strides"] or {axis: 1})[axis]
        whole = start == 0 and stride == 1 and limit == eqn.invars[0].aval.shape[axis]
        if (start, limit) == (0, 1):
            return [Rows(out) for out in bind(eqn, _values(inputs), batch)]
        if not whole:
            raise _refuse(eqn, "of a part of the batch")
    return _moved(eqn, inputs, batch)


@_rule("dynamic_slice")
def _dynamic_slice(eqn: Any, inputs: Sequence[Rows], batch: Batch) -> list[Rows]:
    axis = _axis(eqn)
    _check_part(eqn, axis, eqn.params["slice_sizes"])
    return _moved(eqn, inputs, batch)


def _check_part(eqn: Any, axis: int | None, sizes: Sequence[Any]) -> None:
    """Raises `Unsupported` unless a part of these sizes has the whole batch if the first input does, or else none."""
    if batch_axis(sizes) != axis or (axis is not None and sizes[axis] != eqn.invars[0].aval.shape[axis]):
        raise _refuse(eqn, "of a part of the batch")


@_rule("dynamic_update_slice")
def _dynamic_update_slice(eqn: Any, inputs: Sequence[Rows], batch: Batch) -> list[Rows]:
    _check_part(eqn, _axis(eqn), eqn.invars[1].aval.shape)
    zero = inputs[0].zero and inputs[1].zero
    return [Rows(out, zero=zero, like=_like(inputs)) for out in bind(eqn, _values(inputs), batch)]


@_rule("pad")
def _pad(eqn: Any, inputs: Sequence[Rows], batch: Batch) -> list[Rows]:
    axis = _axis(eqn)
    if axis is not None and tuple(eqn.params["padding_config"][axis]) != (0, 0, 0):
        raise _refuse(eqn, "along the batch")
    zero = inputs[0].zero and inputs[1].zero
    return [Rows(out, zero=zero, like=_like(inputs)) for out in bind(eqn, _values(inputs), batch)]


@_rule("concatenate")
def _concatenate(eqn: Any, inputs: Sequence[Rows], batch: Batch) -> list[Rows]:
    if any(_axis(eqn, i) == eqn.params["dimension"] for i in range(len(inputs))):
        raise _refuse(eqn, "along the batch")
    zero = all(x.zero for x in inputs)
    return [Rows(out, zero=zero, like=_like(inputs)) for out in bind(eqn, _values(inputs), batch)]


@_rule("stack", "unstack")
def _stack(eqn: Any, inputs: Sequence[Rows], batch: Batch) -> list[Rows]:
    if eqn.primitive.name == "unstack" and _axis(eqn) == eqn.params["axis"]:
        raise _refuse(eqn, "along the batch")
    zero = all(x.zero for x in inputs)
    return [Rows(out, zero=zero, like=_like(inputs)) for out in bind(eqn, _values(inputs), batch)]


@_rule("tile")
def _tile(eqn: Any, inputs: Sequence[Rows], batch: Batch) -> list[Rows]:
    axis, reps = _axis(eqn), eqn.params["reps"]
    if axis is not None and (reps[axis] != 1 or batch_axis(reps) is not None):
        raise _refuse(eqn, "along the batch")
    return _moved(eqn, inputs, batch)


@_rule("split")
def _split(eqn: Any, inputs: Sequence[Rows], batch: Batch) -> list[Rows]:
    if _axis(eqn) == eqn.params["axis"]:
        raise _refuse(eqn, "along the batch")
    return _moved(eqn, inputs, batch)


@_rule("rev")
def _rev(eqn: Any, inputs: Sequence[Rows], batch: Batch) -> list[Rows]:
    if _axis(eqn) in eqn.params["dimensions"]:
        raise _refuse(eqn, "along the batch")
    return _moved(eqn, inputs, batch)


@_rule("sort")
def _sort(eqn: Any, inputs: Sequence[Rows], batch: Batch) -> list[Rows]:
    if _axis(eqn) == eqn.params["dimension"]:
        raise _refuse(eqn, "along the batch")
    return _elementwise(eqn, inputs, batch)


@_rule("top_k")
def _top_k(eqn: Any, inputs: Sequence[Rows], batch: Batch) -> list[Rows]:
    rank = len(eqn.invars[0].aval.shape)
    if _axis(eqn) == eqn.params.get("axis", rank - 1) % rank:
        raise _refuse(eqn, "along the batch")
    return _elementwise(eqn, inputs, batch)


@_rule("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp")
def _cumulative(eqn: Any, inputs: Sequence[Rows], batch: Batch) -> list[Rows]:
    along = _axis(eqn) == eqn.params["axis"]
    if along and eqn.params["reverse"]:
        raise _refuse(eqn, "backwards along the batch")
    return [Rows(out, like=_like(inputs) and not along) for out in bind(eqn, _values(inputs), batch)]


# Reductions and contractions over the batch: masked.


def _identity(name: str, dtype: Any) -> Any:
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


@_rule(
    "reduce_sum", "reduce_prod", "reduce_max", "reduce_min", "reduce_and", "reduce_or", "reduce_xor", "argmax", "argmin"
)
def _reduction(eqn: Any, inputs: Sequence[Rows], batch: Batch) -> list[Rows]:
    (x,), name, aval = inputs, eqn.primitive.name, eqn.invars[0].aval
    if batch_axis(aval.shape) not in eqn.params["axes"]:
        zero = x.zero and name == "reduce_sum"
        return [Rows(out, zero=zero, like=x.like) for out in bind(eqn, [x.value], batch)]
    if not (x.zero and name == "reduce_sum"):
        x = Rows(batch.mask(x, aval, _identity(name, aval.dtype)))
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
    return [Rows(out) for out in bind(eqn, [a.value, b.value], batch)]


@_rule("dot_general")
def _dot_general(eqn: Any, inputs: Sequence[Rows], batch: Batch) -> list[Rows]:
    a, b = inputs
    (over_a, over_b), _ = eqn.params["dimension_numbers"]
    axis_a, axis_b = _axis(eqn, 0), _axis(eqn, 1)
    if axis_a in over_a and axis_a is not None:
        if axis_b is None or tuple(over_b).index(axis_b) != tuple(over_a).index(axis_a):
            raise _refuse(eqn, "that contracts the batch with something else")
        return _contract(eqn, a, b, batch)
    batch_axis(eqn.outvars[0].aval.shape)
    zero = (a.zero and axis_a is not None and b.finite) or (b.zero and axis_b is not None and a.finite)
    return [Rows(out, zero=zero, like=_like(inputs)) for out in bind(eqn, [a.value, b.value], batch)]


@_rule("conv_general_dilated")
def _convolution(eqn: Any, inputs: Sequence[Rows], batch: Batch) -> list[Rows]:
    (a, b), spec = inputs, eqn.params["dimension_numbers"]
    axis_a, axis_b = _axis(eqn, 0), _axis(eqn, 1)
    groups = eqn.params["feature_group_count"], eqn.params["batch_group_count"]
    if axis_b is None and axis_a == spec.lhs_spec[0] and groups[1] == 1:
        return [Rows(out, zero=a.zero and b.finite, like=_like(inputs)) for out in bind(eqn, [a.value, b.value], batch)]
    if axis_a == spec.lhs_spec[1] and axis_b == spec.rhs_spec[1] and groups[0] == 1:
        return _contract(eqn, a, b, batch)
    raise _refuse(eqn, "in this layout")


@_rule(
    "reduce_window_max",
    "reduce_window_min",
    "reduce_window_sum",
    "reduce_window",
    "select_and_gather_add",
    "select_and_scatter_add",
)
def _window(eqn: Any, inputs: Sequence[Rows], batch: Batch) -> list[Rows]:
    axis = _axis(eqn)
    if axis is not None:
        windows = (
            eqn.params["window_dimensions"][axis],
            eqn.params["window_strides"][axis],
            *eqn.params["padding"][axis],
        )
        if windows != (1, 1, 0, 0):
            raise _refuse(eqn, "along the batch")
    zero = inputs[0].zero and eqn.primitive.name in ("select_and_scatter_add", "reduce_window_sum")
    return [Rows(out, zero=zero, like=_like(inputs)) for out in bind(eqn, _values(inputs), batch)]


@_rule("gather")
def _gather(eqn: Any, inputs: Sequence[Rows], batch: Batch) -> list[Rows]:
    dims, sizes, axis = eqn.params["dimension_numbers"], eqn.params["slice_sizes"], _axis(eqn, 0)
    if axis is None or axis not in dims.operand_batching_dims:
        _check_part(eqn, axis, sizes)
    return [Rows(out, like=_like(inputs)) for out in bind(eqn, _values(inputs), batch)]


@_rule("scatter-add", "scatter-sub", "scatter", "scatter-mul", "scatter-min", "scatter-max")
def _scatter(eqn: Any, inputs: Sequence[Rows], batch: Batch) -> list[Rows]:
    (operand, indices, updates), dims = inputs, eqn.params["dimension_numbers"]
    axis, update_axis = _axis(eqn, 0), _axis(eqn, 2)
    adds = eqn.primitive.name in ("scatter-add", "scatter-sub")
    if axis is None and update_axis is not None:
        if not adds or update_axis in dims.update_window_dims:
            raise _refuse(eqn, "of the batch into one array")
        if not updates.zero:
            updates = Rows(batch.mask(updates, eqn.invars[2].aval))
        return [Rows(out) for out in bind(eqn, [operand.value, indices.value, updates.value], batch)]
    if axis is not None and axis not in dims.operand_batching_dims:
        windows = [
            i
            for i in range(len(eqn.invars[0].aval.shape))
            if i not in dims.inserted_window_dims + dims.operand_batching_dims
        ]
        whole = axis in windows and update_axis == dims.update_window_dims[windows.index(axis)]
        whole = whole and eqn.invars[0].aval.shape[axis] == eqn.invars[2].aval.shape[update_axis]
        if not whole or axis in dims.scatter_dims_to_operand_dims:
            raise _refuse(eqn, "into rows of the batch by their number")
    zero = operand.zero and updates.zero and adds
    return [Rows(out, zero=zero, like=_like(inputs)) for out in bind(eqn, _values(inputs), batch)]


@_rule(
    "cholesky", "triangular_solve", "lu", "lu_pivots_to_permutation", "qr", "householder_product", "eigh", "svd", "fft"
)
def _of_each_row(eqn: Any, inputs: Sequence[Rows], batch: Batch) -> list[Rows]:
    """Operations on the last axes of their inputs, one by one along those before."""
    apart = eqn.params["fft_lengths"] if eqn.primitive.name == "fft" else (0, 0)
    ranks = 1 if eqn.primitive.name == "lu_pivots_to_permutation" else len(apart)
    for i, atom in enumerate(eqn.invars):
        rank = 1 if eqn.primitive.name == "householder_product" and i == 1 else ranks
        axis = _axis(eqn, i)
        if axis is not None and axis >= len(atom.aval.shape) - rank:
            raise _refuse(eqn, "across the batch")
    return _elementwise(eqn, inputs, batch)


# Functions and control flow: their bodies are evaluated the same way.


@_rule(
    "jit",
    "pjit",
    "closed_call",
    "core_call",
    "custom_jvp_call",
    "custom_vjp_call",
    "custom_vjp_call_jaxpr",
    "checkpoint",
    "remat2",
    "remat",
)
def _call(eqn: Any, inputs: Sequence[Rows], batch: Batch) -> list[Rows]:
    inner = next(eqn.params[name] for name in ("jaxpr", "call_jaxpr", "fun_jaxpr") if name in eqn.params)
    if isinstance(inner, ClosedJaxpr):
        return evaluate_rows(inner.jaxpr, inner.consts, inputs, batch)
    return evaluate_rows(inner, (), inputs, batch)


def _stable(init: Sequence[Rows], body: Callable[[list[Rows]], list[Rows]]) -> list[Rows]:
    """What is known of a loop's carry in every iteration: `init` weakened until the body keeps it."""
    import jax

    known = list(init)
    while True:
        found: list[Rows] = []

        def probe(*values: Any, known: list[Rows] = known, found: list[Rows] = found) -> list[Any]:
            outs = body([x._replace(value=value) for x, value in zip(known, values, strict=True)])
            found.extend(outs)
            return [out.value for out in outs]

        jax.eval_shape(probe, *(x.value for x in known))
        joined = [x._replace(zero=x.zero and y.zero, like=x.like and y.like) for x, y in zip(known, found, strict=True)]
        if [x[1:] for x in joined] == [x[1:] for x in known]:
            return known
        known = joined


@_rule("scan")
def _scan(eqn: Any, inputs: Sequence[Rows], batch: Batch) -> list[Rows]:
    params, jaxpr = eqn.params, eqn.params["jaxpr"]
    if not mentions_batch(eqn):
        return [Rows(out) for out in bind(eqn, _values(inputs), batch)]
    if export.is_symbolic_dim(params["length"]):
        raise _refuse(eqn, "along the batch")
    n, m = params["num_consts"], params["num_consts"] + params["num_carry"]
    consts, init, xs = inputs[:n], inputs[n:m], inputs[m:]
    slices = [x._replace(value=x.value[0]) for x in xs]
    carry = _stable(init, lambda c: evaluate_rows(jaxpr.jaxpr, jaxpr.consts, [*consts, *c, *slices], batch)[: len(c)])
    known: list[Rows] = []

    def body(values: list[Any], rows: list[Any]) -> tuple[list[Any], list[Any]]:
        state = [x._replace(value=value) for x, value in zip(carry, values, strict=True)]
        element = [x._replace(value=value) for x, value in zip(xs, rows, strict=True)]
        outs = evaluate_rows(jaxpr.jaxpr, jaxpr.consts, [*consts, *state, *element], batch)
        known[:] = outs
        return [out.value for out in outs[: len(carry)]], [out.value for out in outs[len(carry) :]]

    last, stacked = lax.scan(
        body,
        [x.value for x in init],
        [x.value for x in xs],
        params["length"],
        params["reverse"],
        unroll=params["unroll"],
    )
    outs = [x._replace(value=value) for x, value in zip(carry, last, strict=True)]
    return outs + [x._replace(value=value) for x, value in zip(known[len(carry) :], stacked, strict=True)]


@_rule("while")
def _while(eqn: Any, inputs: Sequence[Rows], batch: Batch) -> list[Rows]:
    params = eqn.params
    if not mentions_batch(eqn):
        return [Rows(out) for out in bind(eqn, _values(inputs), batch)]
    n, m = params["cond_nconsts"], params["cond_nconsts"] + params["body_nconsts"]
    cond_consts, body_consts, init = inputs[:n], inputs[n:m], inputs[m:]
    test, step = params["cond_jaxpr"], params["body_jaxpr"]
    (asked,) = test.out_avals  # of a loop under `vmap`, an answer for each example

    def answer(state: list[Rows]) -> Rows:
        return evaluate_rows(test.jaxpr, test.consts, [*cond_consts, *state], batch)[0]

    def after(state: list[Rows]) -> list[Rows]:
        outs = evaluate_rows(step.jaxpr, step.consts, [*body_consts, *state], batch)
        if not asked.shape:
            return outs
        going = answer(state)

        def kept(new: Rows, old: Rows) -> Rows:
            shape = jnp.shape(new.value)
            where = lax.broadcast_in_dim(going.value, shape, range(len(asked.shape)))
            return Rows(jnp.where(where, new.value, old.value), new.zero and old.zero, _like((new, old, going)))

        return [kept(new, old) for new, old in zip(outs, state, strict=True)]

    carry = _stable(init, after)

    def known(values: Sequence[Any]) -> list[Rows]:
        return [x._replace(value=value) for x, value in zip(carry, values, strict=True)]

    last = lax.while_loop(
        lambda values: jnp.any(batch.mask(answer(known(values)), asked)),
        lambda values: [out.value for out in after(known(values))],
        [x.value for x in init],
    )
    return known(last)


@_rule("cond")
def _cond(eqn: Any, inputs: Sequence[Rows], batch: Batch) -> list[Rows]:
    if not mentions_batch(eqn):
        return [Rows(out) for out in bind(eqn, _values(inputs), batch)]
    index, *operands = inputs
    known: list[list[Rows]] = []

    def branch(closed: ClosedJaxpr) -> Callable[..., list[Any]]:
        def run(*values: Any) -> list[Any]:
            args = [x._replace(value=value) for x, value in zip(operands, values, strict=True)]
            outs = evaluate_rows(closed.jaxpr, closed.consts, args, batch)
            known.append(outs)
            return [out.value for out in outs]

        return run

    outs = lax.switch(index.value, [branch(closed) for closed in eqn.params["branches"]], *(x.value for x in operands))
    return [
        Rows(value, zero=all(x.zero for x in rows), like=all(x.like for x in rows))
        for value, *rows in zip(outs, *known, strict=True)
    ]
