"""Checks the argument of a call against its type and packs it: what the server has, and what each client has.

The packed form of a value of type T is T with arrays for its tensors and `Columns` for its sequences; at the clients,
every array has a leading axis for the client. `unpack` reads one member's value from it, inside a program.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np
import numpy.typing as npt
from jax import lax

from hansa.compiler import sequences
from hansa.compiler.evaluate import sequence_elements
from hansa.compiler.narrowing import Path, tensor_paths
from hansa.runtimes import fitting, remedies
from hansa.runtimes.columns import Packed, Room, common_shape, pack_sequences
from hansa.runtimes.dealt import Dealt, ToDeal
from hansa.types import (
    CLIENTS,
    FederatedType,
    SequenceType,
    Struct,
    StructType,
    TensorType,
    Type,
    is_federated,
    to_value,
)
from hansa.types.aligned import aligned
from hansa.types.batches import Batches, ClientBatches
from hansa.types.client_states import ClientStates
from hansa.types.client_values import ClientValues
from hansa.types.elsewhere import Elsewhere
from hansa.types.narrow import misfits, why
from hansa.types.values import field_values


@dataclass(frozen=True)
class Cohort:
    """The clients of a call, as its argument tells before any of it is read.

    Attributes:
        size: how many there are, or None if no part of the argument says so.
        ids: the clients' numbers, int32 [clients], or None for their positions.
        client_ids: who they are, [clients], or None where the data does not say it.
        work: what each client's sequences cost, as far as is known without reading them, at least 1; int64 [clients].
        on_disk: the size of what is to be read from disk, in bytes.
    """

    size: int | None = None
    ids: npt.NDArray[Any] | None = None
    client_ids: npt.NDArray[Any] | None = None
    work: npt.NDArray[np.int64] | None = None
    on_disk: int = 0


@dataclass
class Arguments:
    """The argument of one call, packed.

    Attributes:
        packed: in the shape of the parameter's type; arrays in host memory, or as the caller passed them.
        sequences: how the sequences are laid out, in the order of the type.
        narrow: the paths of tensors that the program converts to 32 bits, whose numbers must fit.
    """

    packed: Any = None
    sequences: list[Packed] = field(default_factory=list)
    narrow: frozenset[Path] = frozenset()

    def narrow_in(self, kind: SequenceType, path: Path) -> frozenset[int]:
        """Which tensors of an element of the sequence at a path are among them."""
        if not self.narrow:
            return frozenset()
        return frozenset(i for i, found in enumerate(tensor_paths(kind.element, path)) if found in self.narrow)


def survey(kind: Type | None, value: Any, what: str) -> Cohort:
    """Who takes part in a call.

    Raises:
        TypeError, ValueError: if a client argument is not one entry per client, or two disagree on how many there are.
    """
    found: list[tuple[str, Any]] = [] if kind is None else list(_client_arguments(kind, value, what))
    if not found:
        return Cohort()
    (first, entries), *others = found
    for name, other in others:
        if len(other) != len(entries):
            raise ValueError(
                f"{name} has values of {len(other)} clients, but {first} has values of {len(entries)}; pass one per "
                "client in both"
            )
    batches = [(name, other) for name, other in found if isinstance(other, ClientBatches)]
    for name, other in batches[1:]:
        if not np.array_equal(other.client_ids, batches[0][1].client_ids):
            raise ValueError(
                f"{name} has other clients than {batches[0][0]}: their client_ids differ; select the same ones in both"
            )
    for name, other in found if batches else ():
        if isinstance(other, ClientValues):
            _check_clients(name, other.client_ids, *batches[0])
    work = np.maximum(1, sum(_work(entries) for _, entries in found))
    ids, client_ids = (batches[0][1].numbers, batches[0][1].client_ids) if batches else (None, None)
    return Cohort(len(entries), ids, client_ids, work, sum(_bytes_on_disk(entries) for _, entries in found))


def _check_clients(name: str, client_ids: npt.NDArray[Any], first: str, batches: ClientBatches) -> None:
    """Checks that values are of the clients whose data is given with them."""
    differs = np.flatnonzero(client_ids != batches.client_ids)
    for place in differs[:1].tolist():
        raise ValueError(
            f"{name} has other clients than {first}: in the place {place} it has the value of client "
            f"{client_ids.tolist()[place]!r}, and the data of client {batches.client_ids.tolist()[place]!r}; select "
            "the same ones in both, or pass list(values) if they are to be taken by their places"
        )


def _client_arguments(kind: Type, value: Any, what: str) -> Iterator[tuple[str, Any]]:
    if isinstance(kind, FederatedType):
        # States are of a population: who takes part is for others to say.
        if kind.placement is CLIENTS and not kind.all_equal and not isinstance(value, ClientStates):
            yield what, _clients(kind, value, what)
    elif isinstance(kind, StructType) and is_federated(kind):
        for i, ((name, member), part) in enumerate(zip(kind.fields, field_values(value, kind, what), strict=True)):
            yield from _client_arguments(member, part, _field_name(what, name, i))


def settle(kind: Type | None, value: Any, what: str, cohort: Cohort) -> Any:
    """The argument as it is of this cohort.

    Iterators are read into lists, as a runtime may have to go through the data more than once. Of the states of a
    population there are those of the clients that take part.

    Raises:
        TypeError, ValueError: if there are states, and nothing says who takes part, or somebody twice.
    """
    if isinstance(kind, SequenceType):
        return list(value) if isinstance(value, Iterator) else value
    if isinstance(kind, FederatedType) and kind.placement is CLIENTS and not kind.all_equal:
        if isinstance(value, ClientStates):
            return _of_cohort(kind, value, what, cohort)
        if isinstance(value, ClientBatches) or not sequence_elements(kind.member):
            return value
        entries = _clients(kind, value, what)
        return [settle(kind.member, entry, f"{what}[{i}]", cohort) for i, entry in enumerate(entries)]
    if isinstance(kind, FederatedType):
        return settle(kind.member, value, what, cohort)
    if isinstance(kind, StructType) and not _plain(kind):
        parts = zip(kind.fields, field_values(value, kind, what), strict=True)
        return (kind.container or Struct)(
            [
                (name, settle(member, part, _field_name(what, name, i), cohort))
                for i, ((name, member), part) in enumerate(parts)
            ]
        )
    return value


def _of_cohort(kind: FederatedType, states: ClientStates, what: str, cohort: Cohort) -> ClientValues:
    """The states of the clients that take part."""
    kind.member.check_assignable_from(states.type_signature, what=what)
    if cohort.size is None:
        raise TypeError(
            f"{what} is what each client of a population keeps, and no other part of the argument says who takes part; "
            "pass a round's data with it"
        )
    return states.select(np.arange(cohort.size) if cohort.client_ids is None else cohort.client_ids)


def _work(entries: Any) -> npt.NDArray[np.int64]:
    if isinstance(entries, ClientBatches):
        return entries.totals
    if isinstance(entries, ClientValues):
        return np.ones(len(entries), np.int64)
    sizes = [e.total if isinstance(e, Batches) else len(e) if isinstance(e, list | tuple) else 1 for e in entries]
    return np.array(sizes, np.int64)


def _bytes_on_disk(entries: Any) -> int:
    on_disk = isinstance(entries, ClientBatches) and entries.examples.on_disk
    return int(entries.stored.sum()) * int(entries.examples.row_bytes) if on_disk else 0


def pack(
    kind: Type | None,
    value: Any,
    room: Room,
    what: str,
    only: npt.NDArray[np.int64] | None = None,
    narrow: frozenset[Path] = frozenset(),
) -> Arguments:
    """Packs `value`, the argument of a computation whose parameter has the type `kind`.

    Args:
        kind: the parameter's type, or None.
        value: what the caller passed.
        room: the capacities to fit into.
        what: how messages name it.
        only: the positions of the clients whose data is wanted; by default all.
        narrow: the paths of tensors that the program converts to 32 bits.

    Raises:
        TypeError, ValueError: where it is not of the type, or a number does not fit; the message says where, what was
            found and what to write.
    """
    arguments = Arguments(narrow=narrow)
    if kind is not None:
        arguments.packed = _pack(kind, value, room, (), what, arguments, only)
    return arguments


def _field_name(what: str, name: str | None, index: int) -> str:
    return f"{what}.{name}" if name else f"{what}[{index}]"


def _pack(
    kind: Type,
    value: Any,
    room: Room,
    path: tuple[int, ...],
    what: str,
    into: Arguments,
    only: npt.NDArray[np.int64] | None,
) -> Any:
    if isinstance(kind, FederatedType):
        if kind.placement is CLIENTS and not kind.all_equal:
            entries = _clients(kind, value, what)
            if isinstance(entries, ClientBatches):
                entries = entries if only is None else entries.select(only)
                return _stack(kind.member, entries, [what], room, path, into)
            if isinstance(entries, ClientValues) and not _narrows(kind.member, path, into.narrow):
                kind.member.check_assignable_from(entries.type_signature, what=what)
                return ToDeal(kind.member, entries._rows, path)
            names = [f"{what}[{i}]" for i in (range(len(entries)) if only is None else only)]
            entries = entries if only is None else [entries[i] for i in only]
            return _stack(kind.member, entries, names, room, path, into)
        return _pack(kind.member, value, room, path, what, into, only)
    if isinstance(kind, SequenceType):
        packed = pack_sequences(kind, [value], [what], room, path, into.narrow_in(kind, path))
        into.sequences.append(packed)
        return packed.columns
    if isinstance(kind, StructType) and any(not _plain(member) for member in kind):
        parts = field_values(value, kind, what)
        return Struct(
            (name, _pack(member, part, room, (*path, i), _field_name(what, name, i), into, only))
            for i, ((name, member), part) in enumerate(zip(kind.fields, parts, strict=True))
        )
    made = to_value(value, kind, what)
    if into.narrow:
        fitting.check_value(made, kind, path, into.narrow, what)
    return made


def _narrows(kind: Type, path: Path, narrow: frozenset[Path]) -> bool:
    """Whether numbers of a value at a path are to be looked at: whether they fit 32 bits."""
    return bool(narrow) and not narrow.isdisjoint(tensor_paths(kind, path))


def _plain(kind: Type) -> bool:
    return isinstance(kind, TensorType) or (isinstance(kind, StructType) and all(_plain(member) for member in kind))


def _describe(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array {value.dtype}{list(value.shape)}"
    if isinstance(value, list | tuple):
        return f"a {type(value).__name__} of {len(value)}"
    return f"a {type(value).__name__}"


def _clients(kind: FederatedType, value: Any, what: str) -> Any:
    """The entries of a client argument, one per client."""
    repeated = isinstance(kind.member, SequenceType)
    if isinstance(value, Elsewhere):
        hint = "their data is elsewhere: pass it, or choose a runtime that reaches them, with hansa.runtime(…)"
    elif isinstance(value, ClientBatches):
        if repeated:
            return value
        hint = "its clients have sequences of batches"
    elif isinstance(value, ClientValues):
        return list(value) if repeated else value
    elif isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return value
    elif isinstance(value, np.ndarray | jax.Array) and value.ndim and not repeated:
        return list(value if isinstance(value, np.ma.MaskedArray) else np.asarray(value))
    else:
        hint = remedies.for_clients(kind, value)
    raise TypeError(
        f"{what} must be a list with one entry per client, of type {kind}; found {_describe(value)}; {hint}"
    )


def _stack(kind: Type, entries: Any, names: list[str], room: Room, path: tuple[int, ...], into: Arguments) -> Any:
    if isinstance(kind, SequenceType):
        packed = pack_sequences(kind, entries, names, room, path, into.narrow_in(kind, path))
        into.sequences.append(packed)
        return packed.columns
    if isinstance(kind, StructType):
        if _plain(kind):
            rows = [to_value(entry, kind, name) for entry, name in zip(entries, names, strict=True)]
        else:
            rows = [field_values(entry, kind, name) for entry, name in zip(entries, names, strict=True)]
        return Struct(
            (
                field,
                _stack(
                    member, [row[i] for row in rows], [_field_name(n, field, i) for n in names], room, (*path, i), into
                ),
            )
            for i, (field, member) in enumerate(kind.fields)
        )
    assert isinstance(kind, TensorType)
    checked = [to_value(entry, kind, name) for entry, name in zip(entries, names, strict=True)]
    if kind.dtype.kind == "U":
        return None  # Strings are for the caller's side; no program computes with them.
    values = [np.asarray(value) for value in checked]
    shape = common_shape(kind.shape, [value.shape for value in values], names)
    stacked = aligned((room.clients((path, "stack"), len(values)), *shape), kind.dtype)
    if values:
        stacked[: len(values)] = values
        if path in into.narrow:
            for row in misfits(stacked[: len(values)])[:1].tolist():
                raise ValueError(f"{names[row]} {why(stacked[row])}")
    return stacked


Static = tuple[tuple[int, tuple[int, ...] | None], ...]
"""What of the sequences' layout is compiled in: for each, the rows of a batch, and the sizes of batch if need be."""


