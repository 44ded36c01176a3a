"""What goes into the stages of a saved computation and comes out of them: names and types, as its manifest says them.

Nothing else of a file is read for it. Types are without placements. Names are another one for each input of a stage,
and for each output.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hansa.compiler.artifacts.types import decode_type, encode_type
from hansa.compiler.stored import unplaced
from hansa.language.terms import Terms
from hansa.types import Struct, Type
from hansa.types.mismatch import describe

Source = tuple[Any, ...]
"""Where a value comes from.

- `("server", i, j)`: output j of server stage i; `("aggregate", i, j)`: the result of aggregate j of client stage i;
  `("broadcast", i, j)`, `("kept", i, j)`, `("collected", i, j)`: that of client stage i.
- `("argument",)`: the computation's argument.
- One of these and more numbers: the field of that number of it, and of that field, and so on.
- `("runtime", name)`: what whatever runs the stage has, such as each client's number, `client_id`.
- `("literal",)`: a value that the file has.
- `("struct", source, …)`: a struct of such.
"""


@dataclass(frozen=True)
class Port:
    """A value that a stage takes or gives.

    Attributes:
        name: what it is called.
        type: its type, without a placement.
    """

    name: str
    type: Type


@dataclass(frozen=True)
class Input(Port):
    """A value that a stage takes, or that is sent.

    Attributes:
        source: where it comes from: see `hansa.compiler.artifacts.ports.Source`.
    """

    source: Source


@dataclass(frozen=True)
class ServerPorts:
    """A server stage.

    Attributes:
        inputs: what it needs of the argument, of earlier server stages and of the clients' aggregates.
        outputs: what it computes.
    """

    inputs: tuple[Input, ...]
    outputs: tuple[Port, ...]


@dataclass(frozen=True)
class AggregatePorts:
    """How contributions become a value at the server.

    Attributes:
        operation: such as `federated_mean`.
        contributions: what it takes of each client.
        start: the value at the server that the state of no clients is made from; None if it needs none.
        state: the types of a state's arrays; None if the file, of version 1, does not say.
        result: what its report gives.
        collective: how states merge in one operation: `sum`, `min`, `max`, or None.
        terms: what else holds for contributions.
    """

    operation: str
    contributions: tuple[Port, ...]
    start: Input | None
    state: tuple[Type, ...] | None
    result: Port
    collective: str | None
    terms: Terms

    @property
    def protected(self) -> bool:
        """Whether only the result is to be seen, and no client's contribution."""
        return self.terms.protected


@dataclass(frozen=True)
class GatheredPort(Input):
    """What the server has of all clients, each client's value by itself.

    Attributes:
        terms: what else holds for these values.
    """

    terms: Terms


@dataclass(frozen=True)
class ClientPorts:
    """A client stage.

    Attributes:
        broadcasts: what the server sends.
        inputs: what each client has: parts of the argument, its id, what it kept in earlier stages.
        aggregates: what becomes of what it gives.
        kept: what stays with it for later stages, or for the result.
        collected: of what each client has, what the server gets as a sequence or in arrays with a row for each.
    """

    broadcasts: tuple[Input, ...]
    inputs: tuple[Input, ...]
    aggregates: tuple[AggregatePorts, ...]
    kept: tuple[Port, ...]
    collected: tuple[GatheredPort, ...]


@dataclass(frozen=True)
class Ports:
    """The stages of one computation: `servers[0]`, `clients[0]`, `servers[1]` and so on, in turn.

    Attributes:
        name: the computation's.
        type: the computation's, with placements.
        servers: the server stages, one more than there are client stages.
        clients: the client stages.
        result: where the computation's result comes from.
    """

    name: str
    type: Type
    servers: tuple[ServerPorts, ...]
    clients: tuple[ClientPorts, ...]
    result: Source


def encode_port(name: str, kind: Type) -> dict[str, Any]:
    """What a manifest says of a value."""
    return {"name": name, "type": encode_type(kind)}


def decode_port(found: dict[str, Any]) -> Port:
    """A value of a manifest."""
    return Port(str(found["name"]), unplaced(decode_type(found["type"])))


def decode_ports(found: dict[str, Any]) -> Ports:
    """The ports of a program in a manifest.

    Raises:
        Exception: of some kind, if it does not say them.
    """
    return Ports(
        str(found["name"]),
        decode_type(found["type"]),
        tuple(map(_server, found["servers"])),
        tuple(map(_client, found["clients"])),
        source(found["result"]),
    )


