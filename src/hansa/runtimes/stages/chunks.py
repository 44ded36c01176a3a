"""A cohort that this process's devices work through in chunks: one chunk's data is packed and on them at a time.

The aggregates' states are carried from chunk to chunk, one per device. Sums do not depend on who is folded where; what
is no sum is folded in the cohort's order, so chunks are parts of the cohort in its order where there is such an
aggregate. Devices meet in a program only where all have finished their clients. What clients keep lies in host memory
between chunks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import PartitionSpec as P

from hansa.compiler.aggregates import Aggregate
from hansa.compiler.evaluate import Environment, evaluate, member
from hansa.compiler.partition import is_broadcast, within
from hansa.compiler.program import ClientStage, Program
from hansa.language.graph import Node
from hansa.runtimes.arguments import Static
from hansa.runtimes.dealt import AXIS, Dealt, ToDeal, Turns, rows_of
from hansa.runtimes.stages import in_order
from hansa.runtimes.stages import round as rounds
from hansa.runtimes.stages.gathered import Gathered
from hansa.runtimes.stages.loop import Folds, Known, Run, each, environment, needed, one
from hansa.types.rows import Block, Rows

Chunk = tuple[Any, rounds.Cohort, Static, Turns]
"""A chunk's packed argument, its cohort, its layout, and who works for whom, by position in the whole cohort."""


class Chunks:
    """Works for clients on this process's devices, chunk by chunk; see `hansa.runtimes.stages.loop.Clients`.

    Args:
        chunks: goes through the cohort's chunks; called once per client stage.
        devices: how many there are.
        size: how many clients take part.
        at_once: how many clients' work is one vectorised computation on a device.
        run: executes JAX code on every device.
        deal: puts rows on the devices that work for their clients.
        spread: puts on every device what is on the first.
    """

    begins = True

    def __init__(
        self,
        chunks: Callable[[], Iterator[Chunk]],
        devices: int,
        size: int,
        at_once: int,
        run: Run,
        deal: Callable[[ToDeal, Turns], Dealt],
        spread: Callable[[Any], Any],
    ) -> None:
        self.devices, self._spread = devices, spread
        self._chunks, self._size, self._at_once, self._run, self._deal = chunks, size, at_once, run, deal

    def wanted(self, number: int) -> Sequence[Node]:
        """Nothing: what clients are sent is put together on their devices."""
        return ()

    def work(
        self, number: int, known: Known, folds: Folds, gathered: Gathered, later: set[Node]
    ) -> tuple[Folds, dict[Node, Rows]]:
        """All clients' work of a stage."""
        states, progress = folds
        program, stage = known.program, known.program.clients[number]
        clients, ordered = in_order.split(stage)
        before = {node: known.kept[node] for node in clients.inputs if node in known.kept}
        sent = needed([source for source, _ in clients.broadcasts], known.server)
        at_server, kept = self._spread(list(sent.values())), {}  # type: Any, dict[Node, Rows]
        for part, cohort, layout, turns in self._chunks():
            own = self._dealt(before, turns)
            work = (part, cohort, known.packed, at_server, list(own.values()), states)
            fold = _fold(program, clients, layout, known.static, list(sent), list(own), self._at_once)
            jax.block_until_ready(states)  # of the chunk before: no more than this one's data and the next's is there
            lying = (*[P()] * 5, P(AXIS))
            states, stacks = self._run(("fold", number, layout), fold, work, lying, (P(AXIS), P(AXIS)), donated=(5,))
            mine = dict(zip(stage.kept, stacks, strict=False))
            for node in mine.keys() & later:
                kept[node] = _with_chunk(kept.get(node), mine[node], turns, self._size)
            gathered.add(mine, turns)
            if ordered:
                jax.block_until_ready(stacks)  # of all devices, which meet in the next program
                more, further = (progress, stacks[len(mine) :], cohort), _further(ordered)
                progress = self._run(("in order", number), further, more, (P(), P(AXIS), P()), P(), donated=(0,))
            del mine, stacks
        return Folds(states, progress), kept

    def values(self, node: Node, known: Known) -> Rows:
        """A value at the clients."""
        program, packed, static = known.program, known.packed, known.static
        parts = within(node, known.kept.__contains__)
        sent = needed([part.inputs[0] for part in parts if is_broadcast(part)], known.server)
        kept = {each: rows for each, rows in known.kept.items() if each in parts}
        names, mine, values = list(sent), list(kept), self._spread(list(sent.values()))
        result: Rows | None = None
        for part, cohort, layout, turns in self._chunks():

            def compute(
                part: Any, cohort: Any, packed: Any, values: list[Any], own: list[Dealt], layout: Static = layout
            ) -> Any:
                env = environment(program, packed, static, names, values)
                lying = {node: value.arrays for node, value in zip(mine, own, strict=True)}
                return rounds.values_by_turn(program, node, part, cohort, layout, env, lying)

            args = (part, cohort, packed, values, list(self._dealt(kept, turns).values()))
            stack = self._run(("output", node, layout), compute, args, (P(),) * 5, P(AXIS))
            result = _with_chunk(result, stack, turns, self._size)
        assert result is not None  # there is a chunk where there are clients
        return result

    def _dealt(self, kept: Mapping[Node, Rows], turns: Turns) -> dict[Node, Dealt]:
        return {node: self._deal(ToDeal(member(node.type), rows), turns) for node, rows in kept.items()}


def _further(ordered: tuple[Aggregate, ...]) -> Callable[..., Any]:
    """The folds in the cohort's order with the clients of a chunk."""

    def further(progress: list[Any], stacks: list[Any], cohort: rounds.Cohort) -> list[Any]:
        given = rounds.given_by_all(ordered, stacks, cohort)
        return [in_order.further(*each) for each in zip(ordered, progress, given, strict=True)]

    return further


def _fold(
    program: Program,
    stage: ClientStage,
    layout: Static,
    static: Static,
    known: list[Node],
    own: list[Node],
    at_once: int,
) -> Callable[..., Any]:
    def fold(
        part: Any, cohort: rounds.Cohort, packed: Any, at_server: list[Any], values: list[Any], states: Any
    ) -> tuple[Any, Any]:
        env = environment(program, packed, static, known, at_server)
        broadcasts: Environment = {node: evaluate([source], env)[0] for source, node in stage.broadcasts}
        kept: Environment = {node: value.arrays for node, value in zip(own, values, strict=True)}
        after, stacks = rounds.fold(program, stage, part, cohort, layout, broadcasts, kept, one(states), at_once)
        return each(after), stacks

    return fold


def _with_chunk(before: Rows | None, stack: Any, turns: Turns, size: int) -> Rows:
    """What clients keep, with that of a chunk's: the arrays that each device has computed, in host memory."""
    rows = rows_of(stack, turns, size)
    blocks = tuple(Block([np.asarray(array) for array in block.arrays]) for block in rows.blocks)
    found = Rows(blocks, rows.block, rows.row)
    if before is None:
        return found
    positions = np.concatenate([np.asarray(clients, np.int64) for clients in turns])
    return before.replaced(positions, found.select(positions))
