"""What the owner of a device allows: who may send programs, what may leave, how much, and when. `policy.toml`.

It is looked at on the device, before it computes, and again before anything leaves. What is not allowed is refused with
its reason, which the coordinator is told.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime, time
from pathlib import Path
from typing import Any

from hansa._errors import UserError
from hansa.compiler.artifacts.device import DeviceStage
from hansa.network import signing
from hansa.network.holdings import RefusedError
from hansa.network.orders import Order
from hansa.types import to_type

_UNITS = {"": 1, "B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_HOURS = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])-([01][0-9]|2[0-3]):([0-5][0-9])")
_KEYS = {
    "accept": ("signers", "operations", "outputs", "min_cohort"),
    "limits": ("bytes_up_per_day", "memory", "seconds_per_task"),
    "when": ("hours", "power"),
    "privacy": ("epsilon", "delta"),
}


class PolicyError(UserError):
    """A policy is none. The message says why."""


@dataclass(frozen=True)
class Policy:
    """What a device allows. None: anything.

    Attributes:
        signers: who may send programs, such as `ed25519:…`, which `hansa network status` prints of a coordinator.
        operations: how results may leave, such as `federated_mean`: of which aggregates.
        outputs: types of what may leave, in the notation.
        min_cohort: how many devices must be asked together, as the coordinator says.
        bytes_up_per_day: how many bytes of contributions may leave in a day, by the device's clock.
        memory: bytes that the program, what it is sent and the data may have together; and what the process that
            computes may have beside what it begins with.
        seconds_per_task: of a processor, after which the process that computes is ended.
        hours: from when to when it asks for tasks, by the device's clock.
        epsilon: what its examples may spend, in all tasks; then programs must add noise for each example.
        delta: at which that is; by default 1e-6.
        power: "plugged", if it asks for tasks only while the machine has power from outside.
    """

    signers: tuple[str, ...] | None = None
    operations: tuple[str, ...] | None = None
    outputs: tuple[str, ...] | None = None
    min_cohort: int | None = None
    bytes_up_per_day: int | None = None
    memory: int | None = None
    hours: tuple[time, time] | None = None
    seconds_per_task: float | None = None
    power: str | None = None
    epsilon: float | None = None
    delta: float | None = None

    @classmethod
    def read(cls, path: Path) -> Policy:
        """That of a file.

        Raises:
            PolicyError: if it is none; the message names the key.
            OSError: if it cannot be read.
        """
        try:
            return cls.of(tomllib.loads(path.read_text("utf-8")))
        except (ValueError, TypeError) as error:
            raise PolicyError(f"{path}: {error}") from None

    @classmethod
    def of(cls, tables: Mapping[str, Any]) -> Policy:
        """That of the tables of a file.

        Raises:
            ValueError: if a key is not known, or its value is not as it should be.
        """
        found: dict[str, Any] = {}
        for table, values in tables.items():
            if table not in _KEYS or not isinstance(values, Mapping):
                raise ValueError(f"there is no table {table!r}; the tables are {', '.join(_KEYS)}")
            for key, value in values.items():
                if key not in _KEYS[table]:
                    raise ValueError(f"there is no key {key!r} in [{table}]; the keys are {', '.join(_KEYS[table])}")
                found[key] = _READERS[key](f"{table}.{key}", value)
        return cls(**found)

    def check_task(self, order: Order, stage: DeviceStage, held: int) -> None:
        """Looks at a task and its program, before anything is computed.

        Args:
            order: the task.
            stage: its program.
            held: bytes of the device's data.

        Raises:
            RefusedError: if it is not allowed.
        """
        self.check_signer(order)
        for part in stage.contributions:
            if self.operations is not None and part.operation not in self.operations:
                raise RefusedError(
                    f"the policy of this device lets results leave by {_listed(self.operations)}, and the task has "
                    f"{part.operation}"
                )
            for port in part.values:
                if self.outputs is not None and port.type not in [to_type(text) for text in self.outputs]:
                    raise RefusedError(
                        f"the policy of this device lets {_listed(self.outputs)} leave, and {port.name!r} is of type "
                        f"{port.type.compact()}"
                    )
        if self.min_cohort is not None and order.cohort < self.min_cohort:
            raise RefusedError(
                f"the policy of this device asks for {self.min_cohort} devices together, and {order.cohort} are asked"
            )
        needed = held + order.program_size + sum(each.size for each in order.sent)
        if self.memory is not None and needed > self.memory:
            raise RefusedError(
                f"the policy of this device gives tasks {self.memory:,} bytes of memory, and the program, what it is "
                f"sent and the data have {needed:,}"
            )

    def check_signer(self, order: Order) -> None:
        """Looks who has signed the program.

        Raises:
            RefusedError: if it is nobody who may.
        """
        if self.signers is None:
            return
        signer, signature = order.signature or ("nobody", "")
        if signer not in self.signers:
            raise RefusedError(f"the policy of this device takes programs of certain signers, and {signer} is none")
        if not signing.is_signed(order.program.encode(), signer, signature):
            raise RefusedError("the signature of the program is not right")

    def check_leaving(self, size: int, today: int) -> None:
        """Looks at a contribution, before it leaves.

        Args:
            size: its bytes.
            today: bytes of contributions that have left today.

        Raises:
            RefusedError: if they are too many together.
        """
        if self.bytes_up_per_day is not None and today + size > self.bytes_up_per_day:
            raise RefusedError(
                f"the policy of this device lets {self.bytes_up_per_day:,} bytes leave in a day: {today:,} have left "
                f"today, and the contribution has {size:,}"
            )

    def has_power(self, is_plugged: Callable[[], bool]) -> bool:
        """Whether the device asks for tasks, as far as its power is concerned."""
        return self.power is None or is_plugged()

    def is_open(self, now: datetime) -> bool:
        """Whether the device asks for tasks at this time."""
        if self.hours is None:
            return True
        begin, end = self.hours
        at = now.time()
        return begin <= at < end if begin <= end else at >= begin or at < end


def _power(name: str, value: Any) -> str:
    if value != "plugged":
        raise ValueError(f'{name} must be "plugged", or not be there; found {value!r:.100}')
    return str(value)


def _seconds(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 10**9:
        raise ValueError(f"{name} must be a positive number of seconds; found {value!r:.100}")
    return float(value)


def _epsilon(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 10**9:
        raise ValueError(f"{name} must be a positive number, such as 8.0; found {value!r:.100}")
    return float(value)


def _delta(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
        raise ValueError(f"{name} must be between 0 and 1, such as 1e-6; found {value!r:.100}")
    return float(value)


def _texts(name: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(each, str) and each for each in value):
        raise ValueError(f"{name} must be a list of texts; found {value!r:.100}")
    return tuple(value)


def _signers(name: str, value: Any) -> tuple[str, ...]:
    for each in _texts(name, value):
        if not signing.is_signer(each):
            raise ValueError(f"{name}: {each!r:.100} is no signer, such as ed25519: and 44 characters of Base64")
    return tuple(value)


def _types(name: str, value: Any) -> tuple[str, ...]:
    for each in _texts(name, value):
        try:
            to_type(each)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{name}: {error}") from None
    return tuple(value)


def _count(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be a number of devices, 1 or more; found {value!r:.100}")
    return value


def _bytes(name: str, value: Any) -> int:
    found = re.fullmatch(r"([0-9]+) ?([A-Za-z]*)", str(value).strip())
    if isinstance(value, bool) or not isinstance(value, int | str) or found is None or found[2] not in _UNITS:
        raise ValueError(f'{name} must be a number of bytes, such as "200MB" or "2GiB"; found {value!r:.100}')
    return int(found[1]) * _UNITS[found[2]]


def _hours(name: str, value: Any) -> tuple[time, time]:
    found = _HOURS.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError(f'{name} must be such as "22:00-06:00"; found {value!r:.100}')
    a, b, c, d = map(int, found.groups())
    return time(a, b), time(c, d)


def _listed(texts: tuple[str, ...]) -> str:
    return ", ".join(texts)


_READERS = {
    "signers": _signers,
    "operations": _texts,
    "outputs": _types,
    "min_cohort": _count,
    "bytes_up_per_day": _bytes,
    "memory": _bytes,
    "seconds_per_task": _seconds,
    "hours": _hours,
    "power": _power,
    "epsilon": _epsilon,
    "delta": _delta,
}
assert set(_READERS) == {field.name for field in fields(Policy)} == {key for keys in _KEYS.values() for key in keys}
