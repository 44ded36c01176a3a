"""The five types: tensors, structs, sequences, functions, federated values.

Each states its fields, its constraints, its notation, and what is assignable to it. How types are read from Python
objects is in `conversion`, from text in `notation`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from hansa.types import names as _names
from hansa.types.base import Difference, Type
from hansa.types.dtypes import DType, as_dtype, tensor_notation
from hansa.types.placements import CLIENTS, SERVER, Placement
from hansa.types.structs import Struct

_NAME_LOST = "a field with a name does not go to one without"


@dataclass(frozen=True, init=False, repr=False, slots=True)
class TensorType(Type):
    """An array of one dtype and of known rank. Sizes may be unknown. A scalar has the shape `()`.

    Attributes:
        dtype: The type of the elements; strings of any length have `np.dtype('U')`.
        shape: The sizes, None where a value may have any.

    Examples:
        >>> kind = hansa.TensorType(np.float32, (None, 784))
        >>> print(kind, kind.dtype, kind.shape)
        float32[?,784] float32 (None, 784)
    """

    dtype: DType
    shape: tuple[int | None, ...]

    def __init__(self, dtype: object, shape: Iterable[int | None] = ()) -> None:
        object.__setattr__(self, "dtype", as_dtype(dtype))
        object.__setattr__(self, "shape", _checked_shape(shape))

    def takes_shape(self, shape: tuple[int | None, ...]) -> bool:
        """Whether a tensor of that shape has a shape of this type.

        Examples:
            >>> hansa.TensorType(np.float32, (None, 784)).takes_shape((20, 784))
            True
        """
        if self.shape == shape:
            return True
        if len(self.shape) != len(shape):
            return False
        # A loop, as this is asked about each array that enters a computation, and all(…) would take twice as long.
        for mine, theirs in zip(self.shape, shape, strict=True):  # noqa: SIM110
            if mine is not None and mine != theirs:
                return False
        return True

    def _notation(self) -> str:
        return tensor_notation(self.dtype, self.shape)

    def _children(self) -> tuple[Type, ...]:
        return ()

    def _differences(self, source: Type, path: str) -> Iterator[Difference]:
        if not isinstance(source, TensorType):
            yield Difference(path, self.compact(), source.compact())
        elif self.dtype != source.dtype:
            yield Difference(path, self.compact(), source.compact(), "dtypes are never cast implicitly")
        elif not self.takes_shape(source.shape):
            unknown = len(self.shape) == len(source.shape) and None in source.shape
            reason = "an unknown size does not go to a known one" if unknown else ""
            yield Difference(path, self.compact(), source.compact(), reason)


@dataclass(frozen=True, init=False, repr=False, slots=True)
class StructType(Type):
    """An ordered list of fields. Each has a type, and may have a name.

    `t[0]` and `t['name']` are the types of fields, iteration goes over the types.

    Attributes:
        fields: Pairs of a name, or None, and a type.
        names: The names alone, None where a field has none.
        container: The class in which values of this type are handed to Python code, a subclass of `Struct`; None for
            `Struct` itself. It takes no part in equality, hashing and notation.

    Examples:
        >>> kind = hansa.StructType([("x", hansa.TensorType(np.float32, (3,))), ("y", "int32")])
        >>> print(kind, kind["y"], kind.names)
        <x=float32[3],y=int32> int32 ('x', 'y')
    """

    fields: tuple[tuple[str | None, Type], ...]
    names: tuple[str | None, ...] = field(compare=False)
    container: type[Struct] | None = field(compare=False)

    def __init__(self, fields: Iterable[tuple[str | None, object]], container: type[Struct] | None = None) -> None:
        pairs = tuple((name, _as_type(member)) for name, member in fields)
        names = tuple(name for name, _ in pairs)
        _names.check(names)
        if container is not None and not (isinstance(container, type) and issubclass(container, Struct)):
            raise TypeError(f"the container of a struct type is a subclass of Struct; found {container!r}")
        object.__setattr__(self, "fields", pairs)
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "container", container)

    def __getitem__(self, key: int | str) -> Type:
        if not isinstance(key, str):
            return self.fields[key][1]
        if key not in self.names:
            raise KeyError(_names.unknown(key, self.names))
        return self.fields[self.names.index(key)][1]

    def __iter__(self) -> Iterator[Type]:
        return iter(self._children())

    def __len__(self) -> int:
        return len(self.fields)

    def __bool__(self) -> bool:
        """True, for the struct without fields too: `if parameter` asks whether there is a type."""
        return True

    def _notation(self) -> str:
        return f"<{','.join(_field_notation(name, member) for name, member in self.fields)}>"

    def _children(self) -> tuple[Type, ...]:
        return tuple(member for _, member in self.fields)

    def _differences(self, source: Type, path: str) -> Iterator[Difference]:
        if not isinstance(source, StructType):
            yield Difference(path, self.compact(), source.compact())
            return
        named = None not in self.names and None not in source.names
        if named and self.names != source.names and set(self.names) == set(source.names):
            yield Difference(path, self.compact(), source.compact(), "the fields are the same, but in another order")
            return
        if len(self) != len(source) or (named and self.names != source.names):
            yield Difference(path, self.compact(), source.compact(), self._fields_reason(source))
            return
        for index, ((name, mine), (source_name, theirs)) in enumerate(zip(self.fields, source.fields, strict=True)):
            if source_name is None or source_name == name:
                yield from mine._differences(theirs, path + _names.step(name, index))
            else:
                reason = _NAME_LOST if name is None else ""
                found = _field_notation(source_name, theirs)
                yield Difference(f"{path}[{index}]", _field_notation(name, mine), found, reason)

    def _fields_reason(self, source: StructType) -> str:
        if None not in self.names and None not in source.names:
            missing = [name for name in self.names if name not in source.names]
            surplus = [name for name in source.names if name not in self.names]
            parts = (("missing", missing), ("surplus", surplus))
            return ", ".join(f"{what}: {_names.listing(some)}" for what, some in parts if some)
        return f"{len(self)} fields against {len(source)}"


@dataclass(frozen=True, init=False, repr=False, slots=True)
class SequenceType(Type):
    """Any number of elements of one type, one after the other, such as the batches of a client's data.

    The element holds no sequence, function or federated value.

    Examples:
        >>> kind = hansa.SequenceType("<x=float32[?,784],y=int32[?]>")
        >>> print(kind, kind.element["y"])
        <x=float32[?,784],y=int32[?]>* int32[?]
    """

    element: Type

    def __init__(self, element: object) -> None:
        element = _as_type(element)
        _refuse_inside(element, (SequenceType, FunctionType, FederatedType), "a sequence")
        object.__setattr__(self, "element", element)

    def _notation(self) -> str:
        return f"{self.element}*"

    def _children(self) -> tuple[Type, ...]:
        return (self.element,)

    def _differences(self, source: Type, path: str) -> Iterator[Difference]:
        if isinstance(source, SequenceType):
            yield from self.element._differences(source.element, f"{path}[*]")
        else:
            yield Difference(path, self.compact(), source.compact())


@dataclass(frozen=True, init=False, repr=False, slots=True)
class FunctionType(Type):
    """The type of a computation: its parameter, or None where it takes none, and its result.

    Examples:
        >>> kind = hansa.FunctionType("float32", "int32")
        >>> print(kind, kind.parameter, kind.result)
        (float32 -> int32) float32 int32
        >>> print(hansa.FunctionType(None, "int32"))
        ( -> int32)
    """

    parameter: Type | None
    result: Type

    def __init__(self, parameter: object, result: object) -> None:
        object.__setattr__(self, "parameter", None if parameter is None else _as_type(parameter))
        object.__setattr__(self, "result", _as_type(result))

    def _notation(self) -> str:
        return f"({'' if self.parameter is None else self.parameter} -> {self.result})"

    def _children(self) -> tuple[Type, ...]:
        return (self.result,) if self.parameter is None else (self.parameter, self.result)

    def _differences(self, source: Type, path: str) -> Iterator[Difference]:
        if not isinstance(source, FunctionType):
            yield Difference(path, self.compact(), source.compact())
            return
        inside = f"{path}(parameter)"
        if self.parameter is not None and source.parameter is not None:
            # Contravariant: what is passed to the target's parameter must suit the source's.
            for difference in source.parameter._differences(self.parameter, inside):
                yield Difference(difference.path, expected=difference.found, found=difference.expected)
        elif self.parameter is not source.parameter:
            yield Difference(inside, f"{self.parameter or 'no parameter'}", f"{source.parameter or 'no parameter'}")
        yield from self.result._differences(source.result, f"{path}(result)")


@dataclass(frozen=True, init=False, repr=False, slots=True)
class FederatedType(Type):
    """One value at the server, or one at each client.

    The member holds no federated value and no function.

    Attributes:
        member: The type of the value at each place.
        placement: Where the values live.
        all_equal: Whether all members are the same value; by default so at the server, and not so at the clients.

    Examples:
        >>> print(hansa.FederatedType("float32", hansa.CLIENTS))
        {float32}@CLIENTS
        >>> print(hansa.FederatedType("float32", hansa.CLIENTS, all_equal=True))
        float32@CLIENTS
        >>> print(hansa.FederatedType("float32", hansa.SERVER))
        float32@SERVER
    """

    member: Type
    placement: Placement
    all_equal: bool

    def __init__(self, member: object, placement: Placement, all_equal: bool | None = None) -> None:
        member = _as_type(member)
        _refuse_inside(member, (FunctionType, FederatedType), "a federated value")
        if not isinstance(placement, Placement):
            raise TypeError(f"a federated type has the placement CLIENTS or SERVER; found {placement!r}")
        object.__setattr__(self, "member", member)
        object.__setattr__(self, "placement", placement)
        object.__setattr__(self, "all_equal", placement is SERVER if all_equal is None else bool(all_equal))

    def _notation(self) -> str:
        return f"{self.member}@{self.placement}" if self.all_equal else f"{{{self.member}}}@{self.placement}"

    def _children(self) -> tuple[Type, ...]:
        return (self.member,)

    def _differences(self, source: Type, path: str) -> Iterator[Difference]:
        if not isinstance(source, FederatedType) or self.placement is not source.placement:
            yield Difference(path, self.compact(), source.compact())
            return
        if self.all_equal and not source.all_equal:
            place = "the clients" if self.placement is CLIENTS else "the server"
            yield Difference(path, self.compact(), source.compact(), f"its members at {place} need not be equal")
        yield from self.member._differences(source.member, path)


def _checked_shape(shape: Iterable[object]) -> tuple[int | None, ...]:
    try:
        sizes = tuple(shape)
    except TypeError:
        raise TypeError(f"a shape is a tuple of sizes, such as ({shape!r},); found {shape!r}") from None
    return tuple(None if size is None else _checked_size(size, sizes) for size in sizes)


def _checked_size(size: object, shape: tuple[object, ...]) -> int:
    if isinstance(size, bool) or not isinstance(size, int | np.integer):
        raise TypeError(f"a size is an integer, or None where it is unknown; found {size!r} in the shape {shape}")
    number = int(size)
    if number < 0:
        raise ValueError(f"a size is at least zero, or None where it is unknown; found {number} in the shape {shape}")
    return number


def _field_notation(name: str | None, member: Type) -> str:
    return member.compact() if name is None else f"{_names.quote(name)}={member}"


def _as_type(spec: object) -> Type:
    """A type, or whatever stands for one to `to_type`."""
    if isinstance(spec, Type):
        return spec
    from hansa.types.conversion import (
        to_type,
    )  # which imports this module: what a type is made of is part of what it is

    return to_type(spec)


def _refuse_inside(member: Type, refused: tuple[type[Type], ...], outer: str) -> None:
    kinds = {SequenceType: "sequence", FunctionType: "function", FederatedType: "federated value"}
    for component in member.components():
        if isinstance(component, refused):
            where = "" if component is member else f" in {member}"
            raise TypeError(f"{outer} cannot hold a {kinds[type(component)]}; found {component}{where}")
