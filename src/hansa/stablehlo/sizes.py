"""One module for batches of every size, from modules of the same function compiled for a few sizes.

A framework that compiles for fixed shapes writes the batch's size into shapes, and into constants: 1/32 for a mean over
32 examples. Modules for several sizes are read side by side; what is the same in all stays, what differs is written as
a function of the size, which the last of them must confirm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import export

from hansa.stablehlo.module import Block, Module, Operation, Tensor, read

SAMPLE_SIZES = (13, 17, 23)
"""The sizes to compile for: primes, so that no two of them have the same relation to a model's own sizes."""


class NotSized(Exception):
    """The function is not the same program for every size of batch."""


@dataclass(frozen=True)
class Size:
    """factor * b + rest, of the size b of a batch."""

    factor: int
    rest: int

    def at(self, b: Any) -> Any:
        """The size for a batch."""
        return self.factor * b + self.rest


@dataclass(frozen=True)
class Constant:
    """An array `rest + factor * f(b)` of a shape that may depend on b as well.

    Attributes:
        function: the name of f in `FUNCTIONS`.
        factor, rest: arrays, or numbers for all elements.
        kind: the array's type.
    """

    function: str
    factor: Any
    rest: Any
    kind: Tensor

    def at(self, b: Any) -> Any:
        """The array for a batch."""
        size = jnp.asarray(b, jnp.float64 if jnp.issubdtype(self.kind.dtype, jnp.inexact) else jnp.int64)
        value = (self.rest + self.factor * FUNCTIONS[self.function](size)).astype(self.kind.dtype)
        return jnp.broadcast_to(value, shape_at(self.kind.shape, b))


@dataclass(frozen=True)
class Range:
    """start + step * 0, 1, 2, …, as many as a size says."""

    start: Any
    step: Any
    kind: Tensor

    def at(self, b: Any) -> Any:
        """The array for a batch."""
        (size,) = shape_at(self.kind.shape, b)
        return self.start + self.step * jnp.arange(size).astype(self.kind.dtype)


FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "b": lambda b: b,
    "1/b": lambda b: 1 / b,
    "1/(b-1)": lambda b: 1 / (b - 1),
    "b*b": lambda b: b * b,
    "sqrt(b)": lambda b: b**0.5,
    "1/sqrt(b)": lambda b: b**-0.5,
}
"""What constants are tried to be linear in."""


def dimension_at(dimension: Any, b: Any) -> Any:
    """A size for a batch."""
    return dimension.at(b) if isinstance(dimension, Size) else dimension


def shape_at(shape: Sequence[Any], b: Any) -> tuple[Any, ...]:
    """A shape for a batch."""
    return tuple(dimension_at(dimension, b) for dimension in shape)


def batch_size(module: Module, arguments: Sequence[Any]) -> Any:
    """The size of the batch in arguments, which may be symbolic; None for a module without a batch."""
    for kind, argument in zip(module.main.types, arguments, strict=True):
        for dimension, size in zip(kind.shape, argument.shape, strict=True):
            if isinstance(dimension, Size) and (dimension.factor, dimension.rest) == (1, 0):
                return size
    return None


def read_sized(compile: Callable[[int], str]) -> Module:
    """The module of a function for batches of every size.

    Args:
        compile: from a size to the text of the module for it.

    Raises:
        NotSized: if it is not one program for every size.
    """
    modules = [read(compile(size)) for size in SAMPLE_SIZES]
    _same([list(module.functions) for module in modules], "its functions")
    functions = {name: _block([module.functions[name] for module in modules]) for name in modules[0].functions}
    return Module(functions, modules[0].updates)


def _same(values: Sequence[Any], what: str) -> Any:
    if any(value != values[0] for value in values):
        raise NotSized(f"{what} differ: {', '.join(map(str, values))} for {SAMPLE_SIZES} examples")
    return values[0]


def _block(blocks: Sequence[Block]) -> Block:
    _same([[operation.name for operation in block.operations] for block in blocks], "the operations")
    types = zip(*(block.types for block in blocks), strict=True)
    operations = zip(*(block.operations for block in blocks), strict=True)
    return Block(
        _same([block.parameters for block in blocks], "parameters"),
        tuple(_type(kinds, "a parameter") for kinds in types),
        tuple(_operation(views) for views in operations),
        _same([block.returned for block in blocks], "what is returned"),
    )


def _operation(views: Sequence[Operation]) -> Operation:
    first, where = views[0], f"{views[0].name} ({views[0].where})"
    types = tuple(_type(kinds, where) for kinds in zip(*(view.types for view in views), strict=True))
    names = _same([list(view.attributes) for view in views], f"the attributes of {where}")
    return Operation(
        first.name,
        _same([view.operands for view in views], f"the operands of {where}"),
        first.results,
        types,
        {name: _value([view.attributes[name] for view in views], f"{name} of {where}", types) for name in names},
        tuple(_block(blocks) for blocks in zip(*(view.regions for view in views), strict=True)),
        first.where,
    )


