"""States of rules, at the server and, where a rule keeps something there, at each client; and how they nest by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from hansa.language import intrinsics as on
from hansa.types import CLIENTS, SERVER, FederatedType, Struct, StructType, Type


class Parts(NamedTuple):
    """The two parts of a state, values or types.

    Attributes:
        server: the one at the server.
        clients: the one at each client; None where there is none.
    """

    server: Any
    clients: Any


def nothing() -> Any:
    """No state, or no measurements, at the server."""
    return on.federated_value([], SERVER)


def empty(kind: Type) -> bool:
    """Whether a type at the server holds nothing."""
    member = kind.member if isinstance(kind, FederatedType) else kind
    return isinstance(member, StructType) and not len(member)


def parts(state: Any) -> Parts:
    """The parts of a state, or of the type of one: `A@SERVER`, or `<server=A@SERVER,clients={E}@CLIENTS>`."""
    kind = state if isinstance(state, Type) else state.type_signature
    return Parts(state["server"], state["clients"]) if isinstance(kind, StructType) else Parts(state, None)


def joined(server: Any, clients: Any = None) -> Any:
    """A state of its parts."""
    return server if clients is None else Struct.of(server=server, clients=clients)


def nested(own: Mapping[str, Any], name: str, inner: Any) -> Any:
    """One value at the server of a rule's own fields and, by name, what the rule inside has, if it has anything."""
    fields = dict(own) if empty(inner.type_signature) else {**own, name: inner}
    return on.federated_zip(fields) if fields else nothing()


def state_around(own: Mapping[str, Any], name: str, inner: Any, of_clients: Mapping[str, Any] | None = None) -> Any:
    """The state of a rule, of its own fields at the server and at the clients and, by name, of the state inside."""
    within = parts(inner)
    fields = {**(of_clients or {}), **({} if within.clients is None else {name: within.clients})}
    return joined(nested(own, name, within.server), on.federated_zip(fields) if fields else None)


def state_within(state: Any, name: str, inner: Type) -> Any:
    """Of a rule's state that of the rule inside, which is of type `inner`."""
    outer, within = parts(state), parts(inner)
    server = nothing() if empty(within.server) else outer.server[name]
    return joined(server, None if within.clients is None else outer.clients[name])


def taken(kind: Type) -> Type:
    """The type of state that `next` takes, of that which `initialize` makes: clients' parts differ from then on."""
    if isinstance(kind, StructType):
        return StructType([(name, taken(field)) for name, field in kind.fields], container=kind.container)
    at_clients = isinstance(kind, FederatedType) and kind.placement is CLIENTS
    return FederatedType(kind.member, CLIENTS) if at_clients else kind  # type: ignore[attr-defined]
