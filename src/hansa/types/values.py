"""`to_value`: checks a value that a user passes against a type, and brings it into the form that computations take.

Only values without a placement and without sequences are handled here: tensors and structs. A Python number adapts to
the dtype that is asked for if it fits; an array never does, as a cast is the user's decision.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, TypeAlias

import jax
import numpy as np

from hansa.types import names as _names
from hansa.types.base import Type
from hansa.types.conversion import infer_type
from hansa.types.dtypes import DTYPES, STR, DType, dtype_name, kind
from hansa.types.members import Members, members
from hansa.types.mismatch import Mismatch, describe
from hansa.types.plain import unmasked
from hansa.types.structs import Struct
from hansa.types.types import StructType, TensorType

Value: TypeAlias = Any
"""An `np.ndarray` or `jax.Array`, a `str` for a scalar of dtype str, or a `Struct` of these."""

_MOST_SHOWN = 1000
"""Characters of the type of a wrong value, which of nested lists has a part for each number."""

_ADAPTS: Mapping[type, tuple[str, ...]] = MappingProxyType(
    {
        bool: ("bool",),
        int: ("int", "float", "complex"),
        float: ("float", "complex"),
        complex: ("complex",),
        str: ("str",),
    }
)
"""The kinds of dtypes that a Python scalar adapts to."""


def to_value(value: object, type_: Type, what: str = "argument") -> Value:
    """The value in the form that computations take, if it is one of the type.

    - A tensor is an `np.ndarray` or `jax.Array` (traced ones included) of exactly the dtype, and of a shape that the
      type takes; these are returned as they are. Python scalars and nested lists of them adapt to the dtype if they
      fit its kind and range. A `str` stays one.
    - A struct is a `Struct`, or the type's `container`, with the type's names. It is made of any container: by name,
      in whatever order, if all fields have names on both sides, and by position otherwise, where a name that the value
      does have must be the type's.

    Args:
        value: What the user passed.
        type_: The type to check it against: of tensors and structs only.
        what: What the value is to the reader of an error, which goes on with the path: `argument.x[2]`.

    Raises:
        TypeError: if the value is of another type.
        ValueError: if a number is out of the dtype's range.

    Examples:
        >>> hansa.types.to_value({"x": [1, 2], "y": 3}, hansa.to_type("<x=float32[?],y=int64>"))
        <x=[1.0,2.0],y=3>
        >>> hansa.types.to_value(np.arange(3), hansa.to_type("float32[3]"))
        Traceback (most recent call last):
            ...
        TypeError: argument: expected float32[3], found int64[3]; convert it with .astype('float32')
    """
    try:
        return _convert(value, type_)
    except Mismatch as mismatch:
        raise mismatch.error(what) from None


def _convert(value: Any, type_: Type) -> Value:
    if isinstance(type_, TensorType):
        if type(value) is np.ndarray and value.dtype == type_.dtype and type_.takes_shape(value.shape):
            return value
        if type_.shape == () and type(value) is type_.dtype.type and type_.dtype != STR:
            return np.asarray(value)
        return _to_tensor(value, type_)
    if isinstance(type_, StructType):
        return _to_struct(value, type_)
    raise Mismatch(f"a value of the type {type_} is not made by to_value, which knows tensors and structs only")


def _to_tensor(value: Any, type_: TensorType) -> Value:
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        return _check_array(value, type_)
    if isinstance(value, list | tuple):
        return _from_list(value, type_)
    if isinstance(value, bool | int | float | complex | str):
        if type_.shape != ():
            raise _unexpected(value, type_, f"pass an array or list of shape {_sizes(type_)}")
        return value if isinstance(value, str) and type_.dtype == STR else _from_python([value], (), type_)
    if hasattr(value, "__array__") and not isinstance(value, Struct):
        return _check_array(np.asarray(value), type_)
    raise _unexpected(value, type_)


def _check_array(array: Any, type_: TensorType) -> Value:
    if isinstance(array, np.ma.MaskedArray):
        array = _guarded(unmasked, array)
    if type_.dtype == STR and array.dtype.kind == "U":
        if type_.shape == () and array.shape == ():
            return str(array)
    elif array.dtype != type_.dtype:
        raise _unexpected(array, type_, _cast_hint(array, type_.dtype))
    if not type_.takes_shape(array.shape):
        raise _unexpected(array, type_, _shape_hint(array.shape, type_))
    return np.asarray(array) if isinstance(array, np.generic) else array


def _guarded(function: Callable[[Any], Any], value: Any) -> Any:
    try:
        return function(value)
    except ValueError as error:
        raise Mismatch(str(error), ValueError) from None


def _from_list(value: list[Any] | tuple[Any, ...], type_: TensorType) -> Value:
    shape = _list_shape(value)
    if not type_.takes_shape(shape):
        hint = _shape_hint(shape, type_)
        raise Mismatch(f"expected {type_}, found a {type(value).__name__} of shape {shape}; {hint}")
    return _from_python(list(_leaves(value)), shape, type_)


def _list_shape(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list | tuple):
        return ()
    shapes = [_list_shape(member) for member in value]
    for index, shape in enumerate(shapes):
        if shape != shapes[0]:
            message = f"the shape {shape} differs from the first one's in the list, {shapes[0]}; pad them to one shape"
            raise Mismatch(message).within(f"[{index}]")
    return (len(shapes), *(shapes[0] if shapes else ()))


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, list | tuple):
        for member in value:
            yield from _leaves(member)
    else:
        yield value


def _from_python(leaves: list[Any], shape: tuple[int, ...], type_: TensorType) -> np.ndarray[Any, Any]:
    """An array of the scalars, which are laid out in row-major order, if each adapts to the dtype."""
    dtype = type_.dtype
    for scalar_type in set(map(type, leaves)):
        if not _adapts(scalar_type, dtype):
            index = next(index for index, leaf in enumerate(leaves) if type(leaf) is scalar_type)
            raise _unexpected(leaves[index], TensorType(dtype), _scalar_hint(leaves[index], dtype), shape, index)
    if kind(dtype) in ("bool", "str"):
        array = np.array(leaves, dtype)
    elif kind(dtype) == "int":
        limits = np.iinfo(dtype)
        for index, leaf in enumerate(leaves):
            if not limits.min <= leaf <= limits.max:
                raise _out_of_range(leaf, dtype, shape, index)
        array = np.array(leaves, dtype)
    else:
        array = _inexact(leaves, shape, dtype)
    return array.reshape(shape)


def _inexact(leaves: list[Any], shape: tuple[int, ...], dtype: DType) -> np.ndarray[Any, Any]:
    if len(leaves) == 1 and type(leaves[0]) is float and -_UNDOUBTED <= leaves[0] <= _UNDOUBTED:
        return np.array(leaves, dtype)
    wide_dtype = np.complex128 if kind(dtype) == "complex" else np.float64
    try:
        wide = np.array(leaves, wide_dtype)
    except OverflowError:  # an int beyond all floats
        index = next(index for index, leaf in enumerate(leaves) if isinstance(leaf, int) and abs(leaf) >= 2**1024)
        raise _out_of_range(leaves[index], dtype, shape, index) from None
    with np.errstate(over="ignore"):
        array = wide.astype(dtype)
    overflows = np.isinf(array) & ~np.isinf(wide)
    if overflows.any():
        index = int(np.argmax(overflows))
        raise _out_of_range(leaves[index], dtype, shape, index)
    return array


_UNDOUBTED = 65504.0
"""Every float dtype holds numbers up to this one, the largest of float16."""


def _adapts(scalar_type: type, dtype: DType) -> bool:
    if issubclass(scalar_type, np.generic):
        return scalar_type is dtype.type
    for python_type, kinds in _ADAPTS.items():
        if issubclass(scalar_type, python_type):
            return kind(dtype) in kinds
    return False


def field_values(value: object, type_: StructType, what: str = "argument") -> tuple[Any, ...]:
    """What any container holds for the fields of a struct type, in the type's order: by name where both have names.

    The values are not looked at; a name that is missing, or that the type has not, is an error as in `to_value`.
    """
    try:
        return _field_values(value, type_)
    except Mismatch as mismatch:
        raise mismatch.error(what) from None


def _field_values(value: Any, type_: StructType) -> tuple[Any, ...]:
    found = members(value)
    if found is None:
        called = callable(value) and hasattr(value, "__name__") and not isinstance(value, type)
        remedy = f"call it: {value.__name__}()" if called else "pass a dict, a list or another container of the fields"
        raise _unexpected(value, type_, remedy)
    return found.values if found.names == type_.names else _matched(value, found, type_)


def _to_struct(value: Any, type_: StructType) -> Struct:
    values = _field_values(value, type_)
    converted = []
    for index, (name, member_type) in enumerate(type_.fields):
        try:
            converted.append(_convert(values[index], member_type))
        except Mismatch as mismatch:
            raise mismatch.within(_names.step(name, index)) from None
    return (type_.container or Struct)._make(type_.names, tuple(converted))


def _matched(value: Any, found: Members, type_: StructType) -> tuple[Any, ...]:
    """The values in the order of the type's fields."""
    if None not in found.names and None not in type_.names:
        by_name = dict(zip(found.names, found.values, strict=True))
        extra = [str(name) for name in found.names if name not in type_.names]
        nearest = [_names.suggestion(name, type_.names) for name in extra]
        problems = [f"the field {name!r} is missing" for name in type_.names if name not in by_name]
        problems += [f"there is no field {name!r}{near}" for name, near in zip(extra, nearest, strict=True)]
        if problems and not any(nearest) and not set(found.names) & set(type_.names):
            there = f"expected the fields {_names.listing(type_.names)}, found the fields {_names.listing(found.names)}"
            raise Mismatch(f"{there}; if that is one of them, pass the others, too" + _part_that_fits(found, type_))
        if problems:
            message = f"expected the fields {_names.listing(type_.names)}, but {', and '.join(problems)}"
            raise Mismatch(message + _part_that_fits(found, type_))
        return tuple(by_name[name] for name in type_.names)
    if len(found.names) != len(type_):
        raise _unexpected(value, type_, f"that is {len(type_)} fields against {len(found.names)}")
    for index, (name, expected) in enumerate(zip(found.names, type_.names, strict=True)):
        if name is not None and name != expected:
            wanted = "without a name; pass a list or tuple" if expected is None else f"named {expected!r}"
            raise Mismatch(f"the field [{index}] is named {name!r}, but in {type_} it is {wanted}")
    return found.values


