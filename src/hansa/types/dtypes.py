"""The element types of tensors: which there are, what they are called, and what else may stand for one.

Not here: the inference of a dtype from a value, which is `conversion`'s, and casts, which Hansa never makes by itself.
"""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, TypeAlias

import ml_dtypes
import numpy as np

DType: TypeAlias = np.dtype[Any]

DTYPES: Mapping[str, DType] = MappingProxyType(
    {
        "bool": np.dtype(np.bool_),
        "int8": np.dtype(np.int8),
        "int16": np.dtype(np.int16),
        "int32": np.dtype(np.int32),
        "int64": np.dtype(np.int64),
        "uint8": np.dtype(np.uint8),
        "uint16": np.dtype(np.uint16),
        "uint32": np.dtype(np.uint32),
        "uint64": np.dtype(np.uint64),
        "float16": np.dtype(np.float16),
        "bfloat16": np.dtype(ml_dtypes.bfloat16),
        "float32": np.dtype(np.float32),
        "float64": np.dtype(np.float64),
        "complex64": np.dtype(np.complex64),
        "complex128": np.dtype(np.complex128),
        "str": np.dtype(np.str_),
    }
)
"""Every element type, by its name in the notation. `str` stands for strings of any length."""

STR = DTYPES["str"]

_NAMES: Mapping[DType, str] = MappingProxyType({dtype: name for name, dtype in DTYPES.items()})

_PYTHON: Mapping[type, DType] = MappingProxyType(
    {
        bool: DTYPES["bool"],
        int: DTYPES["int32"],
        float: DTYPES["float32"],
        complex: DTYPES["complex64"],
        str: STR,
    }
)

_ABSTRACT = frozenset(
    {
        np.generic,
        np.number,
        np.integer,
        np.signedinteger,
        np.unsignedinteger,
        np.inexact,
        np.floating,
        np.complexfloating,
        np.flexible,
        np.character,
    }
)


def dtype_name(dtype: Any) -> str:
    """The name of a dtype in the notation; for one that Hansa does not have, the name that it has elsewhere."""
    if isinstance(dtype, np.dtype):
        return "str" if dtype.kind == "U" else _NAMES.get(dtype) or str(dtype)
    return str(dtype)


def tensor_notation(dtype: Any, shape: tuple[int | None, ...]) -> str:
    """`float32[?,784]`, or `float32` for a scalar."""
    name = dtype_name(dtype)
    return f"{name}[{','.join('?' if size is None else str(size) for size in shape)}]" if shape else name


def kind(dtype: DType) -> str:
    """One of `bool`, `int` (signed or not), `float`, `complex` and `str`."""
    if dtype.kind in "iu":
        return "int"
    # NumPy knows bfloat16 only as some void of two bytes.
    return {"b": "bool", "c": "complex", "U": "str"}.get(dtype.kind, "float")


def as_dtype(spec: object) -> DType:
    """Reads a dtype from its name in the notation or from anything that `find_dtype` knows; else a `TypeError`."""
    if isinstance(spec, np.dtype):
        return _supported(spec)
    if isinstance(spec, str):
        if spec in DTYPES:
            return DTYPES[spec]
        nearest = difflib.get_close_matches(spec, DTYPES, n=1)
        hint = f"; did you mean {nearest[0]!r}?" if nearest else f"; there are {', '.join(DTYPES)}"
        raise TypeError(f"there is no dtype {reprlib.repr(spec)}{hint}")
    dtype = find_dtype(spec)
    if dtype is None:
        raise TypeError(f"{spec!r} is no dtype; there are {', '.join(DTYPES)}")
    return dtype


def find_dtype(spec: object) -> DType | None:
    """The dtype that a spec stands for, or None where the spec is something else than a dtype.

    Args:
        spec: A `np.dtype`, a scalar class of NumPy or JAX, a Python class (`int` is int32, `float` float32, `complex`
            complex64), or a `tf.DType`. A string is not looked at, as it may be the notation of any type.

    Raises:
        TypeError: if it is a dtype, but none that Hansa has.
    """
    if isinstance(spec, np.dtype):
        return _supported(spec)
    if isinstance(spec, type):
        if spec in _PYTHON:
            return _PYTHON[spec]
        if spec in _ABSTRACT:
            raise TypeError(f"{spec.__name__} stands for several dtypes; name one, such as {_example(spec)}")
        if issubclass(spec, np.generic):
            return _supported(np.dtype(spec))
        declared = spec.__dict__.get("dtype", getattr(spec, "dtype", None))
        return _supported(declared) if isinstance(declared, np.dtype) else None
    if hasattr(spec, "as_numpy_dtype"):
        if getattr(spec, "name", None) == "string":
            return STR
        return _supported(np.dtype(spec.as_numpy_dtype))
    if is_key_dtype(spec):
        return _supported(spec)
    return None


def is_key_dtype(spec: object) -> bool:
    """Whether this is the dtype of JAX's typed random keys, which are no numbers."""
    return type(spec).__name__ == "KeyTy"


def _supported(dtype: Any) -> DType:
    """The very dtype that stands in the table for this one."""
    if isinstance(dtype, np.dtype):
        if dtype.kind == "U":
            return STR
        name = _NAMES.get(dtype)
        if name is not None:
            return DTYPES[name]
    raise TypeError(f"Hansa has no dtype {dtype}{_remedy(dtype)}")


def _remedy(dtype: Any) -> str:
    if is_key_dtype(dtype):
        return "; pass a key as numbers, by jax.random.key_data, and rebuild it with jax.random.wrap_key_data"
    if dtype.kind in "OST":
        return "; strings are of dtype str: convert them with .astype(str)"
    if not dtype.isnative:
        native = dtype.newbyteorder("=")
        return f", whose bytes are not in this machine's order; convert it with .astype('{native.name}')"
    return f"; there are {', '.join(DTYPES)}"


def _example(abstract: type) -> str:
    for name in ("int32", "uint8", "float32", "complex64"):
        if issubclass(DTYPES[name].type, abstract):
            return name
    return "str"
