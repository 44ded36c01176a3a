"""A call whose cohort is worked through in chunks: only one chunk's data is packed and on the devices at a time.

The stages are programs of their own, and the aggregates' states are carried from chunk to chunk, one per device. Each
device folds the same clients in the same order as in one program for everything, so the result is the same. Devices
meet in a program only where all have finished their clients: what clients keep is put together at the host.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import numpy as np
import numpy.typing as npt
from jax.sharding import PartitionSpec as P

from hansa.compiler.evaluate import Environment, evaluate
from hansa.compiler.partition import is_stacked
from hansa.compiler.program import ClientStage, Program
from hansa.compiler.sequences import Stack, from_stack
from hansa.language.graph import Node
from hansa.runtimes.arguments import Static
from hansa.runtimes.stages import round as rounds

Chunk = tuple[Any, rounds.Cohort, Static, npt.NDArray[np.int64]]
"""A chunk's packed argument, its cohort, its layout, and the positions of its clients in the whole cohort."""

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
    at_once: int,
    run: Run,
) -> list[Any]:
    """The values of `outputs`; see `hansa.runtimes.stages.round.whole`.

    Args:
        program: the program.
        packed: the argument without any client.
        static: its layout.
        chunks: goes through the cohort's chunks; called once per client stage.
        outputs: nodes at the server or at the clients.
        devices: how many there are.
        size: how many clients take part.
        capacity: for how many there is to be room.
        at_once: how many clients' work is one vectorised computation on a device.
        run: executes JAX code on every device.

    Raises:
        rounds.NeedsWideSums: if a sum may not be exact.
    """
    server: dict[Node, Any] = {}
    kept: dict[Node, Any] = {}
    states: Any = []
    everywhere, each = P(), P(rounds.AXIS)
    last = len(program.clients)
    for i, stage in enumerate(program.servers):
        jax.block_until_ready(states)  # of all devices: they are merged in the next program, where they must not wait
        wanted = [*stage.outputs, *(node for node in outputs if i == last and not is_stacked(node))]
        advance = _advance(program, i, wanted, list(server), static, devices)
        args = (packed, list(server.values()), states)
        specs = (everywhere, everywhere, each)
        found = (everywhere, everywhere, each, everywhere)
        values, reports, states, lost = run(("server", i, static), advance, args, specs, found)
        rounds.check(lost)
        server.update(zip(wanted, values, strict=True))
        if i:
            server.update(
                {fold.node: value for fold, value in zip(program.clients[i - 1].aggregates, reports, strict=True)}
            )
        if i == last:
            break
        clients = program.clients[i]
        before = {node: kept[node] for node in clients.inputs if node in kept}
        for part, cohort, layout, positions in chunks():
            own = {node: _taken(value, positions, cohort) for node, value in before.items()}
            given = (part, cohort, packed, list(server.values()), list(own.values()), states)
            fold = _fold(program, clients, layout, static, list(server), list(own), at_once)
            jax.block_until_ready(states)  # of the chunk before: no more than this one's data and the next's is there
            lying = (*[everywhere] * 5, each)
            states, stacks = run(("fold", i, layout), fold, given, lying, (each, each), donated=(5,))
            for node, stack in zip(clients.kept, stacks, strict=True):
                kept[node] = _placed(kept.get(node), jax.tree.map(partial(_ordered, cohort), stack), positions)
        for source, node in clients.collected:
            server[node] = _collected(kept.get(source), size, capacity)
    stacked = (_stacked(program, n, packed, static, chunks, server, kept, run) for n in outputs if is_stacked(n))
    return [next(stacked) if is_stacked(node) else server[node] for node in outputs]


def _advance(
    program: Program, number: int, wanted: list[Node], known: list[Node], static: Static, devices: int
) -> Callable[..., Any]:
    """From the states of one client stage's aggregates to the zeros of the next one's, by way of the server stage.

    These steps are one program, as they are part of one in `rounds.whole`: apart, they might round differently.
    """

    def advance(packed: Any, values: list[Any], states: Any) -> tuple[list[Any], list[Any], Any, Any]:
        env = _environment(program, packed, static, known, values)
        reports, lost = [], []
        if number:
            for aggregate, state in zip(program.clients[number - 1].aggregates, _one(states), strict=True):
                merged = rounds.merge_devices(aggregate, state, devices)
                reports.append(aggregate.report(merged))
                lost += [] if aggregate.lost is None else [aggregate.lost(merged)]
                env[aggregate.node] = reports[-1]
        found = evaluate(wanted, env)
        after = rounds.zeros(program.clients[number], env) if number < len(program.clients) else []
        return found, reports, _each(after), rounds.any_of(lost)

    return advance


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
        kept: Environment = dict(zip(own, values, strict=True))
        after, stacks = rounds.fold(program, stage, part, cohort, layout, broadcasts, kept, _one(states), at_once)
        return _each(after), stacks

    return fold


