"""A call whose cohort is worked through in chunks: only one chunk's data is packed and on the devices at a time.

The stages are programs of their own, and the aggregates' states are carried from chunk to chunk, one per device. Sums
do not depend on who is folded where; what is no sum is folded in the cohort's order, so chunks are parts of the cohort
in its order where there is such an aggregate. Devices meet in a program only where all have finished their clients.
What clients keep lies in host memory between chunks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import PartitionSpec as P

from hansa.compiler.aggregates import Aggregate
from hansa.compiler.evaluate import Environment, evaluate, member
from hansa.compiler.partition import is_stack, is_stacked, within
from hansa.compiler.program import ClientStage, Program
from hansa.compiler.sequences import Stack, from_stack
from hansa.compiler.stacks import StackSize, of_clients
from hansa.language.graph import Node
from hansa.language.local import unflatten
from hansa.runtimes.arguments import Static
from hansa.runtimes.dealt import AXIS, Dealt, ToDeal, Turns, rows_of
from hansa.runtimes.stages import in_order
from hansa.runtimes.stages import round as rounds
from hansa.runtimes.stages.states import merge_devices
from hansa.types.client_values import shaped
from hansa.types.rows import Block, Rows

Chunk = tuple[Any, rounds.Cohort, Static, Turns]
"""A chunk's packed argument, its cohort, its layout, and who works for whom, by position in the whole cohort."""

Run = Callable[..., Any]
"""Runs a function, known by a key, on arguments with these specs: (key, function, args, in_specs, out_specs), and the
positions of arguments that are not used again."""


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
        run: executes JAX code on every device.
        deal: puts rows on the devices that work for their clients.

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
        advance = _advance(program, i, wanted, list(server), static, devices, room)
        args = (packed, list(server.values()), states, progress)
        specs = (everywhere, everywhere, each, everywhere)
        after = (everywhere, everywhere, each, everywhere, everywhere)
        values, reports, states, progress, lost = run(("server", i, static, room), advance, args, specs, after)
        rounds.check(lost, program.clients[i - 1].aggregates if i else ())
        server.update(zip(wanted, values, strict=True))
        if i:
            server.update(
                {fold.node: value for fold, value in zip(program.clients[i - 1].aggregates, reports, strict=True)}
            )
        if i == last:
            break
        clients, ordered = in_order.split(program.clients[i])
        before = {node: kept[node] for node in clients.inputs if node in kept}
        for part, cohort, layout, turns in chunks():
            own = {node: deal(ToDeal(member(node.type), rows), turns) for node, rows in before.items()}
            given = (part, cohort, packed, list(server.values()), list(own.values()), states)
            fold = _fold(program, clients, layout, static, list(server), list(own), at_once)
            jax.block_until_ready(states)  # of the chunk before: no more than this one's data and the next's is there
            lying = (*[everywhere] * 5, each)
            states, stacks = run(("fold", i, layout), fold, given, lying, (each, each), donated=(5,))
            stage_kept = program.clients[i].kept
            for node, stack in zip(stage_kept, stacks, strict=False):
                kept[node] = _with_chunk(kept.get(node), stack, turns, size)
            if ordered:
                jax.block_until_ready(stacks)  # of all devices, which meet in the next program
                more, further = (progress, stacks[len(stage_kept) :], cohort), _further(ordered)
                progress = run(("in order", i), further, more, (everywhere, each, everywhere), everywhere, donated=(0,))
        for source, node in clients.collected:
            if is_stack(node):
                assert stack_size is not None
                arrays = _in_order(kept[source], stack_size.rows)
                server[node] = of_clients(unflatten(member(source.type), arrays), np.int32(size), stack_size)
            else:
                server[node] = rounds.stacked(_in_order(kept[source], capacity), np.int32(size))
    known = _Known(program, packed, static, server, kept)
    return [_at_clients(known, node, chunks, size, run, deal) if is_stacked(node) else server[node] for node in outputs]


def _advance(
    program: Program, number: int, wanted: list[Node], known: list[Node], static: Static, devices: int, room: int
) -> Callable[..., Any]:
    """From the states of one client stage's aggregates to the zeros of the next one's, by way of the server stage.

    These steps are one program, as they are part of one in `rounds.whole`: apart, they might round differently.
    """

    def advance(packed: Any, values: list[Any], states: Any, progress: Any) -> tuple[Any, ...]:
        env = _environment(program, packed, static, known, values)
        lost, nodes, after, begun = [], [], [], []  # type: list[Any], list[Node], list[Any], list[Any]
        if number:
            nodes = [aggregate.node for aggregate in program.clients[number - 1].aggregates]
            stage, ordered = in_order.split(program.clients[number - 1])
            states = merge_devices(stage.aggregates, _one(states), devices)
            for aggregate, merged in zip(stage.aggregates, states, strict=True):
                env[aggregate.node] = aggregate.report(merged)
                lost += [] if aggregate.lost is None else [aggregate.lost(merged)]
            for aggregate, done in zip(ordered, progress, strict=True):
                env[aggregate.node] = aggregate.report(in_order.ended(aggregate, done))
        found = evaluate(wanted, env)
        if number < len(program.clients):
            stage, ordered = in_order.split(program.clients[number])
            after = rounds.zeros(stage.aggregates, env)
            begun = [in_order.begun(zero, room) for zero in rounds.zeros(ordered, env)]
        return found, [env[node] for node in nodes], _each(after), begun, rounds.together(lost)

    return advance


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


def _in_order(values: Rows, capacity: int) -> list[Any]:
    """The clients' values in arrays with room for more clients than there are."""
    extended = [np.zeros((capacity, *array.shape[1:]), array.dtype) for array in values.blocks[0].arrays]
    values.write(extended)
    return extended


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
) -> Rows:
    """A result with a value for each client."""
    found = _rearranged(node, known.kept)
    if found is not None:
        return found
    program, packed, static, server, kept = known
    names, mine = list(server), list(kept)
    result: Rows | None = None
    for part, cohort, layout, turns in chunks():

        def compute(
            part: Any, cohort: Any, packed: Any, values: list[Any], own: list[Dealt], layout: Static = layout
        ) -> Any:
            env = _environment(program, packed, static, names, values)
            lying = {node: value.arrays for node, value in zip(mine, own, strict=True)}
            return rounds.values_by_turn(program, node, part, cohort, layout, env, lying)

        own = [deal(ToDeal(member(each.type), rows), turns) for each, rows in kept.items()]
        args = (part, cohort, packed, list(server.values()), own)
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
