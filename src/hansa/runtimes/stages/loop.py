"""The stages of a call one after another, as programs of their own: server stages here, clients wherever they are.

What the server does is the same for every engine. How clients are worked on is a `Clients`: in chunks on this process's
devices (`hansa.runtimes.stages.chunks`), or by workers elsewhere. Where the server has each client's value by itself,
the first device alone does what the server does, so that these are there once (`gathered`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np
from jax.sharding import PartitionSpec as P

from hansa.compiler.evaluate import Environment, evaluate, member
from hansa.compiler.partition import is_stacked, taken_in, within
from hansa.compiler.program import Program
from hansa.compiler.sequences import Stack, from_stack
from hansa.compiler.stacks import StackSize
from hansa.language.graph import Node
from hansa.language.local import tensors
from hansa.runtimes.arguments import Static
from hansa.runtimes.dealt import AXIS
from hansa.runtimes.stages import in_order
from hansa.runtimes.stages import round as rounds
from hansa.runtimes.stages.gathered import Gathered, has_all
from hansa.runtimes.stages.states import merge_devices
from hansa.types.client_values import shaped
from hansa.types.rows import Rows

Run = Callable[..., Any]
"""Runs a function, known by a key, on arguments with these specs: (key, function, args, in_specs, out_specs), and the
positions of arguments that are not used again, and whether only the first device is to run it."""


@dataclass(frozen=True)
class Known:
    """What there is at the server at some time, and what clients have kept by then.

    Attributes:
        program: the program.
        packed: the argument without any client.
        static: its layout.
        server: the values of nodes at the server.
        kept: what clients have kept.
    """

    program: Program
    packed: Any
    static: Static
    server: dict[Node, Any]
    kept: dict[Node, Rows]


class Folds(NamedTuple):
    """The aggregates of a client stage before any client, or after all of them.

    Attributes:
        states: of sums and the like; arrays `[devices, ...]`, each device's with it.
        progress: of folds in the cohort's order.
    """

    states: Any
    progress: Any


class Clients(Protocol):
    """How the clients of a call are worked on.

    Attributes:
        devices: on how many devices there are states of sums and the like.
        begins: whether folds begin with the states of nobody that the server's program makes.
    """

    devices: int
    begins: bool

    def wanted(self, number: int) -> Sequence[Node]:
        """What the server is to compute for a client stage besides the outputs of the stage before it."""
        ...

    def work(
        self, number: int, known: Known, folds: Folds, gathered: Gathered, later: set[Node]
    ) -> tuple[Folds, dict[Node, Rows]]:
        """All clients' work of a stage.

        Args:
            number: of the stage.
            known: what there is before it.
            folds: before any client.
            gathered: takes what the server has of each client.
            later: what clients read in later stages, or have at the end.

        Returns:
            What has become of the folds; and what clients have kept, of `later`.
        """
        ...

    def values(self, node: Node, known: Known) -> Rows:
        """A value at the clients that is computed of what they and the server have after the last stage."""
        ...


def run(
    program: Program,
    packed: Any,
    static: Static,
    outputs: list[Node],
    clients: Clients,
    size: int,
    capacity: int,
    stack_size: StackSize | None,
    run: Run,
    spread: Callable[[Any], Any],
) -> list[Any]:
    """The values of `outputs`, of nodes at the clients as `Rows`; see `hansa.runtimes.stages.round.whole`.

    Args:
        program: the program.
        packed: the argument without any client.
        static: its layout.
        outputs: nodes at the server or at the clients.
        clients: works for them.
        size: how many clients take part.
        capacity: for how many there is to be room.
        stack_size: how large stacks of all clients' values are, where there are some.
        run: executes JAX code on every device of the server, or on the first alone.
        spread: puts on every device what is on the first.

    Raises:
        rounds.NeedsWideSums: if a sum may not be exact.
    """
    known = Known(program, packed, static, {}, {})
    server, folds = known.server, Folds([], [])
    everywhere, each = P(), P(AXIS)
    last, room = len(program.clients), capacity if in_order.is_needed(program) else 0
    for i, stage in enumerate(program.servers):
        jax.block_until_ready(folds.states)  # of all devices: merged in the next program, where they must not wait
        more = clients.wanted(i) if i < last else [node for node in outputs if not is_stacked(node)]
        wanted = list(dict.fromkeys(node for node in (*stage.outputs, *more) if node not in server))
        now = program.clients[i - 1].aggregates if i else ()
        given = needed([*wanted, *_starts(program, i)], server, [fold.node for fold in now])
        step = _Step(program, i, wanted, list(given), static, clients.devices, room, clients.begins and i < last)
        args = (packed, list(given.values()), *folds, np.int32(size))
        if has_all(program):
            values, reports, states, progress, lost = _by_the_first(step, args, run, spread)
        else:
            lying, after = (
                (everywhere, everywhere, each, everywhere, everywhere),
                (*[everywhere] * 2, each, *[everywhere] * 2),
            )
            found = run(("server", i, static, room), step.whole, args, lying, after)
            values, reports, states, progress, lost = found
        rounds.check(lost, now)
        server.update(zip(wanted, values, strict=True))
        server.update({fold.node: value for fold, value in zip(now, reports, strict=True)})
        if i == last:
            break
        del given, args
        gathered = Gathered(program.clients[i], size, capacity, stack_size)
        begun = Folds(states, progress)
        folds, kept = clients.work(i, known, begun, gathered, _read_later(program, i, outputs))
        known.kept.update(kept)
        server.update(gathered.values())
    return [_at_clients(node, known, clients) if is_stacked(node) else server[node] for node in outputs]


def needed(roots: list[Node], server: Environment, computed: Sequence[Node] = ()) -> Environment:
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
    begins: bool

    def whole(self, packed: Any, values: list[Any], states: Any, progress: Any, clients: Any) -> tuple[Any, ...]:
        """All of it, on every device."""
        env = environment(self.program, packed, self.static, self.known, values)
        merged = self.merged(states) if self.number else []
        found, reports, lost = self._computed(env, merged, progress, clients)
        after, begun = self._begun(env)
        return found, reports, after, begun, lost

    def merged(self, states: Any) -> list[Any]:
        """The states of all devices. They are exact, so that this may be a program of its own."""
        stage, _ = in_order.split(self.program.clients[self.number - 1])
        return merge_devices(stage.aggregates, one(states), self.devices)

    def computed(
        self, packed: Any, values: list[Any], merged: list[Any], progress: Any, clients: Any
    ) -> tuple[Any, ...]:
        """What is wanted, the results of the aggregates, and what these may have lost."""
        env = environment(self.program, packed, self.static, self.known, values)
        return self._computed(env, merged, progress, clients)

    def _computed(self, env: Environment, merged: list[Any], progress: Any, clients: Any) -> tuple[Any, ...]:
        lost, nodes = [], []
        if self.number:
            stage, ordered = in_order.split(self.program.clients[self.number - 1])
            nodes = [aggregate.node for aggregate in self.program.clients[self.number - 1].aggregates]
            for aggregate, state in zip(stage.aggregates, merged, strict=True):
                env[aggregate.node] = aggregate.report(state)
                lost += [] if aggregate.lost is None else [aggregate.lost(state)]
            for aggregate, done in zip(ordered, progress, strict=True):
                env[aggregate.node] = aggregate.report(in_order.ended(aggregate, done))
            rounds.hand_over(env, (*stage.aggregates, *ordered), clients)
        found = evaluate(self.wanted, env)
        return found, [env[node] for node in nodes], rounds.together(lost)

    def begun(self, packed: Any, values: list[Any], known: list[Node]) -> tuple[Any, Any]:
        """The states of nobody, and the folds in the cohort's order, given what they start from."""
        return self._begun(environment(self.program, packed, self.static, known, values))

    def _begun(self, env: Environment) -> tuple[Any, Any]:
        if not self.begins:
            return [], []
        stage, ordered = in_order.split(self.program.clients[self.number])
        after = rounds.zeros(stage.aggregates, env)
        return each(after), [in_order.begun(zero, self.room) for zero in rounds.zeros(ordered, env)]


