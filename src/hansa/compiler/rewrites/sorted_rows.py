"""Sorts of few long rows of which single rows, or sums over the rows, are all that is used: medians, trimmed means.

XLA's CPU backend computes each row of an array of sorted rows from the beginning, through the whole network of
comparisons. So the array is not made: what reads a row of it, or goes through its rows, is computed of the rows
themselves, in one loop over the columns.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Jaxpr, Literal

from hansa.compiler.rewrites.sorting import has_few_long_rows, sorted_rows

_CALLS = ("jit", "pjit")
_OF_EACH = frozenset((
    "abs", "add", "and", "clamp", "convert_element_type", "copy", "div", "eq", "ge", "gt", "is_finite", "le", "lt",
    "max", "min", "mul", "ne", "neg", "not", "or", "select_n", "sign", "square", "sub",
))  # fmt: skip
"""Operations of each number by itself, whose parameters say nothing of shapes."""


def read_by_rows(jaxpr: Jaxpr) -> Jaxpr:
    """A program in which such sorts are computed with what uses them; the same object if there are none."""
    if any(eqn.effects for eqn in jaxpr.eqns):
        return jaxpr
    if any(_sort_in(eqn) for eqn in jaxpr.eqns):
        jaxpr = jaxpr.replace(eqns=[_sort_in(eqn) or eqn for eqn in jaxpr.eqns])
    for eqn in jaxpr.eqns:
        if has_few_long_rows(eqn):
            group = _group(jaxpr, eqn)
            after = None if group is None else _replaced(jaxpr, group)
            if after is not None:
                return read_by_rows(after)
    return jaxpr


def _sort_in(eqn: Any) -> Any:
    """The sort that is all that a call does, as `jnp.sort` is one, in its place; else None."""
    if eqn.primitive.name not in _CALLS:
        return None
    inner = eqn.params["jaxpr"].jaxpr
    if len(inner.eqns) != 1 or not has_few_long_rows(inner.eqns[0]) or inner.outvars != inner.eqns[0].outvars:
        return None
    return inner.eqns[0].replace(invars=eqn.invars, outvars=eqn.outvars)


class _Group:
    """A sort, and the operations that use it.

    Attributes:
        members: these equations, in order; the sort first.
        inputs: what they are given.
        results: what they give but for arrays of sorted rows.
    """

    def __init__(self, members: list[Any], in_rows: set[Any]) -> None:
        self.members = members
        made = {var for eqn in members for var in eqn.outvars}
        given = [atom for eqn in members for atom in eqn.invars if not isinstance(atom, Literal)]
        self.inputs = [var for var in dict.fromkeys(given) if var not in made]
        self.results = [var for eqn in members for var in eqn.outvars if var not in in_rows]

    def __call__(self, *values: Any) -> list[Any]:
        axis = self.members[0].params["dimension"]
        known: dict[Any, Any] = dict(zip(self.inputs, values, strict=True))
        first = self.members[0]
        known[first.outvars[0]] = _Rows(sorted_rows(_read(known, first.invars[0]), axis), axis)
        for eqn in self.members[1:]:
            _evaluate(eqn, known)
        return [known[var] for var in self.results]


class _Rows:
    """The rows of an array along an axis, each with that axis."""

    def __init__(self, rows: list[Any], axis: int) -> None:
        self.rows, self.axis = rows, axis

    def at(self, place: Any) -> Any:
        """The row at a place, of which an index out of bounds is the nearest that there is."""
        last = len(self.rows) - 1
        if isinstance(place, int):
            return self.rows[min(max(place, 0), last)]
        found = self.rows[0]
        for number in range(1, last + 1):
            found = lax.select_n(place >= jnp.asarray(number, place.dtype), found, self.rows[number])
        return found


def _group(jaxpr: Jaxpr, sort: Any) -> _Group | None:
    """A sort with what uses it; None if something needs the array."""
    axis, in_rows, members = sort.params["dimension"], {sort.outvars[0]}, [sort]
    for eqn in jaxpr.eqns:
        if _some(eqn.invars, in_rows):
            made = _rows_of(eqn, in_rows, sort.outvars[0].aval.shape, axis)
            if made is None:
                return None
            in_rows |= made
            members.append(eqn)
    group = _Group(members, in_rows)
    return None if _some(jaxpr.outvars, in_rows) or not group.results else group


def _some(atoms: Sequence[Any], in_rows: set[Any]) -> bool:
    return any(not isinstance(atom, Literal) and atom in in_rows for atom in atoms)


def _rows_of(eqn: Any, in_rows: set[Any], shape: Sequence[int], axis: int) -> set[Any] | None:
    """Those of an equation's results that are rows too; None if it needs the array of some rows.

    Args:
        eqn: an equation that uses rows.
        in_rows: the values that are rows, of a shape, along an axis.
        shape: the shape.
        axis: the axis.
    """
    name, params = eqn.primitive.name, eqn.params
    if name in _CALLS:
        inner = params["jaxpr"].jaxpr
        within = {var for var, atom in zip(inner.invars, eqn.invars, strict=True) if _some([atom], in_rows)}
        for each in inner.eqns:
            if _some(each.invars, within):
                made = _rows_of(each, within, shape, axis)
                if made is None:
                    return None
                within |= made
        return {out for out, var in zip(eqn.outvars, inner.outvars, strict=True) if _some([var], within)}
    if name in _OF_EACH and all(atom.aval.shape in ((), shape) for atom in eqn.invars):
        return set(eqn.outvars)
    if name == "dynamic_slice":
        return set() if _is_row(params["slice_sizes"], shape, axis) else None
    if name == "slice" and set(params["strides"] or (1,)) == {1}:
        start, end = params["start_indices"], params["limit_indices"]
        return set() if _is_row([last - first for first, last in zip(start, end, strict=True)], shape, axis) else None
    return set() if name == "reduce_sum" and tuple(params["axes"]) == (axis,) else None


def _is_row(sizes: Sequence[int], shape: Sequence[int], axis: int) -> bool:
    return all(size == (1 if i == axis else shape[i]) for i, size in enumerate(sizes))


def _read(known: dict[Any, Any], atom: Any) -> Any:
    return atom.val if isinstance(atom, Literal) else known[atom]


def _evaluate(eqn: Any, known: dict[Any, Any]) -> None:
    """Adds the results of an equation, where some of what is known are rows."""
    values = [_read(known, atom) for atom in eqn.invars]
    rows = next((value for value in values if isinstance(value, _Rows)), None)
    name = eqn.primitive.name
    if rows is None:
        outs = _bound(eqn, values)
    elif name == "dynamic_slice":
        outs = [rows.at(values[1 + rows.axis])]
    elif name == "slice":
        outs = [rows.at(int(eqn.params["start_indices"][rows.axis]))]
    elif name == "reduce_sum":
        outs = [lax.squeeze(functools.reduce(lax.add, rows.rows), (rows.axis,))]
    elif name in _CALLS:
        inner = eqn.params["jaxpr"]
        within = dict(zip([*inner.jaxpr.constvars, *inner.jaxpr.invars], [*inner.consts, *values], strict=True))
        for each in inner.jaxpr.eqns:
            _evaluate(each, within)
        outs = [_read(within, var) for var in inner.jaxpr.outvars]
    else:
        of_rows = [
            _bound(eqn, [_row(value, number, rows.axis) for value in values])[0] for number in range(len(rows.rows))
        ]
        outs = [_Rows(of_rows, rows.axis)]
    known.update(zip(eqn.outvars, outs, strict=True))


def _row(value: Any, number: int, axis: int) -> Any:
    if isinstance(value, _Rows):
        return value.rows[number]
    return lax.index_in_dim(value, number, axis, keepdims=True) if jnp.ndim(value) else value


def _bound(eqn: Any, values: Sequence[Any]) -> list[Any]:
    with eqn.ctx.manager:
        outs = eqn.primitive.bind(*values, **eqn.primitive.get_bind_params(eqn.params))
    return list(outs) if eqn.primitive.multiple_results else [outs]


def _replaced(jaxpr: Jaxpr, group: _Group) -> Jaxpr | None:
    """The program with one call in place of a group; None if something within it needs a result of it."""
    avals = [jax.ShapeDtypeStruct(var.aval.shape, var.aval.dtype) for var in group.inputs]
    (call,) = jax.make_jaxpr(jax.jit(lambda *values: group(*values)))(*avals).jaxpr.eqns
    call = call.replace(invars=group.inputs, outvars=group.results)
    gone = {id(eqn) for eqn in group.members}
    eqns = [call if eqn is group.members[-1] else eqn for eqn in jaxpr.eqns]
    makers = {var: eqn for eqn in eqns if id(eqn) not in gone for var in eqn.outvars}
    done: list[Any] = []
    state: dict[int, bool] = {}  # False while what an equation needs is being put before it

    def put(eqn: Any) -> bool:
        if id(eqn) in state:
            return state[id(eqn)]
        state[id(eqn)] = False
        needs = [atom for atom in eqn.invars if not isinstance(atom, Literal)]
        if not all(put(makers[var]) for var in needs if var in makers):
            return False
        done.append(eqn)
        state[id(eqn)] = True
        return True

    if not all(put(eqn) for eqn in eqns if id(eqn) not in gone):
        return None
    after: Jaxpr = jaxpr.replace(eqns=done)
    return after
