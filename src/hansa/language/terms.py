"""`Terms`: what holds for the contributions to an aggregate, beside their types."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

DISCLOSURES = ("each", "sum", "noised sum")
"""What a server may see: each client's contribution, the sum of those of a cohort only, or such a sum with noise."""


@dataclass(frozen=True)
class Terms:
    """What holds for the contributions to an aggregate, as far as the computation says it.

    Attributes:
        disclosure: what the server sees, of `DISCLOSURES`.
        bound: how large the norm of a client's contribution may be.
        max_weight: how large its weight may be.
        min_cohort: of how many clients there must be contributions for there to be a result.

    Raises:
        ValueError: if one of them is of another kind.
    """

    disclosure: str | None = None
    bound: float | None = None
    max_weight: float | None = None
    min_cohort: int | None = None

    def __post_init__(self) -> None:
        if self.disclosure is not None and self.disclosure not in DISCLOSURES:
            raise ValueError(f"disclosure is one of {', '.join(map(repr, DISCLOSURES))}; found {self.disclosure!r}")
        for name in ("bound", "max_weight"):
            value = getattr(self, name)
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if value is not None and not (is_number and 0 < value <= sys.float_info.max):
                raise ValueError(f"{name} is a positive number; found {value!r}")
        least = self.min_cohort
        if least is not None and (isinstance(least, bool) or not isinstance(least, int) or least < 1):
            raise ValueError(f"min_cohort is a positive number of clients; found {least!r}")

    @property
    def protected(self) -> bool:
        """Whether only the aggregate is to be seen, and no client's contribution."""
        return self.disclosure in ("sum", "noised sum")

    @property
    def excludes(self) -> bool:
        """Whether there is a bound that excludes clients."""
        return self.bound is not None or self.max_weight is not None

    def __str__(self) -> str:
        said = [
            "" if self.bound is None else f"norm at most {self.bound:g}",
            "" if self.max_weight is None else f"weight at most {self.max_weight:g}",
            "" if self.min_cohort is None else f"of at least {self.min_cohort} clients",
        ]
        return ", ".join(filter(None, said))

    def encode(self) -> dict[str, Any]:
        """What `decode` reads, among other things of a manifest."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def decode(cls, found: Mapping[str, Any]) -> Terms:
        """What a manifest says of an aggregate; what it does not say is None.

        Older ones say only whether it is protected.
        """
        said = cls(**{field.name: found.get(field.name) for field in fields(cls)})
        return replace(said, disclosure="sum") if said.disclosure is None and found.get("protected") else said


NO_TERMS = Terms()
"""What holds where nothing is said."""


def too_few(least: int, name: str, where: str) -> ValueError:
    """The error for contributions of fewer clients than there must be, to an operation on the user's line."""
    at = f" at {where}" if where else ""
    return ValueError(
        f"{name}{at} is to be of at least min_cohort={least} clients, and has contributions of fewer (those that "
        "exceed max_norm or max_weight do not count): there is no result; let more clients take part"
    )


def check_cohort(name: str, terms: Terms, clients: int, where: str = "") -> None:
    """Checks that there are as many clients as an aggregate needs for a result.

    Args:
        name: the operation.
        terms: what holds for it.
        clients: how many take part.
        where: the user's line.

    Raises:
        ValueError: if there are fewer.
    """
    least = terms.min_cohort
    if least is not None and clients < least:
        raise ValueError(
            f"{name}{f' at {where}' if where else ''} is to be of at least min_cohort={least} clients, and "
            f"{clients} take{'s' if clients == 1 else ''} part: there is no result; let more clients take part"
        )


def no_rows(name: str, where: str, error: Exception) -> ValueError:
    """The error for a function of the rows of all clients, which needs some, in a call without clients.

    Args:
        name: the operation that makes the rows.
        where: the user's line.
        error: what the function, or what has compiled it, says.
    """
    said = str(error).strip().splitlines()
    return ValueError(
        f"{name}{f' at {where}' if where else ''} has no rows, as no client takes part, and what is computed of them "
        f"needs some ({type(error).__name__}{f': {said[0]}' if said else ''}); let clients take part, or say "
        "min_cohort=1 there to refuse such a call before any work"
    )
