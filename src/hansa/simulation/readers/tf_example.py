"""Reads `tf.train.Example`, a protocol buffer, without TensorFlow.

Of the wire format only what such a message is made of is read: varints, fixed 32 bits and length-delimited fields. An
Example holds Features (field 1), a map (field 1) whose entries have a key (1) and a Feature (2), which is one list: of
bytes (1), floats (2) or integers (3). Reading takes time in proportion to the message, and memory in proportion to it
and to what is returned, whatever the message is.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

_VARINT, _FIXED64, _LENGTH_DELIMITED, _FIXED32 = 0, 1, 2, 5
_BYTES_LIST, _FLOAT_LIST, _INT64_LIST = 1, 2, 3
_VARINT_BYTES = 10
_VARINTS_AT_ONCE = 1 << 16


def parse_example(message: Any) -> dict[str, Any]:
    """The features of a serialized `tf.train.Example`.

    Args:
        message: its bytes.

    Returns:
        By name a list of bytes, a float32 array `[values]`, an int64 array `[values]`, or None for a feature that has
        no kind.

    Raises:
        ValueError: it is no such message.
    """
    if not isinstance(message, bytes | bytearray | memoryview):
        raise ValueError(f"not a tf.train.Example: a value of type {type(message).__name__}, not bytes")
    features: dict[str, Any] = {}
    try:
        for number, _, content in _fields(memoryview(message)):
            if number == 1:
                for entry_number, _, entry in _fields(_message(content)):
                    if entry_number == 1:
                        key, value = _entry(_message(entry))
                        features[key] = value
    except (IndexError, UnicodeDecodeError) as error:
        raise ValueError(f"not a tf.train.Example: {error}") from error
    return features


def _entry(message: memoryview) -> tuple[str, Any]:
    """The name of a feature, and its values."""
    key, values = "", _Values()
    for number, _, content in _fields(message):
        if number == 1:
            key = bytes(_message(content)).decode()
        elif number == 2:
            values.read(_message(content))
        else:
            raise ValueError(f"not a tf.train.Example: a feature with a field of number {number}")
    return key, values.found()


class _Values:
    """The values of a feature, as they are read one after another."""

    def __init__(self) -> None:
        self._kind = 0
        self._bytes: list[bytes] = []
        self._floats = bytearray()
        self._integers = array("q")

    def read(self, message: memoryview) -> None:
        """Reads what a feature holds; of its kinds, the one that comes last counts."""
        for number, _, content in _fields(message):
            if number in (_BYTES_LIST, _FLOAT_LIST, _INT64_LIST):
                if number != self._kind:
                    self._kind, self._bytes, self._floats, self._integers = number, [], bytearray(), array("q")
                for part, wire_type, value in _fields(_message(content)):
                    if part == 1:
                        self._read(wire_type, value)

    def _read(self, wire_type: int, value: memoryview | int) -> None:
        if self._kind == _INT64_LIST and isinstance(value, int):
            self._integers.append(value - (1 << 64) if value >= 1 << 63 else value)
        elif wire_type == _FIXED32 and self._kind == _FLOAT_LIST:
            self._floats += _message(value)
        elif wire_type != _LENGTH_DELIMITED:
            raise ValueError(f"not a tf.train.Example: a value of wire type {wire_type} in a list of kind {self._kind}")
        elif self._kind == _BYTES_LIST:
            self._bytes.append(bytes(_message(value)))
        elif self._kind == _INT64_LIST:
            self._integers.frombytes(_varints(_message(value)).tobytes())
        elif len(_message(value)) % 4:
            raise ValueError(f"not a tf.train.Example: floats of {len(_message(value))} bytes")
        else:
            self._floats += _message(value)

    def found(self) -> Any:
        """The values, in the form in which they are returned."""
        if self._kind == _FLOAT_LIST:
            return np.frombuffer(bytes(self._floats), "<f4").astype(np.float32)
        if self._kind == _INT64_LIST:
            return np.array(self._integers, np.int64)
        return self._bytes if self._kind == _BYTES_LIST else None


def _fields(message: memoryview) -> Iterator[tuple[int, int, memoryview | int]]:
    """Of each field of a message its number, wire type, and content: an integer if it is a varint, else bytes."""
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        number, wire_type = tag >> 3, tag & 7
        if not 0 < number < 1 << 29:
            raise ValueError(f"not a tf.train.Example: a field of number {number}")
        if wire_type == _VARINT:
            value, position = _varint(message, position)
            yield number, wire_type, value
            continue
        if wire_type == _LENGTH_DELIMITED:
            size, position = _varint(message, position)
        elif wire_type in (_FIXED32, _FIXED64):
            size = 4 if wire_type == _FIXED32 else 8
        else:
            raise ValueError(f"not a tf.train.Example: a field of wire type {wire_type}")
        if position + size > len(message):
            raise ValueError(
                f"not a tf.train.Example: a field of {size} bytes, of which {len(message) - position} are there"
            )
        yield number, wire_type, message[position : position + size]
        position += size


def _message(content: memoryview | int) -> memoryview:
    if isinstance(content, int):
        raise ValueError("not a tf.train.Example: a number where a message is expected")
    return content


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """The integer at a position, seven bits to a byte and the lowest first, and the position after it."""
    value = 0
    for place in range(_VARINT_BYTES):
        byte = message[position + place]
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            if value >> 64:
                raise ValueError("not a tf.train.Example: an integer of more than 64 bits")
            return value, position + place + 1
    raise ValueError("not a tf.train.Example: an integer of more than ten bytes")


def _varints(packed: memoryview) -> npt.NDArray[np.int64]:
    """The integers of a packed field, many at once."""
    content = np.frombuffer(packed, np.uint8)
    ends = np.flatnonzero(content < 0x80) + 1
    if (ends[-1] if len(ends) else 0) != len(content):
        raise ValueError("not a tf.train.Example: an integer without an end")
    values = np.empty(len(ends), np.int64)
    start = 0
    for first in range(0, len(ends), _VARINTS_AT_ONCE):
        chosen = ends[first : first + _VARINTS_AT_ONCE] - start
        values[first : first + len(chosen)] = _whole_varints(content[start : start + chosen[-1]], chosen)
        start += int(chosen[-1])
    return values


def _whole_varints(content: npt.NDArray[np.uint8], ends: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    firsts = np.concatenate([[0], ends[:-1]])
    sizes = ends - firsts
    if sizes.max() > _VARINT_BYTES:
        raise ValueError("not a tf.train.Example: an integer of more than ten bytes")
    if (content[ends[sizes == _VARINT_BYTES] - 1] > 1).any():
        raise ValueError("not a tf.train.Example: an integer of more than 64 bits")
    place = np.arange(len(content)) - np.repeat(firsts, sizes)
    shifted = (content & 0x7F).astype(np.uint64) << (7 * place).astype(np.uint64)
    return np.add.reduceat(shifted, firsts).astype(np.int64)
