"""Aggregates that count whom they have contributions of, where there must be some number of clients for a result.

A runtime knows beforehand how many clients take part. Who exceeds a bound is known to the client alone, and what is
folded by stages is as much as somebody has folded: there the number is a part of the state, and too small a number is
what the aggregate says of itself (`Aggregate.lost`) before anybody sees its result.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax.numpy as jnp

from hansa.compiler.aggregates import Aggregate
from hansa.compiler.program import Program
from hansa.types import Struct

TOO_FEW = 1 << 16
"""What is said of too few contributions: this and more, up to the number that there must be."""


def counted(program: Program, every: bool) -> Program:
    """The program with aggregates that have in their states of how many clients they are, where it matters.

    Args:
        program: the program.
        every: whether nobody knows beforehand how many clients take part; if not, it matters where there are bounds.
    """

    def of(aggregate: Aggregate) -> Aggregate:
        terms = aggregate.terms
        matters = terms.min_cohort is not None and (every or terms.excludes)
        return _counted(aggregate, terms.min_cohort or 0) if matters else aggregate

    clients = tuple(replace(stage, aggregates=tuple(map(of, stage.aggregates))) for stage in program.clients)
    return replace(program, clients=clients)


def _counted(inner: Aggregate, least: int) -> Aggregate:
    settled, lost = inner.settled, inner.lost

    def state_of(number: Any, state: Any) -> Any:
        return Struct.of(number=number, state=state)

    def accumulate(state: Any, given: list[Any]) -> Any:
        # Who exceeds a bound has the weight zero.
        one = (given[-1] != 0).astype(jnp.int32) if inner.terms.excludes else jnp.int32(1)
        return state_of(state.number + one, inner.accumulate(state.state, given))

    def too_few(state: Any) -> Any:
        found = jnp.int32(0) if lost is None else lost(state.state)
        return jnp.maximum(jnp.where(state.number < least, TOO_FEW + least, 0), found).astype(jnp.int32)

    return replace(
        inner,
        collective=None if inner.collective is None else state_of("sum", inner.collective),
        zero=lambda start: state_of(jnp.int32(0), inner.zero(start)),
        accumulate=accumulate,
        merge=lambda a, b: state_of(a.number + b.number, inner.merge(a.state, b.state)),
        report=lambda state: inner.report(state.state),
        settled=None if settled is None else lambda state: state_of(state.number, settled(state.state)),
        by_element=None,
        lost=too_few,
    )
