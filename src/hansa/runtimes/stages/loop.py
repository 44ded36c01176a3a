"""A call whose cohort is worked through in chunks: only one chunk's data is packed and on the devices at a time.

The stages are programs of their own, and the aggregates' states are carried from chunk to chunk, one per device. Sums
do not depend on who is folded where; what is no sum is folded in the cohort's order, so chunks are parts of the cohort
in its order where there is such an aggregate. Devices meet in a program only where all have finished their clients.
What clients keep lies in host memory between chunks. Where the server has each client's value by itself, the first
device alone does what the server does, so that these are there once (`gathered`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import PartitionSpec as P

from hansa.compiler.aggregates import Aggregate
from hansa.compiler.evaluate import Environment, evaluate, member
from hansa.compiler.partition import is_broadcast, is_stacked, taken_in, within
from hansa.compiler.program import ClientStage, Program
from hansa.compiler.sequences import Stack, from_stack
from hansa.compiler.stacks import StackSize
from hansa.language.graph import Node
from hansa.runtimes.arguments import Static
from hansa.runtimes.dealt import AXIS, Dealt, ToDeal, Turns, rows_of
from hansa.runtimes.stages import in_order
from hansa.runtimes.stages import round as rounds
from hansa.runtimes.stages.gathered import Gathered, has_all
from hansa.runtimes.stages.states import merge_devices
from hansa.types.client_values import shaped
from hansa.types.rows import Block, Rows

Chunk = tuple[Any, rounds.Cohort, Static, Turns]
"""A chunk's packed argument, its cohort, its layout, and who works for whom, by position in the whole cohort."""

Run = Callable[..., Any]
"""Runs a function, known by a key, on arguments with these specs: (key, function, args, in_specs, out_specs), and the
positions of arguments that are not used again, and whether only the first device is to run it."""


def run(
    program: Program,
    packed: Any,
    static: Static,
    chunks: Callable[[], Iterator[Chunk]],
    outputs: list[Node],
    devices: int,
    size: int,
    capacity: int,
    stack_size: StackSize | None,
    at_once: int,
    run: Run,
    deal: Callable[[ToDeal, Turns], Dealt],
    spread: Callable[[Any], Any],
) -> list[Any]:
    """The values of `outputs`, of nodes at the clients as `Rows`; see `hansa.runtimes.stages.round.whole`.

    Args:
        program: the program.
        packed: the argument without any client.
        static: its layout.
        chunks: goes through the cohort's chunks; called once per client stage.
        outputs: nodes at the server or at the clients.
        devices: how many there are.
        size: how many clients take part.
        capacity: for how many there is to be room.
        stack_size: how large stacks of all clients' values are, where there are some.
        at_once: how many clients' work is one vectorised computation on a device.
        run: executes JAX code on every device, or on the first alone.
        deal: puts rows on the devices that work for their clients.
        spread: puts on every device what is on the first.

    Raises:
        rounds.NeedsWideSums: if a sum may not be exact.
    """
    server: dict[Node, Any] = {}
    kept: dict[Node, Rows] = {}
    states: Any = []
    progress: Any = []
    everywhere, each = P(), P(AXIS)
    last, room = len(program.clients), capacity if in_order.is_needed(program) else 0
    for i, stage in enumerate(program.servers):
        jax.block_until_ready(states)  # of all devices: they are merged in the next program, where they must not wait
        wanted = [*stage.outputs, *(node for node in outputs if i == last and not is_stacked(node))]
        now = program.clients[i - 1].aggregates if i else ()
        known = _needed([*wanted, *_starts(program, i)], server, [fold.node for fold in now])
        step = _Step(program, i, wanted, list(known), static, devices, room)
        given = (packed, list(known.values()), states, progress)
        if has_all(program):
            values, reports, states, progress, lost = _by_the_first(step, given, run, spread)
        else:
            lying, after = (everywhere, everywhere, each, everywhere), (*[everywhere] * 2, each, *[everywhere] * 2)
            found = run(("server", i, static, room), step.whole, given, lying, after)
            values, reports, states, progress, lost = found
        rounds.check(lost, now)
        server.update(zip(wanted, values, strict=True))
        server.update({fold.node: value for fold, value in zip(now, reports, strict=True)})
        if i == last:
            break
        del given, known
        clients, ordered = in_order.split(program.clients[i])
        before = {node: kept[node] for node in clients.inputs if node in kept}
        sent = _needed([source for source, _ in clients.broadcasts], server)
        at_server, later = spread(list(sent.values())), _read_later(program, i, outputs)
        gathered = Gathered(clients, size, capacity, stack_size)
        for part, cohort, layout, turns in chunks():
            own = {node: deal(ToDeal(member(node.type), rows), turns) for node, rows in before.items()}
            work = (part, cohort, packed, at_server, list(own.values()), states)
            fold = _fold(program, clients, layout, static, list(sent), list(own), at_once)
            jax.block_until_ready(states)  # of the chunk before: no more than this one's data and the next's is there
            of_all = (*[everywhere] * 5, each)
            states, stacks = run(("fold", i, layout), fold, work, of_all, (each, each), donated=(5,))
            mine = dict(zip(program.clients[i].kept, stacks, strict=False))
            for node in mine.keys() & later:
                kept[node] = _with_chunk(kept.get(node), mine[node], turns, size)
            gathered.add(mine, turns)
            if ordered:
                jax.block_until_ready(stacks)  # of all devices, which meet in the next program
                more, further = (progress, stacks[len(mine) :], cohort), _further(ordered)
                progress = run(("in order", i), further, more, (everywhere, each, everywhere), everywhere, donated=(0,))
            del mine, stacks
        server.update(gathered.values())
    there = _Known(program, packed, static, server, kept)
    return [
        _at_clients(there, node, chunks, size, run, deal, spread) if is_stacked(node) else server[node]
        for node in outputs
    ]


