"""What is told of the stages of a program, for the text and the picture."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from hansa.compiler.explain.flops import Flops, amount
from hansa.language.terms import NO_TERMS, Terms
from hansa.types import Type
from hansa.types.queries import tensor_sizes


class Bytes(int):
    """A number of bytes that is known before there is data, which is an int; `exact` if there are no others."""

    exact: bool

    def __new__(cls, known: int = 0, exact: bool = True) -> Bytes:  # noqa: D102
        self = super().__new__(cls, known)
        self.exact = exact
        return self

    @classmethod
    def of(cls, kinds: Iterable[Type]) -> Bytes:
        """The size of values of these types."""
        sizes = [size for kind in kinds for size in tensor_sizes(kind)]
        return cls(sum(size for size in sizes if size is not None), None not in sizes)

    @classmethod
    def total(cls, parts: Iterable[Bytes]) -> Bytes:
        """All of them together."""
        found = list(parts)
        return cls(sum(found), all(part.exact for part in found))

    @property
    def short(self) -> str:
        """`1.63 MB`, `8 bytes`, `4 bytes + ?`."""
        text = f"{int(self):,} byte{'' if self == 1 else 's'}" if self < 10_000 else amount(int(self), "B")
        return text if self.exact else f"{text} + ?"

    def __str__(self) -> str:
        return f"{int(self):,} byte{'' if self == 1 else 's'}" + ("" if self.exact else " + ?")


@dataclass(frozen=True)
class Held:
    """A value at one place.

    Attributes:
        name: what it is called in the computation, or what made it.
        type: its type there.
    """

    name: str
    type: Type


@dataclass(frozen=True)
class Operation:
    """A computation that one place does.

    Attributes:
        name: that of the local computation, or of the aggregation whose result is made.
        type: what comes out, at that place.
        flops: the floating-point operations.
        parts: the computations that it is composed of, if it is, with `per batch` and the like after their names.
    """

    name: str
    type: Type
    flops: Flops
    parts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Broadcast:
    """What each client gets from the server.

    Attributes:
        name: what is sent.
        type: its type; of what was selected, that of one slice.
        bytes: the size for one client.
        slices: how many slices a client selects by keys, or None if all clients get the same.
        once: the size of what of it comes back as it is, to be the argument of the next call, and is sent once only.
    """

    name: str
    type: Type
    bytes: Bytes
    slices: int | None = None
    once: Bytes = field(default_factory=Bytes)


@dataclass(frozen=True)
class Report:
    """What each client gives to the server, and what becomes of it there.

    Attributes:
        into: what the server makes of all clients' reports: "sum", "mean", "secure_sum" and so on; "collect" for a
            sequence of them, "stack" for arrays of them, "select" for the keys of slices.
        name: what is given.
        types: the types of its parts: a value, and its weight if it has one.
        bytes: the size of one client's.
        flops: what the server does to add one client's.
        terms: what else holds for it.
    """

    into: str
    name: str
    types: tuple[Type, ...]
    bytes: Bytes
    flops: Flops = field(default_factory=Flops)
    terms: Terms = NO_TERMS

    @property
    def protected(self) -> bool:
        """Whether the server is to see only the sum; it would see each client's report otherwise."""
        return self.terms.protected


@dataclass(frozen=True)
class AtServer:
    """A server stage.

    Attributes:
        number: its place among the server stages.
        passes: values it had already, for the clients or for the result.
        computes: what it computes, in order.
        holds: what it has of each client, not added up.
    """

    number: int
    passes: tuple[Held, ...]
    computes: tuple[Operation, ...]
    holds: tuple[Report, ...] = ()

    @property
    def flops(self) -> Flops:
        """All that it computes; adding up the clients' reports is theirs (`Report.flops`)."""
        return Flops.total(operation.flops for operation in self.computes)


@dataclass(frozen=True)
class AtClients:
    """A client stage, as one client does it.

    Attributes:
        number: its place among the client stages.
        receives: what comes from the server.
        has: what the client has: its data, its number, what it kept.
        computes: what it computes, in order.
        reports: what goes to the server.
        keeps: what stays with the client, for a later stage or as its part of the result.
    """

    number: int
    receives: tuple[Broadcast, ...]
    has: tuple[Held, ...]
    computes: tuple[Operation, ...]
    reports: tuple[Report, ...]
    keeps: tuple[Held, ...]

    @property
    def flops(self) -> Flops:
        """All that one client computes."""
        return Flops.total(operation.flops for operation in self.computes)

    @property
    def bytes_down(self) -> Bytes:
        """The size of what one client receives."""
        return Bytes.total(broadcast.bytes for broadcast in self.receives)

    @property
    def bytes_once(self) -> Bytes:
        """The size of what of that is the same in each call after the first, and is sent once only."""
        return Bytes.total(broadcast.once for broadcast in self.receives)

    @property
    def bytes_up(self) -> Bytes:
        """The size of what one client reports."""
        return Bytes.total(report.bytes for report in self.reports)


def down(stages: Iterable[AtClients], write: Callable[[Bytes], str] = str) -> str:
    """What one client receives: `8 bytes down`, or `1 GB down in the first round, 4 MB in each other`."""
    found = list(stages)
    whole, once = (Bytes.total(getattr(stage, name) for stage in found) for name in ("bytes_down", "bytes_once"))
    if not once:
        return f"{write(whole)} down"
    return f"{write(whole)} down in the first round, {write(Bytes(whole - once, whole.exact))} in each other"


def sliced(sent: Broadcast) -> str:
    """How many slices a client gets of what."""
    return f"{'one slice' if sent.slices == 1 else f'{sent.slices} slices'} of {sent.name}"
