"""The values that the reference runtime computes with, of what was passed, and as what it returns."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import numpy.typing as npt

from hansa.language.local import tensors
from hansa.runtimes.columns import elements
from hansa.types import (
    CLIENTS,
    FederatedType,
    SequenceType,
    Struct,
    StructType,
    Type,
    is_federated,
    is_tensor_structure,
    to_value,
)
from hansa.types.client_values import ClientValues
from hansa.types.rows import Rows
from hansa.types.values import field_values

Array = npt.NDArray[Any]


def is_listed(kind: Type) -> bool:
    """Whether a value of a type is a list with one value per client."""
    return isinstance(kind, FederatedType) and kind.placement is CLIENTS and not kind.all_equal


def member(kind: Type) -> Type:
    """The type of what one member of a placement has; a type that has no placement is its own."""
    return kind.member if isinstance(kind, FederatedType) else kind


def typed(value: Any, kind: Type) -> Any:
    """A value in the names and containers of a type to which it is assignable; scalars are NumPy's."""
    if is_listed(kind) or isinstance(kind, SequenceType):
        inner = kind.element if isinstance(kind, SequenceType) else member(kind)
        return [typed(one, inner) for one in value]
    if isinstance(kind, FederatedType):
        return typed(value, kind.member)
    if isinstance(kind, StructType):
        return (kind.container or Struct)(zip(kind.names, map(typed, value, kind), strict=True))
    return value[()] if isinstance(value, np.ndarray) else value


def as_values(value: Any, kind: Type, client_ids: Array) -> Any:
    """A result with lists of what clients have computed as `ClientValues`."""
    if isinstance(kind, StructType) and is_federated(kind):
        parts = [as_values(part, field, client_ids) for part, field in zip(value, kind, strict=True)]
        return (kind.container or Struct)(zip(kind.names, parts, strict=True))
    inner = member(kind)
    if not is_listed(kind) or not value or not is_tensor_structure(inner):
        return value
    if any(leaf.dtype.kind == "U" for leaf in tensors(inner)):
        return value
    rows = [jax.tree.leaves(each) for each in value]
    stacks = [np.array([row[i] for row in rows], leaf.dtype) for i, leaf in enumerate(tensors(inner))]
    return ClientValues(inner, Rows.of(stacks, len(value)), client_ids)


def read(kind: Type, value: Any) -> Any:
    """What was passed for a type, as the values that it stands for. A batch without examples stands for none."""
    if is_listed(kind):
        return [read(member(kind), entry) for entry in value]
    if isinstance(kind, FederatedType):
        return read(kind.member, value)
    if isinstance(kind, SequenceType):
        all_of_them = (read(kind.element, element) for element in elements(value, "a sequence"))
        return [element for element in all_of_them if not _is_empty(element, kind.element)]
    if isinstance(kind, StructType) and not is_tensor_structure(kind):
        return Struct(zip(kind.names, map(read, kind, field_values(value, kind, "a struct")), strict=True))
    return jax.tree.map(lambda leaf: leaf if isinstance(leaf, str) else np.asarray(leaf), to_value(value, kind))


def _is_empty(element: Any, kind: Type) -> bool:
    leaves = zip(jax.tree.leaves(element), tensors(kind), strict=True)
    sizes = [len(leaf) for leaf, declared in leaves if declared.shape[:1] == (None,)]
    return bool(sizes) and not any(sizes)
