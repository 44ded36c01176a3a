"""A computation as the coordinator runs it: its stages, and for each client stage what devices need to know of it.

Devices get a stage as StableHLO in a file (`hansa.DeviceStage`), which calls what it takes and gives by names of its
own. Here is which of them are which of `hansa.Stages`.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from typing import Any

from hansa.compiler.artifacts.artifact import load_client_stage, load_ports, save
from hansa.compiler.artifacts.device import DeviceStage
from hansa.compiler.artifacts.ports import Input, Port, Ports
from hansa.compiler.connections import Connections, is_at_clients
from hansa.compiler.partition import compile_computation, path_of
from hansa.compiler.program import Program
from hansa.language.computation import Computation
from hansa.language.graph import Intrinsic, Literal
from hansa.language.runtime_values import CLIENT_NOISE
from hansa.network import wire
from hansa.network.boundary import Boundary
from hansa.network.client_state import KEPT, STATE, first_values, rewritten, state_parts
from hansa.runtimes.stages import in_order
from hansa.runtimes.stages.executor import ClientStage, Stages
from hansa.types import StructType, Type
from hansa.types.elsewhere import Elsewhere
from hansa.types.values import field_values

_OF_DEVICES = (("runtime", "client_id"), ("runtime", CLIENT_NOISE))
"""What a device has beside its data: its number, and noise of its own."""


@dataclass(frozen=True)
class ClientWork:
    """A client stage, for the coordinator.

    Attributes:
        number: which one it is.
        file: what devices run.
        inputs: what a device has of its own: names, types, and where they come from.
        sent: what it is sent, by the names of the file, each with its name in `hansa.Stages`.
        boundary: the checks of what it gives.
        groups: how many values it gives to each aggregate.
        is_ordered: whether something is folded in the cohort's order.
        least: contributions of how many clients there must be.
        protected: the aggregates of which nobody is to see a client's contribution.
    """

    number: int
    file: bytes
    inputs: tuple[Input, ...]
    sent: tuple[tuple[Port, str], ...]
    boundary: Boundary
    groups: tuple[int, ...]
    is_ordered: bool
    least: int
    protected: tuple[str, ...]

    def grouped(self, values: list[Any]) -> list[list[Any]]:
        """The values of a contribution, by aggregate, as `hansa.Stages` takes them."""
        rest = iter(values)
        return [[next(rest) for _ in range(size)] for size in self.groups]


class NetworkProgram:
    """A computation whose client stages run on devices.

    Args:
        computation: the computation.

    Attributes:
        stages: its stages, with exact sums.
        current: those that fold.
        state: the parts of a process's state that clients keep.
        clients: its client stages.
        file: of all stages, with which contributions can be folded again (`hansa.network.replaying`).

    Raises:
        TypeError: if something of it does not travel.
        hansa.ArtifactError: if a stage cannot be compiled for any size.
    """

    def __init__(self, computation: Computation) -> None:
        self._computation = computation
        self._connections = connections = Connections(compile_computation(computation))
        self.current = self.stages = Stages(computation)
        buffer = io.BytesIO()
        save(computation, buffer, platforms=["cpu", "cuda"])
        self.file = whole = buffer.getvalue()
        ports = load_ports(whole)
        parts = state_parts(computation.type_signature, ports)
        if self.stages.returned and not parts:
            names = ", ".join(repr(port.name) for port in self.stages.returned)
            raise TypeError(
                f"a part of the result of {computation.name!r} is what each client has, or is collected of them "
                f"({names}); devices keep what they have: aggregate it, such as with hansa.federated_sum"
            )
        self.state = parts or ()
        self.clients = tuple(
            _work(i, load_client_stage(whole, i), self._inputs(ports, i), self.stages.clients[i], connections)
            for i in range(len(self.stages.clients))
        )

    def _inputs(self, ports: Ports, number: int) -> tuple[Input, ...]:
        return tuple(replace(port, source=rewritten(port.source, self.state)) for port in ports.clients[number].inputs)

    def first_states(self, argument: Any) -> tuple[list[Port], list[Any]]:
        """What a client has at first of the state, of what was passed for it.

        Raises:
            TypeError: if that is a simulation's.
        """
        parameter = self._computation.type_signature.parameter
        assert parameter is not None
        given = [_part(parameter, argument, part.path) for part in self.state]
        return first_values(self.state, given, self.name)

    @property
    def name(self) -> str:
        """The computation's."""
        return self._computation.name

    def widened(self) -> Stages:
        """From now on stages whose sums hold numbers of any size: where some were beyond the usual, the next may be."""
        if self.current is self.stages:
            self.current = Stages(self._computation, sums="wide")
        return self.current

    def known(self, argument: Any) -> dict[str, Any]:
        """The parts of the argument that the server has, by the names of `hansa.Stages`."""
        parameter = self._computation.type_signature.parameter
        found = {}
        for node in self._connections.arguments:
            if not is_at_clients(node.type):
                assert parameter is not None
                found[self._connections.port(node).name] = _part(parameter, argument, path_of(node))
        return found

    def at_clients(self, argument: Any) -> dict[str, Any]:
        """What was passed for the parts of the argument that clients have, but for the state, by these names."""
        parameter = self._computation.type_signature.parameter
        found = {}
        for node in self._connections.arguments:
            if is_at_clients(node.type):
                assert parameter is not None
                path = path_of(node)
                if not any(path[: len(part.path)] == part.path for part in self.state):
                    found[self._connections.port(node).name] = _part(parameter, argument, path)
        return found


def _work(
    number: int, stage: DeviceStage, inputs: tuple[Input, ...], clients: ClientStage, connections: Connections
) -> ClientWork:
    file = io.BytesIO()
    save(stage, file)
    program: Program = connections.program
    written = program.clients[number]
    pairs = [(source, node) for source, node in written.broadcasts if isinstance(node, Intrinsic)]
    names = [connections.port(source).name for source, _ in pairs if not isinstance(source, Literal)]
    for port in inputs:
        source = port.source
        is_known = source[0] in ("argument", KEPT, STATE) or source in _OF_DEVICES
        if not is_known:
            raise TypeError(f"{program.name!r} asks devices for {port.name!r}, which they do not know: {source!r}")
    wire.declared(stage.broadcasts)  # that it travels
    wire.declared(stage.kept)
    wire.declared(clients.starts)
    return ClientWork(
        number,
        file.getvalue(),
        inputs,
        tuple(zip(stage.broadcasts, names, strict=True)),
        Boundary(stage.contributions),
        tuple(len(part.values) for part in stage.contributions),
        any(map(in_order.in_order, written.aggregates)),
        max([1, *(part.terms.min_cohort or 1 for part in stage.contributions)]),
        clients.protected,
    )


def _part(kind: Type, value: Any, path: tuple[int, ...]) -> Any:
    """A part of an argument, in whatever form the caller has passed it."""
    for index in path:
        if isinstance(value, Elsewhere):
            return value
        assert isinstance(kind, StructType)
        value = field_values(value, kind, "the argument")[index]
        kind = kind[index]
    return value


def described(inputs: tuple[Input, ...]) -> list[list[Any]]:
    """Where a device finds what it has of its own, as JSON: of its data, of its number, or what it kept."""
    return [list(port.source) for port in inputs]
