"""Evaluates a function traced for batches of symbolic size `b` on a batch padded to a fixed capacity.

A client's last batch is often short. A compiled program has fixed shapes, and a user's `jnp.mean(loss)` knows of no
mask. So the function's jaxpr, whose shapes hold the symbol `b`, is evaluated on arrays with `capacity` rows, of which
the first `b` are the batch: sizes become the traced true size, reductions and contractions over the batch are masked,
and everything else works row by row. The result is that of the true batch, whatever the rows after it hold.

Which rows after the batch matter is tracked per value (`Rows`), so that a mask is applied where the gradient enters
and hardly anywhere after: a step costs what the unpadded one costs. The rules for each primitive are in `rules`,
`reductions` and `control`; a primitive without one raises `Unsupported`, and the caller compiles a branch per batch
size instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from hansa.compiler.padding.batch import Batch, Rows, Unsupported, bind, check_rows, mentions_batch
from hansa.compiler.products import without_transposes

Rule = Callable[[Any, Sequence[Rows], Batch], list[Rows]]
RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Registers a rule for the primitives of these names."""

    def register(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, rule))
        return rule

    return register


def evaluate(closed: ClosedJaxpr, args: Sequence[Any], batch: Batch) -> list[Any]:
    """The results of a jaxpr over `b`, with `capacity` rows for `b` (times its multiple), of which the first count.

    Args:
        closed: traced with the symbol `b` in the shapes of some arguments.
        args: arrays with `batch.capacity` rows in the place of `b`; those after the batch are `like` it (`copy_first`).
        batch: the batch.

    Raises:
        Unsupported: if a primitive mixes the batch in a way for which there is no rule.
    """
    outs = evaluate_rows(closed.jaxpr, closed.consts, [Rows(arg) for arg in args], batch)
    return [out.value for out in outs]


def evaluate_rows(jaxpr: Jaxpr, consts: Sequence[Any], args: Sequence[Rows], batch: Batch) -> list[Rows]:
    """`evaluate`, with what is known of the rows."""
    env: dict[Any, Rows] = {}
    env.update(zip(jaxpr.constvars, (Rows(const) for const in consts), strict=True))
    env.update(zip(jaxpr.invars, args, strict=True))

    def read(atom: Any) -> Rows:
        if isinstance(atom, Literal):
            return Rows(atom.val, zero=bool(jnp.ndim(atom.val) == 0 and atom.val == 0))
        return env[atom]

    for eqn in without_transposes(jaxpr):
        inputs = [read(atom) for atom in eqn.invars]
        found = RULES.get(eqn.primitive.name)
        if found is not None:
            outs = found(eqn, inputs, batch)
        elif mentions_batch(eqn):
            raise Unsupported(f"the operation {eqn.primitive.name!r} over a batch")
        else:
            outs = [Rows(value) for value in bind(eqn, [x.value for x in inputs], batch)]
        for outvar in eqn.outvars:
            check_rows(outvar.aval)
        env.update(zip(eqn.outvars, outs, strict=True))
    return [read(atom) for atom in jaxpr.outvars]