def _unexpected(value: Any, type_: Type, remedy: str = "", shape: tuple[int, ...] = (), index: int = 0) -> Mismatch:
    """The mismatch of a value, or of the element with that flat index of nested lists of that shape."""
    found = f"expected {type_}, found {_found(value)}" + (f"; {remedy}" if remedy else "")
    inside = members(value)
    return _located(Mismatch(found + (_part_that_fits(inside, type_) if inside else "")), shape, index)


def _part_that_fits(found: Members, type_: Type) -> str:
    """Says which field of a struct is of the type, as what was returned together is at times to be passed in parts."""
    for index, value in enumerate(found.values):
        try:
            fits = type_.is_assignable_from(infer_type(value))
        except (TypeError, ValueError):
            continue
        if fits:
            return f"; its part {_names.step(found.names[index], index)} is one: pass that"
    return ""


def _out_of_range(value: Any, dtype: DType, shape: tuple[int, ...], index: int) -> Mismatch:
    limits = np.iinfo(dtype) if kind(dtype) == "int" else None
    bounds = f", which holds {limits.min} to {limits.max}" if limits else ""
    message = f"{describe(value)} is out of the range of {dtype_name(dtype)}{bounds}"
    return _located(Mismatch(message, ValueError), shape, index)


def _located(mismatch: Mismatch, shape: tuple[int, ...], index: int) -> Mismatch:
    position = np.unravel_index(index, shape) if shape else ()
    return mismatch.within("".join(f"[{size}]" for size in position)) if position else mismatch


