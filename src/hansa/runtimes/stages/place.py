"""A device on which stages of a program run one by one: values come in by the names of ports, and arrays go out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np
from jax.sharding import PartitionSpec as P

from hansa.compiler.artifacts.ports import Port, by_name, picked
from hansa.compiler.connections import AtClient, Connections, path_of
from hansa.compiler.evaluate import Environment, evaluate
from hansa.compiler.narrowing import Path
from hansa.compiler.partition import is_argument, is_stacked
from hansa.compiler.program import ClientStage
from hansa.compiler.sequences import NeedsSizes
from hansa.language.graph import Node
from hansa.runtimes.arguments import unpack
from hansa.runtimes.columns import Room, exactly
from hansa.runtimes.stages import round as rounds
from hansa.runtimes.stages.compiled import Compiled
from hansa.runtimes.stages.devices import Devices
from hansa.types import Struct, StructType, Type


class Place:
    """A device for the stages of one program.

    Args:
        compiled: the program.
        connections: how its stages are connected.
        devices: the one device.
    """

    def __init__(self, compiled: Compiled, connections: Connections, devices: Devices) -> None:
        self.compiled = compiled
        self.connections = connections
        self._devices = devices
        self._apart: dict[Any, Compiled] = {}

    def compute(self, key: Any, nodes: Sequence[Node], values: Any, function: Callable[[Environment], Any]) -> Any:
        """The result of a function of these values, which is known by a key, at the server."""
        compiled, ports = self._of(key), list(map(self.connections.port, nodes))
        kind, narrow = self._typed(nodes)
        given = struct_of(ports, picked(ports, values, "the values"))
        packed, static = self._devices.pack(compiled, given, "the values", of=(kind, narrow))

        def run(packed: Any) -> Any:
            return function(self._environment(nodes, unpack(kind, packed, static, None)))

        return self._devices.execute(compiled, static, run, (packed,), (P(),), P())

    def work(self, number: int, stage: ClientStage, sent: Any, own: Any, batch_rows: int | None) -> list[Any]:
        """What one client keeps of a stage that has no aggregates: of what it is sent, and of what it has."""
        compiled, nodes = self._of(("work", number, batch_rows), batch_rows), self.connections.clients[number]
        ports = [self.connections.port(node) for node in nodes.broadcasts]
        both = StructType([("sent", self._typed(nodes.broadcasts)[0]), ("own", self._typed(nodes.inputs)[0])])
        narrow = frozenset((1, *path) for path in self._typed(nodes.inputs)[1])
        inputs = list(map(self.connections.port, nodes.inputs))
        mine = [
            [value] if is_stacked(node) else value
            for node, value in zip(nodes.inputs, picked(inputs, own, "what the client has"), strict=True)
        ]
        given = Struct.of(sent=struct_of(ports, picked(ports, sent, "what is sent")), own=struct_of(inputs, mine))
        try:
            return self._work(compiled, stage, nodes, (both, narrow), given)
        except NeedsSizes:
            if compiled.sizes is not None:
                raise
            compiled.sizes = set()
            return self._work(compiled, stage, nodes, (both, narrow), given)

    def _work(
        self,
        compiled: Compiled,
        stage: ClientStage,
        nodes: AtClient,
        of: tuple[StructType, frozenset[Path]],
        given: Any,
    ) -> list[Any]:
        kind, _ = of
        packed, static = self._devices.pack(compiled, given, "the client", of=of)

        def run(packed: Any, cohort: rounds.Cohort) -> list[Any]:
            server = self._environment(nodes.broadcasts, unpack(kind, packed, static, None).sent)

            def read(client: Any) -> Environment:
                env = self._environment(nodes.inputs, unpack(kind, packed, static, client).own)
                env.update((node, evaluate([source], server)[0]) for source, node in stage.broadcasts)
                return env

            # A loop that is run once: XLA compiles what is in a loop in another way than what is not.
            _, stacks = rounds.fold_each(stage, read, cohort, [], 1)
            return [_first(stack) for stack in stacks]

        values: list[Any] = self._devices.execute(compiled, static, run, (packed, _ONE), (P(), P()), P())
        return values

    def call(self, key: Any, function: Callable[..., Any], args: tuple[Any, ...], donated: tuple[int, ...] = ()) -> Any:
        """The result of a function of arrays, which is known by a key."""
        return self._devices.execute(self._of(key), (), function, args, (P(),) * len(args), P(), donated)

    def _of(self, key: Any, batch_rows: int | None = None) -> Compiled:
        """The room and the compiled programs of one function of a stage."""
        if key not in self._apart:
            room = Room() if batch_rows is None else Room(batch=exactly(batch_rows))
            self._apart[key] = replace(self.compiled, room=room, executables={}, sizes=None)
        return self._apart[key]

    def _typed(self, nodes: Sequence[Node]) -> tuple[StructType, frozenset[Path]]:
        """The struct of some values, and which of its tensors are computed with in 32 bits."""
        kind = StructType([(self.connections.port(node).name, node.type) for node in nodes])
        narrow = set()
        for i, node in enumerate(nodes):
            if is_argument(node):
                path = path_of(node)
                narrow |= {(i, *rest[len(path) :]) for rest in self.compiled.narrow if rest[: len(path)] == path}
        return kind, frozenset(narrow)

    def _environment(self, nodes: Sequence[Node], values: Iterable[Any]) -> Environment:
        env: Environment = dict(zip(nodes, values, strict=True))
        parameter = self.compiled.program.parameter
        if parameter is not None:
            given = {path_of(node): value for node, value in env.items() if is_argument(node)}
            env[parameter] = _put_together(parameter.type, (), given)
        return env


def struct_of(ports: Sequence[Port], values: Iterable[Any]) -> Struct:
    """The struct of the values of some ports, by name."""
    return Struct(zip((port.name for port in ports), values, strict=True))


def whole_argument(connections: Connections, values: Any) -> Any:
    """The argument of a computation, as far as it is among some values; None for what is not."""
    named, given = by_name(values) or {}, {}
    for node in connections.arguments:
        name = connections.port(node).name
        if name in named:
            given[path_of(node)] = named[name]
    parameter = connections.program.parameter
    return None if parameter is None else _put_together(parameter.type, (), given)


def _put_together(kind: Type, path: tuple[int, ...], given: Mapping[tuple[int, ...], Any]) -> Any:
    """A value of a type of which only some parts are given."""
    if path in given:
        return given[path]
    if isinstance(kind, StructType):
        return (kind.container or Struct)(
            [(name, _put_together(part, (*path, i), given)) for i, (name, part) in enumerate(kind.fields)]
        )
    return None


def _first(stack: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf[0], stack)


_ONE = rounds.Cohort({}, np.zeros((1, 1), np.int32), np.ones(1, np.int32))
"""One client on one device."""
