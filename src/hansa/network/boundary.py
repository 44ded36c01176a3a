"""What is checked of a contribution before it counts, in this order: its bytes, its layout, its numbers.

What comes before, whose it is and whether it was asked for, is the coordinator's (`hansa.network.coordinator`). Bytes
with another digest are damage on the way, and are sent again. All else is a client that is not what it should be.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hansa.compiler.artifacts.device import Contribution
from hansa.compiler.artifacts.ports import Port
from hansa.language.local import tensors
from hansa.language.terms import Terms
from hansa.network import wire

_PIECE = 2**15
"""Elements that are looked at at a time, so few that they stay in a processor's own memory meanwhile."""

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

    def check(self, data: bytes | memoryview, digest: str) -> None:
        """Looks at a whole contribution, piece by piece, and at each piece once.

        Args:
            data: its bytes, which may be a file's (`mapped`).
            digest: SHA-256 of them, as the client says.

        Raises:
            DamagedError: if they are others.
            InvalidError: if it does not count.
        """
        coming = _Coming(memoryview(data))
        try:
            self._look(coming)
            mistake = None
        except (InvalidError, wire.WireError) as error:
            mistake = error
        if coming.digest() != digest:
            raise DamagedError("these are not the bytes of the digest: send them again")
        if mistake is not None:
            raise InvalidError(str(mistake)) from None

    def _look(self, coming: _Coming) -> None:
        total = coming.total
        if total > self.most_bytes:
            raise InvalidError(f"{total} bytes are more than the {self.most_bytes} of what is declared")
        start = bytes(coming.take(8))
        head = start + bytes(coming.take(wire.header_size(start, self._declared) - len(start)))
        tensors_found = iter(wire.read_header(head, total, self._declared))
        for part in self._parts:
            squares, bound = 0.0, part.terms.bound
            for _ in range(part.values):
                squares += _numbers(coming, next(tensors_found), part.operation in _ADDED, bound is not None)
            if bound is not None and math.sqrt(squares) > bound * _ROUNDING:
                raise InvalidError(f"the norm {math.sqrt(squares):.6g} is more than max_norm={bound:g}")
            for _ in range(part.weights):
                _weights(coming, next(tensors_found), part.terms.max_weight)


def _part(contribution: Contribution) -> _Part:
    value, *weights = contribution.values
    counts = [len(tensors(port.type)) for port in (value, *weights)]
    return _Part(contribution.operation, contribution.terms, counts[0], sum(counts[1:]))


class _Coming:
    """Bytes that are looked at one after another, and hashed while they are at hand."""

    def __init__(self, data: memoryview) -> None:
        self._data, self._at, self._seen = data, 0, hashlib.sha256()
        self.total = len(data)

    def take(self, size: int) -> memoryview:
        """The next bytes.

        Raises:
            InvalidError: if there are fewer.
        """
        piece = self._data[self._at : self._at + size]
        self._at += len(piece)
        self._seen.update(piece)
        if len(piece) < size:
            raise InvalidError(f"there are {size - len(piece)} bytes fewer than the header says")
        return piece

    def digest(self) -> str:
        """SHA-256 of all of them."""
        self._seen.update(self._data[self._at :])
        self._at = self.total
        return self._seen.hexdigest()


def _numbers(coming: _Coming, tensor: wire.Found, finite: bool, has_bound: bool) -> float:
    """Looks at the numbers of a tensor; gives the sum of their squares where there is a bound, and 0 elsewhere."""
    squares = 0.0
    for piece in _pieces(coming, tensor):
        kind = piece.dtype.kind
        if kind == "b":
            if (piece.view(np.uint8) > 1).any():
                raise InvalidError(f"{tensor.declared.name} has bytes that are neither true nor false")
            continue
        if finite and kind != "i" and kind != "u" and not np.isfinite(piece).all():
            raise InvalidError(f"{tensor.declared.name} is not all finite")
        if has_bound:
            squares += _square(piece)
    return squares


def _square(piece: npt.NDArray[Any]) -> float:
    """The sum of the squares, added up in float64 without a copy of the numbers, and by this thread alone."""
    if piece.dtype.kind == "c":
        piece = piece.view(piece.real.dtype)
    elif piece.dtype.kind not in "fiu":  # such as bfloat16
        piece = piece.astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        return float(np.einsum("i,i->", piece, piece, dtype=np.float64))


def _weights(coming: _Coming, tensor: wire.Found, most: float | None) -> None:
    for piece in _pieces(coming, tensor):
        wide = piece.astype(np.float64)
        if not (np.isfinite(wide) & (wide >= 0)).all():
            raise InvalidError(f"the weight {tensor.declared.name} is {wide.min():g}, and a weight is 0 or more")
        if most is not None and (wide > most).any():
            raise InvalidError(f"the weight {tensor.declared.name} is {wide.max():g}, more than max_weight={most:g}")


def _pieces(coming: _Coming, tensor: wire.Found) -> Iterator[npt.NDArray[Any]]:
    dtype, left = tensor.declared.dtype, tensor.end - tensor.begin
    while left:
        data = coming.take(min(left, _PIECE * dtype.itemsize))
        left -= len(data)
        yield np.frombuffer(data, dtype)
