"""Symbolic sizes: what stands for `?` in the shapes that a local computation is traced with.

JAX's symbolic sizes answer `size < 3` with an error where it depends on the size, but `size == 3` with False. A user's
`if x.shape[0] == 3` would then be traced as if no batch had three examples. `deciding` makes such a question an error
too, so that the function is traced for each size that occurs instead.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any

from jax import export

_deciding: ContextVar[bool] = ContextVar("hansa_deciding", default=False)
_OWN = ("jax", "hansa")


class UndecidedSize(Exception):
    """A function compares a size that is not known with `==` or `!=`."""


@cache
def batch_symbols() -> tuple[Any, ...]:
    """Symbolic sizes for `?`: the first for a leading one (the number of examples of a batch), the others by axis."""
    symbols = tuple(export.symbolic_shape("b, d1, d2, d3, d4, d5, d6, d7", scope=export.SymbolicScope()))
    _ask_before_false(type(symbols[0]))
    return symbols


@cache
def batch_symbol(least: int) -> Any:
    """A symbolic number of examples that is at least so large, so that JAX can decide what depends on that."""
    if least == 1:
        return batch_symbols()[0]
    return export.symbolic_shape("b", constraints=[f"b >= {least}"])[0]


@contextmanager
def deciding() -> Iterator[None]:
    """While the user's function runs: comparisons of sizes that depend on the size raise `UndecidedSize`."""
    token = _deciding.set(True)
    try:
        yield
    finally:
        _deciding.reset(token)


def size_at(dim: Any, symbols: dict[str, Any]) -> Any:
    """A symbolic size for given values of its symbols; `str(dim)` is JAX's documented notation of it."""
    functions = {"floordiv": lambda a, b: a // b, "mod": lambda a, b: a % b, "max": max, "min": min}
    return eval(str(dim).replace("^", "**"), {"__builtins__": {}}, {**functions, **symbols})


def _ask_before_false(kind: type) -> None:
    """Replaces `==` of JAX's class of symbolic sizes by one that raises where False would be a guess."""
    plain: Any = kind.__eq__

    def equal(self: Any, other: Any) -> Any:
        answer = plain(self, other)
        if answer is False and _deciding.get() and _asked_by_the_user() and _may_be_equal(self, other):
            raise UndecidedSize(f"whether {self} == {other} depends on the batch")
        return answer

    type.__setattr__(kind, "__eq__", equal)


def _asked_by_the_user() -> bool:
    frame = sys._getframe(2)
    if frame.f_code.co_name == "__ne__" and frame.f_back is not None:
        frame = frame.f_back
    return frame.f_globals.get("__name__", "").split(".")[0] not in _OWN


def _may_be_equal(dim: Any, other: Any) -> bool:
    symbolic = " ".join(str(size) for size in (dim, other) if export.is_symbolic_dim(size))
    names = sorted({*re.findall(r"[A-Za-z_]\w*", symbolic)} - {"floordiv", "mod", "max", "min"})
    tried = ({name: size + i for i, name in enumerate(names)} for size in range(1, 300))
    return any(size_at(dim, sizes) == size_at(other, sizes) for sizes in tried)
