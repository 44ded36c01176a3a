"""What the server computes part by part, shared by devices that all do what the server does.

In one program for all stages each device does the server's work. A loop over parts that do not need each other, such as
that which draws noise, is the same work on all: here each device does some of the parts, and then all have all of them.
A part is computed by the same loop, so its bits are the same however many devices there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import jax
from jax import lax
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, jaxpr_as_fun

from hansa.compiler.jaxprs import within
from hansa.compiler.rewrites.loops import scan_parts
from hansa.language.local import LocalFunction

_AMONG: ContextVar[tuple[str, int] | None] = ContextVar("among", default=None)

_CALLS = ("jit", "pjit", "closed_call")

_DEAR = frozenset({"while", "scan", "sort", "sin", "cos", "log", "exp", "dot_general"})
"""What makes a part worth more than its transfer."""


@contextmanager
def shared_among(axis: str, devices: int) -> Iterator[None]:
    """What functions of the server do in parts is shared by the devices along an axis of a mesh."""
    token = _AMONG.set((axis, devices) if devices > 1 else None)
    try:
        yield
    finally:
        _AMONG.reset(token)


def call(function: LocalFunction, argument: Any) -> Any:
    """The function's result on an argument that all devices have."""
    among = _AMONG.get()
    if among is None:
        return function(argument)
    traced = function.trace(argument)
    if not _has_map(traced.jaxpr.jaxpr):
        return function(argument)
    outs = _evaluated(traced.jaxpr, jax.tree.leaves(argument), *among)
    return jax.tree.unflatten(traced.result, outs)


def _is_map(eqn: Any) -> bool:
    """Whether an equation is a loop over parts that do not need each other, and are dear."""
    if eqn.primitive.name != "scan" or eqn.params["jaxpr"].effects or eqn.params["length"] < 2:
        return False
    first, end = scan_parts(eqn)
    return first == end and any(_names(eqn.params["jaxpr"].jaxpr, _DEAR))


def _names(jaxpr: Jaxpr, names: frozenset[str]) -> Iterator[str]:
    for eqn in jaxpr.eqns:
        if eqn.primitive.name in names:
            yield eqn.primitive.name
        for inner in within(list(eqn.params.values())):
            yield from _names(inner, names)


def _has_map(jaxpr: Jaxpr) -> bool:
    return any(
        _is_map(eqn) or (eqn.primitive.name in _CALLS and _has_map(eqn.params["jaxpr"].jaxpr)) for eqn in jaxpr.eqns
    )


def _evaluated(closed: ClosedJaxpr, values: Sequence[Any], axis: str, devices: int) -> list[Any]:
    jaxpr = closed.jaxpr
    env = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*closed.consts, *values], strict=True))

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, Literal) else env[atom]

    for eqn in jaxpr.eqns:
        inputs = list(map(read, eqn.invars))
        if _is_map(eqn):
            outs = _in_shares(eqn, inputs, axis, devices)
        elif eqn.primitive.name in _CALLS and _has_map(eqn.params["jaxpr"].jaxpr):
            outs = _evaluated(eqn.params["jaxpr"], inputs, axis, devices)
        else:
            with eqn.ctx.manager:
                found = eqn.primitive.bind(*inputs, **eqn.primitive.get_bind_params(eqn.params))
            outs = list(found) if eqn.primitive.multiple_results else [found]
        env.update(zip(eqn.outvars, outs, strict=True))
    return list(map(read, jaxpr.outvars))


def _in_shares(eqn: Any, inputs: list[Any], axis: str, devices: int) -> list[Any]:
    """The results of a map, of which each device computes as many parts as the others."""
    length, (first, _) = eqn.params["length"], scan_parts(eqn)
    fixed, rows, step = inputs[:first], inputs[first:], jaxpr_as_fun(eqn.params["jaxpr"])
    each = -(-length // devices)

    def own(row: Any) -> Any:
        filled = lax.pad(
            row, lax.full((), 0, row.dtype), [(0, each * devices - length, 0)] + [(0, 0, 0)] * (row.ndim - 1)
        )
        return lax.dynamic_slice_in_dim(filled, lax.axis_index(axis) * each, each)

    part: Callable[[Any, Any], Any] = lambda _, row: ((), step(*fixed, *row))  # noqa: E731
    _, found = lax.scan(part, (), [own(row) for row in rows], length=each)
    return [lax.all_gather(array, axis, tiled=True)[:length] for array in found]
