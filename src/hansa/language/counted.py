"""Who was counted in a call: what a runtime may tell of it, for a run to record."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hansa._tracebacks import boundaries
from hansa.language.context import current_runtime
from hansa.language.occasions import Occasion
from hansa.types.identities import ClientId
from hansa.types.mismatch import describe


@boundaries
@dataclass(frozen=True)
class Counted:
    """Which clients a call has counted, and which it has left out.

    Args:
        number: how many clients were counted.
        left_out: who was not, by the reason.

    Raises:
        TypeError, ValueError: if they are no such values.

    Examples:
        >>> counted = hansa.Counted(8, {"late": ["ann"], "invalid": ["bo"]})
        >>> counted
        Counted(number=8, left_out={'late': ['ann'], 'invalid': ['bo']})
        >>> counted.is_everybody, hansa.Counted.from_text(8, counted.to_text()) == counted
        (False, True)
    """

    number: int
    left_out: Mapping[str, Sequence[ClientId]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.number, bool) or not isinstance(self.number, int | np.integer) or self.number < 0:
            raise ValueError(f"number must be how many clients were counted; found {self.number!r}")
        if not isinstance(self.left_out, Mapping):
            raise TypeError(
                f"left_out must be a dict from a reason to the clients' ids; found {describe(self.left_out)}"
            )
        left_out = {reason: _ids(reason, clients) for reason, clients in self.left_out.items()}
        object.__setattr__(self, "number", int(self.number))
        object.__setattr__(self, "left_out", left_out)

    @property
    def is_everybody(self) -> bool:
        """Whether nobody was left out."""
        return not any(self.left_out.values())

    def to_text(self) -> str:
        """Who was left out, as a text."""
        return json.dumps({reason: list(clients) for reason, clients in self.left_out.items() if clients})

    @classmethod
    def from_text(cls, number: int, text: str) -> Counted:
        """What `to_text` was of.

        Raises:
            ValueError: if the text is of nothing.
        """
        try:
            return cls(number, json.loads(text))
        except (TypeError, RecursionError) as error:
            raise ValueError(f"it does not say who was counted: {error}") from None


def counted_on(occasion: Occasion) -> Counted | None:
    """Who was counted, as the current runtime tells; None where it does not, and everybody was.

    Raises:
        TypeError: if it tells something else.
    """
    tell = getattr(current_runtime(), "counted", None)
    found = None if tell is None else tell(occasion)
    if found is not None and not isinstance(found, Counted):
        raise TypeError(f"counted of a runtime must give a hansa.Counted, or None; found {describe(found)}")
    return None if found is None or found.is_everybody else found


def _ids(reason: Any, clients: Any) -> list[ClientId]:
    """Some clients' ids, with Python's integers in place of NumPy's."""
    if not isinstance(reason, str):
        raise TypeError(f"left_out must be a dict whose keys are reasons, strings; found {describe(reason)}")
    if isinstance(clients, np.ndarray):
        clients = clients.tolist()
    if not isinstance(clients, list | tuple):
        raise TypeError(f"left_out[{reason!r}] must be a list of clients' ids; found {describe(clients)}")
    found = [each.item() if isinstance(each, np.integer | np.str_) else each for each in clients]
    for each in found:
        if type(each) not in (int, str):
            raise TypeError(f"left_out[{reason!r}] must hold clients' ids, strings or integers; found {describe(each)}")
    return found
