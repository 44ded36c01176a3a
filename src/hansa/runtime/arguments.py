"""Checks the argument of a call against its type and packs it: what the server has, and what each client has.

The packed form of a value of type T is T with arrays for its tensors and `Columns` for its sequences; at the clients,
every array has a leading axis for the client. `unpack` reads one member's value from it, inside a program.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from jax import lax

from hansa.compiler import sequences
from hansa.runtime.columns import Packed, Room, aligned, pack_sequences
from hansa.types import CLIENTS, FederatedType, SequenceType, Struct, StructType, TensorType, Type, to_value
from hansa.types.batches import ClientBatches

_BATCHES = "a list with one entry per client"


@dataclass
class Arguments:
    """The argument of one call, packed.

    Attributes:
        packed: in the shape of the parameter's type; arrays in host memory, or as the caller passed them.
        clients: how many there are, or None if no part of the argument says so.
        ids: the clients' numbers, int32 [clients].
        work: the number of examples each client holds, at least 1; int64 [clients].
        sequences: how the sequences are laid out, in the order of the type.
    """

    packed: Any = None
    clients: int | None = None
    ids: npt.NDArray[Any] | None = None
    work: npt.NDArray[Any] | None = None
    sequences: list[Packed] = field(default_factory=list)
    counted_in: str = ""


def pack(kind: Type | None, value: Any, room: Room, names: str) -> Arguments:
    """Packs `value`, the argument of a computation whose parameter has the type `kind`.

    Raises:
        TypeError, ValueError: where it is not of the type; the message says where, what was found and what to write.
    """
    arguments = Arguments()
    if kind is not None:
        arguments.packed = _pack(kind, value, room, (), names, arguments)
    return arguments


def _pack(kind: Type, value: Any, room: Room, path: tuple[int, ...], what: str, into: Arguments) -> Any:
    if isinstance(kind, FederatedType):
        if kind.placement is CLIENTS and not kind.all_equal:
            entries = _clients(kind, value, what, into)
            return _stack(kind.member, entries, room, path, what, into)
        return _pack(kind.member, value, room, path, what, into)
    if isinstance(kind, SequenceType):
        packed = pack_sequences(kind, [value], room, path, what)
        into.sequences.append(packed)
        return packed.columns
    if isinstance(kind, StructType) and any(not _plain(member) for member in kind):
        parts = _fields(kind, value, what)
        return Struct(
            (name, _pack(member, part, room, (*path, i), f"{what}.{name}" if name else f"{what}[{i}]", into))
            for i, ((name, member), part) in enumerate(zip(kind.fields, parts, strict=True))
        )
    return to_value(value, kind, what)


def _plain(kind: Type) -> bool:
    return isinstance(kind, TensorType) or (isinstance(kind, StructType) and all(_plain(member) for member in kind))


def _fields(kind: StructType, value: Any, what: str) -> list[Any]:
    """The fields of a value that is given for a struct type, in the type's order."""
    if isinstance(value, dict) or (isinstance(value, Struct) and all(name is not None for name in value._fields)):
        given = dict(value.items()) if isinstance(value, dict) else dict(value._items())
        if None not in kind.names:
            missing = [name for name in kind.names if name not in given]
            extra = [name for name in given if name not in kind.names]
            if missing or extra:
                raise TypeError(
                    f"{what} needs the fields {', '.join(map(str, kind.names))}; found {', '.join(map(str, given)) or 'none'}"
                )
            return [given[name] for name in kind.names]  # type: ignore[index]
    if isinstance(value, Sequence | Struct) and not isinstance(value, str) and len(value) == len(kind):
        return list(value)
    raise TypeError(f"{what} must be a struct of {len(kind)} fields, {kind}; found {_describe(value)}")


