"""What several parts of the compiler ask of a jaxpr."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from jax.extend.core import ClosedJaxpr, Jaxpr, Literal


def is_variable(atom: Any) -> bool:
    """Whether an operand is a variable, and no literal."""
    return not isinstance(atom, Literal)


def variables(atoms: Iterable[Any]) -> list[Any]:
    """The variables among operands."""
    return [atom for atom in atoms if is_variable(atom)]


def operands(equations: Iterable[Any]) -> list[Any]:
    """All operands of equations."""
    return [atom for equation in equations for atom in equation.invars]


def within(param: Any) -> Iterator[Jaxpr]:
    """The jaxprs in a parameter of an equation, as of a loop's body or of the branches of a choice."""
    if isinstance(param, ClosedJaxpr):
        yield param.jaxpr
    elif isinstance(param, Jaxpr):
        yield param
    elif isinstance(param, tuple | list):
        for part in param:
            yield from within(part)
