"""Padding rules for functions and control flow: their bodies are evaluated the same way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import export, lax
from jax.extend.core import ClosedJaxpr

from hansa.compiler.padding.batch import Batch, Rows, bind, mentions_batch
from hansa.compiler.padding.rules import all_like, refuse, values
from hansa.compiler.padding.walk import evaluate_rows, rule
from hansa.compiler.rewrites.loops import scan_parts


@rule(
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


@rule("scan")
def _scan(eqn: Any, inputs: Sequence[Rows], batch: Batch) -> list[Rows]:
    params, jaxpr = eqn.params, eqn.params["jaxpr"]
    if not mentions_batch(eqn):
        return [Rows(out) for out in bind(eqn, values(inputs), batch)]
    if export.is_symbolic_dim(params["length"]):
        raise refuse(eqn, "along the batch")
    n, m = scan_parts(eqn)
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


@rule("while")
def _while(eqn: Any, inputs: Sequence[Rows], batch: Batch) -> list[Rows]:
    params = eqn.params
    if not mentions_batch(eqn):
        return [Rows(out) for out in bind(eqn, values(inputs), batch)]
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
            return Rows(jnp.where(where, new.value, old.value), new.zero and old.zero, all_like((new, old, going)))

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


@rule("cond")
def _cond(eqn: Any, inputs: Sequence[Rows], batch: Batch) -> list[Rows]:
    if not mentions_batch(eqn):
        return [Rows(out) for out in bind(eqn, values(inputs), batch)]
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
