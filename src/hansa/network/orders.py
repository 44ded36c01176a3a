"""What a device is told of its task, as JSON: an order. The coordinator writes it, and the device checks it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hansa.network.blobs import is_digest
from hansa.network.tasks import PhaseKey
from hansa.types.identities import ClientId

FORMAT = 1


class OrderError(ValueError):
    """What was told is no order. The message says why."""


@dataclass(frozen=True)
class Sent:
    """A value that the device is sent.

    Attributes:
        name: as the stage calls it.
        digest: of its blob.
        size: of its blob, in bytes.
    """

    name: str
    digest: str
    size: int


@dataclass(frozen=True)
class StateOrder:
    """What a client keeps from round to round, for the device: it stays there, and only its versions are told.

    Attributes:
        run: whose state it is.
        version: what it was after the last round in which the client was counted; None if there was none.
        becomes: the version that the client's work makes of it; None as long as a later stage makes it.
        first: the blob of what a client has at first.
        types: of its parts, in the notation.
        sources: where each part of the next one comes from: `["kept", stage, index]`, or a struct of such.
    """

    run: str
    version: str | None
    becomes: str | None
    first: Sent
    types: tuple[str, ...]
    sources: tuple[Any, ...]

    def to_json(self) -> list[Any]:
        """It as values that JSON has."""
        first = [self.first.name, self.first.digest, self.first.size]
        return [self.run, self.version, self.becomes, first, list(self.types), list(self.sources)]

    @classmethod
    def from_json(cls, value: Any) -> StateOrder:
        """What `to_json` gave.

        Raises:
            TypeError, ValueError: if it is none.
        """
        run, version, becomes, (name, digest, size), types, sources = value
        for each in (version, becomes):
            if each is not None and not _text(each).isalnum():
                raise ValueError(f"{each!r:.80} is no version")
        first = Sent(_text(name), _digest(digest), _number(size))
        return cls(_text(run), version, becomes, first, tuple(map(_text, types)), tuple(sources))


@dataclass(frozen=True)
class Order:
    """A task, for the device.

    Attributes:
        task: what it is called in requests.
        key: which phase it is.
        computation: the computation's name, for people.
        program: the digest of the stage's file.
        program_size: its bytes.
        sent: what the device is sent.
        inputs: where it finds what it has of its own, for each of the stage's inputs: `["argument", …]` its data,
            `["runtime", "client_id"]` its number, `["kept", stage, index]` what it kept.
        client_id: the identity of its client.
        number: that client's number.
        plan: what is done with its examples before, as `hansa.simulation.DataPlan.to_json` gives it; None where no
            plan was given.
        most_bytes: how large a contribution is at most.
        lease: seconds in which the coordinator wants to hear of it.
        seconds_left: until the phase is cut.
        unprotected: whether the coordinator says that contributions may travel of which nobody is to see one.
        state: what the client keeps from round to round; None if that is nothing.
        cohort: how many devices are asked together, as the coordinator says.
        signature: who has signed the program, and the signature; None if nobody has.
    """

    task: str
    key: PhaseKey
    computation: str
    program: str
    program_size: int
    sent: tuple[Sent, ...]
    inputs: tuple[tuple[Any, ...], ...]
    client_id: ClientId
    number: int
    plan: Mapping[str, Any] | None
    most_bytes: int
    lease: float
    seconds_left: float
    unprotected: bool
    state: StateOrder | None = None
    cohort: int = 0
    signature: tuple[str, str] | None = None

    def to_json(self) -> dict[str, Any]:
        """The order as values that JSON has."""
        return {
            "format": FORMAT,
            "task": self.task,
            "phase": dict(vars(self.key)),
            "computation": self.computation,
            "program": [self.program, self.program_size],
            "sent": [[each.name, each.digest, each.size] for each in self.sent],
            "inputs": [list(source) for source in self.inputs],
            "client_id": self.client_id,
            "number": self.number,
            "plan": None if self.plan is None else dict(self.plan),
            "most_bytes": self.most_bytes,
            "lease": self.lease,
            "seconds_left": self.seconds_left,
            "unprotected": self.unprotected,
            "state": None if self.state is None else self.state.to_json(),
            "cohort": self.cohort,
            "signature": None if self.signature is None else list(self.signature),
        }

    @classmethod
    def from_json(cls, value: Any) -> Order:
        """The order that `to_json` gave.

        Raises:
            OrderError: if it is none.
        """
        if not isinstance(value, dict) or value.get("format") != FORMAT:
            found = value.get("format") if isinstance(value, dict) else value
            raise OrderError(
                f"the coordinator gives orders of the format {found!r:.40}, and this device knows {FORMAT}"
            )
        try:
            program, size = value["program"]
            order = cls(
                _text(value["task"]),
                PhaseKey(**value["phase"]),
                _text(value["computation"]),
                _digest(program),
                _number(size),
                tuple(Sent(_text(name), _digest(digest), _number(size)) for name, digest, size in value["sent"]),
                tuple(map(tuple, value["inputs"])),
                _client(value["client_id"]),
                int(value["number"]),
                value["plan"],
                _number(value["most_bytes"]),
                float(value["lease"]),
                float(value["seconds_left"]),
                value["unprotected"] is True,
                None if value.get("state") is None else StateOrder.from_json(value["state"]),
                _number(value.get("cohort", 0)),
                None if value.get("signature") is None else _signature(*value["signature"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise OrderError(f"the coordinator has given what is no order: {error!r:.200}") from None
        if not order.task.isalnum() or not order.lease > 0:
            raise OrderError(f"the coordinator has given a task {order.task!r:.40} with a lease of {order.lease} s")
        return order


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.40} is no text")
    return value


def _signature(signer: Any, signature: Any) -> tuple[str, str]:
    return _text(signer), _text(signature)


def _digest(value: Any) -> str:
    if not is_digest(_text(value)):
        raise ValueError(f"{value!r:.80} is no digest")
    return _text(value)


def _number(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r:.40} is no number of bytes")
    return value


def _client(value: Any) -> ClientId:
    if type(value) not in (int, str):
        raise TypeError(f"{value!r:.40} is no client")
    client: ClientId = value
    return client