def _describe(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array {value.dtype}{list(value.shape)}"
    if isinstance(value, list | tuple):
        return f"a {type(value).__name__} of {len(value)}"
    return f"a {type(value).__name__}"


def _clients(kind: FederatedType, value: Any, what: str, into: Arguments) -> Any:
    if isinstance(value, ClientBatches):
        into.ids = value.client_ids
    elif isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        pass
    elif isinstance(value, np.ndarray) and value.ndim and not isinstance(kind.member, SequenceType):
        value = list(value)
    else:
        hint = "; wrap one client's value in a list" if isinstance(value, dict | Struct) or np.isscalar(value) else ""
        if isinstance(value, Iterator):
            hint = "; an iterator is one client's sequence: put it in a list, one iterator per client"
        raise TypeError(f"{what} must be {_BATCHES}, of type {kind}; found {_describe(value)}{hint}")
    if into.clients is not None and into.clients != len(value):
        raise ValueError(
            f"{what} has values of {len(value)} clients, but {into.counted_in} has values of {into.clients}; pass one per client in both"
        )
    into.clients, into.counted_in = len(value), what
    return value


def _stack(kind: Type, entries: Any, room: Room, path: tuple[int, ...], what: str, into: Arguments) -> Any:
    if isinstance(kind, SequenceType):
        packed = pack_sequences(kind, entries, room, path, what)
        into.sequences.append(packed)
        rows = np.maximum(packed.rows, 1)
        into.work = rows if into.work is None else into.work + rows
        return packed.columns
    if isinstance(kind, StructType):
        if _plain(kind):
            rows = [to_value(entry, kind, f"{what}[{i}]") for i, entry in enumerate(entries)]
        else:
            rows = [_fields(kind, entry, f"{what}[{i}]") for i, entry in enumerate(entries)]
        return Struct(
            (
                name,
                _stack(
                    member,
                    [row[i] for row in rows],
                    room,
                    (*path, i),
                    f"{what}.{name}" if name else f"{what}[{i}]",
                    into,
                ),
            )
            for i, (name, member) in enumerate(kind.fields)
        )
    assert isinstance(kind, TensorType)
    values = [np.asarray(to_value(entry, kind, f"{what}[{i}]")) for i, entry in enumerate(entries)]
    shapes = {value.shape for value in values}
    if len(shapes) > 1:
        raise ValueError(
            f"{what} holds tensors of different shapes, {' and '.join(map(str, sorted(shapes)[:3]))}; clients must agree on them"
        )
    shape = shapes.pop() if shapes else tuple(1 if n is None else n for n in kind.shape)
    stacked = aligned((room.clients((path, "stack"), len(values)), *shape), kind.dtype)
    if values:
        stacked[: len(values)] = values
    return stacked


Static = tuple[tuple[int, tuple[int, ...] | None], ...]
"""What of the sequences' layout is compiled in: for each, the rows of a batch, and the sizes of batch if they have to be."""


def unpack(kind: Type, packed: Any, static: Static, client: Any) -> Any:
    """The value of the parameter at the server (`client` is None) or at a client (its position, an int32 scalar).

    What is not at that place is None.
    """
    layout = iter(static)

    def read(kind: Type, packed: Any, which: Any, here: bool) -> Any:
        if isinstance(kind, FederatedType):
            stacked = kind.placement is CLIENTS and not kind.all_equal
            return read(
                kind.member,
                packed,
                client if stacked else None,
                here and (not stacked if client is None else kind.placement is CLIENTS),
            )
        if isinstance(kind, StructType):
            return Struct(
                (name, read(member, part, which, here))
                for (name, member), part in zip(kind.fields, packed, strict=True)
            )
        if isinstance(kind, SequenceType):
            capacity, sizes = next(layout)
            return (
                sequences.from_columns(kind, packed, 0 if which is None else which, capacity, sizes) if here else None
            )
        if not here:
            return None
        return packed if which is None else lax.dynamic_index_in_dim(packed, which, keepdims=False)

    return read(kind, packed, None, True)