def _found(value: Any) -> str:
    """The type of a container if it has one, as that can be compared with the expected one; else a description."""
    if members(value) is not None:
        with contextlib.suppress(TypeError, ValueError):
            found = infer_type(value)
            if len(found.compact()) <= _MOST_SHOWN:
                return str(found)
    return describe(value)


def how_to_cast(array: Any, dtype: DType) -> str:
    """What to write so that an array of numbers gets a dtype; nothing that would make other numbers of those in it."""
    name, wide = dtype_name(dtype), dtype_name(array.dtype)
    if isinstance(array, jax.core.Tracer) or _keeps_values(np.asarray(array), dtype):
        return f"convert it with .astype({name!r})"
    return (
        f"{name} cannot hold all of its numbers: make what was expected {wide}, if that holds it, or "
        "both a dtype that holds both"
    )


def _keeps_values(array: np.ndarray[Any, Any], dtype: DType) -> bool:
    """Whether a cast changes no number, but for rounding floats, within their range."""
    if kind(array.dtype) == "complex" and kind(dtype) != "complex":
        return False
    with np.errstate(all="ignore"):
        cast = array.astype(dtype)
        if kind(array.dtype) in ("float", "complex") and kind(dtype) in ("float", "complex"):
            return not bool((np.isinf(cast) & ~np.isinf(array)).any())
        return bool(((cast == array) if cast.dtype.kind in "iu" else (cast.astype(array.dtype) == array)).all())


