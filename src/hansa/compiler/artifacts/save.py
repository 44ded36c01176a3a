"""From a program to what an artifact keeps of it: each stage and each fold as StableHLO, and how they are connected.

A value is named by where it comes from: a part of the parameter, an output of a server stage, what a client stage has
given, kept or collected. `load` makes a graph of that again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import export, lax

from hansa.compiler.aggregates import Aggregate
from hansa.compiler.artifact_error import ArtifactError
from hansa.compiler.artifacts.exporting import Exporter
from hansa.compiler.artifacts.expressions import REARRANGING
from hansa.compiler.artifacts.file import Writer
from hansa.compiler.artifacts.ports import distinct, encode_port
from hansa.compiler.artifacts.types import encode_type, encode_value, state_types
from hansa.compiler.boundary import flatten, has_strings, unflatten, varying
from hansa.compiler.evaluate import evaluate, member
from hansa.compiler.explain.stages import name_of
from hansa.compiler.narrowing import narrowed_inputs
from hansa.compiler.noise import keys_of
from hansa.compiler.partition import compile_computation, computed_sources, is_argument, taken_in
from hansa.compiler.program import ClientStage, ServerStage
from hansa.language.computation import Computation
from hansa.language.declared_flows import declared_flows
from hansa.language.graph import Intrinsic, Literal, MakeStruct, Node, Parameter, RuntimeValue, Select
from hansa.types import FederatedType, Type

_CLIENTS_AT_ONCE = 32
"""For how many clients at once a stage is compiled that cannot be for any number: the default of runtimes on a GPU."""


class ProgramEncoder:
    """Encodes the program of a computation.

    Args:
        computation: of which it is.
        writer: takes the functions and arrays.
        platforms: what to compile for, as in `jax.export`.
    """

    def __init__(self, computation: Computation, writer: Writer, platforms: tuple[str, ...]) -> None:
        self._computation = computation
        self._program = program = compile_computation(computation)
        self._writer = writer
        self._exporter = Exporter(program.name, writer, platforms)
        self._known: dict[Node, list[Any]] = {}
        self._names: dict[Node, str] = {}
        self._folds: dict[Any, dict[str, Any]] = {}

    def encode(self) -> dict[str, Any]:
        """The program's part of the manifest.

        Raises:
            ArtifactError: if a part of it cannot be kept as StableHLO.
        """
        program, servers, clients = self._program, [], []
        for i, stage in enumerate(program.servers):
            servers.append(self._server(i, stage))
            if i < len(program.clients):
                clients.append(self._client(i, program.clients[i]))
        # Of one that is given its keys as an argument, for those who work for a runtime, nothing is said.
        declared = declared_flows(self._computation) if keys_of(self._computation) else None
        return {
            "name": program.name,
            **({} if declared is None else {"privacy": declared.encode()}),
            "type": encode_type(program.signature),
            "servers": servers,
            "clients": clients,
            "result": self._expression(program.result),
        }

    def _server(self, number: int, stage: ServerStage) -> dict[str, Any]:
        outputs = [node for node in stage.outputs if not isinstance(node, Literal) and not is_argument(node)]
        inputs = self._inputs(outputs)
        given, ports = self._given(inputs), self._ports(outputs)
        self._learn("server", number, outputs, ports)
        return {
            "inputs": given,
            "outputs": ports,
            "narrow": sorted(narrowed_inputs(inputs, outputs)),
            "function": self._function(f"{self._program.name}_server_{number}", inputs, outputs) if outputs else None,
        }

    def _client(self, number: int, stage: ClientStage) -> dict[str, Any]:
        # What is known when the computation is written is a constant of the stage, and is not sent.
        broadcasts = [pair for pair in _intrinsics(stage.broadcasts) if not isinstance(pair[0], Literal)]
        nodes = [node for _, node in broadcasts]
        sent = [
            {**port, "operation": node.name, "from": self._expression(source)}
            for (source, node), port in zip(broadcasts, self._ports(nodes), strict=True)
        ]
        self._learn("broadcast", number, nodes, sent)
        given = [node for aggregate in stage.aggregates for node in aggregate.contributions]
        kept = [n for n in dict.fromkeys(s for n in stage.kept for s in computed_sources(n)) if n not in self._known]
        outputs = [*given, *kept]
        inputs = self._inputs(outputs)
        ports = self._ports(outputs)
        encoded = {
            "broadcasts": sent,
            "inputs": self._given(inputs),
            "kept": ports[len(given) :],
            "narrow": sorted(narrowed_inputs(inputs, outputs)),
            **self._client_work(f"{self._program.name}_client_{number}", inputs, outputs),
            "aggregates": self._aggregates(stage.aggregates, iter(ports)),
        }
        self._learn("kept", number, kept, encoded["kept"])
        results = [node for _, node in stage.collected]
        encoded["collected"] = [
            {**port, "operation": node.name, "from": self._expression(source), **node.terms.encode()}
            for (source, node), port in zip(stage.collected, self._ports(results), strict=True)
        ]
        totals = [aggregate.node for aggregate in stage.aggregates]
        self._learn("aggregate", number, totals, [fold["result"] for fold in encoded["aggregates"]])
        self._learn("collected", number, results, encoded["collected"])
        return encoded

    def _ports(self, nodes: Sequence[Node]) -> list[dict[str, Any]]:
        """What the manifest says of values, by names that are all different: those that they have, if it can be."""
        names = distinct(self._names.get(node) or name_of(node) for node in nodes)
        return [encode_port(name, node.type) for name, node in zip(names, nodes, strict=True)]

    def _given(self, nodes: Sequence[Node]) -> list[dict[str, Any]]:
        """The same of what a stage takes, and where it comes from."""
        return [{**port, "from": self._expression(node)} for node, port in zip(nodes, self._ports(nodes), strict=True)]

    def _learn(self, what: str, number: int, nodes: Sequence[Node], ports: Sequence[dict[str, Any]]) -> None:
        """Takes values as known to the stages that follow, by these names."""
        for i, (node, port) in enumerate(zip(nodes, ports, strict=True)):
            self._known[node], self._names[node] = [what, number, i], port["name"]

    def _inputs(self, roots: Iterable[Node]) -> list[Node]:
        """What a stage takes in to compute `roots`: known values and parts of the parameter."""
        return taken_in(roots, self._known.__contains__)

    def _expression(self, node: Node) -> list[Any]:
        """Where a value comes from."""
        if node in self._known:
            return self._known[node]
        match node:
            case Parameter():
                return ["parameter"]
            case Select():
                return ["select", self._expression(node.source), node.index]
            case MakeStruct():
                return ["struct", encode_type(node.type), [self._expression(element) for element in node.elements]]
            case Literal():
                return ["literal", encode_type(node.type), encode_value(node.value, self._writer)]
            case RuntimeValue():
                number = [each for each in (node.number, node.rounds) if each is not None]
                return ["runtime", node.name, encode_type(node.type), *number]
            case Intrinsic() if node.name in REARRANGING:
                return [
                    "operation",
                    node.name,
                    encode_type(node.type),
                    [self._expression(argument) for argument in node.arguments],
                ]
        raise ArtifactError(
            f"{self._program.name!r} cannot be saved: it sends a sequence that it computes at the server to the "
            f"clients, of type {node.type}{_at(node)}; send what the sequence is made of, and compute it at the clients"
        )

    def _client_work(self, name: str, inputs: Sequence[Node], outputs: Sequence[Node]) -> dict[str, Any]:
        """What a client computes, as a function for one client and, if there is one, for several at once."""
        own = [varies for node in inputs for varies in varying(member(node.type), _is_own(node))]
        encoded = {"function": self._function(name, inputs, outputs), "vectorised": None}
        if any(own):
            work, kinds = self._work(inputs, outputs), [member(node.type) for node in inputs]
            for clients in (None, _CLIENTS_AT_ONCE):
                try:
                    several, _ = self._exporter.any_size(f"{name}_vectorised", work, kinds, stacked=(own, clients))
                except ArtifactError:  # Convolutions need a known number of clients, and some operations no number.
                    continue
                encoded["vectorised"] = {"function": several, "varying": own, "clients": clients}
                break
        return encoded

    def _function(self, name: str, inputs: Sequence[Node], outputs: Sequence[Node]) -> dict[str, Any]:
        """What a stage computes, as a function of the arrays of its inputs."""
        for node in outputs:
            if has_strings(member(node.type)):
                raise ArtifactError(
                    f"{self._program.name!r} cannot be saved: it computes a value of type {node.type}{_at(node)}, and "
                    "strings are not computed with; return the string beside it"
                )
        return self._exporter.any_size(name, self._work(inputs, outputs), [member(node.type) for node in inputs])[0]

    @staticmethod
    def _work(inputs: Sequence[Node], outputs: Sequence[Node]) -> Callable[..., list[Any]]:
        """From the arrays of a stage's inputs to those of its outputs."""

        def work(*arrays: Any) -> list[Any]:
            rest = iter(arrays)
            env = {node: unflatten(member(node.type), rest) for node in inputs}
            values = evaluate(list(outputs), env)
            return [a for node, value in zip(outputs, values, strict=True) for a in flatten(member(node.type), value)]

        return work

    def _aggregates(
        self, aggregates: Sequence[Aggregate], contributions: Iterator[dict[str, Any]]
    ) -> list[dict[str, Any]]:
        results = self._ports([aggregate.node for aggregate in aggregates])
        return [
            {
                **self._aggregate(aggregate),
                "contributions": [next(contributions) for _ in aggregate.contributions],
                "result": result,
            }
            for aggregate, result in zip(aggregates, results, strict=True)
        ]

    def _aggregate(self, aggregate: Aggregate) -> dict[str, Any]:
        kinds = [member(node.type) for node in aggregate.contributions]
        result = member(aggregate.node.type)
        own = aggregate.node.name == "federated_aggregate" or aggregate.start is not None
        key = aggregate.node if own else (aggregate.node.name, tuple(kinds), result)
        if key not in self._folds:
            self._folds[key] = self._fold(aggregate, kinds, result)
        return {
            "operation": aggregate.node.name,
            "name": name_of(aggregate.node),
            "start": None if aggregate.start is None else self._given([aggregate.start])[0],
            "collective": aggregate.collective,
            "protected": aggregate.protected,
            **aggregate.terms.encode(),
            **self._folds[key],
        }

    def _fold(self, aggregate: Aggregate, kinds: list[Type], result: Type) -> dict[str, Any]:
        """The four functions of an aggregate, of the leaves of its states."""
        trees: list[Any] = []

        def zero(*arrays: Any) -> list[Any]:
            start = None if aggregate.start is None else unflatten(member(aggregate.start.type), iter(arrays))
            leaves, tree = jax.tree.flatten(aggregate.zero(start))
            trees[:] = [tree]
            return [jnp.asarray(leaf) for leaf in leaves]

        name = f"{self._program.name}_{aggregate.name}"
        encoded, states = self._exporter.any_size(
            f"{name}_zero", zero, [] if aggregate.start is None else [member(aggregate.start.type)]
        )
        if any(export.is_symbolic_dim(dim) for state in states for dim in state.shape):
            raise ArtifactError(
                f"{self._program.name!r} cannot be saved: the state of {aggregate.name}{_at(aggregate.node)} has a "
                "size that only the data tells; give the zero a known size"
            )
        (tree,) = trees

        def state(arrays: Sequence[Any]) -> Any:
            return jax.tree.unflatten(tree, list(arrays))

        def as_state(value: Any) -> list[Any]:
            return [
                lax.convert_element_type(x, aval.dtype) for x, aval in zip(jax.tree.leaves(value), states, strict=True)
            ]

        def accumulate(*arrays: Any) -> list[Any]:
            rest = iter(arrays[len(states) :])
            given = [unflatten(kind, rest) for kind in kinds]
            return as_state(aggregate.accumulate(state(arrays[: len(states)]), given))

        def merge(*arrays: Any) -> list[Any]:
            return as_state(aggregate.merge(state(arrays[: len(states)]), state(arrays[len(states) :])))

        def report(*arrays: Any) -> list[Any]:
            return flatten(result, aggregate.report(state(arrays)))

        return {
            "state": [encode_type(kind) for kind in state_types(states)],
            "zero": encoded,
            "accumulate": self._exporter.any_size(f"{name}_accumulate", accumulate, kinds, states)[0],
            "merge": self._exporter.export(f"{name}_merge", merge, [*states, *states])[0],
            "report": self._exporter.export(f"{name}_report", report, states)[0],
        }


def _is_own(node: Node) -> bool:
    """Whether a value at the clients is another one for each."""
    return isinstance(node.type, FederatedType) and not node.type.all_equal


def _intrinsics(pairs: Iterable[tuple[Node, Node]]) -> list[tuple[Node, Intrinsic]]:
    return [(source, node) for source, node in pairs if isinstance(node, Intrinsic)]


def _at(node: Node) -> str:
    return f" (made at {node.where})" if node.where else ""
