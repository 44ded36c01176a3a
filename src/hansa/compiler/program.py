"""`Program`: a federated computation as server stages and client stages in turn, which every runtime executes.

    ServerStage   (server values) -> (server values)
    ClientStage   (what is broadcast, one client's values) -> (contributions, values the client keeps)

A computation that only broadcasts, works and aggregates once has one client stage between two server stages, however
its functions are nested. `partition` makes a program from a graph; a stage is evaluated with JAX, so it can be part of
one larger XLA program or one of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hansa.compiler.aggregates import Aggregate
from hansa.compiler.evaluate import Environment, evaluate
from hansa.compiler.stacks import refuse_rows
from hansa.language.graph import Intrinsic, Node, Parameter
from hansa.types import FunctionType


@dataclass(frozen=True)
class ServerStage:
    """What the server computes between two rounds of client work.

    Attributes:
        inputs: the parameter, results of aggregation and outputs of earlier server stages that it reads.
        outputs: what it computes for the stages after it, or for the result.
    """

    inputs: tuple[Node, ...]
    outputs: tuple[Node, ...]

    def run(self, env: Environment) -> None:
        """Adds the values of `outputs` to `env`, which holds those of `inputs`."""
        evaluate(list(self.outputs), env)


@dataclass(frozen=True)
class ClientStage:
    """What each client computes, and how it is aggregated.

    Attributes:
        broadcasts: the server's values that every client gets, paired with their nodes at the clients.
        inputs: values that clients have: the parameter, and what they kept in earlier stages.
        aggregates: how contributions become values at the server.
        kept: values that stay with each client, for a later stage or for the result, or that are collected.
        collected: which kept values the server gets of all clients, paired with the node of the sequence or of the
            stack of them.
    """

    broadcasts: tuple[tuple[Node, Node], ...]
    inputs: tuple[Node, ...]
    aggregates: tuple[Aggregate, ...]
    kept: tuple[Node, ...]
    collected: tuple[tuple[Node, Intrinsic], ...] = ()

    def work(self, env: Environment) -> tuple[list[list[Any]], list[Any]]:
        """One client's contributions, a list for each aggregate, and the values it keeps.

        Args:
            env: the values of the broadcasts' client nodes and of `inputs` at this client.
        """
        wanted = [node for aggregate in self.aggregates for node in aggregate.contributions]
        found = evaluate([*wanted, *self.kept], env)
        refuse_rows(found, "clients give arrays of as many rows as there are clients")
        values = iter(found)
        contributions = [[next(values) for _ in aggregate.contributions] for aggregate in self.aggregates]
        return contributions, list(values)


@dataclass(frozen=True)
class Program:
    """A computation, compiled to stages.

    Attributes:
        name: the computation's name.
        signature: its type.
        parameter: the node of its parameter, or None.
        result: the node of its result.
        servers: the server stages, one more than there are client stages.
        clients: the client stages; `clients[i]` comes after `servers[i]`.
    """

    name: str
    signature: FunctionType
    parameter: Parameter | None
    result: Node
    servers: tuple[ServerStage, ...]
    clients: tuple[ClientStage, ...]
