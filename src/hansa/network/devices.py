"""Devices as a value for `{T}@CLIENTS`: which of those that are enrolled, and how they are asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy.typing as npt

from hansa._tracebacks import boundaries
from hansa.simulation.data_plan import DataPlan
from hansa.types.elsewhere import Elsewhere
from hansa.types.identities import ClientId
from hansa.types.mismatch import describe


@boundaries
class Devices(Elsewhere):
    """Clients on their devices, as `Network.devices` gives them.

    Args:
        clients: their ids, or how many there are to be, of those that are there.
        data: what is done with each client's examples before a round.
        over_select: how many times as many are asked, so that slow ones need not be waited for; 1 or more.
        least: with fewer contributions a round is given up, and tried again.
        deadline: seconds after which a round is cut.
        lease: seconds for which a device is waited for that shows no progress.
        patience: seconds for which so many devices are waited for before a round begins with those that are there.

    Attributes:
        data, over_select, least, deadline, lease, patience: as given.

    Raises:
        TypeError, ValueError: if they are no such values.

    Examples:
        >>> everybody = hansa.network.Devices(100, over_select=1.3, least=50)
        >>> everybody.cohort(range(10))
        Devices(10 clients)
    """

    def __init__(
        self,
        clients: Sequence[ClientId] | npt.NDArray[Any] | int,
        *,
        data: DataPlan | None = None,
        over_select: float = 1.0,
        least: int = 1,
        deadline: float = 600.0,
        lease: float = 60.0,
        patience: float = 60.0,
    ) -> None:
        super().__init__(clients)
        if data is not None and not isinstance(data, DataPlan):
            raise TypeError(f"data must be a plan, population.plan(), or None; found {describe(data)}")
        if isinstance(over_select, bool) or not isinstance(over_select, int | float) or not 1 <= over_select < 100:
            raise ValueError(f"over_select must be a number of 1 or more, such as 1.3; found {over_select!r}")
        if isinstance(least, bool) or not isinstance(least, int) or least < 1:
            raise ValueError(f"least must be a number of clients, 1 or more; found {least!r}")
        for name, value in (("deadline", deadline), ("lease", lease), ("patience", patience)):
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not 0 < value < float("inf"):
                raise ValueError(f"{name} must be a positive number of seconds; found {value!r}")
        self.data, self.over_select, self.least = data, float(over_select), least
        self.deadline, self.lease, self.patience = float(deadline), float(lease), float(patience)

    def cohort(self, clients: npt.ArrayLike, round_number: int = 0, *, replace: bool = False) -> Devices:
        """Those at these positions, asked in the same way; so many, where it is the network's to say who."""
        chosen = super().cohort(clients, round_number, replace=False)
        return Devices(
            len(chosen) if chosen.client_ids is None else chosen.client_ids,
            data=self.data,
            over_select=self.over_select,
            least=min(self.least, max(1, len(chosen))),
            deadline=self.deadline,
            lease=self.lease,
            patience=self.patience,
        )

    def __repr__(self) -> str:
        return super().__repr__().replace("Elsewhere", "Devices", 1)


def devices_of(given: dict[str, Any], computation: str) -> Devices:
    """The devices of a call, of what was passed for the values at the clients.

    Raises:
        TypeError: if it is data, or several.
    """
    chosen: Devices | None = None
    for name, value in given.items():
        if not isinstance(value, Elsewhere):
            raise TypeError(
                f"{name!r} of {computation!r} is {describe(value)}, and this call runs on devices, which have values "
                "of their own: pass the same devices for it"
            )
        each = value if isinstance(value, Devices) else Devices(_clients(value))
        if chosen is not None and _clients(chosen) != _clients(each):
            raise TypeError(
                f"{name!r} of {computation!r} is of other devices, {each!r}, than {chosen!r}: pass the same"
            )
        chosen = chosen or each
    assert chosen is not None
    return chosen


def _clients(value: Elsewhere) -> Any:
    return len(value) if value.client_ids is None else list(value.client_ids)
