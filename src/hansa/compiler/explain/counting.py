"""Counts the floating-point operations of a jaxpr, whose sizes may be symbolic.

Counted is arithmetic on floats, a complex number like one: a multiplication with the addition that follows it as two
(`dot_general`, `conv_general_dilated`), an operation on each element and a reduction as one per element, whatever it
is. Moving, converting and choosing values, and integers, are free, and so is what no result depends on. Of a
convolution, products with padding are not counted. An operation that is counted nowhere is named in the notes.

These are operations of the computation as it is written: XLA may find a way with fewer, and one that pads a short batch
does more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import export
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal

from hansa.compiler.explain.flops import Flops, Turn

STORED = Flops(notes=("without what was loaded from a file",))
"""The operations of StableHLO, which are not counted."""


def count(closed: ClosedJaxpr) -> Flops:
    """The operations of a jaxpr."""
    return _count(closed.jaxpr, [True] * len(closed.jaxpr.outvars))


def _count(jaxpr: Jaxpr, wanted: Sequence[bool]) -> Flops:
    """The operations that the wanted results depend on."""
    used = {v for v, want in zip(jaxpr.outvars, wanted, strict=True) if want and not isinstance(v, Literal)}
    parts = []
    for eqn in reversed(jaxpr.eqns):
        live = [v in used for v in eqn.outvars]
        if any(live) or eqn.effects:
            used.update(v for v in eqn.invars if not isinstance(v, Literal))
            parts.append(_equation(eqn, live))
    return Flops.total(reversed(parts))


def _equation(eqn: JaxprEqn, live: Sequence[bool]) -> Flops:
    name = eqn.primitive.name
    if name in _BODIES:
        return _BODIES[name](eqn, live)
    if name == "call_exported":
        return STORED
    if not any(_is_float(atom) for atom in [*eqn.invars, *eqn.outvars]) or name in _FREE:
        return Flops()
    if name in _ELEMENTWISE:
        return Flops.of(_size(eqn.outvars[0]))
    if name in _REDUCTIONS:
        return Flops.of(_size(eqn.invars[0]))
    amount = _COUNTS[name](eqn) if name in _COUNTS else None
    return Flops(notes=(f"without {name}",)) if amount is None else Flops.of(amount)


def _is_float(atom: Any) -> bool:
    dtype = getattr(atom.aval, "dtype", None)
    return dtype is not None and jnp.issubdtype(dtype, jnp.inexact)


def _size(atom: Any) -> Any:
    return math.prod(_shape(atom))


def _shape(atom: Any) -> Any:
    return atom.aval.shape


def _product(eqn: JaxprEqn) -> Any:
    (contracted, _), _ = eqn.params["dimension_numbers"]
    lhs = _shape(eqn.invars[0])
    return 2 * _size(eqn.outvars[0]) * math.prod(lhs[axis] for axis in contracted)


def _convolution(eqn: JaxprEqn) -> Any:
    p, numbers = eqn.params, eqn.params["dimension_numbers"]
    lhs, rhs = map(_shape, eqn.invars)
    out = _shape(eqn.outvars[0])
    pairs: Any = 1
    for i, (x, k, y) in enumerate(zip(numbers.lhs_spec[2:], numbers.rhs_spec[2:], numbers.out_spec[2:], strict=True)):
        sizes = lhs[x], rhs[k], out[y], *p["padding"][i]
        if any(map(export.is_symbolic_dim, sizes)):
            pairs *= out[y] * rhs[k]
        else:
            dilations = p["lhs_dilation"][i], p["rhs_dilation"][i]
            pairs *= _pairs(lhs[x], rhs[k], out[y], p["padding"][i][0], p["window_strides"][i], *dilations)
    batch = lhs[numbers.lhs_spec[0]] // p["batch_group_count"]
    features, inner = (rhs[axis] for axis in numbers.rhs_spec[:2])
    return 2 * batch * features * inner * pairs


def _pairs(size: int, window: int, out: int, before: int, stride: int, dilation: int, window_dilation: int) -> int:
    """Along an axis of a convolution: how often an element of the window meets one of the input, and no padding."""
    first = np.arange(out)[:, None] * stride - before
    position = first + np.arange(window)[None, :] * window_dilation
    inside = (position >= 0) & (position <= (size - 1) * dilation) & (position % dilation == 0)
    return int(inside.sum())


def _window(eqn: JaxprEqn) -> Any:
    return math.prod(eqn.params["window_dimensions"])


def _triangular_solve(eqn: JaxprEqn) -> Any:
    order = _shape(eqn.invars[0])[-1]
    return _size(eqn.invars[1]) * order


def _cubic(numerator: int, denominator: int) -> Callable[[JaxprEqn], Any]:
    """The leading term of a factorization of square matrices, a fraction of n³."""

    def amount(eqn: JaxprEqn) -> Any:
        *batch, rows, columns = _shape(eqn.invars[0])
        if rows != columns or export.is_symbolic_dim(rows):
            return None
        return math.prod(batch) * (numerator * rows**3 // denominator)

    return amount


def _call(eqn: JaxprEqn, live: Sequence[bool]) -> Flops:
    inner = next(eqn.params[name] for name in ("jaxpr", "call_jaxpr", "fun_jaxpr") if name in eqn.params)
    return _count(inner.jaxpr if isinstance(inner, ClosedJaxpr) else inner, live)


def _scan(eqn: JaxprEqn, live: Sequence[bool]) -> Flops:
    return count(eqn.params["jaxpr"]).times(eqn.params["length"])


def _while(eqn: JaxprEqn, live: Sequence[bool]) -> Flops:
    turn = Flops.total(count(eqn.params[name]) for name in ("cond_jaxpr", "body_jaxpr"))
    return turn.in_turn(Turn("iteration", "a while loop"))


def _cond(eqn: JaxprEqn, live: Sequence[bool]) -> Flops:
    """The branch with the most operations, for a large batch."""
    branches = [_count(branch.jaxpr, live) for branch in eqn.params["branches"]]
    return max(branches, key=lambda flops: flops.at(batch_size=1000))


def _linear_solve(eqn: JaxprEqn, live: Sequence[bool]) -> Flops:
    return count(eqn.params["jaxprs"].solve)


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_BODIES: dict[str, Callable[[JaxprEqn, Sequence[bool]], Flops]] = {
    **dict.fromkeys(
        _names(
            "jit pjit closed_call core_call custom_jvp_call custom_vjp_call custom_vjp_call_jaxpr checkpoint remat "
            "remat2"
        ),
        _call,
    ),
    "scan": _scan,
    "while": _while,
    "cond": _cond,
    "custom_linear_solve": _linear_solve,
}

_COUNTS: dict[str, Callable[[JaxprEqn], Any]] = {
    "dot_general": _product,
    "conv_general_dilated": _convolution,
    **dict.fromkeys(
        ("reduce_window_sum", "reduce_window_max", "reduce_window_min", "select_and_gather_add"),
        lambda eqn: _size(eqn.outvars[0]) * _window(eqn),
    ),
    # For each element of the source, the window is searched and the element added.
    "select_and_scatter_add": lambda eqn: _size(eqn.invars[0]) * _window(eqn),
    **dict.fromkeys(
        ("scatter-add", "scatter-sub", "scatter-mul", "scatter-min", "scatter-max"),
        lambda eqn: _size(eqn.invars[2]),
    ),
    "triangular_solve": _triangular_solve,
    "cholesky": _cubic(1, 3),
    "lu": _cubic(2, 3),
}

_ELEMENTWISE = _names(
    "abs acos acosh add add_any asin asinh atan atan2 atanh bessel_i0e bessel_i1e cbrt ceil clamp cos cosh digamma "
    "div eq erf erf_inv erfc exp exp2 expm1 floor ge gt igamma igamma_grad_a igammac integer_pow is_finite le "
    "lgamma log log1p logistic lt max min mul ne neg nextafter polygamma pow regularized_incomplete_beta rem round "
    "rsqrt sign sin sinh sqrt square sub tan tanh zeta"
)

_REDUCTIONS = _names(
    "reduce_sum reduce_max reduce_min reduce_prod argmax argmin cumsum cumprod cummax cummin cumlogsumexp"
)

_FREE = _names(
    "bitcast_convert_type broadcast_in_dim complex concatenate conj convert_element_type copy copy_p device_put "
    "dim_as_value dynamic_slice dynamic_update_slice empty empty2 gather imag iota name optimization_barrier pad "
    "platform_index real reduce_precision reshape rev scatter select_n sharding_constraint slice split squeeze "
    "stack stop_gradient tile transpose unstack"
)
