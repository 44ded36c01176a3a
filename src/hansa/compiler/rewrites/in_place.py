"""Weights that a loop carries, updated where they lie.

Where a step reads a weight again after the gradient is known (a hidden layer's backward pass multiplies by it), nothing
in the program says that this comes before the update. XLA's CPU backend then copies the weight in every step, and
memory is what such a step waits for. So the update is made to depend on what else was computed from the weight.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import export
from jax.extend.core import ClosedJaxpr

from hansa.compiler.jaxprs import variables

# A copy of so many bytes takes longer than the few scalar operations that save it.
_LEAST_BYTES = 2**16


def updated_in_place(eqn: Any) -> Callable[..., list[Any]] | None:
    """The rule for `while`."""
    body: Any = eqn.params["body_jaxpr"]
    carry = body.jaxpr.invars[eqn.params["body_nconsts"] :]
    if body.jaxpr.effects:
        return None
    needed = _ancestors(body.jaxpr.eqns, body.jaxpr.outvars)  # what nothing needs must not become needed
    live = [eqn for eqn in body.jaxpr.eqns if id(eqn) in needed]
    equations = live
    for before, after in zip(carry, body.jaxpr.outvars, strict=True):
        if _bytes(before) >= _LEAST_BYTES and before not in body.jaxpr.outvars:
            equations = _with_update_last(equations, before, after)
    if equations is live:
        return None
    params = eqn.params | {"body_jaxpr": ClosedJaxpr(body.jaxpr.replace(eqns=equations), body.consts)}

    def loop(*operands: Any) -> list[Any]:
        return list(eqn.primitive.bind(*operands, **params))

    return loop


def _with_update_last(equations: list[Any], before: Any, after: Any) -> list[Any]:
    """The equations of a step, with that which updates a weight behind all others that read it."""
    readers = [eqn for eqn in equations if before in variables(eqn.invars)]
    updates = [eqn for eqn in readers if after in eqn.outvars and eqn.primitive.name in ("add", "sub", "add_any")]
    if not updates:
        return equations
    (update,) = updates
    avals = [atom.aval for atom in update.invars]
    if len({(aval.shape, aval.dtype) for aval in avals}) > 1 or update.invars[0] is update.invars[1]:
        return equations
    needed, later = _ancestors(equations, update.invars), _descendants(equations, update)
    others = [eqn for eqn in readers if eqn is not update and id(eqn) not in needed]
    results = [next((var for var in eqn.outvars if _is_floating(var)), None) for eqn in others]
    if not others or None in results or any(id(eqn) in later for eqn in others):
        return equations
    first = [eqn for eqn in equations if eqn is not update and id(eqn) not in later]
    last = [eqn for eqn in equations if id(eqn) in later]
    return [*first, _depending(update, [atom is before for atom in update.invars].index(True), results), *last]


def _depending(update: Any, weight: int, results: list[Any]) -> Any:
    """An update that is computed after some results, of whatever value, as far as XLA can tell."""

    def run(a: Any, b: Any, *results: Any) -> Any:
        operands = [a, b]
        firsts = [result[(0,) * result.ndim] for result in results]
        always = jnp.stack([(first == first) | (first != first) for first in firsts]).all()
        operands[weight] = jnp.where(always, operands[weight], operands[1 - weight])
        return update.primitive.bind(*operands, **update.params)

    atoms = [*update.invars, *results]
    (call,) = jax.make_jaxpr(jax.jit(run))(
        *(jax.ShapeDtypeStruct(x.aval.shape, x.aval.dtype) for x in atoms)
    ).jaxpr.eqns
    return call.replace(invars=atoms, outvars=update.outvars)


def _ancestors(equations: list[Any], atoms: Any) -> set[int]:
    """The equations that some results need, by identity."""
    wanted, found = set(variables(atoms)), set()
    for other in reversed(equations):
        if wanted & set(other.outvars):
            wanted.update(variables(other.invars))
            found.add(id(other))
    return found


def _descendants(equations: list[Any], eqn: Any) -> set[int]:
    """The equations that need one, by identity."""
    made, found = set(eqn.outvars), set()
    for other in equations:
        if made & set(variables(other.invars)):
            made.update(other.outvars)
            found.add(id(other))
    return found


def _is_floating(var: Any) -> bool:
    return bool(jnp.issubdtype(var.aval.dtype, jnp.floating)) and 0 not in var.aval.shape


def _bytes(var: Any) -> int:
    """The size of an array; of data of any size, in a function that is exported, none."""
    if not hasattr(var.aval.dtype, "itemsize") or any(map(export.is_symbolic_dim, var.aval.shape)):
        return 0
    return int(math.prod(var.aval.shape)) * int(var.aval.dtype.itemsize)
