"""`Stages`: the stages of a computation, each to be run by itself, wherever its values come from and go to.

It is what a coordinator, or a worker of a cluster, stands on. It knows nothing of rounds, messages or workers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import jax
import numpy as np

from hansa._tracebacks import boundaries
from hansa.compiler.artifacts.ports import picked
from hansa.compiler.connections import Connections
from hansa.compiler.evaluate import evaluate
from hansa.language.computation import Computation
from hansa.runtimes.results import assemble, stays_with_clients
from hansa.runtimes.stages import round as rounds
from hansa.runtimes.stages.compiled import Compiled
from hansa.runtimes.stages.devices import Devices
from hansa.runtimes.stages.place import Place, struct_of, whole_argument
from hansa.types import Struct, StructType, to_value

Values = Mapping[str, Any] | Struct | Sequence[Any]
"""Values by the names of ports, among others or not, or one for each port in order."""


@boundaries
class Stages:
    """The stages of a computation, each to be run by itself.

    A computation is server stages and client stages in turn. `servers[i]` computes what the clients of stage `i` are
    sent, of parts of the argument and of what is known by then; the last one computes the result. `clients[i]` says
    what one client gives, and folds what clients have given: in any order, in as many partial states as there are
    workers. Values go in and out by the names of ports, or by position; they are arrays, structs of arrays, and, where
    a type says so, sequences of batches. The same code runs on one device of this process as in `InProcessRuntime`.

    Args:
        computation: with declared types; one that `hansa.load` gives, or any other.
        device: a JAX device; by default the first one.
        sums: how floats are added up. "exact" is as in `InProcessRuntime`: no order of contributions changes a bit.
            Where it does not hold some unusually large or small numbers, `report` raises, and the same contributions
            are to be folded again by stages with "wide" sums, which hold all, and give the same bits otherwise. "fast"
            adds floats as they come.

    Attributes:
        servers: one more than there are client stages.
        clients: the client stages.

    Raises:
        TypeError: if the computation sends a sequence to the clients that the server computes.

    Examples:
        Federated averaging by hand: two workers fold the clients that they have, in an order of their own.

        >>> stages, cohort = hansa.Stages(process.next), data.cohort([0, 1, 2])
        >>> training = stages.clients[0]
        >>> known = {"state": state}
        >>> known |= stages.servers[0].run(known)._asdict()
        >>> partial = []
        >>> for worker in [[2, 0], [1]]:
        ...     total = training.zero()
        ...     for client in worker:
        ...         own = {"data": cohort[client], "client_id": cohort.numbers[client]}
        ...         done = training.work(known, own, batch_rows=20)
        ...         total = training.accumulate(total, done.contributions)
        ...     partial.append(total)
        >>> known |= training.report(training.merge(partial[1], partial[0]))._asdict()
        >>> known |= stages.servers[1].run(known)._asdict()
        >>> after, metrics = stages.result(known)
        >>> expected, _ = process.next(state, cohort)
        >>> np.allclose(after.model.trainable[0], expected.model.trainable[0], atol=1e-6)
        True
    """

    def __init__(
        self,
        computation: Computation,
        device: jax.Device | None = None,
        sums: Literal["exact", "wide", "fast"] = "exact",
    ) -> None:
        if sums not in ("exact", "wide", "fast"):
            raise ValueError(f"sums must be 'exact', 'wide' or 'fast', found {sums!r}")
        self._compiled = compiled = Compiled.of(computation, sums)
        self._connections = connections = Connections(compiled.program)
        devices = Devices([jax.devices()[0] if device is None else device])
        place = Place(compiled, connections, devices)
        self.servers = tuple(ServerStage(place, i) for i in range(len(compiled.program.servers)))
        self.clients = tuple(ClientStage(place, i) for i in range(len(compiled.program.clients)))

    def result(self, values: Values) -> Any:
        """What the computation returns.

        Args:
            values: by the names of ports, what the last server stage has given, and the argument's parts at the server
                if some are returned.

        Raises:
            TypeError: if a value is missing, or a part of the result is at the clients: it is theirs.
        """
        program, connections = self._compiled.program, self._connections
        if stays_with_clients(program):
            raise TypeError(
                f"a part of the result of {program.name!r} stays with each client; what `work` gives as `kept` has it"
            )
        found = picked(list(map(connections.port, connections.results)), values, "the result")
        argument = whole_argument(connections, values)
        return assemble(program, argument, dict(zip(connections.results, found, strict=True)), np.zeros(0, np.int64))

    def __repr__(self) -> str:
        name, clients = self._compiled.program.name, len(self.clients)
        return f"<Stages of {name}: {len(self.servers)} at the server, {clients} at the clients>"


@boundaries
class ServerStage:
    """A stage at the server; `Stages.servers` has them.

    Attributes:
        inputs: parts of the argument, results of aggregates, and what earlier server stages have given.
        outputs: what it gives to the stages after it, or as parts of the result.

    Examples:
        >>> stages = hansa.Stages(process.next)
        >>> [port.name for port in stages.servers[0].inputs]
        ['state']
        >>> sent = stages.servers[0].run({"state": state})
        >>> set(sent._fields) >= {port.name for port in stages.clients[0].broadcasts}
        True
    """

    def __init__(self, place: Place, number: int) -> None:
        self._place, self._number = place, number
        stage = place.connections.servers[number]
        self._inputs, self._outputs = stage.inputs, stage.outputs
        self.inputs = tuple(map(place.connections.port, stage.inputs))
        self.outputs = tuple(map(place.connections.port, stage.outputs))

    def run(self, values: Values) -> Struct:
        """A value for each of `outputs`, of one for each of `inputs`.

        Raises:
            TypeError, ValueError: if a value is missing, or is not of its type.
        """
        outputs = list(self._outputs)
        found = self._place.compute(("server", self._number), self._inputs, values, lambda env: evaluate(outputs, env))
        return struct_of(self.outputs, found)


@boundaries
class ClientStage:
    """A stage at the clients; `Stages.clients` has them.

    Attributes:
        broadcasts: what every client is sent.
        inputs: what a client has: parts of the argument, its number, what it kept of earlier stages.
        contributions: what it gives, by aggregate.
        reports: what becomes of all contributions, by aggregate.
        protected: the names of the aggregates of which only the result is to be seen, and no client's contribution.
        starts: outputs of the server stage before from which states of no clients are made.
        kept: what stays with a client, for later stages, or as its part of the result.

    Examples:
        >>> @hansa.federated_computation("{float32}@CLIENTS", "float32@SERVER")
        ... def distance(readings, target):
        ...     away = hansa.jax_computation(lambda reading, target: jnp.abs(reading - target))
        ...     return hansa.federated_mean(hansa.federated_map(away, [readings, hansa.federated_broadcast(target)]))
        >>> stage = hansa.Stages(distance).clients[0]
        >>> stage.broadcasts, stage.inputs
        ((Port(name='target', type=to_type('float32')),), (Port(name='readings', type=to_type('float32')),))
        >>> done = [stage.work({"target": 20.0}, {"readings": reading}) for reading in [18.5, 20.5]]
        >>> print(done[0].contributions)
        <mean of away=<value=1.5>>
        >>> total = stage.accumulate(stage.zero(), done[1].contributions)
        >>> print(stage.report(stage.accumulate(total, done[0].contributions)))
        <mean of away=1.0>
    """

    def __init__(self, place: Place, number: int) -> None:
        self._place, self._number = place, number
        port, stage = place.connections.port, place.connections.clients[number]
        self._stage, self._nodes = place.compiled.program.clients[number], stage
        self.broadcasts = tuple(map(port, stage.broadcasts))
        self.inputs = tuple(map(port, stage.inputs))
        self.starts = tuple(map(port, stage.starts))
        self.kept = tuple(map(port, stage.kept))
        self.reports = tuple(port(fold.node) for fold in self._stage.aggregates)
        self.protected = tuple(port(fold.node).name for fold in self._stage.aggregates if fold.protected)
        self.contributions = tuple(map(place.connections.contribution, self._stage.aggregates))
        self._given = StructType([(port.name, port.type) for port in self.contributions])

    def work(self, sent: Values, own: Values, batch_rows: int | None = None) -> Struct:
        """What one client gives.

        Args:
            sent: a value for each of `broadcasts`.
            own: a value for each of `inputs`; a sequence is a list of batches, `hansa.Batches` or the like.
            batch_rows: how many rows batches are padded to, at least as many as any has. How results are rounded may
                depend on it, so clients whose results are to have the bits of another place have the same number there.

        Returns:
            A struct of `contributions`, a struct of values for each aggregate, and `kept`.

        Raises:
            TypeError, ValueError: if a value is missing, or is not of its type.
        """
        aggregates = self._stage.aggregates
        given = [node for fold in aggregates for node in fold.contributions]
        alone = replace(self._stage, aggregates=(), kept=(*given, *self._stage.kept))
        values = iter(self._place.work(self._number, alone, sent, own, batch_rows))
        contributions = struct_of(
            self.contributions,
            [
                Struct((name, next(values)) for name, _ in zip(("value", "weight"), fold.contributions, strict=False))
                for fold in aggregates
            ],
        )
        return Struct.of(contributions=contributions, kept=struct_of(self.kept, list(values)))

    def zero(self, known: Values = ()) -> Struct:
        """The state of no clients, for each aggregate: arrays in structs and lists.

        Args:
            known: a value for each of `starts`, outputs of the server stage before; most aggregates have none.
        """
        stage, nodes = self._stage, self._nodes.starts
        found = self._place.compute(("zero", self._number), nodes, known, lambda env: rounds.zeros(stage, env))
        return struct_of(self.reports, found)

    def accumulate(self, state: Struct, contributions: Values) -> Struct:
        """The state with one more client's contributions. The state that is given may be used up."""
        found = picked(self.contributions, contributions, "the contributions")
        given = to_value(struct_of(self.contributions, found), self._given, "the contributions")
        aggregates = self._stage.aggregates

        def accumulate(states: list[Any], given: list[Any]) -> list[Any]:
            return [
                rounds.accumulated(aggregate, state, list(values))
                for aggregate, state, values in zip(aggregates, states, given, strict=True)
            ]

        args = (list(state), list(given))
        return struct_of(self.reports, self._place.call(("accumulate", self._number), accumulate, args, donated=(0,)))

    def merge(self, a: Struct, b: Struct) -> Struct:
        """The state of the clients of both. The state `a` may be used up."""
        aggregates = self._stage.aggregates

        def merge(a: list[Any], b: list[Any]) -> list[Any]:
            return [rounds.merged(fold, x, y) for fold, x, y in zip(aggregates, a, b, strict=True)]

        args = (list(a), list(b))
        return struct_of(self.reports, self._place.call(("merge", self._number), merge, args, donated=(0,)))

    def report(self, state: Struct) -> Struct:
        """A value for each of `reports`.

        Raises:
            NeedsWideSums: if a sum may not be exact (`hansa.NeedsWideSums`).
        """
        aggregates = self._stage.aggregates

        def report(states: list[Any]) -> tuple[list[Any], Any]:
            pairs = list(zip(aggregates, states, strict=True))
            lost = [aggregate.lost(state) for aggregate, state in pairs if aggregate.lost is not None]
            return [aggregate.report(state) for aggregate, state in pairs], rounds.any_of(lost)

        values, lost = self._place.call(("report", self._number), report, (list(state),))
        try:
            rounds.check(lost)
        except rounds.NeedsWideSums as error:
            error.add_note('Fold the same contributions again, by hansa.Stages(..., sums="wide").')
            raise
        return struct_of(self.reports, values)
