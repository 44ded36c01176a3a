"""What a round takes beside its state and its data: the arguments of `next` by name, for each round."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from hansa.program._adapting import check_call, check_no_class
from hansa.program.checksums import add_numbers
from hansa.program.cohorts import Positions, described
from hansa.types import CLIENTS, FederatedType, Type
from hansa.types import names as _names
from hansa.types.mismatch import describe


class Arguments:
    """The arguments of `next` beside state and data.

    One at the server is a value, or a function from a round's number to one. One that clients have is a list or an
    array with an entry for each client of the population, of which a round is given those of its cohort; a population
    of its own (`cohort`); or a function from a round's number and the positions of its clients to a list in their
    order.

    Args:
        kinds: their types, by name.
        given: what is given for each.
        clients: how many clients the population has; None if that is not known.

    Raises:
        TypeError, ValueError: if one is missing, there is none of a name, or one cannot be what its type says.
    """

    def __init__(self, kinds: Mapping[str, Type], given: Mapping[str, Any] | None, clients: int | None) -> None:
        if given is not None and not isinstance(given, Mapping):
            raise TypeError(f"arguments must be a dict from names to values, found {given!r}")
        self._given: dict[str, Any] = dict(given or {})
        for name in self._given:
            if name not in kinds:
                takes = _names.listing(list(kinds)) if kinds else "nothing beside the state and a round's data"
                raise TypeError(f"arguments has {name!r}, which next of the process does not take: it takes {takes}")
        self._at_clients: dict[str, bool] = {}
        for name, kind in kinds.items():
            if name not in self._given:
                raise TypeError(
                    f"next of the process takes {name!r}, of type {kind}, beside the state and a round's data: pass "
                    f"arguments={{{name!r}: …}}, a value or a function of the round's number"
                )
            self._at_clients[name] = at_clients = _is_at_clients(kind)
            self._check(name, self._given[name], at_clients, kind, clients)

    def _check(self, name: str, value: Any, at_clients: bool, kind: Type, clients: int | None) -> None:
        what = f"arguments[{name!r}]"
        check_no_class(what, value)
        if callable(value):
            check_call(what, value, ("round_number", "positions") if at_clients else ("round_number",))
        elif at_clients:
            if clients is None:
                raise TypeError(
                    f"{what}, of type {kind}, must be a function from a round's number and the positions of its "
                    "clients to a list: data is a function, so nothing says who the clients are"
                )
            if not hasattr(value, "__len__") or isinstance(value, Mapping):
                raise TypeError(
                    f"{what}, of type {kind}, must be a list or an array with an entry for each client, in the "
                    f"order of data.client_ids; found {describe(value)}"
                )
            if len(value) != clients:
                raise ValueError(f"{what} has {len(value)} entries, and data has {clients} clients: give one for each")

    def __call__(self, round_number: int, positions: Positions | None) -> dict[str, Any]:
        """The arguments of a round.

        Args:
            round_number: the round.
            positions: of its clients, where they are known.
        """
        return {name: self._of(name, value, round_number, positions) for name, value in self._given.items()}

    def _of(self, name: str, value: Any, round_number: int, positions: Positions | None) -> Any:
        if not self._at_clients[name]:
            return value(round_number) if callable(value) else value
        if callable(value):
            return value(round_number, positions)
        assert positions is not None
        if hasattr(value, "cohort"):
            return value.cohort(positions, round_number)
        return [value[int(position)] for position in positions]

    def described(self) -> dict[str, Any]:
        """What a run that goes on must have asked the same: nothing, if there are none."""
        if not self._given:
            return {}
        return {"arguments": {name: _described(value) for name, value in self._given.items()}}


def _is_at_clients(kind: Type) -> bool:
    return isinstance(kind, FederatedType) and kind.placement is CLIENTS


def _described(value: Any) -> str:
    """A function by its name, numbers by a checksum, and anything else as what it says of itself."""
    if callable(value):
        return described(value)
    checksum = hashlib.sha256()
    return f"{type(value).__name__} {checksum.hexdigest()[:16]}" if add_numbers(value, checksum) else described(value)
