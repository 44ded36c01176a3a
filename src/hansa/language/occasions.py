"""What a call is part of: the run, the round, the attempt at it. A runtime asks `current_occasion()` in `invoke`.

`hansa.program.train` says which round it is (`part_of`). Every call within has a number of its own there, so a round
that is repeated after a kill makes the same calls on the same occasions, and a runtime that remembers what was counted
can go on with it.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from hansa._errors import UserError

Part: TypeAlias = Literal["initialize", "round", "evaluation", "call"]


@dataclass(frozen=True)
class Occasion:
    """What a call of a computation is part of. Each call has its own; a call that is made again has the same one.

    Attributes:
        run: whose round it is; a text that no other run has, and that a run keeps when it goes on in its folder.
        round: the number of the round, from 1; 0 for what is before the first one.
        attempt: 1, or more where the runtime has given up the attempts before (`hansa.AbandonedError`).
        part: "initialize" makes the first state, "round" the next one, and "evaluation" measures it; "call" is a call
            by itself, outside `hansa.program.train`, which is a run of its own.
        call: 0 for the first call of this part, 1 for the second.

    Examples:
        >>> hansa.Occasion("first", round=3)
        Occasion(run='first', round=3, attempt=1, part='round', call=0)
    """

    run: str
    round: int
    attempt: int = 1
    part: Part = "round"
    call: int = 0


class AbandonedError(UserError):
    """A runtime has given up a call, for example because too few clients have reported.

    In `hansa.program.train` the state stays as it was, and the round is tried again under the same number, as its next
    attempt; a record is made of the one that ends.

    Examples:
        >>> raise hansa.AbandonedError("2 of 10 clients have reported, and 5 are needed")
        Traceback (most recent call last):
            ...
        hansa.language.occasions.AbandonedError: 2 of 10 clients have reported, and 5 are needed
    """


_part: ContextVar[tuple[Occasion, Iterator[int]] | None] = ContextVar("hansa_part", default=None)
_current: ContextVar[Occasion | None] = ContextVar("hansa_occasion", default=None)


def current_occasion() -> Occasion | None:
    """What the running call is part of; None outside of calls.

    Examples:
        >>> class Telling:
        ...     def invoke(self, computation, argument):
        ...         print(hansa.current_occasion())
        ...         return hansa.ReferenceRuntime().invoke(computation, argument)
        >>> double = hansa.jax_computation(lambda x: 2 * x, "int32")
        >>> with hansa.runtime(Telling()):
        ...     print(double(4))
        Occasion(run='...', round=0, attempt=1, part='call', call=0)
        8
    """
    return _current.get()


def new_run() -> str:
    """The name of a run that no other has."""
    return uuid.uuid4().hex


@contextmanager
def part_of(run: str, round_number: int, attempt: int, part: Part) -> Iterator[Occasion]:
    """Within it, calls are part of this; gives the occasion of the first."""
    occasion = Occasion(run, round_number, attempt, part)
    token = _part.set((occasion, itertools.count()))
    try:
        yield occasion
    finally:
        _part.reset(token)


@contextmanager
def calling() -> Iterator[None]:
    """Within it, a call is executed, on an occasion of its own."""
    part = _part.get()
    occasion = Occasion(new_run(), 0, part="call") if part is None else replace(part[0], call=next(part[1]))
    token = _current.set(occasion)
    try:
        yield
    finally:
        _current.reset(token)