def _needed(roots: list[Node], server: Environment, computed: Sequence[Node] = ()) -> Environment:
    """Of what the server has, what some values are computed of, beside what is computed with them."""
    found = taken_in(roots, lambda node: node in server or node in computed)
    return {node: server[node] for node in found if node in server}


def _starts(program: Program, number: int) -> list[Node]:
    """What the aggregates of a client stage start from, of what the server has; none after the last."""
    stages = program.clients[number : number + 1]
    return [fold.start for stage in stages for fold in stage.aggregates if fold.start is not None]


def _read_later(program: Program, number: int, outputs: list[Node]) -> set[Node]:
    """What clients read in the stages after one, or have at the end."""
    everything = {node for stage in program.clients for node in stage.kept}
    ends = [part for node in outputs if is_stacked(node) for part in within(node, everything.__contains__)]
    return {*ends, *(node for stage in program.clients[number + 1 :] for node in stage.inputs)}


class _Step(NamedTuple):
    """What is done between two client stages: from the states of one's aggregates to the zeros of the next one's."""

    program: Program
    number: int
    wanted: list[Node]
    known: list[Node]
    static: Static
    devices: int
    room: int

    def whole(self, packed: Any, values: list[Any], states: Any, progress: Any) -> tuple[Any, ...]:
        """All of it, on every device.

        It is one program, as it is part of one in `rounds.whole`: apart, it might be rounded differently.
        """
        env = _environment(self.program, packed, self.static, self.known, values)
        merged = self.merged(states) if self.number else []
        found, reports, lost = self._computed(env, merged, progress)
        after, begun = self._begun(env)
        return found, reports, after, begun, lost

    def merged(self, states: Any) -> list[Any]:
        """The states of all devices. They are exact, so that this may be a program of its own."""
        stage, _ = in_order.split(self.program.clients[self.number - 1])
        return merge_devices(stage.aggregates, _one(states), self.devices)

    def computed(self, packed: Any, values: list[Any], merged: list[Any], progress: Any) -> tuple[Any, ...]:
        """What is wanted, the results of the aggregates, and what these may have lost."""
        env = _environment(self.program, packed, self.static, self.known, values)
        return self._computed(env, merged, progress)

    def _computed(self, env: Environment, merged: list[Any], progress: Any) -> tuple[Any, ...]:
        lost, nodes = [], []
        if self.number:
            stage, ordered = in_order.split(self.program.clients[self.number - 1])
            nodes = [aggregate.node for aggregate in self.program.clients[self.number - 1].aggregates]
            for aggregate, state in zip(stage.aggregates, merged, strict=True):
                env[aggregate.node] = aggregate.report(state)
                lost += [] if aggregate.lost is None else [aggregate.lost(state)]
            for aggregate, done in zip(ordered, progress, strict=True):
                env[aggregate.node] = aggregate.report(in_order.ended(aggregate, done))
        found = evaluate(self.wanted, env)
        return found, [env[node] for node in nodes], rounds.together(lost)

    def begun(self, packed: Any, values: list[Any], known: list[Node]) -> tuple[Any, Any]:
        """The states of nobody, and the folds in the cohort's order, given what they start from."""
        return self._begun(_environment(self.program, packed, self.static, known, values))

    def _begun(self, env: Environment) -> tuple[Any, Any]:
        if self.number == len(self.program.clients):
            return [], []
        stage, ordered = in_order.split(self.program.clients[self.number])
        after = rounds.zeros(stage.aggregates, env)
        return _each(after), [in_order.begun(zero, self.room) for zero in rounds.zeros(ordered, env)]


