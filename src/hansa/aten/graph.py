"""A graph of ATen operations as plain data, and its evaluation by JAX: no PyTorch is needed for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from hansa.aten.table import Operation, Unsupported


class Ref(NamedTuple):
    """The value of this number, in place of an argument."""

    number: int


@dataclass(frozen=True)
class Input:
    """A value that the graph starts from.

    Attributes:
        kind: whether it is a tensor of the batch, the next one; or a weight or buffer; or a constant.
        name: of a weight or buffer; a buffer that is not in the `state_dict` is a constant with a name.
        value: of a constant.
    """

    kind: Literal["batch", "weight", "constant"]
    name: str = ""
    value: Any = None


@dataclass(frozen=True)
class Step:
    """An operation of the graph.

    Attributes:
        name: the operation's, such as `add.Tensor`.
        operation: what it is in JAX.
        args, kwargs: its arguments; a `Ref` stands for a value.
        dtype: that of its result, or of its results in a list; None where a result is no tensor.
        where: the submodule and the user's line that it comes from, for messages.
    """

    name: str
    operation: Operation
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    dtype: Any
    where: str


@dataclass(frozen=True)
class Assigned:
    """A buffer that the module assigns.

    Attributes:
        name: the buffer's.
        value: its value afterwards.
    """

    name: str
    value: Any


@dataclass(frozen=True)
class Graph:
    """A module's graph, in one mode.

    Attributes:
        inputs: what it starts from. Values are numbered: the inputs first, then the results of the steps.
        steps: its operations, in order.
        results: what the module returns.
        assigned: the buffers that it assigns.
    """

    inputs: Sequence[Input]
    steps: Sequence[Step]
    results: Sequence[Any]
    assigned: Sequence[Assigned]

    def __call__(self, weights: Mapping[str, Any], batch: Sequence[Any], key: Any) -> tuple[list[Any], dict[str, Any]]:
        """The module's results, and the buffers that it assigns, by name.

        Args:
            weights: the weights and buffers by name.
            batch: the tensors of the batch.
            key: a JAX random key, from which each operation that draws has one of its own.

        Raises:
            Unsupported: if an operation is used in a way that the table does not have; it says where.
        """
        given = iter(batch)
        values: list[Any] = [_start(source, weights, given) for source in self.inputs]
        for number, step in enumerate(self.steps):
            args, kwargs = _filled(step.args, values), _filled(dict(step.kwargs), values)
            dtype = kwargs.pop("dtype", None)
            if step.operation.casts and dtype is not None:
                args = (args[0].astype(dtype), *args[1:])
            if step.operation.draws:
                args = (jax.random.fold_in(key, number), *args)
            try:
                found = step.operation.function(*args, **kwargs)
            except Unsupported as error:
                raise Unsupported(f"{error} {step.where}") from None
            values.append(_cast(found, step.dtype))
        results = [_filled(result, values) for result in self.results]
        return results, {one.name: _filled(one.value, values) for one in self.assigned}


def _start(source: Input, weights: Mapping[str, Any], batch: Any) -> Any:
    if source.kind == "batch":
        return next(batch)
    return weights[source.name] if source.kind == "weight" else source.value


def _filled(argument: Any, values: Sequence[Any]) -> Any:
    """The argument with values in place of references."""
    if isinstance(argument, Ref):
        return values[argument.number]
    if isinstance(argument, list | tuple):
        return type(argument)([_filled(part, values) for part in argument])
    if isinstance(argument, dict):
        return {name: _filled(part, values) for name, part in argument.items()}
    return argument


def _cast(value: Any, dtype: Any) -> Any:
    """The value in the type that PyTorch gives it."""
    if dtype is None or value is None:
        return value
    if isinstance(dtype, list):
        return [_cast(part, kind) for part, kind in zip(value, dtype, strict=False)]
    array = jnp.asarray(value)
    return array if array.dtype == dtype else array.astype(dtype)
