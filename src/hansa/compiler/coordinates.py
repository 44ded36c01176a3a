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
from hansa.compiler.rewrites.loops import scan_parts

_BLOCK = 1 << 22
"""Bytes of all clients' values that are computed with at a time, for each array: some of a processor's cache."""


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


class _Cutting:
    """Which equations of a function compute blocks of some results, and what of which these need blocks.

    Args:
        flat: the function, without calls of others.
        results: values that are computed in it, each with the axis that is cut in blocks.

    Attributes:
        axes: of each value of which a block is needed, the axis that is cut.
        sources: those of them that are given to the function.
        whole: what is needed as a whole.

    Raises:
        _Mixed: if a block needs more than blocks of what has coordinates.
    """

    def __init__(self, flat: ClosedJaxpr, results: Sequence[tuple[Any, int]]) -> None:
        self.flat = flat
        self.axes: dict[Any, int] = {}
        made = {var: eqn for eqn in flat.jaxpr.eqns for var in eqn.outvars}
        open_ = list(results)
        while open_:
            var, axis = open_.pop()
            if isinstance(var, Literal) or self.axes.setdefault(var, axis) != axis:
                raise _Mixed
            if var in made:
                pairs = self._pairs(made[var])
                open_ += [(atom, of) for atom, of in pairs if of is not None and self.axes.get(atom) != of]
        given = [*flat.jaxpr.constvars, *flat.jaxpr.invars]
        self.sources = [var for var in given if var in self.axes]
        self._cut = [any(var in self.axes for var in eqn.outvars) for eqn in flat.jaxpr.eqns]
        self.whole = list(
            dict.fromkeys(
                atom
                for eqn, cut in zip(flat.jaxpr.eqns, self._cut, strict=True)
                for atom, of in (self._pairs(eqn) if cut else ())
                if of is None and not isinstance(atom, Literal)
            )
        )

    def _pairs(self, eqn: Any) -> list[tuple[Any, int | None]]:
        """What an equation takes and gives, with the axis along which a block of it is needed, or None."""
        if eqn.primitive.name == "scan":
            inner, axes = _loop(eqn, [self.axes.get(var) for var in eqn.outvars])
            del inner
            outs = [(var, axis) for var, axis in zip(eqn.outvars, axes[-len(eqn.outvars) :], strict=True)]
            return [*zip(eqn.invars, axes, strict=True), *(pair for pair in outs if pair[1] is not None)]
        axis = next(self.axes[var] for var in eqn.outvars if var in self.axes)
        return [*zip(eqn.invars, _needs(eqn, axis), strict=True), *((var, axis) for var in eqn.outvars)]

    def needed(self, wanted: Sequence[Any]) -> set[Any]:
        """What values that are wanted as a whole are computed of, and they themselves."""
        found = {var for var in wanted if not isinstance(var, Literal)}
        for eqn in reversed(self.flat.jaxpr.eqns):
            if any(var in found for var in eqn.outvars):
                found |= {atom for atom in eqn.invars if not isinstance(atom, Literal)}
        return found

    def computed(self, blocks: dict[Any, Any], whole: dict[Any, Any], size: int, also: set[Any]) -> None:
        """Adds what is computed of blocks of a size to some of these, and to what there is as a whole what of it is
        wanted, too."""

        def read(atom: Any, known: dict[Any, Any]) -> Any:
            return atom.val if isinstance(atom, Literal) else known[atom]

        for eqn, cut in zip(self.flat.jaxpr.eqns, self._cut, strict=True):
            if cut:
                needs = self._pairs(eqn)[: len(eqn.invars)]
                inputs = [read(atom, whole if of is None else blocks) for atom, of in needs]
                outs = self._of_block(eqn, inputs, size)
                blocks.update((var, out) for var, out in zip(eqn.outvars, outs, strict=True) if var in self.axes)
            if any(var in also and var not in whole for var in eqn.outvars):
                inputs = [read(atom, whole) for atom in eqn.invars]
                whole.update(zip(eqn.outvars, _bound(eqn, inputs, eqn.params), strict=True))

    def _of_block(self, eqn: Any, inputs: Sequence[Any], size: int) -> list[Any]:
        axes = [self.axes.get(var) for var in eqn.outvars]
        if eqn.primitive.name == "scan":
            inner, _ = _loop(eqn, axes)
            return _looped(eqn, inner, axes, inputs, size)
        axis = next(axis for axis in axes if axis is not None)
        return _bound(eqn, inputs, _cut(eqn, axis, size))


