"""A device on which stages of a program run one by one: values come in by the names of ports, and arrays go out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np
from jax.sharding import PartitionSpec as P

from hansa.compiler.aggregates import Aggregate
from hansa.compiler.artifacts.ports import Port, by_name, picked
from hansa.compiler.connections import AtClient, Connections
from hansa.compiler.evaluate import Environment, evaluate, member, sequence_elements
from hansa.compiler.narrowing import Path
from hansa.compiler.partition import is_argument, is_passed, is_stacked, path_of
from hansa.compiler.program import ClientStage
from hansa.compiler.sequences import NeedsSizes
from hansa.language.graph import Node
from hansa.language.local import tensors, unflatten
from hansa.runtimes.arguments import unpack
from hansa.runtimes.columns import Capacity, Room, exactly
from hansa.runtimes.stages import in_order
from hansa.runtimes.stages import round as rounds
from hansa.runtimes.stages.compiled import Compiled
from hansa.runtimes.stages.devices import Devices, turns_of
from hansa.types import Struct, StructType, Type, to_value
from hansa.types.rows import Rows

BatchRows = int | tuple[tuple[Path, int], ...] | None
"""To how many rows batches are padded: all, or those of each sequence, by the number of the input and the way in it."""


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
        self._states: dict[Node, Any] = {}

    def compute(self, key: Any, nodes: Sequence[Node], values: Any, function: Callable[[Environment], Any]) -> Any:
        """The result of a function of these values, which is known by a key, at the server."""
        compiled, ports = self._of(key), list(map(self.connections.port, nodes))
        kind, narrow = self._typed(nodes)
        given = struct_of(ports, picked(ports, values, "the values"))
        packed, static = self._devices.pack(compiled, given, "the values", of=(kind, narrow))

        def run(packed: Any) -> Any:
            return function(self.environment(nodes, unpack(kind, packed, static, None)))

        return self._devices.execute(compiled, static, run, (packed,), (P(),), P())

    def fold(
        self, number: int, stage: ClientStage, states: list[Any], sent: Any, own: Sequence[Any], batch_rows: int | None
    ) -> tuple[list[Any], list[list[Any]]]:
        """The states with some clients more, in their order, and what each of them keeps.

        Args:
            number: which client stage it is.
            stage: that stage, or some of it.
            states: one for each of its aggregates; they may be used up.
            sent: what the clients are sent.
            own: what each client has.
            batch_rows: to how many rows batches are padded.
        """
        if batch_rows is not None and (type(batch_rows) is not int or batch_rows < 1):
            raise ValueError(f"batch_rows must be a positive number of rows, or None; found {batch_rows!r}")
        key = ("fold" if stage.aggregates else "work", number)
        compiled, nodes = self._of(key, batch_rows), self.connections.clients[number]
        inputs = list(map(self.connections.port, nodes.inputs))
        each = [picked(inputs, values, "what the client has") for values in own]
        columns = list(zip(*each, strict=True)) if each else [()] * len(inputs)
        mine = [
            list(values) if is_stacked(node) else values[0] for node, values in zip(nodes.inputs, columns, strict=True)
        ]
        after, kept = self._fold(compiled, stage, nodes, states, sent, mine, len(own), len(own) == 1)
        if len(own) == 1:
            return after, [kept]
        kept = jax.tree.map(np.asarray, kept)
        return after, [[_at(stack, client) for stack in kept] for client in range(len(own))]

    def fold_cohort(
        self,
        number: int,
        stage: ClientStage,
        states: list[Any],
        sent: Any,
        columns: list[Any],
        clients: int,
        batch_rows: BatchRows,
    ) -> tuple[list[Any], list[Any]]:
        """The states with some clients more, in their order, and arrays of what all of them keep, with room for more.

        Args:
            number: which client stage it is.
            stage: that stage.
            states: one for each of its aggregates; they may be used up.
            sent: what the clients are sent.
            columns: for each input of the stage, that of all clients: what an argument `{T}@CLIENTS` may be.
            clients: how many they are.
            batch_rows: to how many rows batches are padded.
        """
        # Leaves are of a few clients, whose contributions are kept.
        room = (
            Room(clients=Capacity(slack=1.0, waste=2.0, least=1))
            if any(map(in_order.in_order, stage.aggregates))
            else Room()
        )
        compiled = self._of(("cohort", number), batch_rows, room)
        return self._fold(compiled, stage, self.connections.clients[number], states, sent, columns, clients, False)

    def _fold(
        self,
        compiled: Compiled,
        stage: ClientStage,
        nodes: AtClient,
        states: list[Any],
        sent: Any,
        columns: list[Any],
        clients: int,
        alone: bool,
    ) -> tuple[list[Any], list[Any]]:
        ports = [self.connections.port(node) for node in nodes.broadcasts]
        both = StructType([("sent", self._typed(nodes.broadcasts)[0]), ("own", self._typed(nodes.inputs)[0])])
        narrow = frozenset((1, *path) for path in self._typed(nodes.inputs)[1])
        inputs = list(map(self.connections.port, nodes.inputs))
        given = Struct.of(sent=struct_of(ports, picked(ports, sent, "what is sent")), own=struct_of(inputs, columns))
        call = (compiled, stage, nodes, (both, narrow), given, states, clients, alone)
        try:
            return self._run_fold(*call)
        except NeedsSizes:
            if compiled.sizes is not None:
                raise
            compiled.sizes = set()
            return self._run_fold(*call)

    def _run_fold(
        self,
        compiled: Compiled,
        stage: ClientStage,
        nodes: AtClient,
        of: tuple[StructType, frozenset[Path]],
        given: Any,
        states: list[Any],
        clients: int,
        alone: bool,
    ) -> tuple[list[Any], list[Any]]:
        kind, _ = of
        what, turns = "the client" if clients == 1 else "the clients", [np.arange(clients)]
        packed, static = self._devices.pack(compiled, given, what, of=of, turns=turns)
        part, ordered = in_order.split(stage)

        def run(packed: Any, cohort: rounds.Cohort, states: list[Any]) -> tuple[list[Any], list[Any]]:
            server = self.environment(nodes.broadcasts, unpack(kind, packed, static, None).sent)

            def read(client: Any) -> Environment:
                env = self.environment(nodes.inputs, unpack(kind, packed, static, client, client).own)
                env.update((node, evaluate([source], server)[0]) for source, node in stage.broadcasts)
                return env

            # In a loop also for one client: XLA compiles what is in a loop in another way than what is not.
            summed, others = in_order.apart(stage, states)
            summed, stacks = rounds.fold_each(part, read, cohort, summed, 1)
            others = [
                in_order.chained(aggregate, state, contributions, cohort.lengths[0])
                for aggregate, state, contributions in zip(
                    ordered, others, in_order.by_aggregate(ordered, stacks), strict=True
                )
            ]
            kept = stacks[: len(stage.kept)]
            return in_order.together(stage, summed, others), [_at(stack, 0) for stack in kept] if alone else kept

        capacity = 1 if alone else turns_of(compiled, turns)
        order = np.arange(capacity, dtype=np.int32)[None]
        cohort = rounds.Cohort({}, order, np.array([clients], np.int32))
        args = (packed, cohort, states)
        after, kept = self._devices.execute(compiled, (static, alone), run, args, (P(),) * 3, P(), donated=(2,))
        return after, kept

    def returned(self, values: Any, own: Sequence[Sequence[Any]]) -> dict[Node, Rows]:
        """The parts of the result that are made of what clients have.

        Args:
            values: by the names of ports, what the server has.
            own: for each client, a value for each of `Connections.returned`.
        """
        connections = self.connections
        nodes = connections.of_server([source for source, _ in connections.sent_back])
        ports = list(map(connections.port, nodes))
        wanted = [node for node in connections.own_results if not is_passed(node)]
        with jax.enable_x64(True):
            server = self.environment(nodes, _typed(ports, picked(ports, values, "the result"), "the result"))
            sent = {node: evaluate([source], server)[0] for source, node in connections.sent_back}
            ports, rows = list(map(connections.port, connections.returned)), []
            for i, client in enumerate(own):
                env = self.environment(connections.returned, _typed(ports, client, f"client {i}"))
                rows.append(evaluate(wanted, {**env, **sent}))
        found = {}
        for i, node in enumerate(wanted):
            each = [jax.tree.leaves(row[i]) for row in rows]
            leaves = tensors(member(node.type))
            if each:
                arrays = [np.stack(column) for column in zip(*each, strict=True)]
            else:
                arrays = [np.empty((0, *(size or 0 for size in leaf.shape)), leaf.dtype) for leaf in leaves]
            found[node] = Rows.of(arrays, len(each))
        return found

    def state(self, aggregate: Aggregate, given: Any, what: str) -> Any:
        """A state of an aggregate, if it can be one: its arrays in the structs that it has here.

        Raises:
            ValueError: if it has other arrays, or they have been used up.
        """
        found, expected = jax.tree.leaves(given), self._expected(aggregate)
        if any(isinstance(leaf, jax.Array) and leaf.is_deleted() for leaf in found):
            raise ValueError(
                f"{what} has been used up: it was given to accumulate, fold or merge before; go on with what they gave"
            )
        if expected is None:
            return given
        leaves, tree = jax.tree.flatten(expected)
        described = [[f"{leaf.dtype}{list(leaf.shape)}" for leaf in side] for side in (leaves, map(_array, found))]
        if described[0] != described[1]:
            right, wrong = (", ".join(side) or "nothing" for side in described)
            name = self.connections.port(aggregate.node).name
            raise ValueError(f"{what} is none of {name!r}, whose states are of {right}; found {wrong}")
        return jax.tree.unflatten(tree, found)

    def _expected(self, aggregate: Aggregate) -> Any:
        """The shapes of a state, if the types of the program tell."""
        if aggregate.node not in self._states:
            start = None
            if aggregate.start is not None:
                kind = member(aggregate.start.type)
                if any(None in leaf.shape for leaf in tensors(kind)):
                    return None
                start = unflatten(kind, [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in tensors(kind)])
            self._states[aggregate.node] = aggregate.state(start)
        return self._states[aggregate.node]

    def call(self, key: Any, function: Callable[..., Any], args: tuple[Any, ...], donated: tuple[int, ...] = ()) -> Any:
        """The result of a function of arrays, which is known by a key."""
        return self._devices.execute(self._of(key), (), function, args, (P(),) * len(args), P(), donated)

    def _of(self, key: Any, batch_rows: BatchRows = None, room: Room | None = None) -> Compiled:
        """The room and the compiled programs of one function of a stage."""
        key = (key, batch_rows)
        if key not in self._apart:
            # What a client has may be large, so there is not much more room than for those that there are.
            little = Capacity(slack=1.25, waste=2.0, least=1)
            room = room or Room(clients=little, turns=little)
            if isinstance(batch_rows, int):
                room.batch = exactly(batch_rows)
            elif batch_rows is not None:
                others, each = room.batch, {(1, *path): exactly(rows) for path, rows in batch_rows}
                room.batch = lambda key, size: each.get(key[0], others)(key, size)
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

    def environment(self, nodes: Sequence[Node], values: Iterable[Any]) -> Environment:
        """What is at a place that has these values, of which parts of the argument make what is there of it."""
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


def _typed(ports: Sequence[Port], values: Sequence[Any], what: str) -> list[Any]:
    """The values of some ports, of their types; sequences as they are."""
    return [
        value if sequence_elements(port.type) else to_value(value, port.type, f"{port.name!r} of {what}")
        for port, value in zip(ports, values, strict=True)
    ]


def _array(leaf: Any) -> Any:
    return leaf if hasattr(leaf, "dtype") else np.asarray(leaf)


def _at(stack: Any, index: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[index], stack)
