"""All clients' values in arrays with a row for each client: what `federated_stack` compiles to.

Arrays have room for more clients than there are, so that a program serves cohorts of several sizes. A function of such
values sees the true number of rows: it is traced for a symbolic one, and evaluated as those of padded batches are
(`padding`). Where there is no rule for what it does, the program is compiled for the number of clients.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from hansa.compiler import coordinates, padding
from hansa.compiler.sequences import Aval
from hansa.language.local import LocalFunction
from hansa.language.sizes import batch_symbol


class NeedsNumber(Exception):
    """A function of all clients' values has to be compiled for the number of clients."""


@dataclass(frozen=True)
class ClientRows:
    """An array with a row for each client, and room for more.

    Attributes:
        array: `[capacity, ...]`.
        count: how many rows count, int32 scalar.
    """

    array: Any
    count: Any


jax.tree_util.register_dataclass(ClientRows, ["array", "count"], [])


class StackSize(NamedTuple):
    """How large stacks are.

    Attributes:
        rows: how many rows they have.
        exactly: whether there are as many clients, and the program is for no other number.
    """

    rows: int
    exactly: bool

    @classmethod
    def of(cls, number: int, exactly: bool) -> StackSize:
        """That for so many clients; for none it is exact."""
        return cls(number, True) if exactly or not number else cls(room(number), False)


def room(number: int) -> int:
    """The rows of arrays for so many clients, which are the same in each call: results may be rounded by them."""
    step = max(8, 1 << max(0, number.bit_length() - 4))
    return max(1, -(-number // step)) * step


def fewest(rows: int) -> int:
    """The least number of clients, but for none, for which there is that room."""
    return next(number for number in range(1, rows + 1) if room(number) == rows)


def of_clients(values: Any, count: Any, size: StackSize) -> Any:
    """The value at the server of the clients' values, arrays of that size with `count` rows that count."""
    return values if size.exactly else jax.tree.map(lambda array: ClientRows(array, count), values)


def has_rows(value: Any) -> bool:
    """Whether a value holds arrays with a row for each client."""
    return any(isinstance(leaf, ClientRows) for leaf in _leaves(value))


def refuse_rows(value: Any, why: str) -> None:
    """Raises `NeedsNumber` if a value holds arrays with a row for each client."""
    if has_rows(value):
        raise NeedsNumber(why)


def call(function: LocalFunction, argument: Any) -> Any:
    """The result of a function of a value that holds arrays with a row for each client.

    Raises:
        NeedsNumber: if the function cannot be evaluated for any number of clients at once.
    """
    given = _leaves(argument)
    rows = next(leaf for leaf in given if isinstance(leaf, ClientRows))
    capacity = rows.array.shape[0]
    least = fewest(capacity)
    batch, b = padding.Batch(rows.count, capacity, least), batch_symbol(least)
    avals = [
        Aval((b, *leaf.array.shape[1:]), leaf.array.dtype)
        if isinstance(leaf, ClientRows)
        else Aval(jnp.shape(leaf), jnp.result_type(leaf))
        for leaf in given
    ]
    try:
        traced = function.trace(avals)
    except Exception as error:  # whatever the function raises on a symbolic size
        raise NeedsNumber(f"{function.name!r}: {type(error).__name__}: {error}") from error
    arrays = [leaf.array if isinstance(leaf, ClientRows) else leaf for leaf in given]
    try:
        outs = coordinates.evaluate(traced.jaxpr, arrays, batch)
        results = [_result(out, aval.shape, rows.count) for out, aval in zip(outs, traced.jaxpr.out_avals, strict=True)]
    except padding.Unsupported as error:
        raise NeedsNumber(f"{function.name!r}: {error}") from None
    return jax.tree.unflatten(traced.result, results)


def _result(array: Any, shape: tuple[Any, ...], count: Any) -> Any:
    axis = padding.batch_axis(shape)
    if axis is None:
        return array
    if axis or padding.multiple(shape[0]) != 1:
        raise padding.Unsupported(f"a result of shape {shape}")
    return ClientRows(array, count)


def _leaves(value: Any) -> list[Any]:
    return jax.tree.leaves(value, is_leaf=lambda part: isinstance(part, ClientRows))
