"""What clients keep from round to round, where a process has a state at the clients: where it is found and made.

It stays on the devices, as files by the run and by the round that made them (`hansa.network.device_states`). Of the
state that the coordinator has, this part says only what a client has at first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hansa.compiler.artifacts.ports import Port, Ports, Source
from hansa.types import CLIENTS, FederatedType, FunctionType, StructType, Type
from hansa.types.client_states import ClientStates

KEPT, STATE, STRUCT = "kept", "state", "struct"


@dataclass(frozen=True)
class StatePart:
    """A part of a state that clients have.

    Attributes:
        path: where it is in the computation's argument.
        type: of one client's value.
        source: what of a client's work the next one is: `("kept", stage, index, field…)`, or a struct of such.
    """

    path: tuple[int, ...]
    type: Type
    source: Source


def state_parts(signature: FunctionType, ports: Ports) -> tuple[StatePart, ...] | None:
    """The parts of the state that clients keep, where all that is at the clients in the result is the next state.

    The state is the first part of the argument, and the result or the first part of that.

    Returns:
        None, if something else is at the clients, or is collected of them, or is more than what they have kept.
    """
    parameter, result = signature.parameter, signature.result
    if not isinstance(parameter, StructType) or not len(parameter) or any(stage.collected for stage in ports.clients):
        return None
    before = () if parameter[0].is_assignable_from(result) else (0,)
    parts = []
    for path, kind in _at_clients(result, ()):
        if path[: len(before)] != before:
            return None
        place = (0, *path[len(before) :])
        source = _followed(ports.result, path)
        if _type_at(parameter, place) != kind or not _is_kept(source):
            return None
        parts.append(StatePart(place, kind.member, source))
    return tuple(parts)


def rewritten(source: Source, parts: tuple[StatePart, ...]) -> Source:
    """Where a device finds an input: in its state, if it is a part of the argument that is."""
    if source[0] == "argument":
        for i, part in enumerate(parts):
            if source[1 : 1 + len(part.path)] == part.path:
                return (STATE, i, *source[1 + len(part.path) :])
    return source


def first_values(parts: tuple[StatePart, ...], given: list[Any], computation: str) -> tuple[list[Port], list[Any]]:
    """What a client has at first, of what was passed for the parts of the state.

    Raises:
        TypeError: if that is a simulation's state, with values of clients that are no devices.
    """
    for value in given:
        if not isinstance(value, ClientStates) or len(value):
            raise TypeError(
                f"the state that was passed to {computation!r} has what clients of a simulation keep, and devices keep "
                "their own: begin with what process.initialize() gives"
            )
    return [Port(f"state {i}", part.type) for i, part in enumerate(parts)], [value.first for value in given]


def _at_clients(kind: Type, path: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], FederatedType]]:
    if isinstance(kind, StructType):
        for i, part in enumerate(kind):
            yield from _at_clients(part, (*path, i))
    elif isinstance(kind, FederatedType) and kind.placement is CLIENTS and not kind.all_equal:
        yield path, kind


def _type_at(kind: Type, path: tuple[int, ...]) -> Type | None:
    for index in path:
        if not isinstance(kind, StructType) or index >= len(kind):
            return None
        kind = kind[index]
    return kind


def _followed(source: Source, path: tuple[int, ...]) -> Source:
    for index in path:
        source = source[1 + index] if source[0] == STRUCT else (*source, index)
    return source


def _is_kept(source: Source) -> bool:
    return all(map(_is_kept, source[1:])) if source[0] == STRUCT else source[0] == KEPT