def unpack(kind: Type, packed: Any, static: Static, client: Any, turn: Any = None) -> Any:
    """The value of the parameter at the server (`client` is None) or at a client (its position, an int32 scalar).

    What is not at that place is None. Of what is dealt out, a client has what lies at its turn on this device.
    """
    layout = iter(static)

    def read(kind: Type, packed: Any, which: Any, here: bool) -> Any:
        if isinstance(kind, FederatedType):
            stacked = kind.placement is CLIENTS and not kind.all_equal
            which, packed = (turn, packed.arrays) if isinstance(packed, Dealt) else (client, packed)
            return read(
                kind.member,
                packed,
                which if stacked else None,
                here and (not stacked if client is None else kind.placement is CLIENTS),
            )
        if isinstance(kind, StructType):
            if packed is None:  # which has not been dealt out
                return None
            return Struct(
                (name, read(member, part, which, here))
                for (name, member), part in zip(kind.fields, packed, strict=True)
            )
        if isinstance(kind, SequenceType):
            capacity, sizes = next(layout)
            return (
                sequences.from_columns(kind, packed, 0 if which is None else which, capacity, sizes) if here else None
            )
        if not here or packed is None:
            return None
        return packed if which is None else lax.dynamic_index_in_dim(packed, which, keepdims=False)

    return read(kind, packed, None, True)
