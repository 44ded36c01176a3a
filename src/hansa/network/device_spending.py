"""What a device's own examples have spent: charged here before a contribution leaves, and held against its policy.

The device draws its noise of its system's generator, anew for each computation, and tells nobody of it. So nobody but
the device can count what its examples have spent: how many it has and how often it took part is known here alone. What
noise a program adds is what its file says; a program does what whoever wrote it made it do, so take programs of signers
that are trusted (`accept.signers` of the policy).
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hansa.compiler.artifacts.device import DeviceStage
from hansa.network.holdings import Holdings, RefusedError
from hansa.network.orders import Order
from hansa.network.policy import Policy
from hansa.simulation.data_plan import DataPlan
from hansa.types import SequenceType

if TYPE_CHECKING:  # what needs them says so; other devices do without
    from hansa.privacy.accountant import Accountant
    from hansa.privacy.charge import Charge
    from hansa.privacy.ledger import Ledger

LEDGER = "privacy.jsonl"
DELTA = 1e-6
"""At which epsilon is given, where the policy does not say it."""


class DeviceSpending:
    """The charges of a device.

    Args:
        folder: the device's.
        policy: what its owner allows.
    """

    def __init__(self, folder: Path, policy: Policy) -> None:
        self._path, self._most = folder / LEDGER, policy.epsilon
        self._delta = DELTA if policy.delta is None else policy.delta
        self._ledger: Ledger | None = None

    def check(self, order: Order, stage: DeviceStage, holdings: Holdings) -> None:
        """Looks whether a task may be done, as far as privacy is concerned.

        Raises:
            RefusedError: if it would spend more than the policy allows, or that cannot be known.
        """
        charges = _charges(order, stage, holdings)
        if self._most is None:
            return
        if not charges or not stage.noised or any(charge.unit != "example" for charge in charges):
            raise RefusedError(
                f"the policy of this device lets its examples spend epsilon {self._most:g}, and the task does not "
                "protect them: not all that leaves has noise for each example (hansa.privacy.dpsgd)"
            )
        try:
            accountant = self._accountant()
            for charge in charges:
                if not accountant.has_room(charge, self._most, [str(order.client_id)]):
                    raise RefusedError(
                        f"the policy of this device lets its examples spend epsilon {self._most:g} at delta "
                        f"{self._delta:g}; {accountant.exact():.4g} is spent, and the task would exceed it"
                    )
                accountant.add(charge, [str(order.client_id)])
        except ModuleNotFoundError as error:
            raise RefusedError(f"the policy limits epsilon, which cannot be counted on this device: {error}") from None

    def charge(self, order: Order, stage: DeviceStage, holdings: Holdings) -> None:
        """Charges a contribution, on the disk before it leaves."""
        for charge in _charges(order, stage, holdings):
            ledger = self._opened()
            after = math.nan
            if charge.unit == "example":
                try:
                    accountant = self._accountant()
                    accountant.add(charge, [str(order.client_id)])
                    after = accountant.epsilon
                except ModuleNotFoundError:
                    pass  # a figure for people; charges are what counts
            ledger.append(
                len(ledger.entries) + 1,
                1,
                charge,
                clients=[str(order.client_id)],
                program=order.program,
                delta=self._delta,
                epsilon_after=after,
            )

    def _opened(self) -> Ledger:
        from hansa.privacy.ledger import Ledger

        if self._ledger is None:
            self._ledger = Ledger(self._path)
        return self._ledger

    def _accountant(self) -> Accountant:
        """With what was charged for examples."""
        from hansa.privacy.accountant import Accountant

        found = Accountant(self._delta)
        for entry in self._opened().entries:
            if entry.charge.unit == "example":
                found.add(entry.charge, entry.clients)
        return found


def _charges(order: Order, stage: DeviceStage, holdings: Holdings) -> list[Charge]:
    """What a task costs.

    Raises:
        RefusedError: if its file says of its noise what cannot be, or an example would be in it twice.
    """
    if not stage.noise:
        return []
    from hansa.privacy.charge import Charge
    from hansa.privacy.mechanisms import known_mechanism
    from hansa.privacy.sampled_steps import DPSGD
    from hansa.privacy.sampling import AtMost, Sites

    found: list[Any] = []
    for each in stage.noise:
        try:
            mechanism = known_mechanism(each)
            if isinstance(mechanism, DPSGD):
                found.append(Charge(Sites((_examples(order, stage, holdings),)), [mechanism]))
            else:
                found.append(Charge(AtMost(), [mechanism]))
        except (TypeError, ValueError) as error:
            raise RefusedError(f"what the program says of its noise cannot be: {error}") from None
    return found


def _examples(order: Order, stage: DeviceStage, holdings: Holdings) -> int:
    """How many examples the client has, each of which is in a task once."""
    if order.plan is not None and DataPlan.from_json(order.plan).goes_through != 1:
        raise RefusedError(
            "the task goes through the examples here more than once, and its noise is for those that are there once; "
            "the coordinator gives a plan without repeat, and without the steps of batch"
        )
    return sum(
        int(sum(holdings.value(port, order).lengths))
        for port, source in zip(stage.inputs, order.inputs, strict=True)
        if source[:1] == ("argument",) and isinstance(port.type, SequenceType)
    )


def spent_by(folder: Path, delta: float | None = None) -> tuple[Accountant, int]:
    """What the examples of a device have spent by its ledger, and how often they were charged.

    Args:
        folder: the device's.
        delta: at which epsilon is given; by default what the ledger says.

    Raises:
        hansa.privacy.LedgerError: if its ledger is damaged, or there is none.
    """
    from hansa.privacy.accountant import Accountant
    from hansa.privacy.ledger import read_ledger

    entries = [entry for entry in read_ledger(folder / LEDGER) if entry.charge.unit == "example"]
    accountant = Accountant(delta or (entries[-1].delta if entries else DELTA))
    for entry in entries:
        accountant.add(entry.charge, entry.clients)
    return accountant, len(entries)
