"""The least type that two types are both assignable to.

The order itself is `Type.is_assignable_from`; here are its joins and, for the parameters of functions, its meets.
"""

from __future__ import annotations

from collections.abc import Iterable

from hansa.types import names as _names
from hansa.types.base import Type
from hansa.types.types import FederatedType, FunctionType, SequenceType, StructType, TensorType


def common_type(a: Type, b: Type) -> Type:
    """The least type that both are assignable to.

    Sizes that differ become unknown, a name that only one of two fields has is kept, and a federated type is all-equal
    if both are. The parameters of functions go the other way, to the greatest type assignable to both.

    Raises:
        TypeError: if there is none, naming both types and the place where they part.

    Examples:
        >>> print(hansa.types.common_type(hansa.to_type("float32[3]"), hansa.to_type("float32[5]")))
        float32[?]
    """
    try:
        return _bound(a, b, upper=True, path="")
    except _NoBound as error:
        place, first, second = error.args
        inner = f": at {place} one has {first}, the other {second}" if place else ""
        raise TypeError(f"{a} and {b} have no type in common{inner}") from None


class _NoBound(Exception):
    """Raised with the path to the place where two types part, and what the two have there."""


def _bound(a: Type, b: Type, upper: bool, path: str) -> Type:
    """The join of the two types if `upper`, else their meet."""
    match a, b:
        case TensorType(), TensorType() if a.dtype == b.dtype and len(a.shape) == len(b.shape):
            return TensorType(a.dtype, _sizes(a, b, upper, path))
        case StructType(), StructType() if len(a) == len(b):
            container = a.container if a.container is b.container else None
            return StructType(_fields(a, b, upper, path), container)
        case SequenceType(), SequenceType():
            return SequenceType(_bound(a.element, b.element, upper, f"{path}[*]"))
        case FunctionType(), FunctionType() if (a.parameter is None) == (b.parameter is None):
            parameter = None
            if a.parameter is not None and b.parameter is not None:
                parameter = _bound(a.parameter, b.parameter, not upper, f"{path}(parameter)")
            return FunctionType(parameter, _bound(a.result, b.result, upper, f"{path}(result)"))
        case FederatedType(), FederatedType() if a.placement is b.placement:
            all_equal = (a.all_equal and b.all_equal) if upper else (a.all_equal or b.all_equal)
            return FederatedType(_bound(a.member, b.member, upper, path), a.placement, all_equal)
    raise _NoBound(path, a, b)


def _sizes(a: TensorType, b: TensorType, upper: bool, path: str) -> Iterable[int | None]:
    for first, second in zip(a.shape, b.shape, strict=True):
        if first == second:
            yield first
        elif upper:
            yield None
        elif first is None or second is None:
            yield second if first is None else first
        else:
            raise _NoBound(path, a, b)


def _fields(a: StructType, b: StructType, upper: bool, path: str) -> Iterable[tuple[str | None, Type]]:
    for index, ((first, one), (second, other)) in enumerate(zip(a.fields, b.fields, strict=True)):
        if upper and first != second and first is not None and second is not None:
            raise _NoBound(f"{path}[{index}]", f"{_names.quote(first)}={one}", f"{_names.quote(second)}={other}")
        either, both = second if first is None else first, first if first == second else None
        yield either if upper else both, _bound(one, other, upper, path + _names.step(either, index))
