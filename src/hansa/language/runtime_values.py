"""What a computation may ask its runtime for: values that are no arguments. For each there is one node of the graph.

Keys of noise are another value wherever they are asked for: each has a node of its own, and a number in a program.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hansa.language.graph import RuntimeValue
from hansa.types import CLIENTS, SERVER, FederatedType, TensorType, Type

CLIENT_ID = RuntimeValue(FederatedType(TensorType("int32"), CLIENTS), "client_id")
"""The number that identifies each client."""

RUNTIME_VALUES: Mapping[str, RuntimeValue] = {node.name: node for node in (CLIENT_ID,)}
"""The nodes by their names, of values that are the same wherever they are asked for."""

SERVER_NOISE, CLIENT_NOISE = "noise_keys", "client_noise_key"


def server_noise(terms: int, rounds: int | None = None) -> RuntimeValue:
    """Keys of cipher streams from which the server draws noise: of this round, the one before, and so on.

    uint32 [terms, 8] at the server. Where noise is correlated over rounds, it is said for how many `rounds`.
    """
    return RuntimeValue(FederatedType(TensorType("uint32", (terms, 8)), SERVER, True), SERVER_NOISE, rounds=rounds)


def client_noise() -> RuntimeValue:
    """A key of the cipher stream from which a client draws noise in this round: uint32 [8] at the clients."""
    return RuntimeValue(FederatedType(TensorType("uint32", (8,)), CLIENTS), CLIENT_NOISE)


def is_noise(node: object) -> bool:
    """Whether a node is a key of noise."""
    return isinstance(node, RuntimeValue) and node.name in (SERVER_NOISE, CLIENT_NOISE)


def noise_numbers(asked: Sequence[RuntimeValue]) -> list[int]:
    """A number for each key of noise in a program: its own, where a file says one that no other has."""
    found: dict[RuntimeValue, int] = {}
    for node in asked:
        if node.number is not None and node.number not in found.values():
            found[node] = node.number
    free = iter([number for number in range(len(asked)) if number not in found.values()])
    return [found[node] if node in found else next(free) for node in asked]


def runtime_value(name: str, kind: Type, number: int | None = None, rounds: int | None = None) -> RuntimeValue:
    """The node of a value that a file asks for.

    Raises:
        ValueError: if there is no such value of that type.
    """
    made = {CLIENT_NOISE: client_noise(), SERVER_NOISE: server_noise(_terms(kind))}
    node = {**RUNTIME_VALUES, **made}.get(name)
    if node is None or node.type != kind:
        known = ", ".join(
            f"{other.name!r} of type {other.type}" for other in (*RUNTIME_VALUES.values(), *made.values())
        )
        raise ValueError(f"it asks for a value {name!r} of type {kind} of its runtime, which has {known}")
    if rounds is not None and (name != SERVER_NOISE or rounds < 1):
        raise ValueError(f"it asks for a value {name!r} for {rounds} rounds")
    return node if number is None else RuntimeValue(node.type, name, number=number, rounds=rounds)


def _terms(kind: Type) -> int:
    """How many keys a value of this type has; 1 if it is of another form."""
    shape = kind.member.shape if isinstance(kind, FederatedType) and isinstance(kind.member, TensorType) else ()
    return shape[0] or 1 if len(shape) == 2 else 1
