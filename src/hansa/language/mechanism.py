"""What the language asks of a mechanism: where noise is added, and how much, in units of the bound.

`hansa.privacy` has those that there are. This module is plain Python.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

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
