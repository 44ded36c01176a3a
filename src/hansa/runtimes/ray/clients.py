"""The clients of one call, worked for on a Ray cluster: see `hansa.runtimes.stages.loop.Clients`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import ray

from hansa.compiler.evaluate import member
from hansa.compiler.partition import is_argument, is_stacked, path_of
from hansa.compiler.stacks import ClientRows
from hansa.language.graph import Node, RuntimeValue
from hansa.runtimes.leaves import LEAF
from hansa.runtimes.ray import dealing, populations, wire
from hansa.runtimes.ray.dealing import Piece, Positions, Queue
from hansa.runtimes.ray.folding import Folding, Kept, Stage
from hansa.runtimes.ray.pool import Pool
from hansa.runtimes.ray.stored import Store, StoredBlock
from hansa.runtimes.ray.wire import Plain
from hansa.runtimes.ray.worker import Work
from hansa.runtimes.results import pick
from hansa.runtimes.stages import in_order
from hansa.runtimes.stages.call import Call
from hansa.runtimes.stages.gathered import Gathered
from hansa.runtimes.stages.loop import Folds, Known, each
from hansa.runtimes.stages.workplace import Workplace
from hansa.types.batches import ClientBatches
from hansa.types.client_values import ClientValues
from hansa.types.examples import Examples
from hansa.types.rows import Rows
from hansa.types.unread import Unread


class RayClients:
    """Works for the clients of a call.

    Args:
        pool: the workers.
        place: the program, as the driver has it.
        key: of the program.
        call: the call.
        store: the blocks and arrays that the object store has.
        programs: what workers may not have been told of: see `Pool.news`.
        paces: the seconds of a unit of work by program and stage, as they have been; they are noted here.
    """

    devices = 1
    begins = False

    def __init__(
        self,
        pool: Pool,
        place: Workplace,
        key: str,
        call: Call,
        store: Store,
        programs: Mapping[str, Any],
        paces: dict[Any, float | None],
    ) -> None:
        self._pool, self._place, self._key, self._call, self._store = pool, place, key, call, store
        self._programs, self._paces = programs, paces
        self._lists: dict[Node, tuple[list[Plain], list[Any]]] = {}
        self._results: dict[Node, Rows] | None = None

    def wanted(self, number: int) -> Sequence[Node]:
        """What clients are sent, and what states are made from, as far as it is no part of the argument."""
        stage = self._place.connections.clients[number]
        return [node for node in (*stage.broadcasts, *stage.starts) if not is_argument(node)]

    def work(
        self, number: int, known: Known, folds: Folds, gathered: Gathered, later: set[Node]
    ) -> tuple[Folds, dict[Node, Rows]]:
        """All clients' work of a stage."""
        place, call = self._place, self._call
        stage, nodes = known.program.clients[number], place.connections.clients[number]
        told = tuple([self._at_server(node, known) for node in each] for each in (nodes.broadcasts, nodes.starts))
        if not (call.size and place.knows_states(number)):
            states = place.zero(number, told[1])
        kept: dict[Node, Rows] = {}
        if call.size:
            ordered = any(map(in_order.in_order, stage.aggregates))
            deal = dealing.blocks if ordered else dealing.pieces
            waiting = deal(call.work, max(1, len(self._pool.members)))
            names: dict[str, Plain] = {}
            columns, batch_rows = self._columns(number, known, names)
            at_once = self._at_once(known, ordered)

            def work(positions: Positions, parts: list[list[int]] | None) -> Work:
                mine = [column(positions) for column in columns]
                return Work(self._key, number, len(positions), mine, batch_rows, parts, at_once)

            ends = _ends if ordered else None
            sent = ray.put(told)
            todo = Stage(self._key, number, ends, work, sent, self._programs, names, self._names)
            queue = Queue(deque(waiting), client_bytes=call.on_disk // call.size)
            folding = Folding(self._pool, todo, queue, self._paces.get((self._key, number)))
            found = folding.run()
            self._paces[self._key, number] = folding.pace
            states = place.merge(number, map(wire.apart, ray.get(found)))
            for i, node in enumerate(stage.kept):
                kept[node] = self._rows(i, folding.kept)
        elif stage.kept:
            kept = {node: self._nobodys(node) for node in stage.kept}
        gathered.take(kept)
        rest, ordered_states = in_order.apart(stage, place.states(number, states))
        progress = [in_order.Progress(state, np.int32(call.size), state, ()) for state in ordered_states]
        return Folds(each(jax.tree.map(np.asarray, rest)), progress), kept

    def values(self, node: Node, known: Known) -> Rows:
        """A value at the clients that is put together of what they have, and of what the server has."""
        if self._results is None:
            connections, call = self._place.connections, self._call
            of_server = connections.of_server([source for source, _ in connections.sent_back])
            values = [self._value(each, known) for each in of_server]
            own = [
                list(ClientValues(member(each.type), known.kept[each], call.client_ids))
                if each in known.kept
                else self._part(each, is_stacked(each))
                for each in connections.returned
            ]
            self._results = self._place.returned(values, list(zip(*own, strict=True)))
        return self._results[node]

    def _part(self, node: Node, stacked: bool) -> list[Any]:
        """A part of the argument, for each client."""
        value = pick(node, self._call.argument)
        return list(value) if stacked else [value] * self._call.size

    def _value(self, node: Node, known: Known) -> Any:
        """A value at the server."""
        return pick(node, self._call.argument) if is_argument(node) else jax.tree.map(np.asarray, known.server[node])

    def _at_server(self, node: Node, known: Known) -> Plain:
        """A value at the server as it is sent."""
        kind, what = member(node.type), f"a part of {self._call.what}"
        if is_argument(node):
            found = wire.flat(kind, pick(node, self._call.argument), what)
            return found if wire.has_sequence(kind) else [self._store.array(leaf) for leaf in found]
        leaves = jax.tree.leaves(known.server[node], is_leaf=lambda part: isinstance(part, ClientRows))
        return [
            np.asarray(leaf.array)[: int(leaf.count)] if isinstance(leaf, ClientRows) else np.asarray(leaf)
            for leaf in leaves
        ]

    def _columns(
        self, number: int, known: Known, names: dict[str, Plain]
    ) -> tuple[list[Callable[[Positions], Plain]], Any]:
        """For each input of a stage what clients at some positions have, as it is sent; and the rows of batches."""
        found: list[Callable[[Positions], Plain]] = []
        padded = []
        for i, node in enumerate(self._place.connections.clients[number].inputs):
            kind = member(node.type)
            if isinstance(node, RuntimeValue):
                found.append(lambda at, values=self._call.own[node.name]: ("numbers", values[at]))  # type: ignore[misc]
                continue
            if node in known.kept:
                found.append(lambda at, rows=known.kept[node]: self._store.rows(rows.select(at)))  # type: ignore[misc]
                continue
            value = pick(node, self._call.argument)
            if not is_stacked(node):
                flat = wire.flat(kind, value, self._call.what)
                found.append(lambda at, flat=flat: flat)  # type: ignore[misc]
            elif isinstance(value, ClientBatches):
                found.append(self._population(value, names))
            elif isinstance(value, ClientValues):
                kind.check_assignable_from(value.type_signature, what=self._call.what)
                found.append(lambda at, rows=value._rows: self._store.rows(rows.select(at)))  # type: ignore[misc]
            else:
                values, rows = self._listed(node, kind, list(value))
                padded += [((i, *path[len(path_of(node)) :]), size) for path, size in rows]
                found.append(lambda at, values=values: ("values", [values[j] for j in at.tolist()]))  # type: ignore[misc]
        return found, tuple(padded)

    def _listed(self, node: Node, kind: Any, entries: list[Any]) -> tuple[list[Plain], list[Any]]:
        """Clients' values in a list: flat, and to how many rows their batches are padded."""
        if node not in self._lists:
            flat = [wire.flat(kind, entry, f"{self._call.what}[{i}]") for i, entry in enumerate(entries)]
            rows = wire.rows_of_batches(kind, entries, flat, path_of(node), self._place.compiled.room)
            self._lists[node] = flat, rows
        return self._lists[node]

    def _population(self, clients: ClientBatches, names: dict[str, Plain]) -> Callable[[Positions], Plain]:
        """Clients of a population: workers have it, or are given the rows of a call."""
        examples = clients.examples
        if isinstance(examples, Unread):

            def called(population: Examples) -> str:
                name, found = self._store.population(population, self._pool.forget)
                names[name] = found
                return name

            def told(positions: Positions) -> Plain:
                return wire.unread(clients.select(positions), called)

            return told
        if examples.passing or (examples.on_disk and not populations.is_in_files(examples)):
            self._store.count_sent(int(clients.rows.sum()) * examples.row_bytes, examples.why_here)

            def given(positions: Positions) -> Plain:
                moved, rows = wire.compact(clients.select(positions))
                return wire.batches(moved, wire.structure(rows, np.asarray))

            return given
        name, found = self._store.population(examples, self._pool.forget)
        names[name] = found
        return lambda positions: wire.batches(clients.select(positions), name)

    def _at_once(self, known: Known, ordered: bool) -> int:
        """How many clients are folded in one program: fewer where they give much that is kept until it is folded."""
        if not ordered:
            return self._call.size
        return max(1, min(LEAF, _CONTRIBUTIONS // max(1, in_order.contribution_bytes(known.program))))

    def _rows(self, value: int, kept: Sequence[Kept]) -> Rows:
        """One of the values that clients have kept, where workers have left it."""
        size = self._call.size
        block, row = np.full(size, -1, np.int32), np.zeros(size, np.int32)
        for i, part in enumerate(kept):
            block[part.positions], row[part.positions] = i, np.arange(len(part.positions))
        gather = self._pool.gather
        blocks = (StoredBlock((part.found, value), part.shapes[value], part.node, gather) for part in kept)
        return Rows(tuple(blocks), block, row)

    def _nobodys(self, node: Node) -> Rows:
        from hansa.language.local import tensors

        leaves = tensors(member(node.type))
        return Rows.of([np.empty((0, *(size or 0 for size in leaf.shape)), leaf.dtype) for leaf in leaves], 0)

    def _names(self, positions: Positions) -> str:
        ids = self._call.client_ids[positions[:_MOST_NAMED]].tolist()
        more = f" and {len(positions) - len(ids)} more" if len(positions) > len(ids) else ""
        return f"client{'s' if len(positions) > 1 else ''} {', '.join(map(repr, ids))}{more}"


def _ends(piece: Piece) -> list[int]:
    """The ends of a piece's leaves."""
    size = len(piece.positions)
    return [min(size, begin + LEAF) for begin in range(0, size, LEAF)]


_CONTRIBUTIONS = 2**26
"""Bytes of what clients give to aggregates that are folded in order, at a time."""

_MOST_NAMED = 8
