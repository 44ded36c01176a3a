"""Keyword arguments that have another name here: who writes the old one, or another library's, is told this one."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def instead(**told: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Makes a function, or an `__init__`, answer to keyword arguments that it does not take.

    Args:
        told: for each of them, the argument that is in its place, or a sentence that says what to write.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        name = function.__qualname__.removesuffix(".__init__")

        @functools.wraps(function)
        def checked(*args: P.args, **kwargs: P.kwargs) -> R:
            for given in kwargs:
                if given in told:
                    answer = told[given]
                    sentence = f"write {answer}= in its place" if answer.isidentifier() else answer
                    raise TypeError(f"{name} takes no argument {given!r}: {sentence}")
            return function(*args, **kwargs)

        return checked

    return decorate
