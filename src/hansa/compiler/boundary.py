"""Values as flat lists of arrays: what crosses the boundary of a stage that is kept as StableHLO.

A tensor is one array, a struct those of its fields in order. Strings are none: no stage computes with them. A sequence
is the arrays of its columns, their `starts`, `lengths`, `first` and `counts`, its number among them, and an array
uint8 [capacity] whose size says how many rows a batch is padded to. Sizes that only the data tells are symbolic.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax import export, lax

from hansa.compiler.sequences import Aval, Columns, Sequence, from_columns, is_batched
from hansa.language.local import tensors
from hansa.types import SequenceType, Struct, StructType, TensorType, Type, contains


class Symbols:
    """Makes up symbolic sizes for the arrays of one function.

    Args:
        shared: whether unknown sizes of tensors on one axis are one size, or each is its own.
    """

    def __init__(self, shared: bool = False) -> None:
        self._scope = export.SymbolicScope()
        self._shared = shared
        self._count = 0

    def new(self, form: str = "{}") -> Any:
        """A size of its own, or an expression of one."""
        self._count += 1
        return self._size(form.format(f"n{self._count}"))

    def axis(self, axis: int) -> Any:
        """The size of an axis of a tensor."""
        return self._size(f"d{axis}") if self._shared else self.new()

    def _size(self, text: str) -> Any:
        return export.symbolic_shape(text, scope=self._scope)[0]


def avals(kind: Type, symbols: Symbols) -> list[Aval]:
    """The shapes of the arrays of a value of an unplaced type.

    Raises:
        TypeError: if the elements of a sequence have sizes that are not known beside that of the batch.
    """
    if isinstance(kind, StructType):
        return [aval for field in kind for aval in avals(field, symbols)]
    if isinstance(kind, SequenceType):
        return _columns_avals(kind, symbols)
    assert isinstance(kind, TensorType)
    if kind.dtype.kind == "U":
        return []
    shape = tuple(symbols.axis(axis) if n is None else n for axis, n in enumerate(kind.shape))
    return [jax.ShapeDtypeStruct(shape, kind.dtype)]


def _columns_avals(kind: SequenceType, symbols: Symbols) -> list[Aval]:
    capacity, elements, sequences = symbols.new(), symbols.new(), symbols.new()
    arrays = []
    for leaf in tensors(kind.element):
        batched = is_batched(leaf.shape)
        if None in leaf.shape[batched:]:
            raise TypeError(
                f"sequences of {kind.element} have elements of unknown size; only the leading size, that of a batch, "
                "may be unknown: declare the others"
            )
        # At least as many rows as a batch, in a form from which JAX can tell.
        rows = capacity + symbols.new() - 1 if batched else symbols.new()
        arrays.append(jax.ShapeDtypeStruct((rows, *leaf.shape[batched:]), leaf.dtype))
    each = jax.ShapeDtypeStruct((elements,), jnp.int32)
    whole = jax.ShapeDtypeStruct((sequences,), jnp.int32)
    number = jax.ShapeDtypeStruct((), jnp.int32)
    return [*arrays, each, each, whole, whole, number, jax.ShapeDtypeStruct((capacity,), jnp.uint8)]


def flatten(kind: Type, value: Any) -> list[Any]:
    """The arrays of a value of an unplaced type; 64-bit mode must be on."""
    if isinstance(kind, StructType):
        return [array for field, part in zip(kind, value, strict=True) for array in flatten(field, part)]
    if isinstance(kind, SequenceType):
        assert isinstance(value, Sequence)
        if value.origin is None:
            raise TypeError(
                f"a sequence of {kind.element} that sequence_map or federated_select makes is passed to a computation "
                "that was loaded from a file: such a computation reads sequences as they were passed or collected"
            )
        columns, which, capacity = value.origin
        index = [columns.starts, columns.lengths, columns.first, columns.counts]
        return [*columns.arrays, *index, jnp.asarray(which, jnp.int32), jnp.zeros(capacity, jnp.uint8)]
    assert isinstance(kind, TensorType)
    return [] if kind.dtype.kind == "U" else [lax.convert_element_type(value, kind.dtype)]


def varying(kind: Type, own: bool) -> list[bool]:
    """Which arrays of a value are another one for each client, if the value is. Columns are those of all clients."""
    if isinstance(kind, StructType):
        return [varies for field in kind for varies in varying(field, own)]
    if isinstance(kind, SequenceType):
        shared = [False] * (len(tensors(kind.element)) + 4)
        return [*shared, own, False]
    assert isinstance(kind, TensorType)
    return [] if kind.dtype.kind == "U" else [own]


def unflatten(kind: Type, arrays: Iterator[Any]) -> Any:
    """The value of an unplaced type, of which the next of `arrays` are taken."""
    if isinstance(kind, StructType):
        return (kind.container or Struct)([(name, unflatten(field, arrays)) for name, field in kind.fields])
    if isinstance(kind, SequenceType):
        columns = tuple(next(arrays) for _ in tensors(kind.element))
        starts, lengths, first, counts, which, rows = (next(arrays) for _ in range(6))
        return from_columns(kind, Columns(columns, starts, lengths, first, counts), which, rows.shape[0], None)
    assert isinstance(kind, TensorType)
    return None if kind.dtype.kind == "U" else next(arrays)


def has_strings(kind: Type) -> bool:
    """Whether there is a string in a type."""
    return contains(kind, lambda part: isinstance(part, TensorType) and part.dtype.kind == "U")