def _by_the_first(step: _Step, given: tuple[Any, ...], run: Run, spread: Callable[[Any], Any]) -> tuple[Any, ...]:
    """`_Step.whole`, in which the first device alone does what the server does."""
    packed, values, states, progress, clients = given
    everywhere, each, key = P(), P(AXIS), (step.number, step.static, step.room)
    merged = run(("merged", *key), step.merged, (states,), (each,), everywhere) if step.number else []
    mine = _on_first((packed, values, merged, progress, clients))
    done = run(("server", *key), step.computed, mine, (everywhere,) * 5, everywhere, alone=True)
    found, reports, lost = _on_first(done)
    if not step.begins:
        return found, reports, [], [], lost
    started = {node: value for node, value in zip(step.wanted, found, strict=True) if node in _starts(*step[:2])}
    starts = (packed, spread(list(started.values())))
    begun = partial(step.begun, known=list(started))
    after, begun = run(("begun", *key), begun, starts, (everywhere, everywhere), (each, everywhere))
    return found, reports, after, begun, lost


def _on_first(value: Any) -> Any:
    """What is on every device, on the first of them."""
    return jax.tree.map(lambda leaf: leaf.addressable_data(0) if isinstance(leaf, jax.Array) else leaf, value)


def environment(program: Program, packed: Any, static: Static, known: list[Node], values: list[Any]) -> Environment:
    """What the server has: its part of the argument, and these nodes."""
    opened = (from_stack(value) if isinstance(value, Stack) else value for value in values)
    return {**rounds.server_environment(program, packed, static), **dict(zip(known, opened, strict=True))}


def _at_clients(node: Node, known: Known, clients: Clients) -> Rows:
    """A result with a value for each client."""
    found = _rearranged(node, known.kept)
    return clients.values(node, known) if found is None else found


def _rearranged(node: Node, kept: dict[Node, Rows]) -> Rows | None:
    """A value at the clients that is put together of what they have kept, in its blocks; None if it is more."""
    parts = within(node, kept.__contains__)
    if not all(part in kept or rounds.only_rearranges(part) for part in parts):
        return None
    sources = {part: kept[part] for part in parts if part in kept}
    first, *others = sources.values()
    if any(not first.lies_as(rows) for rows in others):
        return None
    # Only numbers are moved about, which stand for arrays that may be elsewhere.
    env: Environment = {}
    arrays: list[tuple[int, int]] = []
    for i, part in enumerate(sources):
        mine = [(i, j) for j in range(len(tensors(member(part.type))))]
        env[part] = shaped(member(part.type), iter(range(len(arrays), len(arrays) + len(mine))))
        arrays += mine
    picks = [arrays[number] for number in jax.tree.leaves(evaluate([node], env)[0])]
    alike = zip(*(rows.blocks for rows in sources.values()), strict=True)
    blocks = [block.picked(others, picks) for block, *others in alike]
    return Rows(tuple(blocks), first.block, first.row)


def each(tree: Any) -> Any:
    """Arrays with a leading axis for the device."""
    return jax.tree.map(lambda leaf: leaf[None], tree)


def one(tree: Any) -> Any:
    """This device's arrays, without that axis."""
    return jax.tree.map(lambda leaf: leaf[0], tree)
