"""A call whose cohort is worked through in chunks: only one chunk's data is packed and on the devices at a time.

The stages are programs of their own, and the aggregates' states are carried from chunk to chunk, one per device. Each
device folds the same clients in the same order as in one program for everything, so the result is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
import numpy.typing as npt
from jax.sharding import PartitionSpec as P

from hansa.compiler.evaluate import Environment, evaluate
from hansa.compiler.program import ClientStage, Program
from hansa.language.graph import Node
from hansa.runtime import round as rounds
from hansa.runtime.arguments import Static

Chunk = tuple[Any, rounds.Cohort, Static, npt.NDArray[np.int64]]
"""A chunk's packed argument, its cohort, its layout, and the positions of its clients in the whole cohort."""

Run = Callable[[Any, Callable[..., Any], tuple[Any, ...], tuple[Any, ...], Any], Any]
"""Runs a function, known by a key, on arguments with these specs: (key, function, args, in_specs, out_specs)."""


def run(
    program: Program, packed: Any, static: Static, chunks: Callable[[], Iterator[Chunk]], outputs: list[Node], devices: int, run: Run
) -> list[Any]:
    """The values of `outputs`; see `hansa.runtime.round.whole`.

    Args:
        program: the program.
        packed: the argument without any client.
        static: its layout.
        chunks: goes through the cohort's chunks; called once per client stage.
        outputs: nodes at the server or at the clients.
        devices: how many there are.
        run: executes JAX code on every device.
    """
    server: dict[Node, Any] = {}
    kept: dict[Node, Any] = {}
    everywhere, each = P(), P(rounds.AXIS)

    for i, stage in enumerate(program.servers):
        needed = [node for node in stage.inputs if node is not program.parameter]

        def compute(packed: Any, values: list[Any], stage: Any = stage, needed: list[Node] = needed) -> list[Any]:
            env = {**rounds.server_environment(program, packed, static), **dict(zip(needed, values, strict=True))}
            return evaluate(list(stage.outputs), env)

        values = run(("server", i, static), compute, (packed, [server[n] for n in needed]), (everywhere, everywhere), everywhere)
        server.update(zip(stage.outputs, values, strict=True))
        if i == len(program.clients):
            break
        clients = program.clients[i]
        states = run(("zeros", i), _zeros(program, clients, static), (packed, _starts(clients, server)), (everywhere, everywhere), each)
        sources = _from_server(program, clients, server)
        for part, cohort, layout, positions in chunks():
            own = {node: jax.tree.map(lambda stack, at=positions: stack[at], kept[node]) for node in clients.inputs if node in kept}
            own = {node: _extended(value, cohort.ids.shape[0]) for node, value in own.items()}
            args = (part, cohort, packed, sources, list(own.values()), states)
            fold = _fold(program, clients, layout, static, list(own))
            states, stacks = run(("fold", i, layout), fold, args, (*[everywhere] * 5, each), (each, everywhere))
            for node, stack in zip(clients.kept, stacks, strict=True):
                kept[node] = _placed(kept.get(node), stack, positions)
        reports = run(("report", i), _report(clients, devices), (states,), (each,), everywhere)
        server.update({aggregate.node: value for aggregate, value in zip(clients.aggregates, reports, strict=True)})
    return [_output(program, node, packed, static, chunks, server, kept, run) for node in outputs]


def _starts(stage: ClientStage, server: dict[Node, Any]) -> list[Any]:
    return [server.get(aggregate.start) if aggregate.start is not None else None for aggregate in stage.aggregates]


def _from_server(program: Program, stage: ClientStage, server: dict[Node, Any]) -> list[Any]:
    return [server.get(source) for source, _ in stage.broadcasts]


def _zeros(program: Program, stage: ClientStage, static: Static) -> Callable[..., Any]:
    def zeros(packed: Any, starts: list[Any]) -> list[Any]:
        env = rounds.server_environment(program, packed, static)
        env.update({a.start: value for a, value in zip(stage.aggregates, starts, strict=True) if a.start is not None and value is not None})
        states: list[Any] = _each(rounds.zeros(stage, env))
        return states

    return zeros