def _cast_hint(array: Any, dtype: DType) -> str:
    if "str" not in (dtype_name(array.dtype), dtype_name(dtype)) and dtype_name(array.dtype) in DTYPES:
        return how_to_cast(array, dtype)
    if array.dtype == object and dtype != STR:
        return f"an array of Python objects is no array of numbers; convert it with .astype({dtype_name(dtype)!r})"
    if isinstance(array.dtype, np.dtype) and not array.dtype.isnative:
        return f"its bytes are in another order than this machine's; convert it with .astype({dtype_name(dtype)!r})"
    return "convert it with .astype(str)" if dtype == STR else ""


def _scalar_hint(scalar: Any, dtype: DType) -> str:
    if isinstance(scalar, np.ndarray | np.generic | jax.Array):
        return f"a list holds Python numbers; make one array of it with np.stack and .astype({dtype_name(dtype)!r})"
    if isinstance(scalar, float) and kind(dtype) == "int":
        return "convert it with int(…) or round(…)"
    if isinstance(scalar, bool) and kind(dtype) != "str":
        return f"convert it with {'int' if kind(dtype) == 'int' else 'float'}(…)"
    if kind(dtype) == "bool" and isinstance(scalar, int):
        return "convert it with bool(…)"
    if isinstance(scalar, str) and kind(dtype) in ("int", "float"):
        return f"convert it with {kind(dtype)}(…)"
    return ""


def _shape_hint(shape: tuple[int, ...], type_: TensorType) -> str:
    if len(shape) != len(type_.shape):
        return f"it is of rank {len(shape)} instead of {len(type_.shape)}"
    for axis, (size, expected) in enumerate(zip(shape, type_.shape, strict=True)):
        if expected is not None and size != expected:
            return f"its axis {axis} is of size {size} instead of {expected}"
    return ""


def _sizes(type_: TensorType) -> str:
    return f"[{','.join('?' if size is None else str(size) for size in type_.shape)}]"
