"""Where a worker folds clients of a program that it has: values come by position, and states are flat lists of arrays.

The same code on the same bytes of a program runs at whoever divides a cohort and at all who work for it, so nothing but
arrays need go between them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import jax

from hansa.compiler.connections import Connections
from hansa.compiler.evaluate import member
from hansa.compiler.partition import is_stacked
from hansa.compiler.sequences import NeedsSizes
from hansa.compiler.stacks import NeedsNumber
from hansa.compiler.sums.exact import Form
from hansa.language.computation import Computation
from hansa.runtimes import leaves
from hansa.runtimes.stages import in_order
from hansa.runtimes.stages import round as rounds
from hansa.runtimes.stages.compiled import Compiled
from hansa.runtimes.stages.devices import Devices
from hansa.runtimes.stages.place import BatchRows, Place
from hansa.types import FunctionType
from hansa.types.client_values import shaped

Forms = Sequence[tuple[int, int, Form]]
"""How some aggregates add up, by the numbers of their stage and of them in it."""


class Workplace:
    """A device with a program.

    Args:
        computation: with declared types.
        device: a JAX device; by default the first one.
        signature: the computation's type with the classes of structs that results are to have, if it has lost them.

    Attributes:
        compiled: the program.
        connections: how its stages are connected.
        devices: the one device.
        forms: how aggregates add up for which the usual form was not enough.
        widened: how often that has been changed.
    """

    def __init__(
        self, computation: Computation, device: jax.Device | None = None, signature: FunctionType | None = None
    ) -> None:
        self.compiled = Compiled.of(computation, signature=signature)
        self.devices = Devices([jax.devices()[0] if device is None else device])
        self.forms: Forms = ()
        self.widened = 0
        self._connect()

    def _connect(self) -> None:
        self.connections = Connections(self.compiled.program)
        self._place = Place(self.compiled, self.connections, self.devices)
        self._trees: dict[int, Any] = {}

    def otherwise(self, error: NeedsSizes | NeedsNumber | rounds.NeedsWideSums) -> None:
        """From now on compiled in another form; see `Compiled.otherwise`."""
        self.compiled.otherwise(error)
        if isinstance(error, rounds.NeedsWideSums):
            self.widened += 1
            self.forms = [
                (i, j, self.compiled.forms[fold.node])
                for i, stage in enumerate(self.compiled.program.clients)
                for j, fold in enumerate(stage.aggregates)
                if fold.node in self.compiled.forms
            ]
            self._connect()

    def widen(self, forms: Forms) -> None:
        """From now on with sums that hold more, as another workplace has come to need: its `forms`."""
        clients = self.compiled.program.clients
        self.compiled.widen({clients[stage].aggregates[number].node: form for stage, number, form in forms})
        self.forms, self.widened = forms, self.widened + 1
        self._connect()

    def zero(self, number: int, starts: Sequence[Any]) -> list[Any]:
        """The states of no clients.

        Args:
            number: which client stage.
            starts: the arrays of what they are made from, for each of the stage's `starts`.
        """
        stage, nodes = self.compiled.program.clients[number], self.connections.clients[number].starts
        found = self._place.compute(
            ("zero", number), nodes, self._shaped(nodes, starts), lambda env: rounds.zeros(stage.aggregates, env)
        )
        flat, self._trees[number] = jax.tree.flatten(found)
        return flat

    def knows_states(self, number: int) -> bool:
        """Whether `zero` has been called for a client stage since its sums were last given another form."""
        return number in self._trees

    def fold(
        self,
        number: int,
        state: Sequence[Any],
        sent: Sequence[Any],
        columns: list[Any],
        clients: int,
        batch_rows: BatchRows = None,
    ) -> tuple[list[Any], list[list[Any]]]:
        """The states with some clients more, in this order, and what these keep: for each value, arrays `[clients, …]`.

        Args:
            number: which client stage. `zero` has been called for it.
            state: the states before; they may be used up.
            sent: for each of the stage's broadcasts, its arrays, or a sequence as it is.
            columns: see `Place.fold_cohort`.
            clients: how many they are.
            batch_rows: to how many rows batches are padded.
        """
        stage, nodes = self.compiled.program.clients[number], self.connections.clients[number]
        after, kept = self._place.fold_cohort(
            number,
            stage,
            self.states(number, state),
            self._shaped(nodes.broadcasts, sent),
            [values if is_stacked(node) else values[0] for node, values in zip(nodes.inputs, columns, strict=True)],
            clients,
            batch_rows,
        )
        return jax.tree.leaves(after), [[leaf[:clients] for leaf in jax.tree.leaves(value)] for value in kept]

    def merge(self, number: int, states: Iterable[Sequence[Any]]) -> list[Any]:
        """The states of several groups of clients, at least one, as one; in order, where that matters."""
        aggregates = self.compiled.program.clients[number].aggregates

        def merge(a: list[Any], b: list[Any]) -> list[Any]:
            return [in_order.merged(fold, x, y) for fold, x, y in zip(aggregates, a, b, strict=True)]

        def both(a: Any, b: Any) -> Any:
            return self._place.call(("merge", number), merge, (a, b))

        return jax.tree.leaves(leaves.merged([self.states(number, state) for state in states], both))

    def returned(self, values: Sequence[Any], own: Sequence[Sequence[Any]]) -> dict[Any, Any]:
        """The parts of the result that are made of what clients have; see `Place.returned`."""
        return self._place.returned(values, own)

    def states(self, number: int, flat: Sequence[Any]) -> list[Any]:
        """States of a stage's aggregates, of their arrays. `zero` has been called for it."""
        states: list[Any] = jax.tree.unflatten(self._trees[number], list(flat))
        return states

    def _shaped(self, nodes: Sequence[Any], values: Sequence[Any]) -> list[Any]:
        """Values of some nodes, of their arrays in order; sequences are as they are."""
        return [
            shaped(member(node.type), iter(value)) if isinstance(value, list) else value
            for node, value in zip(nodes, values, strict=True)
        ]
