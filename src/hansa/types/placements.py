"""The places where a federated value can live.

This module only names them. How many clients there are, and what runs on them, is for the runtime to say.
"""

from __future__ import annotations

import enum


class Placement(enum.Enum):
    """The place of a federated value: `CLIENTS` or `SERVER`.

    Examples:
        >>> hansa.to_type("{int32}@CLIENTS").placement is hansa.CLIENTS
        True
        >>> list(hansa.Placement)
        [CLIENTS, SERVER]
    """

    CLIENTS = "CLIENTS"
    SERVER = "SERVER"

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return self.name


CLIENTS = Placement.CLIENTS
SERVER = Placement.SERVER