def _type(kinds: Sequence[Tensor], where: str) -> Tensor:
    _same([len(kind.shape) for kind in kinds], f"the ranks of {where}")
    return Tensor(
        tuple(_number(sizes, where) for sizes in zip(*(kind.shape for kind in kinds), strict=True)),
        _same([kind.dtype for kind in kinds], f"the dtypes of {where}"),
    )


def _value(values: Sequence[Any], where: str, types: tuple[Tensor, ...]) -> Any:
    first = values[0]
    if isinstance(first, np.ndarray):
        return _array(values, where, types[0])
    if isinstance(first, tuple):
        _same([len(value) for value in values], where)
        return tuple(_value(parts, where, types) for parts in zip(*values, strict=True))
    if isinstance(first, int) and not isinstance(first, bool):
        return _number(values, where)
    return _same(values, where)


def _number(values: Sequence[int], where: str) -> Any:
    if all(value == values[0] for value in values):
        return values[0]
    (a, b, *rest), (x, y, *_) = values, SAMPLE_SIZES
    factor, remainder = divmod(b - a, y - x)
    size = Size(factor, a - factor * x)
    if remainder or any(size.at(n) != value for n, value in zip(SAMPLE_SIZES[2:], rest, strict=True)):
        raise NotSized(f"{where} has the sizes {', '.join(map(str, values))} for {SAMPLE_SIZES} examples")
    return size


def _array(values: Sequence[Any], where: str, kind: Tensor) -> Any:
    splat = all(value.size and not any(value.strides) for value in values)
    shapes = [value.shape for value in values]
    if splat:
        values = [value.reshape(-1)[0] for value in values]
    elif len(set(shapes)) > 1:
        return _range(values, where, kind)
    if all(np.array_equal(value, values[0], equal_nan=value.dtype.kind == "f") for value in values):
        if len(set(shapes)) == 1:
            return np.broadcast_to(values[0], shapes[0])
        return Constant("b", 0, values[0], kind)
    exact = np.issubdtype(kind.dtype, np.integer)
    if kind.dtype.kind == "c" or not all(np.isfinite(value.astype(np.float64)).all() for value in values):
        raise NotSized(f"{where} is {', '.join(map(str, values))} for {SAMPLE_SIZES} examples")
    for name, function in FUNCTIONS.items():
        found = _linear(values, [function(float(n)) for n in SAMPLE_SIZES], _tolerance(kind.dtype))
        if found is not None and not (exact and name not in ("b", "b*b")):
            return Constant(name, *found, kind)
    raise NotSized(f"{where} is {', '.join(map(str, values))} for {SAMPLE_SIZES} examples")


def _range(values: Sequence[Any], where: str, kind: Tensor) -> Range:
    """A constant 0, 1, 2, … with one element for each example."""
    first = values[0]
    if first.ndim == 1 and first.size > 1:
        start, step = first[0], first[1] - first[0]
        if all(np.array_equal(value, start + step * np.arange(value.size, dtype=value.dtype)) for value in values):
            return Range(start, step, kind)
    raise NotSized(f"{where} is a table with {', '.join(str(value.shape) for value in values)} elements")


def _tolerance(dtype: Any) -> float:
    """How much a number of a dtype may be off, relatively, for having been rounded a few times."""
    limits: Any = jnp.finfo
    return float(4 * limits(dtype).eps) if jnp.issubdtype(dtype, jnp.inexact) else 0.0


def _linear(values: Sequence[Any], samples: Sequence[float], tolerance: float) -> tuple[Any, Any] | None:
    """(factor, rest) if the values are factor * sample + rest; a rest of zero is tried first."""
    wide = [np.asarray(value, np.float64) for value in values]
    for rest in (np.zeros_like(wide[0]), None):
        factor = wide[0] / samples[0] if rest is not None else (wide[1] - wide[0]) / (samples[1] - samples[0])
        factor = np.where(
            np.abs(factor - np.round(factor)) <= max(tolerance, 1e-12) * np.abs(factor), np.round(factor), factor
        )
        rest = wide[0] - factor * samples[0] if rest is None else rest
        close = (
            np.allclose(factor * sample + rest, value, rtol=tolerance, atol=0)
            for sample, value in zip(samples, wide, strict=True)
        )
        if all(close):
            dtype = np.float64 if tolerance else np.int64
            return factor.astype(dtype), rest.astype(dtype)
    return None


def is_symbolic(shape: Sequence[Any]) -> bool:
    """Whether a shape holds a symbolic size."""
    return any(export.is_symbolic_dim(size) for size in shape)
