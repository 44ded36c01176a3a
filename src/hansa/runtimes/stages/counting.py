"""Aggregates that count their contributions, where there must be some number of them for a result."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np

from hansa.compiler.aggregates import Aggregate
from hansa.compiler.program import Program
from hansa.language.terms import check_cohort
from hansa.types import Struct


def counted(program: Program) -> Program:
    """The program with aggregates that have the number of their contributions in their states, where it matters."""
    clients = tuple(replace(stage, aggregates=tuple(map(_counted, stage.aggregates))) for stage in program.clients)
    return replace(program, clients=clients)


def check(aggregate: Aggregate, state: Any) -> None:
    """Checks that a state is of as many contributions as there must be.

    Raises:
        ValueError: if it is of fewer.
    """
    if aggregate.terms.min_cohort is not None:
        number = int(np.asarray(state.number))
        check_cohort(aggregate.node.name, aggregate.terms, number, aggregate.node.where)


def _counted(inner: Aggregate) -> Aggregate:
    if inner.terms.min_cohort is None:
        return inner
    lost = inner.lost

    def state_of(number: Any, state: Any) -> Any:
        return Struct.of(number=number, state=state)

    return replace(
        inner,
        collective=None if inner.collective is None else state_of("sum", inner.collective),
        zero=lambda start: state_of(jnp.int32(0), inner.zero(start)),
        accumulate=lambda state, given: state_of(state.number + 1, inner.accumulate(state.state, given)),
        merge=lambda a, b: state_of(a.number + b.number, inner.merge(a.state, b.state)),
        report=lambda state: inner.report(state.state),
        lost=None if lost is None else lambda state: lost(state.state),
    )
