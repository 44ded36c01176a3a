"""What each stage of a program takes and gives, by name: how stages that run in different places are connected.

It is read off the graph, so it is there for computations that are in no file, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from hansa.compiler.aggregates import Aggregate
from hansa.compiler.artifacts.ports import Port, distinct
from hansa.compiler.evaluate import member, sequence_elements
from hansa.compiler.explain.stages import name_of
from hansa.compiler.partition import (
    collected_from,
    is_aggregate,
    is_argument,
    is_broadcast,
    is_passed,
    is_stacked,
    path_of,
    placed_parts,
    taken_in,
    within,
)
from hansa.compiler.program import ClientStage, Program
from hansa.language.graph import Intrinsic, Literal, Node, RuntimeValue
from hansa.types import FederatedType, StructType, Type


@dataclass(frozen=True)
class AtServer:
    """What a server stage takes and gives, as nodes.

    Attributes:
        inputs: parts of the argument, results of aggregates and outputs of earlier server stages.
        outputs: what it computes for the stages after it: broadcasts, starts of aggregates, parts of the result.
    """

    inputs: tuple[Node, ...]
    outputs: tuple[Node, ...]


@dataclass(frozen=True)
class AtClient:
    """What a client stage takes and gives, as nodes.

    Attributes:
        broadcasts: what the server sends, outputs of the server stage before; what is known as the program is written
            is not sent.
        inputs: parts of the argument, what the runtime has for the client, what it kept.
        starts: the values at the server from which states of no clients are made.
        kept: what stays with the client.
    """

    broadcasts: tuple[Node, ...]
    inputs: tuple[Node, ...]
    starts: tuple[Node, ...]
    kept: tuple[Node, ...]


class Connections:
    """How the stages of a program are connected.

    Args:
        program: the program.

    Attributes:
        program: the program.
        arguments: the parts of the program's parameter, each at one place.
        servers: for each server stage.
        clients: for each client stage.
        results: the parts of the result that the server computes.
        own_results: the parts of the result that each client has, and those that are collected: nodes at the clients.
        returned: what a client's parts of the result are made of, of what it has.
        sent_back: what they are made of, of what the server has: its values, paired with their nodes at the clients.

    Raises:
        TypeError: if a sequence that the server computes is sent to the clients.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self.arguments = () if program.parameter is None else tuple(placed_parts(program.parameter))
        self.results = tuple(
            node for node in placed_parts(program.result) if not (is_passed(node) or is_stacked(collected_from(node)))
        )
        own = map(collected_from, placed_parts(program.result))
        self.own_results = _distinct(filter(is_stacked, own))
        kept = {node for stage in program.clients for node in stage.kept}
        parts = _distinct(part for root in self.own_results for part in within(root, kept.__contains__))
        self.sent_back = tuple(
            (n.inputs[0], n) for n in parts if is_broadcast(n) and not isinstance(n.inputs[0], Literal)
        )
        self.servers: tuple[AtServer, ...] = ()
        self.clients: tuple[AtClient, ...] = ()
        self._names: dict[Any, str] = {}
        self._name(self.arguments, name_of)
        for i, stage in enumerate(program.servers):
            following = program.clients[i] if i < len(program.clients) else None
            self.servers += (self._server(stage.outputs, following),)
            if following is not None:
                self.clients += (self._client(following),)
        self.returned = self._inputs(self.own_results, lambda n: n in kept or is_broadcast(n), at_clients=True)
        self._name(self.returned, name_of)

    def of_server(self, nodes: Sequence[Node]) -> tuple[Node, ...]:
        """What some values at the server are put together from: parts of the argument, and what is known in the end."""
        known = {node for stage in self.servers for node in stage.outputs}
        return self._inputs(nodes, lambda node: is_aggregate(node) or node in known, at_clients=False)

    def port(self, node: Node) -> Port:
        """The port of a value: names are unique in a program."""
        return Port(self._names[_key(node)], member(node.type))

    def contribution(self, fold: Aggregate) -> Port:
        """What a client gives to an aggregate: a struct of a value, and its weight if it has one."""
        kinds = [member(node.type) for node in fold.contributions]
        return Port(self._names[fold.node], StructType(zip(("value", "weight"), kinds, strict=False)))

    def _server(self, wanted: tuple[Node, ...], following: ClientStage | None) -> AtServer:
        needed = [node for node in wanted if not is_argument(node)]
        if following is None:
            needed += [*self.results, *(source for source, _ in self.sent_back)]
        else:
            needed += [*_sent(following), *_starts(following)]
        known = {node for stage in self.servers for node in stage.outputs if not is_argument(node)}
        roots = _distinct(n for n in needed if not (isinstance(n, Literal) or is_aggregate(n) or n in known))
        for node in roots:
            if sequence_elements(member(node.type)) and not is_argument(node):
                raise TypeError(
                    f"a sequence that is computed at the server, of type {node.type}, is sent to the clients; stages "
                    "that run apart send what it is made of, and compute it at the clients"
                )
        inputs = self._inputs(roots, lambda node: is_aggregate(node) or node in known, at_clients=False)
        self._name([node for node in inputs if isinstance(node, RuntimeValue)], name_of)
        self._name(roots, name_of)
        return AtServer(inputs, roots)

    def _client(self, stage: ClientStage) -> AtClient:
        roots = [*(node for fold in stage.aggregates for node in fold.contributions), *stage.kept]
        earlier = {node for node in stage.inputs if not is_argument(node)}
        broadcasts = {node for _, node in stage.broadcasts}
        inputs = self._inputs(roots, lambda node: node in broadcasts or node in earlier, at_clients=True)
        self._name((*inputs, *stage.kept), name_of)
        self._name((fold.node for fold in stage.aggregates), lambda node: f"{name_of(node)} of {_given(node)}")
        self._name((node for _, node in stage.collected), lambda node: f"all {_given(node)}")
        return AtClient(_distinct(_sent(stage)), inputs, _distinct(_starts(stage)), stage.kept)

    def _inputs(self, roots: Iterable[Node], is_known: Callable[[Node], bool], at_clients: bool) -> tuple[Node, ...]:
        """What is taken in at a place to compute some values: whole parts of the argument, and what is known there."""
        found = taken_in(roots, is_known)
        paths = [path_of(node) for node in found if is_argument(node)]
        parts = [
            part
            for part in self.arguments
            if is_at_clients(part.type) == at_clients and any(_overlap(path_of(part), path) for path in paths)
        ]
        others = [n for n in found if isinstance(n, RuntimeValue) or (is_known(n) and not is_broadcast(n))]
        return (*parts, *others)

    def _name(self, nodes: Iterable[Node], call: Callable[[Node], str]) -> None:
        new = {_key(node): node for node in nodes if _key(node) not in self._names}
        known = list(self._names.values())
        names = distinct([*known, *map(call, new.values())])
        self._names.update(zip(new, names[len(known) :], strict=True))


def _key(node: Node) -> Any:
    """What a value is known by: parts of the argument are the same wherever they are selected."""
    return path_of(node) if is_argument(node) else node


def _distinct(nodes: Iterable[Node]) -> tuple[Node, ...]:
    return tuple({_key(node): node for node in nodes}.values())


def is_at_clients(kind: Type) -> bool:
    """Whether a part of the argument is one that clients have."""
    return isinstance(kind, FederatedType) and kind.placement.name == "CLIENTS"


def _overlap(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    return all(x == y for x, y in zip(a, b, strict=False))


def _sent(stage: ClientStage) -> list[Node]:
    return [source for source, _ in stage.broadcasts if not isinstance(source, Literal)]


def _starts(stage: ClientStage) -> list[Node]:
    return [fold.start for fold in stage.aggregates if not isinstance(fold.start, Literal | None)]


def _given(node: Any) -> str:
    assert isinstance(node, Intrinsic)
    return name_of(node.arguments[0])
