"""`Stages`: the stages of a computation, each to be run by itself, wherever its values come from and go to.

It is what a coordinator, or a worker of a cluster, stands on. It knows nothing of rounds, messages or workers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from hansa._tracebacks import boundaries
from hansa.compiler.artifacts.ports import by_name, listing, picked
from hansa.compiler.connections import Connections
from hansa.compiler.evaluate import evaluate
from hansa.language.computation import Computation
from hansa.language.protected_sums import is_bounded
from hansa.runtimes import leaves
from hansa.runtimes.protected_sums import ProtectedSums
from hansa.runtimes.results import assemble
from hansa.runtimes.stages import in_order
from hansa.runtimes.stages import round as rounds
from hansa.runtimes.stages.compiled import Compiled
from hansa.runtimes.stages.devices import Devices
from hansa.runtimes.stages.gathered import check_clients, check_rows
from hansa.runtimes.stages.place import Place, struct_of, whole_argument
from hansa.types import Struct, StructType, to_value
from hansa.types.mismatch import describe

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
        returned: of what each client has, what `result` needs: where a part of the result is at the clients, or
            collected of them.

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
        if not isinstance(computation, Computation):
            raise TypeError(f"hansa.Stages takes a computation with declared types; found {describe(computation)}")
        if device is not None and not isinstance(device, jax.Device):
            raise TypeError(f"device must be a JAX device, such as jax.devices()[0]; found {device!r}")
        if sums not in ("exact", "wide", "fast"):
            raise ValueError(f"sums must be 'exact', 'wide' or 'fast', found {sums!r}")
        self._compiled = compiled = Compiled.of(computation, sums, counts=True)
        self._connections = connections = Connections(compiled.program)
        devices = Devices([jax.devices()[0] if device is None else device])
        self._place = place = Place(compiled, connections, devices)
        self.returned = tuple(map(connections.port, connections.returned))
        self.servers = tuple(ServerStage(place, i) for i in range(len(compiled.program.servers)))
        self.clients = tuple(ClientStage(place, i) for i in range(len(compiled.program.clients)))

    def result(self, values: Values, own: Sequence[Values] | None = None) -> Any:
        """What the computation returns.

        Args:
            values: by the names of ports, what the last server stage has given, and the argument's parts at the server
                if some are returned.
            own: where a part of the result is at the clients, or collected of them: for each client, in the cohort's
                order, a value for each of `returned`: what it has, and what `work` has given as `kept`.

        Raises:
            TypeError: if a value is missing.

        Examples:
            >>> @hansa.federated_computation("{float32}@CLIENTS")
            ... def doubled(readings):
            ...     return hansa.federated_map(hansa.jax_computation(lambda reading: 2 * reading), readings)
            >>> stages = hansa.Stages(doubled)
            >>> own = [stages.clients[0].work([], [reading]).kept for reading in (18.5, 20.5)]
            >>> stages.result({}, own)
            [np.float32(37.0), np.float32(41.0)]
        """
        program, connections = self._compiled.program, self._connections
        found = picked(list(map(connections.port, connections.results)), values, "the result")
        known = dict(zip(connections.results, found, strict=True))
        if not connections.own_results:
            return assemble(program, whole_argument(connections, values), known, np.arange(0))
        if own is None:
            raise TypeError(
                f"a part of the result of {program.name!r} is what each client has: pass `own`, for each client in the "
                f"cohort's order a dict or a struct of {listing(self.returned)}"
            )
        each = [picked(self.returned, client, f"what client {i} has") for i, client in enumerate(own)]
        check_clients(program, len(each))
        known |= self._place.returned(values, each)
        named = by_name(values) or {}
        named |= {port.name: [client[i] for client in each] for i, port in enumerate(self.returned)}
        return assemble(program, whole_argument(connections, named), known, np.arange(len(each)))

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
            ValueError: if there are values of fewer clients than the `min_cohort` of what has all of them.
        """
        for node, value in zip(self._inputs, picked(self.inputs, values, "the values"), strict=True):
            check_rows(node, value)
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
        self._protected = ProtectedSums(self._stage.aggregates)
        self._bounded = [port(fold.node).name for fold in self._stage.aggregates if is_bounded(fold.node)]
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
        _, (found,) = self._place.fold(self._number, alone, [], sent, [own], batch_rows)
        values = iter(found)
        contributions = struct_of(
            self.contributions,
            [
                Struct((name, next(values)) for name, _ in zip(("value", "weight"), fold.contributions, strict=False))
                for fold in aggregates
            ],
        )
        return Struct.of(contributions=contributions, kept=struct_of(self.kept, list(values)))

    def fold(self, state: Struct, sent: Values, own: Sequence[Values], batch_rows: int | None = None) -> Struct:
        """The work of several clients, and their contributions in a state, in one program.

        It has the bits of `work` and `accumulate`, one client after another. What the clients give is not kept.

        Args:
            state: of the clients before; it may be used up.
            sent: as for `work`.
            own: for each client, what `work` takes.
            batch_rows: as for `work`.

        Returns:
            A struct of `state`, and `kept`, a list with a struct for each client.

        Raises:
            TypeError, ValueError: if a value is missing, or is not of its type.

        Examples:
            >>> @hansa.federated_computation("{float32}@CLIENTS")
            ... def average(readings):
            ...     return hansa.federated_mean(readings)
            >>> stage = hansa.Stages(average).clients[0]
            >>> done = stage.fold(stage.zero(), [], [[18.5], [20.5]])
            >>> print(stage.report(done.state))
            <mean of readings=19.5>
        """
        states = self._states(state, "the state")
        if isinstance(own, str | Mapping | Struct) or not isinstance(own, Sequence):
            raise TypeError(f"own must be a list with what each client has; found {describe(own)}")
        if not own:
            return Struct.of(state=state, kept=[])
        after, kept = self._place.fold(self._number, self._stage, states, sent, own, batch_rows)
        return Struct.of(state=struct_of(self.reports, after), kept=[struct_of(self.kept, values) for values in kept])

    def zero(self, known: Values = (), clients: int | None = None) -> Struct:
        """The state of no clients, for each aggregate: arrays in structs and lists.

        Args:
            known: a value for each of `starts`, outputs of the server stage before; most aggregates have none.
            clients: how many clients there will be at most, in all states that are merged; where there are protected
                sums of bounded integers, it must be said.

        Raises:
            TypeError: if a value is missing.
            ValueError: if a protected sum of so many clients might not fit its dtype.
        """
        stage, nodes = self._stage, self._nodes.starts
        if self._bounded:
            self._check_bounded(known, clients)
        place = self._place
        found = place.compute(("zero", self._number), nodes, known, lambda env: rounds.zeros(stage.aggregates, env))
        return struct_of(self.reports, found)

    def _check_bounded(self, known: Values, clients: int | None) -> None:
        if clients is None:
            raise TypeError(
                f"say how many clients there will be at most, zero(…, clients=…): {', '.join(self._bounded)} is to be "
                "known to fit its dtype before any client works"
            )
        if isinstance(clients, bool) or not isinstance(clients, int | np.integer) or clients < 0:
            raise ValueError(f"clients is a number of clients; found {clients!r}")
        given = dict(zip(self.starts, picked(self.starts, known, "the values"), strict=True))
        ports = map(self._place.connections.port, self._protected.asked)
        bounds = [to_value(given[port], port.type, f"the value {port.name!r}") for port in ports]
        self._protected.check(int(clients), bounds)

    def accumulate(self, state: Struct, contributions: Values) -> Struct:
        """The state with one more client's contributions. The state that is given may be used up.

        Raises:
            TypeError, ValueError: if a value is missing, or is not of its type.
        """
        found = picked(self.contributions, contributions, "the contributions")
        given = to_value(struct_of(self.contributions, found), self._given, "the contributions")
        aggregates = self._stage.aggregates

        def accumulate(states: list[Any], given: list[Any], clients: Any) -> list[Any]:
            return [
                in_order.chained(aggregate, state, jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], values), clients)
                if in_order.in_order(aggregate)  # in a loop that is run once, for the bits of `fold`
                else in_order.accumulated(aggregate, state, values)
                for aggregate, state, values in zip(aggregates, states, map(list, given), strict=True)
            ]

        args = (self._states(state, "the state"), list(given), np.int32(1))
        return struct_of(self.reports, self._place.call(("accumulate", self._number), accumulate, args, donated=(0,)))

    def merge(self, state: Struct, *others: Struct) -> Struct:
        """The state of the clients of all of these. They may be used up.

        The result does not depend on their order, but for what is no sum (`federated_aggregate`). Of that it is what
        runtimes compute, if each state is that of 16 clients that follow each other in the cohort, accumulated in
        order (the last state may be of fewer), and the states are given in order.
        """
        aggregates = self._stage.aggregates

        def merge(a: list[Any], b: list[Any]) -> list[Any]:
            return [in_order.merged(fold, x, y) for fold, x, y in zip(aggregates, a, b, strict=True)]

        def both(a: list[Any], b: list[Any]) -> list[Any]:
            found: list[Any] = self._place.call(("merge", self._number), merge, (a, b), donated=(0,))
            return found

        states = [self._states(each, f"state {i}") for i, each in enumerate((state, *others))]
        arrays = jax.tree.leaves(states)
        if len(set(map(id, arrays))) < len(arrays):
            raise ValueError("a state is given twice, and its clients would count twice")
        return struct_of(self.reports, leaves.merged(states, both))

    def report(self, state: Struct) -> Struct:
        """A value for each of `reports`.

        Raises:
            ValueError: if the state is none of this stage.
            NeedsWideSums: if a sum may not be exact (`hansa.NeedsWideSums`).
            ValueError: if there are contributions of fewer clients than an aggregate's `min_cohort`.
        """
        aggregates, given = self._stage.aggregates, self._states(state, "the state")

        def report(states: list[Any]) -> tuple[list[Any], Any]:
            pairs = list(zip(aggregates, states, strict=True))
            lost = [aggregate.lost(state) for aggregate, state in pairs if aggregate.lost is not None]
            return [aggregate.report(state) for aggregate, state in pairs], rounds.together(lost)

        values, lost = self._place.call(("report", self._number), report, (given,))
        try:
            rounds.check(lost, aggregates)
        except rounds.NeedsWideSums as error:
            error.add_note('Fold the same contributions again, by hansa.Stages(..., sums="wide").')
            raise
        return struct_of(self.reports, values)

    def _states(self, state: Any, what: str) -> list[Any]:
        """The states of the aggregates, if these can be such."""
        found = picked(self.reports, state, what)
        return [self._place.state(fold, each, what) for fold, each in zip(self._stage.aggregates, found, strict=True)]
