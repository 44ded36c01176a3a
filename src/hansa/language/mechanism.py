"""What the language asks of a mechanism: where noise is added, and how much, in units of the bound.

`hansa.privacy` has those that there are. This module is plain Python.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Protocol, runtime_checkable

STEPS = 2**20
"""How many integer steps the bound of a private sum has."""


@runtime_checkable
class Mechanism(Protocol):
    """How a private sum gets its noise: a frozen dataclass of plain numbers.

    Attributes:
        noise_multiplier: how large noise is, in units of the bound.
        place: who adds it: the "server", to the sum; "clients", each a share of the sum's; or "reports", each client
            all that its own report needs. At the server, `weights` says what the draws of this round, of the one before
            and so on are multiplied by; at the clients, `share` is the standard deviation of what one adds. Both are in
            units of the bound.
    """

    @property
    def noise_multiplier(self) -> float:
        """How large noise is, in units of the bound."""
        ...

    @property
    def place(self) -> str:
        """Where it is added."""
        ...


@dataclass(frozen=True)
class DeclaredMechanism:
    """A mechanism that a file says a computation has.

    Attributes:
        kind: the name of its class.
        settings: its fields that are numbers, by name.
        place: as of `Mechanism`.
        said: what it prints as.
    """

    kind: str
    settings: tuple[tuple[str, int | float], ...]
    place: str
    said: str

    @property
    def noise_multiplier(self) -> float:
        """How large noise is, in units of the bound."""
        return float(dict(self.settings)["noise_multiplier"])

    @property
    def terms(self) -> int:
        """Of how many rounds draws are added up at the server."""
        return int(dict(self.settings).get("terms", 1))

    def __str__(self) -> str:
        return self.said

    @staticmethod
    def of(mechanism: Any) -> DeclaredMechanism:
        """What a file says of a mechanism.

        Raises:
            TypeError: if it is no dataclass of numbers.
        """
        if isinstance(mechanism, DeclaredMechanism):
            return mechanism
        if not is_dataclass(mechanism):
            raise TypeError(f"a mechanism must be a dataclass of plain numbers to be saved; found {mechanism!r}")
        given = [(each.name, getattr(mechanism, each.name)) for each in fields(mechanism)]
        settings = tuple(pair for pair in given if _is_number(pair[1]))
        place: str = getattr(mechanism, "place")  # noqa: B009
        return DeclaredMechanism(type(mechanism).__name__, settings, place, str(mechanism))

    def encode(self) -> dict[str, Any]:
        """What `decode` reads."""
        return {"kind": self.kind, "settings": dict(self.settings), "place": self.place, "said": self.said}

    @staticmethod
    def decode(found: Mapping[str, Any]) -> DeclaredMechanism:
        """The mechanism that `encode` has written.

        Raises:
            ValueError: if it is none.
        """
        settings = tuple((str(name), value) for name, value in found["settings"].items())
        good = all(_is_number(value) for _, value in settings)
        if (
            not good
            or found["place"] not in ("server", "clients", "reports")
            or "noise_multiplier" not in dict(settings)
        ):
            raise ValueError(f"a mechanism {found!r:.200}")
        return DeclaredMechanism(str(found["kind"]), settings, found["place"], str(found["said"]))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
