"""What a computation may ask its runtime for: values that are no arguments. For each there is one node of the graph."""

from __future__ import annotations

from collections.abc import Mapping

from hansa.language.graph import RuntimeValue
from hansa.types import CLIENTS, FederatedType, TensorType, Type

CLIENT_ID = RuntimeValue(FederatedType(TensorType("int32"), CLIENTS), "client_id")
"""The number that identifies each client."""

RUNTIME_VALUES: Mapping[str, RuntimeValue] = {node.name: node for node in (CLIENT_ID,)}
"""The nodes by their names."""


def runtime_value(name: str, kind: Type) -> RuntimeValue:
    """The node of a value that a file asks for.

    Raises:
        ValueError: if there is no such value of that type.
    """
    node = RUNTIME_VALUES.get(name)
    if node is None or node.type != kind:
        known = ", ".join(f"{other.name!r} of type {other.type}" for other in RUNTIME_VALUES.values())
        raise ValueError(f"it asks for a value {name!r} of type {kind} of its runtime, which has {known}")
    return node
