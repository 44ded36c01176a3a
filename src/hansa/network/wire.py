"""Values as bytes: the layout of safetensors, with exactly the tensors that a stage's ports declare, in their order.

    8 bytes   the size of the header, little-endian
    header    JSON: {name: {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, …}, padded with spaces
    data      the tensors one after another, little-endian, rows first

The header comes first, so a reader knows what is to come before it comes, and each tensor has an offset at which to go
on. The same values always have the same bytes. What is read here was written by somebody else: nothing of it is
believed but what is declared.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hansa.compiler.artifacts.ports import Port
from hansa.language.local import tensors, unflatten
from hansa.types import StructType, Type, to_value
from hansa.types.dtypes import STR
from hansa.types.values import field_values

_CODES = {
    "bool": "BOOL",
    "int8": "I8",
    "int16": "I16",
    "int32": "I32",
    "int64": "I64",
    "uint8": "U8",
    "uint16": "U16",
    "uint32": "U32",
    "uint64": "U64",
    "float16": "F16",
    "bfloat16": "BF16",
    "float32": "F32",
    "float64": "F64",
    "complex64": "C64",
    "complex128": "C128",
}
"""What safetensors calls dtypes; complex128 is ours."""

_SIZE = struct.Struct("<Q")
_ALIGNMENT = 8
_DIGITS = 20
"""Digits of a size that is not declared, at most."""


class WireError(ValueError):
    """Bytes are not the values that are declared. The message says what is wrong."""


@dataclass(frozen=True)
class Declared:
    """A tensor as it is declared.

    Attributes:
        name: the port and the fields that lead to it, such as `update/trainable/0`.
        dtype: its dtype.
        shape: its shape, with None for sizes that are not known.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | None, ...]

    @property
    def size(self) -> int | None:
        """Its bytes; None if they are not known."""
        return None if None in self.shape else math.prod(n or 0 for n in self.shape) * self.dtype.itemsize


@dataclass(frozen=True)
class Found:
    """A tensor as it is in some bytes.

    Attributes:
        declared: as what it was declared.
        shape: its shape.
        begin: where it begins, from the first byte of all.
        end: where it ends.
    """

    declared: Declared
    shape: tuple[int, ...]
    begin: int
    end: int


def declared(ports: Sequence[Port]) -> tuple[Declared, ...]:
    """The tensors of some values, in order.

    Raises:
        TypeError: if one is a sequence or a string, which do not travel.
    """
    found: list[Declared] = []
    for port in ports:
        for name, leaf in zip(_names(port.name, port.type), _leaves(port), strict=True):
            if leaf.dtype == STR:
                raise TypeError(f"{port.name!r} of type {port.type} has strings, which are not sent between machines")
            found.append(Declared(name, leaf.dtype, leaf.shape))
    names = [each.name for each in found]
    if len(set(names)) < len(names):
        found = [Declared(f"{i}/{each.name}", each.dtype, each.shape) for i, each in enumerate(found)]
    return tuple(found)


def encoded(ports: Sequence[Port], values: Sequence[Any]) -> list[bytes | memoryview]:
    """The bytes of some values, in pieces: the header, and a view of each array.

    Args:
        ports: what they are.
        values: one for each.

    Raises:
        TypeError, ValueError: if a value is not of its type, or does not travel.
    """
    arrays: list[npt.NDArray[Any]] = []
    for port, value in zip(ports, values, strict=True):
        _flatten(port.type, to_value(value, port.type, repr(port.name)), arrays)
    header, offset = {}, 0
    for each, array in zip(declared(ports), arrays, strict=True):
        end = offset + array.nbytes
        header[each.name] = _entry(each, array.shape, offset, end)
        offset = end
    text = _text(header)
    text += b" " * (-(_SIZE.size + len(text)) % _ALIGNMENT)
    return [_SIZE.pack(len(text)) + text, *(array.reshape(-1).view(np.uint8).data for array in arrays)]


def most_bytes(expected: Sequence[Declared], unknown: int) -> int:
    """How many bytes values have at most.

    Args:
        expected: their tensors.
        unknown: how many the tensors have together whose sizes are not declared.
    """
    size = sum(each.size or 0 for each in expected)
    size += unknown if any(each.size is None for each in expected) else 0
    return _most_header(expected) + size


