"""Functions of all clients' values that look at each coordinate by itself, such as a median: in blocks of coordinates.

Such a function sorts, masks and adds up along the clients, so it makes several copies of what it is given. Of large
arrays it is done for a few coordinates of all clients after another: then what it needs beside them is little. Whether
it looks at each coordinate by itself is read off its jaxpr (`_Region`). Where a result does not, as with distances
between clients, that result is computed as a whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import export, lax
from jax.extend.core import ClosedJaxpr, Literal

from hansa.compiler import padding
from hansa.compiler.padding.walk import evaluate_rows

_BLOCK = 1 << 22
"""Bytes of all clients' values that are computed with at a time, for each array (measured: larger ones are slower, and
smaller ones gain nothing)."""


def evaluate(closed: ClosedJaxpr, given: Sequence[Any], batch: padding.Batch) -> list[Any]:
    """The results of a jaxpr, as `hansa.compiler.padding.evaluate` gives them, in blocks where that is possible.

    Args:
        closed: traced with the symbol `b` for the number of clients.
        given: arrays with `batch.capacity` rows in the place of `b`, whatever the rows after the batch hold.
        batch: how many clients there are.

    Raises:
        padding.Unsupported: if something is done for which there is no rule.
    """
    avals = closed.in_avals
    whole = [padding.copy_first(array, aval.shape, batch) for array, aval in zip(given, avals, strict=True)]
    if not any(_bytes(aval, batch) > _BLOCK for aval in avals if padding.batch_axis(aval.shape) is not None):
        return padding.evaluate(closed, whole, batch)
    flat = _inlined(closed)
    regions = {i: made for i in range(len(flat.out_avals)) if (made := _region(flat, i, batch)) is not None}
    if not regions:
        return padding.evaluate(closed, whole, batch)
    jaxpr = flat.jaxpr
    others = [i for i in range(len(jaxpr.outvars)) if i not in regions]
    asked = list(dict.fromkeys([var for region in regions.values() for var in region.whole]))
    outer = _with_results(flat, [*(jaxpr.outvars[i] for i in others), *asked])
    found = evaluate_rows(outer.jaxpr, outer.consts, [padding.Rows(array) for array in whole], batch)
    known = dict(zip(asked, found[len(others) :], strict=True))
    given_by = {**dict(zip(jaxpr.invars, given, strict=True)), **dict(zip(jaxpr.constvars, flat.consts, strict=True))}
    results = dict(zip(others, (rows.value for rows in found), strict=False))
    results |= {i: region.in_blocks(given_by, known, batch) for i, region in regions.items()}
    return [results[i] for i in range(len(jaxpr.outvars))]


def _bytes(aval: Any, batch: padding.Batch) -> int:
    """The size of an array with its rows for clients."""
    return math.prod(map(batch.rows, aval.shape)) * int(aval.dtype.itemsize)


def _region(flat: ClosedJaxpr, place: int, batch: padding.Batch) -> _Region | None:
    """How a result is computed in blocks; None if it is not, or small."""
    var: Any = flat.jaxpr.outvars[place]
    if isinstance(var, Literal) or not var.aval.shape or any(map(export.is_symbolic_dim, var.aval.shape)):
        return None
    axis = max(range(len(var.aval.shape)), key=var.aval.shape.__getitem__)
    of_one = batch.capacity * math.prod(var.aval.shape) * var.aval.dtype.itemsize // max(1, var.aval.shape[axis])
    size = max(1, _BLOCK // max(1, of_one))
    if size >= var.aval.shape[axis]:
        return None
    try:
        region = _Region(flat, var, axis, size)
    except _Mixed:
        return None
    return region if any(padding.batch_axis(source.aval.shape) is not None for source in region.sources) else None


class _Mixed(Exception):
    """A result does not look at each coordinate by itself."""


class _Region:
    """The equations that compute a result, of which a block along an axis needs blocks of what they take only.

    Args:
        flat: the function, without calls of others.
        result: what is computed.
        axis: its axis that is cut in blocks.
        size: of a block.

    Attributes:
        sources: what is given to the function, of which blocks are needed.
        whole: what is computed in the function, or given to it, and needed as a whole.

    Raises:
        _Mixed: if a block needs more.
    """

    def __init__(self, flat: ClosedJaxpr, result: Any, axis: int, size: int) -> None:
        self._result, self._size = result, size
        self._axes: dict[Any, int] = {}
        self.sources: list[Any] = []
        whole: dict[Any, None] = {}
        made = {var: eqn for eqn in flat.jaxpr.eqns for var in eqn.outvars}
        open_ = [(result, axis)]
        while open_:
            var, axis = open_.pop()
            if var in self._axes:
                if self._axes[var] != axis:
                    raise _Mixed
                continue
            self._axes[var] = axis
            if var not in made:
                self.sources.append(var)
                continue
            eqn = made[var]
            open_ += [(other, axis) for other in eqn.outvars if other is not var]
            for atom, of in zip(eqn.invars, _needs(eqn, axis), strict=True):
                if of is not None:
                    open_.append((atom, of))
                elif not isinstance(atom, Literal):
                    whole[atom] = None
        self.whole = list(whole)
        self._equations = [eqn for eqn in flat.jaxpr.eqns if any(var in self._axes for var in eqn.outvars)]

    def in_blocks(self, given: dict[Any, Any], known: dict[Any, padding.Rows], batch: padding.Batch) -> Any:
        """The result.

        Args:
            given: what is given to the function.
            known: the values of `whole`.
            batch: how many clients there are.
        """
        shapes = [self._of_block(var) for var in self.sources]
        block = _traced(self._computed, [*shapes, *(var.aval for var in self.whole)])
        number, axis = self._result.aval.shape[self._axes[self._result]], self._axes[self._result]

        def one(turn: Any, result: Any) -> Any:
            first = jnp.minimum(turn * jnp.int32(self._size), jnp.int32(number - self._size))
            parts = []
            for var, aval in zip(self.sources, shapes, strict=True):
                part = lax.dynamic_slice_in_dim(given[var], first, self._size, self._axes[var])
                parts.append(padding.Rows(padding.copy_first(part, aval.shape, batch)))
            rows = evaluate_rows(block.jaxpr, block.consts, [*parts, *(known[var] for var in self.whole)], batch)
            return lax.dynamic_update_slice_in_dim(result, rows[0].value, first, axis)

        empty = jnp.zeros(self._result.aval.shape, self._result.aval.dtype)
        return lax.fori_loop(jnp.int32(0), jnp.int32(-(-number // self._size)), one, empty)

    def _of_block(self, var: Any) -> Any:
        return jax.ShapeDtypeStruct(_at(var.aval.shape, self._axes[var], self._size), var.aval.dtype)

    def _computed(self, *values: Any) -> list[Any]:
        """A block of the result, of blocks of `sources` and of `whole`."""
        blocks = dict(zip(self.sources, values, strict=False))
        known = dict(zip(self.whole, values[len(self.sources) :], strict=True))
        for eqn in self._equations:
            axis = self._axes[eqn.outvars[0]]
            inputs = [
                atom.val if isinstance(atom, Literal) else (known if of is None else blocks)[atom]
                for atom, of in zip(eqn.invars, _needs(eqn, axis), strict=True)
            ]
            blocks.update(zip(eqn.outvars, _bound(eqn, inputs, _cut(eqn, axis, self._size)), strict=True))
        return [blocks[self._result]]


def _at(sizes: Sequence[Any], axis: int, size: int) -> tuple[Any, ...]:
    return (*sizes[:axis], size, *sizes[axis + 1 :])


def _needs(eqn: Any, axis: int) -> list[int | None]:
    """Along which axis of each operand a block of an equation's result needs a block; None where it needs all of it.

    Raises:
        _Mixed: if it needs more than a block of an array that has as many coordinates.
    """
    name, params, shape = eqn.primitive.name, eqn.params, eqn.outvars[0].aval.shape
    given = [atom.aval.shape for atom in eqn.invars]
    if name in _ELEMENTWISE and all(not each or each == shape for each in given):
        return [axis if each else None for each in given]
    if name == "iota" and params["dimension"] != axis:
        return [None] * len(given)
    if name in ("sort", *_CUMULATIVE) and params["dimension" if name == "sort" else "axis"] != axis:
        return [axis] * len(given)
    if name in _REDUCTIONS:
        return [[i for i in range(len(given[0])) if i not in params["axes"]][axis]]
    if name == "squeeze":
        gone = {i % len(given[0]) for i in params["dimensions"]}
        return [[i for i in range(len(given[0])) if i not in gone][axis]]
    if name == "transpose":
        return [params["permutation"][axis]]
    if name == "broadcast_in_dim":
        kept = params["broadcast_dimensions"]
        of = kept.index(axis) if axis in kept else None
        return [None if of is None or given[0][of] == 1 else of, *[None] * (len(given) - 1)]
    if name == "reshape" and len(given) == 1:
        return [_same_place(given[0], shape, axis)]
    if name == "slice" and params["start_indices"][axis] == 0 and given[0][axis] == shape[axis]:
        return [axis]
    if name == "dynamic_slice" and given[0][axis] == shape[axis]:
        return [axis, *[None] * (len(given) - 1)]
    raise _Mixed


def _same_place(before: Sequence[Any], after: Sequence[Any], axis: int) -> int:
    """The axis that another one is before an array is reshaped, with the same axes before it."""
    for place, size in enumerate(before):
        if isinstance(size, int) and size == after[axis]:
            kept = [each for each in before[:place] if each != 1], [each for each in after[:axis] if each != 1]
            if kept[0] == kept[1]:
                return place
    raise _Mixed


def _cut(eqn: Any, axis: int, size: int) -> dict[str, Any]:
    """The parameters of an equation, of which a block is computed."""
    changed = _SIZES.get(eqn.primitive.name)
    return eqn.params if changed is None else {**eqn.params, changed: _at(eqn.params[changed], axis, size)}


def _bound(eqn: Any, inputs: Sequence[Any], params: dict[str, Any]) -> list[Any]:
    with eqn.ctx.manager:
        outs = eqn.primitive.bind(*inputs, **eqn.primitive.get_bind_params(params))
    return list(outs) if eqn.primitive.multiple_results else [outs]


def _inlined(closed: ClosedJaxpr) -> ClosedJaxpr:
    """A function without calls of others."""

    def through(jaxpr: Any, consts: Sequence[Any], values: Sequence[Any]) -> list[Any]:
        env = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *values], strict=True))

        def read(atom: Any) -> Any:
            return atom.val if isinstance(atom, Literal) else env[atom]

        for eqn in jaxpr.eqns:
            inner = eqn.params.get("jaxpr") if eqn.primitive.name in ("jit", "pjit", "closed_call") else None
            inputs = list(map(read, eqn.invars))
            outs = _bound(eqn, inputs, eqn.params) if inner is None else through(inner.jaxpr, inner.consts, inputs)
            env.update(zip(eqn.outvars, outs, strict=True))
        return list(map(read, jaxpr.outvars))

    return _traced(lambda *values: through(closed.jaxpr, closed.consts, values), closed.in_avals)


def _with_results(closed: ClosedJaxpr, results: Sequence[Any]) -> ClosedJaxpr:
    """A function that gives other values that it computes."""
    jaxpr = closed.jaxpr
    plain = jaxpr.debug_info._replace(result_paths=None)
    return ClosedJaxpr(jaxpr.replace(outvars=list(results), debug_info=plain), closed.consts)


def _traced(function: Callable[..., Any], avals: Sequence[Any]) -> ClosedJaxpr:
    shapes = [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in avals]
    with jax.enable_x64(True), jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((), ())):
        return jax.make_jaxpr(function)(*shapes)


_SIZES = {
    "broadcast_in_dim": "shape",
    "dynamic_slice": "slice_sizes",
    "iota": "shape",
    "reshape": "new_sizes",
    "slice": "limit_indices",
}
"""Where the parameters of an operation say how large its result is."""

_REDUCTIONS = ("reduce_sum", "reduce_prod", "reduce_max", "reduce_min", "reduce_and", "reduce_or")

_CUMULATIVE = ("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp")

_ELEMENTWISE = frozenset((
    "abs", "add", "add_any", "and", "atan2", "ceil", "clamp", "convert_element_type", "copy", "copy_p", "cos", "div",
    "eq", "exp", "exp2", "expm1", "floor", "ge", "gt", "integer_pow", "is_finite", "le", "log", "log1p", "logistic",
    "lt", "max", "min", "mul", "ne", "neg", "nextafter", "not", "or", "pow", "rem", "round", "rsqrt", "select_n",
    "shift_left", "shift_right_arithmetic", "shift_right_logical", "sign", "sin", "sqrt", "square", "stop_gradient",
    "sub", "tanh", "xor",
))  # fmt: skip