def _loop(eqn: Any, wanted: Sequence[int | None]) -> tuple[_Cutting, list[int | None]]:
    """How a loop of blocks is computed, whose steps look at each coordinate by itself: a step, and along which axis a
    block of each operand is needed, the last of which are what the loop begins with.

    Args:
        eqn: the loop.
        wanted: along which axis a block of each of its results is needed, or None.
    """
    first, end = scan_parts(eqn)
    carried = end - first
    if end != len(eqn.invars) or carried != len(eqn.outvars):  # it has a sequence
        raise _Mixed
    flat, axes = _inlined(eqn.params["jaxpr"]), list(wanted)
    invars, outvars = flat.jaxpr.invars, flat.jaxpr.outvars
    while True:
        inner = _Cutting(flat, [(outvars[i], axis) for i, axis in enumerate(axes) if axis is not None])
        read = [inner.axes.get(var) for var in invars]
        further = [axis if axis is not None else of for axis, of in zip(axes, read[first:], strict=True)]
        if further == axes:
            break
        axes = further
    needs = [*read[:first], *axes]
    rest = [outvars[i] for i, axis in enumerate(axes) if axis is None]
    alone = inner.needed([*inner.whole, *rest])
    clash = any(of is not None and var in alone for var, of in zip(invars, needs, strict=True))
    if clash or any(of not in (None, axis) for of, axis in zip(read[first:], axes, strict=True)):
        raise _Mixed
    return inner, needs


def _looped(eqn: Any, inner: _Cutting, axes: Sequence[int | None], inputs: Sequence[Any], size: int) -> list[Any]:
    """The results of a loop of blocks."""
    first, _ = scan_parts(eqn)
    jaxpr = inner.flat.jaxpr
    ends = list(zip(jaxpr.outvars, axes, strict=True))
    also = inner.needed([*inner.whole, *(var for var, axis in ends if axis is None)])

    def step(carry: list[Any], _: Any) -> tuple[list[Any], None]:
        given = dict(zip(jaxpr.invars, [*inputs[:first], *carry], strict=True))
        given |= dict(zip(jaxpr.constvars, inner.flat.consts, strict=True))
        blocks = {var: value for var, value in given.items() if var in inner.axes}
        whole = {var: value for var, value in given.items() if var not in inner.axes}
        inner.computed(blocks, whole, size, also)
        return [
            var.val if isinstance(var, Literal) else (whole if axis is None else blocks)[var] for var, axis in ends
        ], None

    last, _ = lax.scan(step, list(inputs[first:]), None, eqn.params["length"], eqn.params["reverse"])
    return list(last)


class _Region:
    """A result that is computed in blocks along an axis.

    Args:
        flat: the function, without calls of others.
        result: what is computed.
        axis: its axis that is cut in blocks.
        size: of a block.

    Raises:
        _Mixed: if it does not look at each coordinate by itself.
    """

    def __init__(self, flat: ClosedJaxpr, result: Any, axis: int, size: int) -> None:
        self._result, self._size = result, size
        self._cutting = _Cutting(flat, [(result, axis)])
        self.sources, self.whole = self._cutting.sources, self._cutting.whole

    def in_blocks(self, given: dict[Any, Any], known: dict[Any, padding.Rows], batch: padding.Batch) -> Any:
        """The result.

        Args:
            given: what is given to the function.
            known: the values of `whole`.
            batch: how many clients there are.
        """
        axes, size = self._cutting.axes, self._size
        shapes = [jax.ShapeDtypeStruct(_at(v.aval.shape, axes[v], size), v.aval.dtype) for v in self.sources]
        block = _traced(self._computed, [*shapes, *(var.aval for var in self.whole)])
        axis = axes[self._result]
        number = self._result.aval.shape[axis]

        def one(turn: Any, result: Any) -> Any:
            first = jnp.minimum(turn * jnp.int32(size), jnp.int32(number - size))
            parts = []
            for var, aval in zip(self.sources, shapes, strict=True):
                part = lax.dynamic_slice_in_dim(given[var], first, size, axes[var])
                parts.append(padding.Rows(padding.copy_first(part, aval.shape, batch)))
            rows = evaluate_rows(block.jaxpr, block.consts, [*parts, *(known[var] for var in self.whole)], batch)
            return lax.dynamic_update_slice_in_dim(result, rows[0].value, first, axis)

        empty = jnp.zeros(self._result.aval.shape, self._result.aval.dtype)
        return lax.fori_loop(jnp.int32(0), jnp.int32(-(-number // size)), one, empty)

    def _computed(self, *values: Any) -> list[Any]:
        """A block of the result, of blocks of `sources` and of `whole`."""
        blocks = dict(zip(self.sources, values, strict=False))
        whole = dict(zip(self.whole, values[len(self.sources) :], strict=True))
        self._cutting.computed(blocks, whole, self._size, set())
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
    if name in _ELEMENTWISE and all(len(each) in (0, len(shape)) for each in given):
        return [axis if each and each[axis] == shape[axis] else None for each in given]
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
    "abs", "add", "add_any", "and", "atan2", "bitcast_convert_type", "ceil", "clamp", "convert_element_type", "copy",
    "copy_p", "cos", "div", "eq", "exp", "exp2", "expm1", "floor", "ge", "gt", "integer_pow", "is_finite", "le",
    "log", "log1p", "logistic", "lt", "max", "min", "mul", "ne", "neg", "nextafter", "not", "or", "pow", "rem",
    "round", "rsqrt", "select_n", "shift_left", "shift_right_arithmetic", "shift_right_logical", "sign", "sin",
    "sqrt", "square", "stop_gradient", "sub", "tanh", "xor",
))  # fmt: skip
