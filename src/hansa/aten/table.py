"""The table of operations: what each of ATen's is in JAX, by its name, such as `add` or, for one overload, `max.dim`.

A function gets the operation's arguments as the exported graph has them: arrays for tensors, and numbers, of which
sizes may be symbolic. Its results are cast to the dtypes that PyTorch gives them, so that promotion is no concern
of the table's. What says where or how a tensor is stored is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp


class Unsupported(Exception):
    """An operation is used in a way that the table does not have."""


@dataclass(frozen=True)
class Operation:
    """What an operation is in JAX.

    Attributes:
        function: from its arguments to its results.
        draws: whether it draws random numbers: it gets a random key before its arguments.
        casts: whether an argument `dtype` says in which type it computes.
    """

    function: Callable[..., Any]
    draws: bool = False
    casts: bool = False


OPERATIONS: dict[str, Operation] = {}


def operation(*names: str, draws: bool = False, casts: bool = False) -> Callable[[Any], Any]:
    """Registers a function for the operations of these names."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        OPERATIONS.update(dict.fromkeys(names, Operation(function, draws, casts)))
        return function

    return register


def register_all(functions: dict[str, Callable[..., Any]]) -> None:
    """Registers functions by the names of the operations that they are; a key may hold several."""
    for names, function in functions.items():
        operation(*names.split())(function)


def find(name: str) -> Operation | None:
    """The operation of a name such as `max.dim`: that of this overload, or of all."""
    return OPERATIONS.get(name) or OPERATIONS.get(name.partition(".")[0])


def as_array(x: Any) -> Any:
    """An array of an array, a number, or a size that may be symbolic."""
    return x if hasattr(x, "dtype") else jnp.asarray(x)


def many(value: Any, count: int) -> tuple[Any, ...]:
    """So many numbers of a list of as many, of one, or of a number."""
    found = tuple(value) if isinstance(value, list | tuple) else (value,)
    return found * count if len(found) == 1 else found


def axes(x: Any, dim: Any) -> tuple[int, ...]:
    """The axes that an argument `dim` names, none of them negative; all, where it names none."""
    if dim is None or (isinstance(dim, Iterable) and not [*dim]):
        return tuple(range(x.ndim))
    chosen = dim if isinstance(dim, list | tuple) else (dim,)
    return tuple(axis % max(x.ndim, 1) for axis in chosen) if x.ndim else ()
