"""The types of StableHLO's values, as plain data."""

from __future__ import annotations

import functools
import math
import re
from typing import NamedTuple

_LARGEST = 1 << 40
"""Bytes; XLA's sizes overflow somewhere beyond, and no machine has a tensor of a terabyte."""

_BITS = {
    "i1": 8,
    "i2": 8,
    "i4": 8,
    "i8": 8,
    "i16": 16,
    "i32": 32,
    "i64": 64,
    "ui2": 8,
    "ui4": 8,
    "ui8": 8,
    "ui16": 16,
    "ui32": 32,
    "ui64": 64,
    "f16": 16,
    "bf16": 16,
    "f32": 32,
    "f64": 64,
    "complex<f32>": 64,
    "complex<f64>": 128,
    "f8E3M4": 8,
    "f8E4M3": 8,
    "f8E4M3FN": 8,
    "f8E4M3FNUZ": 8,
    "f8E4M3B11FNUZ": 8,
    "f8E5M2": 8,
    "f8E5M2FNUZ": 8,
    "f8E8M0FNU": 8,
    "f4E2M1FN": 8,
}
_TENSOR = re.compile(r"tensor<((?:(?:\d+|\?)x)*)([\w<>]+)>")


class Refused(Exception):
    """Something that no file may hold; the message names it."""


class Tensor(NamedTuple):
    """The type of a tensor.

    Attributes:
        shape: its sizes, None where only the arguments tell.
        element: the type of its elements, as MLIR writes it.
    """

    shape: tuple[int | None, ...]
    element: str

    def __str__(self) -> str:
        return f"tensor<{''.join('?x' if n is None else f'{n}x' for n in self.shape)}{self.element}>"


@functools.lru_cache(maxsize=4096)
def tensor(text: str) -> Tensor:
    """The type that a text says.

    Raises:
        Refused: if it is the type of no tensor of numbers, or of one that is too large.
    """
    found = _TENSOR.fullmatch(text)
    if found is None or found[2] not in _BITS:
        raise Refused(f"a value of type {text[:200]}")
    shape = tuple(None if size == "?" else int(size) for size in found[1].split("x")[:-1])
    if math.prod(max(n or 1, 1) for n in shape) * _BITS[found[2]] // 8 > _LARGEST:
        raise Refused(f"a value of type {text[:200]}, which has more than a terabyte")
    return Tensor(shape, found[2])
