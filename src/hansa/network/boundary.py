"""What is checked of a contribution before it counts, in this order: its bytes, its layout, its numbers.

What comes before, whose it is and whether it was asked for, is the coordinator's (`hansa.network.coordinator`). Bytes
with another digest are damage on the way, and are sent again. All else is a client that is not what it should be.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from hansa.compiler.artifacts.device import Contribution
from hansa.compiler.artifacts.ports import Port
from hansa.language.local import tensors
from hansa.language.terms import Terms
from hansa.network import wire

_PIECE = 2**20
"""Elements that are looked at at a time."""

_ROUNDING = 1.0 + 1e-9
"""By how much a norm may be above its bound: it is not added up here in the client's order."""

_ADDED = (
    "federated_sum",
    "federated_mean",
    "federated_secure_sum",
    "federated_secure_sum_bitwidth",
    "federated_secure_modular_sum",
)
"""Operations whose contributions are finite; an extreme may be infinite, and the user's own may be what they like."""


class DamagedError(ValueError):
    """Bytes were changed on the way: they are not those of the digest. They are to be sent again."""


class InvalidError(ValueError):
    """A contribution that does not count. The message says why, in words for the client's owner."""


@dataclass(frozen=True)
class _Part:
    """What a client gives to one aggregate."""

    operation: str
    terms: Terms
    values: int
    weights: int


class Boundary:
    """The checks of what clients give in one stage.

    Args:
        contributions: what they give, by aggregate.
        unknown: how many bytes tensors may have together whose sizes are not declared.

    Attributes:
        ports: what a contribution holds, in order.
        most_bytes: how large it is at most.
    """

    def __init__(self, contributions: Sequence[Contribution], unknown: int = 2**28) -> None:
        self.ports: tuple[Port, ...] = tuple(port for part in contributions for port in part.values)
        self._declared = wire.declared(self.ports)
        self.most_bytes = wire.most_bytes(self._declared, unknown)
        self._parts = tuple(map(_part, contributions))

    def check(self, file: BinaryIO, total: int, digest: str) -> None:
        """Looks at a whole contribution, piece by piece.

        Args:
            file: its bytes, from the first one on.
            total: how many there are.
            digest: SHA-256 of them, as the client says.

        Raises:
            DamagedError: if they are others.
            InvalidError: if it does not count.
        """
        seen = hashlib.sha256()
        try:
            self._look(file, total, seen)
            mistake = None
        except (InvalidError, wire.WireError) as error:
            mistake = error
        while piece := file.read(2**20):
            seen.update(piece)
        if seen.hexdigest() != digest:
            raise DamagedError("these are not the bytes of the digest: send them again")
        if mistake is not None:
            raise InvalidError(str(mistake)) from None

    def _look(self, file: BinaryIO, total: int, seen: Any) -> None:
        if total > self.most_bytes:
            raise InvalidError(f"{total} bytes are more than the {self.most_bytes} of what is declared")
        start = _read(file, 8, seen)
        head = start + _read(file, wire.header_size(start, self._declared) - len(start), seen)
        tensors_found = iter(wire.read_header(head, total, self._declared))
        for part in self._parts:
            squares = 0.0
            for _ in range(part.values):
                squares += _numbers(file, next(tensors_found), seen, part.operation in _ADDED)
            bound = part.terms.bound
            if bound is not None and math.sqrt(squares) > bound * _ROUNDING:
                raise InvalidError(f"the norm {math.sqrt(squares):.6g} is more than max_norm={bound:g}")
            for _ in range(part.weights):
                _weights(file, next(tensors_found), seen, part.terms.max_weight)


def _part(contribution: Contribution) -> _Part:
    value, *weights = contribution.values
    counts = [len(tensors(port.type)) for port in (value, *weights)]
    return _Part(contribution.operation, contribution.terms, counts[0], sum(counts[1:]))


def _numbers(file: BinaryIO, tensor: wire.Found, seen: Any, finite: bool) -> float:
    """Looks at the numbers of a tensor; gives the sum of their squares, 0 of what has no norm."""
    squares = 0.0
    for piece in _pieces(file, tensor, seen):
        kind = piece.dtype.kind
        if kind == "b":
            if (piece.view(np.uint8) > 1).any():
                raise InvalidError(f"{tensor.declared.name} has bytes that are neither true nor false")
            continue
        square = _square(piece)
        if finite and not math.isfinite(square) and not np.isfinite(piece).all():
            raise InvalidError(f"{tensor.declared.name} is not all finite")
        squares += square
    return squares


def _square(piece: npt.NDArray[Any]) -> float:
    """The sum of the squares, added up in float64 without a copy of the numbers, and by this thread alone."""
    if piece.dtype.kind == "c":
        piece = piece.view(piece.real.dtype)
    elif piece.dtype.kind not in "fiu":  # such as bfloat16
        piece = piece.astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        return float(np.einsum("i,i->", piece, piece, dtype=np.float64))


def _weights(file: BinaryIO, tensor: wire.Found, seen: Any, most: float | None) -> None:
    for piece in _pieces(file, tensor, seen):
        wide = piece.astype(np.float64)
        if not (np.isfinite(wide) & (wide >= 0)).all():
            raise InvalidError(f"the weight {tensor.declared.name} is {wide.min():g}, and a weight is 0 or more")
        if most is not None and (wide > most).any():
            raise InvalidError(f"the weight {tensor.declared.name} is {wide.max():g}, more than max_weight={most:g}")


def _pieces(file: BinaryIO, tensor: wire.Found, seen: Any) -> Iterator[npt.NDArray[Any]]:
    dtype, left = tensor.declared.dtype, tensor.end - tensor.begin
    while left:
        data = _read(file, min(left, _PIECE * dtype.itemsize), seen)
        left -= len(data)
        yield np.frombuffer(data, dtype)


def _read(file: BinaryIO, size: int, seen: Any) -> bytes:
    data = file.read(size)
    seen.update(data)
    if len(data) < size:
        raise InvalidError(f"there are {size - len(data)} bytes fewer than the header says")
    return data
