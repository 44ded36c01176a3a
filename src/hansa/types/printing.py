"""How values are printed in a line: numbers short, small arrays in full, large ones as their type.

For people to read; nothing reads it back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from hansa.types.dtypes import is_key_dtype, tensor_notation
from hansa.types.listed import Listed

_LARGEST = 8
"""The most elements of an array, list or dict that are printed one by one."""


def format_value(value: Any) -> str:
    """`0.91`, `10000.0`, `[1,2,3]`, `float32[784,10]`; whatever has no short form prints as its `repr`."""
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        return _format_array(value)
    if isinstance(value, bool | str):
        return repr(value)
    if isinstance(value, float | complex):
        return _format_number(value)
    if isinstance(value, jax.ShapeDtypeStruct):
        return tensor_notation(value.dtype, value.shape)
    if isinstance(value, Mapping):
        items = [f"{key!r}:{format_value(member)}" for key, member in list(value.items())[:_LARGEST]]
        return "{" + ",".join(items + _rest(len(value))) + "}"
    if type(value) in (list, tuple) or isinstance(value, Listed):
        opening, closing = "()" if type(value) is tuple else "[]"
        return opening + ",".join([format_value(member) for member in value[:_LARGEST]] + _rest(len(value))) + closing
    return repr(value)


def _rest(size: int) -> list[str]:
    return [f"… {size - _LARGEST} more"] if size > _LARGEST else []


def _format_array(array: Any) -> str:
    abstract = isinstance(array, jax.core.Tracer) or (isinstance(array, jax.Array) and array.is_deleted())
    key = isinstance(array, jax.Array) and is_key_dtype(array.dtype)
    if abstract or key or not 0 < array.size <= _LARGEST:
        return tensor_notation(array.dtype, array.shape)
    dense = np.asarray(array)
    # NumPy hands back Python numbers for its own dtypes, and bfloat16 as it is.
    return _format_nested(dense.astype(np.float32).tolist() if dense.dtype.kind == "V" else dense.tolist())


def _format_nested(nested: Any) -> str:
    if isinstance(nested, list):
        return f"[{','.join(_format_nested(member) for member in nested)}]"
    return _format_number(nested) if isinstance(nested, float | complex) else repr(nested)


def _format_number(number: float | complex) -> str:
    text = f"{number:.6g}"
    return f"{text}.0" if text.lstrip("-").isdecimal() else text
