"""Questions about types that intrinsics and executors ask: what a type contains, and whether it can be added up.

All are total functions of a type; none looks at a value.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from hansa.types.base import Type
from hansa.types.dtypes import kind
from hansa.types.types import FederatedType, SequenceType, StructType, TensorType


def contains(type_: Type, predicate: Callable[[Type], bool]) -> bool:
    """Whether the predicate holds for the type or for any type within it.

    Examples:
        >>> kind = hansa.to_type("<x=float32,y=int32*>")
        >>> hansa.types.contains(kind, lambda part: isinstance(part, hansa.SequenceType))
        True
    """
    return any(predicate(component) for component in type_.components())


def tensor_leaves(type_: Type) -> tuple[TensorType, ...]:
    """All tensor types within the type, in order.

    Examples:
        >>> [str(leaf) for leaf in hansa.types.tensor_leaves(hansa.to_type("<x=float32[3],y=<a=int32>>"))]
        ['float32[3]', 'int32']
    """
    return tuple(component for component in type_.components() if isinstance(component, TensorType))


def is_federated(type_: Type) -> bool:
    """Whether there is anything placed within the type.

    Examples:
        >>> hansa.types.is_federated(hansa.to_type("<a={int32}@CLIENTS,b=int32>"))
        True
    """
    return contains(type_, lambda component: isinstance(component, FederatedType))


def is_tensor_structure(type_: Type) -> bool:
    """Whether the type is made of tensors and structs only, and so a pytree of arrays to JAX (strings apart).

    Examples:
        >>> hansa.types.is_tensor_structure(hansa.to_type("<x=float32[?]>"))
        True
        >>> hansa.types.is_tensor_structure(hansa.to_type("float32*"))
        False
    """
    return all(isinstance(component, TensorType | StructType) for component in type_.components())


def is_numeric(type_: Type) -> bool:
    """Whether the type is a tensor or a struct of tensors that can be added up: of numbers, not of bool or str.

    Examples:
        >>> hansa.types.is_numeric(hansa.to_type("<int32,float32>")), hansa.types.is_numeric(hansa.to_type("bool"))
        (True, False)
    """
    return _all_of_kind(type_, "int", "float", "complex")


def is_integer(type_: Type) -> bool:
    """Whether the type is a tensor or a struct of tensors of integers, signed or not.

    Examples:
        >>> hansa.types.is_integer(hansa.to_type("uint8[3]")), hansa.types.is_integer(hansa.to_type("float32"))
        (True, False)
    """
    return _all_of_kind(type_, "int")


def is_inexact(type_: Type) -> bool:
    """Whether the type is a tensor or a struct of tensors that can be averaged: of float or complex numbers.

    Examples:
        >>> hansa.types.is_inexact(hansa.to_type("float32[3]")), hansa.types.is_inexact(hansa.to_type("int32"))
        (True, False)
    """
    return _all_of_kind(type_, "float", "complex")


def is_fully_defined(type_: Type) -> bool:
    """Whether no tensor within the type has an unknown size.

    Examples:
        >>> hansa.types.is_fully_defined(hansa.to_type("<x=float32[?,784],y=int32>"))
        False
    """
    return all(None not in leaf.shape for leaf in tensor_leaves(type_))


def tensor_sizes(type_: Type) -> list[int | None]:
    """The size in bytes of each tensor in an unplaced type; None where it is not known."""
    if isinstance(type_, StructType):
        return [size for field in type_ for size in tensor_sizes(field)]
    if isinstance(type_, SequenceType):
        return [None]
    assert isinstance(type_, TensorType)
    known = [dim for dim in type_.shape if dim is not None]
    if len(known) < len(type_.shape) or type_.dtype.kind == "U":
        return [None]
    return [math.prod(known) * type_.dtype.itemsize]


def _all_of_kind(type_: Type, *kinds: str) -> bool:
    return is_tensor_structure(type_) and all(kind(leaf.dtype) in kinds for leaf in tensor_leaves(type_))
