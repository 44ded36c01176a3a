"""What a client keeps from round to round, as files on its device, by run and version. They never travel."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hansa.compiler.artifacts.ports import Port
from hansa.network import wire
from hansa.network.blobs import Blobs
from hansa.network.durable import Disk
from hansa.network.holdings import RefusedError
from hansa.network.orders import StateOrder
from hansa.types import Struct, StructType, to_type
from hansa.types.base import Type


class DeviceStates:
    """The states of one device's client.

    Args:
        folder: the device's.
        disk: the disk.
    """

    def __init__(self, folder: Path, disk: Disk) -> None:
        self._folder, self._disk = folder / "states", disk

    def read(self, order: StateOrder, blobs: Blobs) -> list[Any]:
        """What the client has: a value for each part.

        Raises:
            RefusedError: if the version that counts is not here any more.
        """
        ports = _ports(order)
        path = blobs.path(order.first.digest) if order.version is None else self._path(order, order.version)
        try:
            return wire.decoded(ports, path.read_bytes())
        except (OSError, wire.WireError):
            raise RefusedError(
                "what this client keeps from round to round is not here as it was after the last round in which it was "
                "counted, and without it the work cannot be done"
            ) from None

    def write(self, order: StateOrder, kept: Callable[[int, int], Any]) -> None:
        """The version that the client's work makes; others but the one before are removed.

        Args:
            order: what is asked for.
            kept: gives what was kept in a stage of the call, by the number of that and a number in it.
        """
        if order.becomes is None:
            return
        ports = _ports(order)
        values = [_made(port.type, source, kept) for port, source in zip(ports, order.sources, strict=True)]
        path = self._path(order, order.becomes)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._disk.write(path, wire.encoded(ports, values))
        for other in path.parent.iterdir():
            if other.stem not in (order.version, order.becomes):
                other.unlink(missing_ok=True)

    def _path(self, order: StateOrder, version: str) -> Path:
        return self._folder / hashlib.sha256(order.run.encode()).hexdigest()[:32] / f"{version}.st"


def _ports(order: StateOrder) -> Sequence[Port]:
    try:
        return [Port(f"state {i}", to_type(text)) for i, text in enumerate(order.types)]
    except (TypeError, ValueError) as error:
        raise RefusedError(f"the state is of a type that this device does not know: {error}") from None


def _made(kind: Type, source: Any, kept: Callable[[int, int], Any]) -> Any:
    match source:
        case ["struct", *parts] if isinstance(kind, StructType):
            made = zip(kind.fields, parts, strict=True)
            return Struct((name, _made(field, part, kept)) for (name, field), part in made)
        case ["kept", int(stage), int(index), *fields]:
            value = kept(stage, index)
            for field in fields:
                value = value[field]
            return value
    raise RefusedError(f"the next state is to be made of {source!r}, which no device has")
