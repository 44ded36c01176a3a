"""Reads `tf.train.Example`, a protocol buffer, without TensorFlow.

Of the wire format only what such a message is made of is read: varints, fixed 32 bits and length-delimited fields. An
Example holds Features (field 1), a map (field 1) whose entries have a key (1) and a Feature (2), which is one list: of
bytes (1), floats (2) or integers (3).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

_VARINT, _FIXED64, _LENGTH_DELIMITED, _FIXED32 = 0, 1, 2, 5
_BYTES_LIST, _FLOAT_LIST, _INT64_LIST = 1, 2, 3


def parse_example(message: bytes) -> dict[str, Any]:
    """The features of a serialized `tf.train.Example`.

    Returns:
        By name a list of bytes, a float32 array `[values]`, an int64 array `[values]`, or None for a feature that has
        no kind.

    Raises:
        ValueError: it is no such message.
    """
    features: dict[str, Any] = {}
    try:
        for number, content in _fields(memoryview(message)):
            if number == 1:
                for entry_number, entry in _fields(_message(content)):
                    if entry_number == 1:
                        key, value = "", memoryview(b"")
                        for part, found in _fields(_message(entry)):
                            if part == 1:
                                key = bytes(_message(found)).decode()
                            elif part == 2:
                                value = _message(found)
                        features[key] = _feature(value)
    except (IndexError, UnicodeDecodeError) as error:
        raise ValueError(f"not a tf.train.Example: {error}") from error
    return features


def _feature(message: memoryview) -> Any:
    kind = 0
    parts: list[Any] = []
    for number, content in _fields(message):
        if number != kind:  # of a oneof, what comes last counts
            kind, parts = number, list[Any]()
        parts.extend(found for part, found in _fields(_message(content)) if part == 1)
    if kind == _BYTES_LIST:
        return [bytes(_message(part)) for part in parts]
    if kind == _FLOAT_LIST:  # packed, or one by one; both are the same bytes
        return np.frombuffer(b"".join(_message(part) for part in parts), "<f4").astype(np.float32)
    if kind == _INT64_LIST:
        lists = [np.array([_signed(part)]) if isinstance(part, int) else _varints(part) for part in parts]
        return np.concatenate([np.zeros(0, np.int64), *lists])
    return None


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """The number of each field of a message, and its content: an integer if it is a varint, else bytes."""
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        kind = tag & 7
        if kind == _VARINT:
            value, position = _varint(message, position)
            yield tag >> 3, value
            continue
        if kind == _LENGTH_DELIMITED:
            size, position = _varint(message, position)
        elif kind in (_FIXED32, _FIXED64):
            size = 4 if kind == _FIXED32 else 8
        else:
            raise ValueError(f"not a tf.train.Example: a field of wire type {kind}")
        if position + size > len(message):
            raise ValueError(
                f"not a tf.train.Example: a field of {size} bytes, of which {len(message) - position} are there"
            )
        yield tag >> 3, message[position : position + size]
        position += size


def _message(content: memoryview | int) -> memoryview:
    if isinstance(content, int):
        raise ValueError("not a tf.train.Example: a number where a message is expected")
    return content


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """The integer at a position, seven bits to a byte and the lowest first, and the position after it."""
    value = shift = 0
    while True:
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7


def _varints(packed: memoryview) -> npt.NDArray[np.int64]:
    """The integers of a packed field, all at once."""
    content = np.frombuffer(packed, np.uint8)
    lasts = np.flatnonzero(content < 0x80)
    if not len(lasts):
        if len(content):
            raise ValueError("not a tf.train.Example: an integer without an end")
        return np.zeros(0, np.int64)
    if lasts[-1] != len(content) - 1:
        raise ValueError("not a tf.train.Example: an integer without an end")
    firsts = np.concatenate([[0], lasts[:-1] + 1])
    place = np.arange(len(content)) - np.repeat(firsts, lasts - firsts + 1)
    if place.max() > 9:
        raise ValueError("not a tf.train.Example: an integer of more than ten bytes")
    shifted = (content & 0x7F).astype(np.uint64) << (7 * place).astype(np.uint64)
    return np.add.reduceat(shifted, firsts).astype(np.int64)


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value