def _server(found: dict[str, Any]) -> ServerPorts:
    inputs, outputs = _inputs(found["inputs"]), tuple(map(decode_port, found["outputs"]))
    _check_names(inputs)
    _check_names(outputs)
    return ServerPorts(inputs, outputs)


def _client(found: dict[str, Any]) -> ClientPorts:
    inputs, broadcasts = _inputs(found["inputs"]), _inputs(found["broadcasts"])
    aggregates, kept = tuple(map(_aggregate, found["aggregates"])), tuple(map(decode_port, found["kept"]))
    outputs = [port for fold in aggregates for port in fold.contributions]
    for ports in (inputs, broadcasts, [*outputs, *kept], [fold.result for fold in aggregates]):
        _check_names(ports)
    own = tuple(port for port in inputs if port.source[0] != "broadcast")
    return ClientPorts(broadcasts, own, aggregates, kept, tuple(map(_gathered, found["collected"])))


def _check_names(ports: Sequence[Port]) -> None:
    names = [port.name for port in ports]
    if distinct(names) != names:
        raise ValueError(f"values of one name: {', '.join(names)}")


def _aggregate(found: dict[str, Any]) -> AggregatePorts:
    state = found["state"]
    return AggregatePorts(
        str(found["operation"]),
        tuple(map(decode_port, found["contributions"])),
        None if found["start"] is None else _input(found["start"]),
        None if state is None else tuple(map(decode_type, state)),
        decode_port(found["result"]),
        found["collective"],
        Terms.decode(found),
    )


def _inputs(found: Iterable[dict[str, Any]]) -> tuple[Input, ...]:
    return tuple(map(_input, found))


def _input(found: dict[str, Any]) -> Input:
    port = decode_port(found)
    return Input(port.name, port.type, source(found["from"]))


def _gathered(found: dict[str, Any]) -> GatheredPort:
    port = _input(found)
    return GatheredPort(port.name, port.type, port.source, Terms.decode(found))


def source(expression: list[Any]) -> Source:
    """Where the value of an expression comes from.

    Raises:
        ValueError: if it is no expression of a manifest.
    """
    match expression:
        case ["parameter"]:
            return ("argument",)
        case ["select", ["struct", _, parts], int(index)]:
            return source(parts[index])
        case ["select", inner, int(index)]:
            return (*source(inner), index)
        case ["struct", _, parts]:
            return ("struct", *map(source, parts))
        case ["literal", _, _]:
            return ("literal",)
        case ["runtime", str(name), *_]:
            return ("runtime", name)
        case ["operation", "federated_client_id", _, []]:  # of older files
            return ("runtime", "client_id")
        case ["operation", "federated_zip", _, [["struct", *_] as inner]]:  # of older files
            return source(inner)
        case ["operation", "federated_zip", _, [_, *_] as parts]:  # of a struct's fields
            return ("struct", *map(source, parts))
        case ["operation", _, _, [inner]]:
            return source(inner)
        case [str(what), int(stage), int(index)]:
            return (what, stage, index)
    raise ValueError(f"a value that comes from {expression!r}")


def picked(ports: Sequence[Port], values: Any, what: str) -> list[Any]:
    """The values of some ports: by name, among others or not, or all of them in order.

    Raises:
        TypeError: if one is missing, or there are more or fewer values than ports and they have no names.
    """
    named = by_name(values)
    if named is None:
        if not isinstance(values, Sequence | Struct) or isinstance(values, str) or len(values) != len(ports):
            raise TypeError(f"{what} must be a dict or a struct of {listing(ports)}; found {describe(values)}")
        return list(values)
    for port in ports:
        if port.name not in named:
            there = ", ".join(map(repr, named)) or "nothing"
            raise TypeError(f"{what} must have a value {port.name!r} of type {port.type.compact()}; found {there}")
    return [named[port.name] for port in ports]


def by_name(values: Any) -> dict[Any, Any] | None:
    """Values by their names; None if they have none."""
    if isinstance(values, Mapping):
        return dict(values)
    if isinstance(values, Struct) and len(values) and None not in values._fields:
        return values._asdict()
    return None


def listing(ports: Sequence[Port]) -> str:
    """The names of ports, for messages."""
    return ", ".join(repr(port.name) for port in ports) or "nothing"


def distinct(names: Iterable[str]) -> list[str]:
    """The names, of which those that were there before have numbers: `sum`, `sum_2`, `sum_3`."""
    found: dict[str, None] = {}
    for name in names:
        number, new = 1, name
        while new in found:
            number += 1
            new = f"{name}_{number}"
        found[new] = None
    return list(found)
