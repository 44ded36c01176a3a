"""From Python objects to types: `to_type` for what describes values, `infer_type` for values themselves.

No value is converted here; `values.to_value` does that.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections.abc import Callable
from typing import Any, ForwardRef, TypeVar

import numpy as np

from hansa.types import names as _names
from hansa.types.base import Type
from hansa.types.dtypes import DTYPES, DType, as_dtype, find_dtype
from hansa.types.members import Members, members
from hansa.types.mismatch import Mismatch, describe
from hansa.types.notation import parse_type
from hansa.types.structs import Struct
from hansa.types.types import SequenceType, StructType, TensorType

_ACCEPTED = """a type is written as one of
  a dtype             np.float32, jnp.bfloat16, int (int32), float (float32), bool, str
  a dtype and a shape (np.float32, [None, 784])
  the notation        '<x=float32[?,784],y=int32[?]>*'
  a struct            a list, tuple, dict, NamedTuple or dataclass of types
  a spec              an object with .shape and .dtype, as jax.ShapeDtypeStruct, or with .element_spec (a sequence)"""

A = TypeVar("A")
R = TypeVar("R")

_INT32 = np.iinfo(np.int32)
_INT64 = np.iinfo(np.int64)


def to_type(spec: object) -> Type:
    """The type that a spec describes.

    Args:
        spec: A `Type`, which is returned as it is; a dtype; a pair of a dtype and a shape; the notation as a string; a
            list, tuple, dict, NamedTuple, dataclass or `Struct` of specs; a NamedTuple or dataclass class with specs
            for annotations; an object with `shape` and `dtype`, as `jax.ShapeDtypeStruct` and `tf.TensorSpec`; or one
            with `element_spec`, as `tf.data.Dataset`, for a sequence. A pair whose first is a dtype and whose second
            a list or tuple of sizes is a tensor, any other a struct.

    Raises:
        TypeError: if it is none of these, naming what is at fault and what is accepted.
        ValueError: if the notation cannot be read.

    Examples:
        >>> print(hansa.to_type((np.float32, [None, 784])))
        float32[?,784]
        >>> print(hansa.to_type({"a": int, "b": [float, bool]}))
        <a=int32,b=<float32,bool>>
        >>> print(hansa.to_type("{int32}@CLIENTS").member)
        int32
    """
    try:
        return _read(spec)
    except Mismatch as mismatch:
        raise mismatch.error("") from None


def infer_type(value: object, what: str = "") -> Type:
    """The type of a value: of a Python number or string, an array, or a container of values.

    An `int` is int32, or int64 where it does not fit, a `float` float32, a `complex` complex64. Arrays, JAX's traced
    ones included, have their own dtype; lists, tuples, dicts, named tuples, dataclasses and `Struct`s are structs.

    Args:
        value: The value.
        what: What the value is to the reader of an error, which goes on with the path to what is at fault.

    Raises:
        TypeError: if the value has no type.
        ValueError: if an integer does not fit 64 bits.

    Examples:
        >>> print(hansa.infer_type({"x": np.zeros((20, 784)), "epoch": 1, "name": "ann"}))
        <x=float64[20,784],epoch=int32,name=str>
    """
    try:
        return _infer(value)
    except Mismatch as mismatch:
        raise mismatch.error(what) from None


def _read(spec: Any) -> Type:
    if isinstance(spec, Type):
        return spec
    if isinstance(spec, Struct):  # before its fields could be taken for the attributes of some other spec
        return _struct(spec, Members(spec._names, spec._values), _read)
    if isinstance(spec, str):
        return _guarded(parse_type, spec)
    dtype = _guarded(find_dtype, spec)
    if dtype is not None:
        return TensorType(dtype)
    if isinstance(spec, type):
        return _read_class(spec)
    if hasattr(spec, "element_spec"):
        return _guarded(SequenceType, _at(".element_spec", spec.element_spec, _read))
    if hasattr(spec, "shape") and hasattr(spec, "dtype"):
        return _read_array(spec)
    if isinstance(spec, tuple) and len(spec) == 2 and not hasattr(spec, "_fields"):
        dtype = _dtype_of_pair(*spec)
        if dtype is not None:
            return _guarded(TensorType, dtype, spec[1])
    found = members(spec)
    if found is None:
        hint = f"; the shape of a tensor is a list or tuple, such as [{spec}]" if type(spec) is int else ""
        raise Mismatch(f"{describe(spec)} is no type{hint}; {_ACCEPTED}")
    return _struct(spec, found, _read)


def _dtype_of_pair(first: Any, second: Any) -> DType | None:
    """The dtype of a pair `(dtype, shape)`; None where the pair is something else, that is a struct of two."""
    is_shape = type(second).__name__ == "TensorShape" or (
        isinstance(second, list | tuple) and all(size is None or isinstance(size, int | np.integer) for size in second)
    )
    if not is_shape:
        return None
    if isinstance(first, str):
        return DTYPES.get(first)
    return None if isinstance(first, Type) else _guarded(find_dtype, first)


def _read_array(spec: Any) -> TensorType:
    """The type of an array, or of an object that describes one."""
    dtype = spec.dtype
    if dtype is None or spec.shape is None:
        raise Mismatch(f"{spec!r} leaves its dtype or its rank open, and a type has both")
    return TensorType(_guarded(as_dtype, dtype), _guarded(tuple, spec.shape))


def _read_class(spec: type) -> Type:
    """The struct of the annotated fields of a NamedTuple or dataclass."""
    if issubclass(spec, tuple) and hasattr(spec, "_fields"):
        names = tuple(spec._fields)
        bases = reversed(spec.__mro__)
        annotations = {name: value for base in bases for name, value in inspect.get_annotations(base).items()}
    elif dataclasses.is_dataclass(spec):
        annotations = {field.name: field.type for field in dataclasses.fields(spec)}
        names = tuple(annotations)
    else:
        raise Mismatch(f"the class {spec.__qualname__} is no type; {_ACCEPTED}")
    if any(name not in annotations for name in names):
        raise Mismatch(f"the fields of {spec.__qualname__} have no annotations, which would be their types")
    values = tuple(_at(f".{name}", annotations[name], lambda annotation: _evaluate(annotation, spec)) for name in names)
    return _struct(None, Members(names, values), _read)


def _evaluate(annotation: Any, owner: type) -> Any:
    """What an annotation stands for, where `from __future__ import annotations` made a string of it.

    A notation in quotes then is a string within a string, so that one evaluation may lead to another notation.
    """
    if isinstance(annotation, ForwardRef):  # what NamedTuple makes of a string
        annotation = annotation.__forward_arg__
    if not isinstance(annotation, str):
        return annotation
    try:
        return parse_type(annotation)
    except ValueError:
        pass
    try:
        value = eval(annotation, dict(vars(sys.modules[owner.__module__])))
        return _evaluate(value, owner) if isinstance(value, str) and value != annotation else value
    except Mismatch:
        raise
    except Exception as error:
        raise Mismatch(
            f"the annotation {annotation!r} of {owner.__qualname__} is neither a type's notation "
            f"nor an expression that its module can evaluate: {error}"
        ) from None


def _infer(value: Any) -> Type:
    # NumPy's scalars come first, as its float64 is also a Python float.
    if isinstance(value, np.ndarray | np.generic):
        return _guarded(TensorType, value.dtype, value.shape)
    if isinstance(value, bool):
        return TensorType(bool)
    if isinstance(value, int):
        return TensorType(_integer_dtype(value))
    if isinstance(value, float | complex | str):
        return TensorType(float if isinstance(value, float) else complex if isinstance(value, complex) else str)
    if value is None:
        raise Mismatch("None has no type; leave it out, or put a value in its place")
    if isinstance(value, bytes):
        raise Mismatch(f"{describe(value)} has no type; decode text to a str, and read numbers by np.frombuffer")
    if isinstance(value, Type | type):
        raise Mismatch(f"expected a value, found {'the type' if isinstance(value, Type) else 'the class'} {value}")
    if not isinstance(value, Struct) and hasattr(value, "shape") and hasattr(value, "dtype"):
        return _read_array(value)
    found = members(value)
    if found is None:
        raise Mismatch(
            f"{describe(value)} has no type; a value is a number, a string, an array, "
            "or a list, tuple, dict, named tuple, dataclass or Struct of values"
        )
    return _struct(value, found, _infer)


def _integer_dtype(value: int) -> str:
    if _INT32.min <= value <= _INT32.max:
        return "int32"
    if _INT64.min <= value <= _INT64.max:
        return "int64"
    raise Mismatch(f"the integer {value} does not fit 64 bits; pass a float, if that is exact enough", ValueError)


def _struct(container: Any, found: Members, read: Callable[[Any], Type]) -> StructType:
    types = [
        _at(_names.step(name, index), value, read)
        for index, (name, value) in enumerate(zip(found.names, found.values, strict=True))
    ]
    special = isinstance(container, Struct) and type(container) is not Struct
    return StructType(zip(found.names, types, strict=True), type(container) if special else None)


def _at(step: str, value: A, read: Callable[[A], R]) -> R:
    """Reads a part of the whole, and puts the step to it into whatever error there is."""
    try:
        return read(value)
    except Mismatch as mismatch:
        raise mismatch.within(step) from None


def _guarded(function: Callable[..., R], *arguments: object) -> R:
    """Calls a function of another module, and turns its error into one that will know its place."""
    try:
        return function(*arguments)
    except (TypeError, ValueError) as error:
        raise Mismatch(str(error), TypeError if isinstance(error, TypeError) else ValueError) from None
