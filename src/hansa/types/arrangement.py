"""One order for fields that have the same names: named fields are known by their names, wherever they stand.

Fields without names are known by their places, and stay there.
"""

from __future__ import annotations

from typing import Any

from hansa.types.base import Type
from hansa.types.structs import Struct
from hansa.types.types import FederatedType, SequenceType, StructType


def have_same_names(names: tuple[str | None, ...], others: tuple[str | None, ...]) -> bool:
    """Whether all fields have names, the same ones in both, in whatever order."""
    return None not in names and None not in others and set(names) == set(others)


def arranged_type(kind: Type, like: Type) -> Type:
    """The type with its structs' fields in the order of those of `like`, wherever both have the same names."""
    if isinstance(kind, StructType) and isinstance(like, StructType):
        if have_same_names(kind.names, like.names):
            fields = [(name, arranged_type(kind[str(name)], member)) for name, member in like.fields]
        elif len(kind) == len(like):
            fields = [(name, arranged_type(mine, other)) for (name, mine), other in zip(kind.fields, like, strict=True)]
        else:
            return kind
        return StructType(fields, kind.container)
    if isinstance(kind, FederatedType) and isinstance(like, FederatedType):
        return FederatedType(arranged_type(kind.member, like.member), kind.placement, kind.all_equal)
    if isinstance(kind, SequenceType) and isinstance(like, SequenceType):
        return SequenceType(arranged_type(kind.element, like.element))
    return kind


def arranged(value: Any, like: Type) -> Any:
    """A value whose `Struct`s have their fields in the order of those of `like`, wherever both have the same names."""
    if not isinstance(value, Struct) or not isinstance(like, StructType) or len(value) != len(like):
        return value
    by_name = have_same_names(value._fields, like.names)
    names = like.names if by_name else value._fields
    parts = [value[str(name)] for name in names] if by_name else list(value)
    return Struct([(name, arranged(part, member)) for name, part, member in zip(names, parts, like, strict=True)])
