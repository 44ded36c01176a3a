"""What computes on a device: stages that were fetched, compiled once, and run on the client's own data.

A stage is run as in a loop over one client, which is how simulations compute it, so that it has their bits.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from hansa.compiler.artifacts.artifact import load
from hansa.compiler.artifacts.device import DeviceStage
from hansa.language.intrinsics import federated_broadcast, federated_map
from hansa.language.noise import SECRET_BYTES
from hansa.language.tracing import federated_computation
from hansa.network import wire
from hansa.network.durable import Bytes
from hansa.network.holdings import Holdings, RefusedError, batch_rows
from hansa.network.orders import Order
from hansa.runtimes.stages.executor import Stages
from hansa.types import CLIENTS, SERVER, FederatedType, StructType

_PROGRAMS = 8
"""Compiled stages that are kept at a time."""


@dataclass(frozen=True)
class Done:
    """What a client has computed.

    Attributes:
        contribution: its bytes, in pieces.
        kept: a value for each of the stage's `kept`, in host memory.
        stage: the stage.
    """

    contribution: list[Bytes]
    kept: list[Any]
    stage: DeviceStage

    def keeps(self) -> list[Bytes]:
        """The bytes of `kept`, in pieces."""
        return list(wire.encoded(self.stage.kept, self.kept)) if self.kept else []


class CrashedError(Exception):
    """What went wrong in computing, as a text for whoever wrote the program."""


class Worker:
    """Runs stages in this process, one at a time."""

    def __init__(self) -> None:
        self._loaded: dict[str, _Loaded] = {}
        self._lock = threading.Lock()

    def seconds(self) -> float:
        """Seconds of a processor that have gone into tasks, for `progress`."""
        return time.process_time()

    def close(self) -> None:
        """There is nothing to end."""

    def stage(self, order: Order, program: Path) -> DeviceStage:
        """The stage of an order, which was fetched.

        Raises:
            RefusedError: if the file is none, or does not go with the order.
        """
        return self._of(order, program).stage

    def work(
        self,
        order: Order,
        program: Path,
        sent: Sequence[Path],
        holdings: Holdings,
        kept: Callable[[int, int], Any],
        state: Sequence[Any] = (),
    ) -> Done:
        """What the client gives for an order.

        Args:
            order: the task.
            program: the stage's file.
            sent: the files of what the coordinator sent, in the order's order.
            holdings: the client's data.
            kept: gives what was kept in an earlier stage, by the number of that and a number in it.
            state: what the client has of the process's state, part by part.

        Raises:
            RefusedError: if the order asks for what this client does not have.
            Exception: what goes wrong in computing.
        """
        with self._lock:
            loaded = self._of(order, program)
            stage = loaded.stage
            given = [_sent(port, path) for port, path in zip(stage.broadcasts, sent, strict=True)]
            own = [
                self._own(port, source, order, holdings, kept, state)
                for port, source in zip(stage.inputs, order.inputs, strict=True)
            ]
            result = loaded.run(given, own, batch_rows(order))
            values = jax.tree.map(np.asarray, [[*part] for part in result.contributions])
            flat = [value for part in values for value in part]
            ports = [port for part in stage.contributions for port in part.values]
            keep = [jax.tree.map(np.asarray, value) for value in result.kept]
            return Done(list(wire.encoded(ports, flat)), keep, stage)

    def _of(self, order: Order, program: Path) -> _Loaded:
        if order.program not in self._loaded:
            stage = load(program)
            if not isinstance(stage, DeviceStage):
                raise RefusedError("the program that was sent is no client stage")
            while len(self._loaded) >= _PROGRAMS:
                self._loaded.pop(next(iter(self._loaded)))
            self._loaded[order.program] = _Loaded(stage)
        loaded = self._loaded[order.program]
        if len(loaded.stage.broadcasts) != len(order.sent) or len(loaded.stage.inputs) != len(order.inputs):
            raise RefusedError("the task sends other values than the stage takes")
        return loaded

    @staticmethod
    def _own(
        port: Any,
        source: tuple[Any, ...],
        order: Order,
        holdings: Holdings,
        kept: Callable[[int, int], Any],
        state: Sequence[Any],
    ) -> Any:
        match source:
            case ("runtime", "client_id"):
                return np.int32(order.number)
            case ("runtime", "client_noise_key"):  # drawn for this computation alone, and kept nowhere
                return np.frombuffer(secrets.token_bytes(SECRET_BYTES), "<u4").astype(np.uint32)
            case ("kept", int(stage), int(index), *fields):
                return _field(kept(stage, index), fields)
            case ("state", int(part), *fields) if part < len(state):
                return _field(state[part], fields)
            case ("argument", *_):
                return holdings.value(port, order)
        raise RefusedError(f"the stage takes {port.name!r} from {source!r}, which no device has")


class _Loaded:
    """A stage, and the program that runs it for one client."""

    def __init__(self, stage: DeviceStage) -> None:
        self.stage = stage
        sent = StructType([(None, port.type) for port in stage.broadcasts])
        own = StructType([(None, port.type) for port in stage.inputs])

        def alone(sent: Any, own: Any) -> Any:
            return federated_map(stage.computation, [federated_broadcast(sent), own])

        kinds = FederatedType(sent, SERVER), FederatedType(own, CLIENTS)
        self._stages = Stages(federated_computation(*kinds)(alone))

    def run(self, sent: list[Any], own: list[Any], rows: int | None) -> Any:
        """A struct of `contributions` and `kept`."""
        work = self._stages.clients[0]
        names = {"sent": sent, "own": own}
        return work.work(
            [names[port.name] for port in work.broadcasts], [names[port.name] for port in work.inputs], rows
        ).kept[0]


def _field(value: Any, fields: Sequence[Any]) -> Any:
    for field in fields:
        value = value[field]
    return value


def _sent(port: Any, path: Path) -> Any:
    try:
        (value,) = wire.decoded([port], path.read_bytes())
    except wire.WireError as error:
        raise RefusedError(f"what was sent as {port.name!r} is no such value: {error}") from None
    return value
