"""Types and literal values in a manifest: a type is its notation, and the registered names of its containers."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterable
from typing import Any

import numpy as np

from hansa.compiler.artifacts.file import Reader, Writer
from hansa.types import (
    FederatedType,
    FunctionType,
    SequenceType,
    Struct,
    StructType,
    TensorType,
    Type,
    parse_type,
)

CONTAINERS = {
    "LearningState": "hansa.learning.states",
    "ModelWeights": "hansa.models.weights",
    "RoundMetrics": "hansa.learning.metrics",
}
"""The classes of structs that a file may name, and their modules. Any other container becomes a `Struct`."""


def encode_type(kind: Type) -> dict[str, Any]:
    """What `decode_type` reads."""
    names = {}
    for number, part in enumerate(kind.components()):
        container = part.container if isinstance(part, StructType) else None
        if container is not None and CONTAINERS.get(container.__name__) == container.__module__:
            names[str(number)] = container.__name__
    return {"type": kind.compact(), **({"containers": names} if names else {})}


def decode_type(found: dict[str, Any]) -> Type:
    """The type that was encoded."""
    kind = parse_type(found["type"])
    names = found.get("containers", {})
    containers = {number: _container(name) for number, name in names.items()}
    return _with_containers(kind, containers, [0]) if containers else kind


def _container(name: str) -> type[Struct]:
    module = CONTAINERS[name]
    if importlib.util.find_spec(module.rpartition(".")[0]) is None:  # on a device, which has no models
        return Struct
    found: type[Struct] = getattr(importlib.import_module(module), name)
    return found


def _with_containers(kind: Type, containers: dict[str, type[Struct]], count: list[int]) -> Type:
    """The type with containers by the number of each type within it, in the order of `components`."""
    container = containers.get(str(count[0]))
    count[0] += 1

    def inner(part: Type) -> Type:
        return _with_containers(part, containers, count)

    match kind:
        case StructType():
            return StructType([(name, inner(field)) for name, field in kind.fields], container=container)
        case SequenceType():
            return SequenceType(inner(kind.element))
        case FederatedType():
            return FederatedType(inner(kind.member), kind.placement, kind.all_equal)
        case FunctionType():
            return FunctionType(None if kind.parameter is None else inner(kind.parameter), inner(kind.result))
    return kind


def state_types(arrays: Iterable[Any]) -> list[Type]:
    """The types of the arrays of an aggregate's state."""
    return [TensorType(array.dtype, array.shape) for array in arrays]


def encode_value(value: Any, writer: Writer) -> Any:
    """What `decode_value` reads: of an array, a string, or a struct of those."""
    if isinstance(value, Struct):
        return {"names": list(value._fields), "values": [encode_value(part, writer) for part in value]}
    if isinstance(value, str):
        return {"text": value}
    return {"scalar": isinstance(value, np.generic), **writer.array(np.asarray(value))}


def decode_value(found: Any, kind: Type, reader: Reader) -> Any:
    """The value that was encoded, in the containers of its type."""
    if "names" in found:
        assert isinstance(kind, StructType)
        parts = [decode_value(part, field, reader) for part, field in zip(found["values"], kind, strict=True)]
        return (kind.container or Struct)(zip(found["names"], parts, strict=True))
    if "text" in found:
        return str(found["text"])
    array = reader.array(found).read()
    return array[()] if found["scalar"] else array