def _environment(program: Program, packed: Any, static: Static, known: list[Node], values: list[Any]) -> Environment:
    """What the server has: its part of the argument, and these nodes."""
    opened = (from_stack(value) if isinstance(value, Stack) else value for value in values)
    return {**rounds.server_environment(program, packed, static), **dict(zip(known, opened, strict=True))}


def _collected(values: Any, size: int, capacity: int) -> Stack:
    """The clients' values as a stack, with room for more clients than there are."""

    def extend(stack: Any) -> Any:
        extended = np.zeros((capacity, *stack.shape[1:]), stack.dtype)
        extended[:size] = stack
        return extended

    return rounds.stacked(jax.tree.map(extend, values), np.int32(size))


def _stacked(
    program: Program,
    node: Node,
    packed: Any,
    static: Static,
    chunks: Callable[[], Iterator[Chunk]],
    server: dict[Node, Any],
    kept: dict[Node, Any],
    run: Run,
) -> Any:
    """A result with a value for each client."""
    result: Any = None
    known, mine = list(server), list(kept)
    for part, cohort, layout, positions in chunks():

        def compute(
            part: Any, cohort: Any, packed: Any, values: list[Any], own: list[Any], layout: Static = layout
        ) -> Any:
            env = _environment(program, packed, static, known, values)
            return rounds.stacked_value(program, node, part, cohort, layout, env, dict(zip(mine, own, strict=True)))

        own = [_taken(value, positions, cohort) for value in kept.values()]
        args = (part, cohort, packed, list(server.values()), own)
        stack = run(("output", node, layout), compute, args, (P(),) * 5, P())
        values = jax.tree.map(partial(_first, len(positions)), stack)
        result = _placed(result, values, positions)
    return result


def _each(tree: Any) -> Any:
    """Arrays with a leading axis for the device."""
    return jax.tree.map(lambda leaf: leaf[None], tree)


def _one(tree: Any) -> Any:
    """This device's arrays, without that axis."""
    return jax.tree.map(lambda leaf: leaf[0], tree)


def _taken(whole: Any, positions: npt.NDArray[np.int64], cohort: rounds.Cohort) -> Any:
    """The values of a chunk's clients, with room for as many as the chunk may have."""

    def take(stack: Any) -> Any:
        taken = np.zeros((cohort.capacity, *stack.shape[1:]), stack.dtype)
        taken[: len(positions)] = stack[positions]
        return taken

    return jax.tree.map(take, whole)


def _first(count: int, stack: Any) -> npt.NDArray[Any]:
    """The first values of a stack that all devices have."""
    return np.asarray(stack.addressable_data(0))[:count]


def _ordered(cohort: rounds.Cohort, stack: Any) -> npt.NDArray[Any]:
    """What a chunk's clients keep, in the chunk's order, from each device's in its own: [devices * turns, ...]."""
    turns = cohort.order.shape[1]
    used = np.arange(turns) < cohort.lengths[:, None]
    ordered = np.empty((int(cohort.lengths.sum()), *stack.shape[1:]), stack.dtype)
    ordered[cohort.order[used]] = np.asarray(stack)[used.reshape(-1)]
    return ordered


def _placed(whole: Any, values: Any, positions: npt.NDArray[np.int64]) -> Any:
    """The clients' values so far, in the cohort's order, with those of a chunk put in their places."""
    size = int(positions.max(initial=-1)) + 1

    def place(before: Any, leaf: Any) -> Any:
        grown = np.zeros((max(size, 0 if before is None else len(before)), *leaf.shape[1:]), leaf.dtype)
        if before is not None:
            grown[: len(before)] = before
        grown[positions] = leaf
        return grown

    if whole is None:
        return jax.tree.map(lambda leaf: place(None, leaf), values)
    return jax.tree.map(place, whole, values)
