"""Processes: computations that belong together and pass a state on."""

from __future__ import annotations

from hansa.language.computations import Computation
from hansa.types import FunctionType, StructType, Type


class IterativeProcess:
    """A process that has a state: `initialize` makes the first one, `next` takes one to the next.

    Args:
        initialize: `( -> S)`.
        next: `(S -> S)` or `(<S,…> -> <S,…>)`: the state is the first of its parameters and of its results.

    Raises:
        TypeError: if the states do not fit one another.
    """

    def __init__(self, initialize: Computation, next: Computation) -> None:
        for name, value in (("initialize", initialize), ("next", next)):
            if not isinstance(value, Computation):
                raise TypeError(f"{name} must be a computation with declared types, found {value!r}")
        start, step = initialize.type_signature, next.type_signature
        if start.parameter is not None:
            raise TypeError(f"initialize takes no parameter, found the type {start}")
        if step.parameter is None:
            raise TypeError(f"next takes the state, found the type {step}")
        state = _first(step, start)
        state.check_assignable_from(start.result, what="the state that `next` takes, from what `initialize` returns,")
        result = step.result
        if not state.is_assignable_from(result):
            if not isinstance(result, StructType) or not len(result):
                raise TypeError(
                    f"next must return the state, or a struct that begins with it; the state is {state}, it returns "
                    f"{result}"
                )
            state.check_assignable_from(result[0], what="the state that `next` takes, from the first that it returns,")
        self._initialize, self._next = initialize, next

    @property
    def initialize(self) -> Computation:
        """Makes the first state."""
        return self._initialize

    @property
    def next(self) -> Computation:
        """Takes a state, and what else the process needs, to the next state and what else it gives."""
        return self._next

    def __repr__(self) -> str:
        return f"IterativeProcess(initialize: {self._initialize.type_signature}, next: {self._next.type_signature})"


def _first(step: FunctionType, start: FunctionType) -> Type:
    parameter = step.parameter
    assert parameter is not None
    if parameter.is_assignable_from(start.result) or not isinstance(parameter, StructType) or not len(parameter):
        return parameter
    return parameter[0]