def header_size(start: bytes, expected: Sequence[Declared]) -> int:
    """How long the header is, with the eight bytes before it, of the first eight bytes.

    Raises:
        WireError: if it is longer than that of these tensors.
    """
    if len(start) < _SIZE.size:
        raise WireError(f"{len(start)} bytes are too few to say how long the header is")
    (size,) = _SIZE.unpack(start[: _SIZE.size])
    if size + _SIZE.size > _most_header(expected):
        raise WireError(f"the header is {size} bytes long, more than that of what is declared")
    return int(size) + _SIZE.size


def read_header(head: bytes, total: int, expected: Sequence[Declared]) -> tuple[Found, ...]:
    """Where the tensors are.

    Args:
        head: the first bytes, up to the end of the header.
        total: how many bytes there are in all.
        expected: the tensors that are declared.

    Raises:
        WireError: if the header declares anything else, or another number of bytes.
    """
    try:
        header = json.loads(head[_SIZE.size :].decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise WireError(f"the header is no JSON: {error}") from None
    if not isinstance(header, dict) or list(header) != [each.name for each in expected]:
        raise WireError(f"the header has {_listed(header)} in place of {_listed([each.name for each in expected])}")
    found, offset = [], 0
    for each in expected:
        shape = _shape(header[each.name], each)
        end = offset + math.prod(shape) * each.dtype.itemsize
        if header[each.name] != _entry(each, shape, offset, end):
            wanted = f"{each.dtype}{list(each.shape)} from byte {offset} on"
            raise WireError(f"{each.name!r} is {header[each.name]!r:.200}, and is declared as {wanted}")
        found.append(Found(each, shape, len(head) + offset, len(head) + end))
        offset = end
    if len(head) + offset != total:
        raise WireError(f"there are {total} bytes, and the header says {len(head) + offset}")
    return tuple(found)


def decoded(ports: Sequence[Port], data: bytes | memoryview) -> list[Any]:
    """The values of some bytes; their arrays are views of these.

    Raises:
        WireError: if they are not such values.
    """
    view, expected = memoryview(data).cast("B"), declared(ports)
    size = header_size(bytes(view[: _SIZE.size]), expected)
    arrays: list[Any] = [
        np.frombuffer(view[each.begin : each.end], each.declared.dtype).reshape(each.shape)[()]
        for each in read_header(bytes(view[:size]), len(view), expected)
    ]
    return [unflatten(port.type, arrays) for port in ports]


def _leaves(port: Port) -> list[Any]:
    try:
        return tensors(port.type)
    except TypeError:
        raise TypeError(
            f"{port.name!r} is of type {port.type}, and only tensors and structs of tensors are sent between machines"
        ) from None


def _names(prefix: str, kind: Type) -> Iterable[str]:
    if not isinstance(kind, StructType):
        yield prefix
        return
    for i, (name, field) in enumerate(kind.fields):
        yield from _names(f"{prefix}/{i if name is None else name}", field)


def _flatten(kind: Type, value: Any, arrays: list[npt.NDArray[Any]]) -> None:
    if isinstance(kind, StructType):
        for field, part in zip(kind, field_values(value, kind), strict=True):
            _flatten(field, part, arrays)
    else:
        arrays.append(np.ascontiguousarray(np.asarray(value)).reshape(np.shape(value)))


def _entry(each: Declared, shape: Sequence[int], begin: int, end: int) -> dict[str, Any]:
    return {"dtype": _CODES[each.dtype.name], "shape": list(shape), "data_offsets": [begin, end]}


def _text(header: dict[str, Any]) -> bytes:
    return json.dumps(header, separators=(",", ":")).encode()


def _most_header(expected: Sequence[Declared]) -> int:
    entries = {
        each.name: _entry(each, [10**_DIGITS if n is None else n for n in each.shape], 10**_DIGITS, 10**_DIGITS)
        for each in expected
    }
    return _SIZE.size + len(_text(entries)) + _ALIGNMENT


def _shape(entry: Any, each: Declared) -> tuple[int, ...]:
    """The shape that a header says, where it goes with what is declared."""
    shape = entry.get("shape") if isinstance(entry, dict) else None
    sizes = shape if isinstance(shape, list) and all(type(n) is int and n >= 0 for n in shape) else []
    if len(sizes) != len(each.shape) or any(b not in (None, a) for a, b in zip(sizes, each.shape, strict=False)):
        raise WireError(
            f"{each.name!r} has the shape {shape!r:.100}, and is declared as {each.dtype}{list(each.shape)}"
        )
    return tuple(sizes)


def _listed(names: Any) -> str:
    listed = list(names) if isinstance(names, dict | list) else []
    return ", ".join(f"{name!r:.60}" for name in listed[:5]) + (", …" if len(listed) > 5 else "") or "nothing"