def _fold(program: Program, stage: ClientStage, layout: Static, static: Static, own: list[Node]) -> Callable[..., Any]:
    def fold(part: Any, cohort: rounds.Cohort, packed: Any, sources: list[Any], values: list[Any], states: Any) -> tuple[Any, Any]:
        env = rounds.server_environment(program, packed, static)
        env.update({source: value for (source, _), value in zip(stage.broadcasts, sources, strict=True) if value is not None})
        broadcasts: Environment = {node: evaluate([source], env)[0] for source, node in stage.broadcasts}
        kept: Environment = dict(zip(own, values, strict=True))
        after, stacks = rounds.fold(program, stage, part, cohort, layout, broadcasts, kept, _one(states))
        return _each(after), [rounds.gather_devices(stack, cohort) for stack in stacks]

    return fold


def _report(stage: ClientStage, devices: int) -> Callable[..., Any]:
    def report(states: Any) -> list[Any]:
        merged = zip(stage.aggregates, _one(states), strict=True)
        return [aggregate.report(rounds.merge_devices(aggregate, state, devices)) for aggregate, state in merged]

    return report


def _output(
    program: Program,
    node: Node,
    packed: Any,
    static: Static,
    chunks: Callable[[], Iterator[Chunk]],
    server: dict[Node, Any],
    kept: dict[Node, Any],
    run: Run,
) -> Any:
    known = list(server)

    def environment(packed: Any, values: list[Any]) -> Environment:
        return {**rounds.server_environment(program, packed, static), **dict(zip(known, values, strict=True))}

    if not rounds.is_stacked(node):
        compute = lambda packed, values: evaluate([node], environment(packed, values))[0]  # noqa: E731
        return run(("output", node), compute, (packed, [server[n] for n in known]), (P(), P()), P())
    result: Any = None
    for part, cohort, layout, positions in chunks():
        own = [_extended(jax.tree.map(lambda stack, at=positions: stack[at], value), cohort.ids.shape[0]) for value in kept.values()]

        def compute_stack(part: Any, cohort: Any, packed: Any, values: list[Any], own: list[Any], layout: Static = layout) -> Any:
            stacks = dict(zip(kept, own, strict=True))
            return rounds.stacked_value(program, node, part, cohort, layout, environment(packed, values), stacks)

        stack = run(("output", node, layout), compute_stack, (part, cohort, packed, [server[n] for n in known], own), (P(),) * 5, P())
        result = _placed(result, stack, positions)
    return result


def _each(tree: Any) -> Any:
    """Arrays with a leading axis for the device."""
    return jax.tree.map(lambda leaf: leaf[None], tree)


def _one(tree: Any) -> Any:
    """This device's arrays, without that axis."""
    return jax.tree.map(lambda leaf: leaf[0], tree)


def _extended(tree: Any, size: int) -> Any:
    def extend(stack: Any) -> Any:
        extended = np.zeros((size, *stack.shape[1:]), stack.dtype)
        extended[: len(stack)] = stack
        return extended

    return jax.tree.map(extend, tree)


def _placed(whole: Any, stack: Any, positions: npt.NDArray[np.int64]) -> Any:
    """The clients' values so far, in the cohort's order, with those of a chunk put in their places."""
    host = jax.tree.map(lambda leaf: np.asarray(leaf.addressable_data(0))[: len(positions)], stack)
    size = int(positions.max(initial=-1)) + 1

    def place(before: Any, leaf: Any) -> Any:
        grown = np.zeros((max(size, 0 if before is None else len(before)), *leaf.shape[1:]), leaf.dtype)
        if before is not None:
            grown[: len(before)] = before
        grown[positions] = leaf
        return grown

    if whole is None:
        return jax.tree.map(lambda leaf: place(None, leaf), host)
    return jax.tree.map(place, whole, host)
