"""Keyword arguments that have another name here, or are misspelt: who writes one is told what to write."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import CodeType
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

_ANY_KEYWORD = 0x08
"""The flag of the code of a function that takes `**kwargs`."""


def instead(**told: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Makes a function, or an `__init__`, answer to keyword arguments that it does not take.

    Args:
        told: for each of them, the argument that is in its place, or a sentence that says what to write.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        name = function.__qualname__.removesuffix(".__init__")
        known = _keywords(function)

        @functools.wraps(function)
        def checked(*args: P.args, **kwargs: P.kwargs) -> R:
            for given in kwargs:
                if given in told:
                    answer = told[given]
                    sentence = f"write {answer}= in its place" if answer.isidentifier() else answer
                    raise TypeError(f"{name} takes no argument {given!r}: {sentence}")
                if known is not None and given not in known:
                    raise TypeError(f"{name} takes no argument {given!r}{_nearest(given, known)}")
            return function(*args, **kwargs)

        return checked

    return decorate


def _keywords(function: Callable[..., object]) -> tuple[str, ...] | None:
    """The arguments that a function takes by name; None if it takes any. `inspect` takes long to import."""
    code: CodeType | None = getattr(function, "__code__", None)
    if code is None or code.co_flags & _ANY_KEYWORD:
        return None
    return code.co_varnames[code.co_posonlyargcount : code.co_argcount + code.co_kwonlyargcount]


def _nearest(given: str, known: tuple[str, ...]) -> str:
    """What to write in place of an argument that there is not."""
    import difflib

    near = difflib.get_close_matches(given, known, n=1)
    arguments = [name for name in known if name != "self"]
    return f"; did you mean {near[0]}=?" if near else f"; it takes {', '.join(arguments)}"