def _by_the_first(step: _Step, given: tuple[Any, ...], run: Run, spread: Callable[[Any], Any]) -> tuple[Any, ...]:
    """`_Step.whole`, in which the first device alone does what the server does."""
    packed, values, states, progress = given
    everywhere, each, key = P(), P(AXIS), (step.number, step.static, step.room)
    merged = run(("merged", *key), step.merged, (states,), (each,), everywhere) if step.number else []
    mine = _on_first((packed, values, merged, progress))
    done = run(("server", *key), step.computed, mine, (everywhere,) * 4, everywhere, alone=True)
    found, reports, lost = _on_first(done)
    started = {node: value for node, value in zip(step.wanted, found, strict=True) if node in _starts(*step[:2])}
    starts = (packed, spread(list(started.values())))
    begun = partial(step.begun, known=list(started))
    after, begun = run(("begun", *key), begun, starts, (everywhere, everywhere), (each, everywhere))
    return found, reports, after, begun, lost


def _on_first(value: Any) -> Any:
    """What is on every device, on the first of them."""
    return jax.tree.map(lambda leaf: leaf.addressable_data(0) if isinstance(leaf, jax.Array) else leaf, value)


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
        env = _environment(program, packed, static, known, at_server)
        broadcasts: Environment = {node: evaluate([source], env)[0] for source, node in stage.broadcasts}
        kept: Environment = {node: value.arrays for node, value in zip(own, values, strict=True)}
        after, stacks = rounds.fold(program, stage, part, cohort, layout, broadcasts, kept, _one(states), at_once)
        return _each(after), stacks

    return fold


def _environment(program: Program, packed: Any, static: Static, known: list[Node], values: list[Any]) -> Environment:
    """What the server has: its part of the argument, and these nodes."""
    opened = (from_stack(value) if isinstance(value, Stack) else value for value in values)
    return {**rounds.server_environment(program, packed, static), **dict(zip(known, opened, strict=True))}


def _with_chunk(before: Rows | None, stack: Any, turns: Turns, size: int) -> Rows:
    """What clients keep, with that of a chunk's: the arrays that each device has computed, in host memory."""
    rows = rows_of(stack, turns, size)
    blocks = tuple(Block([np.asarray(array) for array in block.arrays]) for block in rows.blocks)
    found = Rows(blocks, rows.block, rows.row)
    if before is None:
        return found
    positions = np.concatenate([np.asarray(clients, np.int64) for clients in turns])
    return before.replaced(positions, found.select(positions))


class _Known(NamedTuple):
    """What there is after the last stage."""

    program: Program
    packed: Any
    static: Static
    server: dict[Node, Any]
    kept: dict[Node, Rows]


def _at_clients(
    known: _Known,
    node: Node,
    chunks: Callable[[], Iterator[Chunk]],
    size: int,
    run: Run,
    deal: Callable[[ToDeal, Turns], Dealt],
    spread: Callable[[Any], Any],
) -> Rows:
    """A result with a value for each client."""
    found = _rearranged(node, known.kept)
    if found is not None:
        return found
    program, packed, static, server, kept = known
    parts = within(node, kept.__contains__)
    needed = _needed([part.inputs[0] for part in parts if is_broadcast(part)], server)
    kept = {each: rows for each, rows in kept.items() if each in parts}
    names, mine, values = list(needed), list(kept), spread(list(needed.values()))
    result: Rows | None = None
    for part, cohort, layout, turns in chunks():

        def compute(
            part: Any, cohort: Any, packed: Any, values: list[Any], own: list[Dealt], layout: Static = layout
        ) -> Any:
            env = _environment(program, packed, static, names, values)
            lying = {node: value.arrays for node, value in zip(mine, own, strict=True)}
            return rounds.values_by_turn(program, node, part, cohort, layout, env, lying)

        own = [deal(ToDeal(member(each.type), rows), turns) for each, rows in kept.items()]
        args = (part, cohort, packed, values, own)
        stack = run(("output", node, layout), compute, args, (P(),) * 5, P(AXIS))
        result = _with_chunk(result, stack, turns, size)
    assert result is not None  # there is a chunk where there are clients
    return result


def _rearranged(node: Node, kept: dict[Node, Rows]) -> Rows | None:
    """A value at the clients that is put together of what they have kept, in its blocks; None if it is more."""
    parts = within(node, kept.__contains__)
    if not all(part in kept or rounds.only_rearranges(part) for part in parts):
        return None
    sources = {part: kept[part] for part in parts if part in kept}
    first, *others = sources.values()
    if any(not first.lies_as(rows) for rows in others):
        return None
    blocks = []
    for number in range(len(first.blocks)):
        env: Environment = {
            part: shaped(member(part.type), iter(rows.blocks[number].arrays)) for part, rows in sources.items()
        }
        blocks.append(Block(jax.tree.leaves(evaluate([node], env)[0])))
    return Rows(tuple(blocks), first.block, first.row)


def _each(tree: Any) -> Any:
    """Arrays with a leading axis for the device."""
    return jax.tree.map(lambda leaf: leaf[None], tree)


def _one(tree: Any) -> Any:
    """This device's arrays, without that axis."""
    return jax.tree.map(lambda leaf: leaf[0], tree)
