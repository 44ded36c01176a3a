"""The process of a worker: it has programs and populations, and folds the clients that it is told to.

It is an actor of Ray. What comes in and goes out is of `hansa.runtimes.ray.wire`.
"""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray

from hansa.compiler.artifacts.artifact import load
from hansa.compiler.evaluate import member
from hansa.compiler.partition import is_stacked
from hansa.runtimes.ray import machine, stored, wire
from hansa.runtimes.ray.populations import Populations
from hansa.runtimes.ray.wire import Plain
from hansa.runtimes.stages.workplace import Workplace
from hansa.types.rows import Block, Rows


@dataclass(frozen=True)
class Work:
    """Some clients' work in a stage, as a worker is told of it.

    Attributes:
        program: the key of the program.
        stage: the number of the client stage.
        clients: how many clients there are.
        columns: for each input of the stage, what all of them have.
        batch_rows: to how many rows batches are padded.
        parts: where they are folded in groups that follow each other, each to a state of its own: of each group the
            ends of the leaves, as places among the clients; None where all are folded together.
        at_once: how many clients are folded in one program.
    """

    program: str
    stage: int
    clients: int
    columns: list[Plain]
    batch_rows: Any
    parts: list[list[int]] | None
    at_once: int

    @property
    def states(self) -> int:
        """How many states it gives."""
        return 1 if self.parts is None else len(self.parts)

    def plain(self) -> dict[str, Plain]:
        """The same as it goes to a worker."""
        return dict(vars(self))


class Worker:
    """A worker's process; see `hansa.runtimes.ray.pool`."""

    def __init__(self) -> None:
        self._programs: dict[str, Workplace] = {}
        self._populations = Populations()
        self._held: dict[str, Any] = {}

    def described(self) -> dict[str, Any]:
        """What this process runs on, and which it is."""
        return {**machine.described(), "pid": os.getpid(), "node_id": ray.get_runtime_context().get_node_id()}

    def _learn(self, programs: Plain, populations: Plain, forgotten: Sequence[str]) -> None:
        """Takes programs, as bytes and the forms of their sums, and populations; and lets some go."""
        for name in forgotten:
            self._programs.pop(name, None)
            self._populations.forget(name)
            self._held.pop(name, None)
        for name, (artifact, forms) in programs.items():
            if name not in self._programs:
                self._programs[name] = Workplace(load(ray.get(artifact)))
            if forms:
                self._programs[name].widen(forms)
        for name, found in populations.items():
            self._populations.learn(name, found)

    def fold(self, told: dict[str, Plain], news: Plain, sent: Plain, state: Plain) -> Any:
        """The clients' work.

        Args:
            told: what `Work.plain` gives.
            news: what this worker has not been told yet (`hansa.runtimes.ray.pool.Pool.news`).
            sent: the stage's broadcasts and what states of no clients are made from, each as its arrays.
            state: of clients before, that is gone on with; None for none.

        Returns:
            What went wrong, or how long it took and the shapes of what clients keep; what they keep; the states, each
            as `wire.together` gives it.
        """
        begun, work = time.perf_counter(), Work(**told)
        found: list[Any] = []

        def do() -> None:
            self._learn(*news)
            found.extend(self._fold(work, sent, state))

        wrong = _told(do)
        if wrong is not None:
            return {"wrong": wrong}, *[None] * (1 + work.states)
        kept = [[(leaf.shape, leaf.dtype.str) for leaf in value] for value in found[0]]
        return {"wrong": None, "seconds": time.perf_counter() - begun, "kept": kept}, *found

    def _fold(self, work: Work, sent: Plain, state: Plain) -> list[Any]:
        place = self._programs[work.program]
        nodes, stage = place.connections.clients[work.stage].inputs, place.connections.clients[work.stage]
        broadcasts, starts = _resolved(sent)
        values = [
            wire.of_flat(member(node.type), value) if wire.has_sequence(member(node.type)) else value
            for node, value in zip(stage.broadcasts, broadcasts, strict=True)
        ]
        columns = [
            wire.column(member(node.type), found, self._populations.examples, stored.arrays)
            if is_stacked(node)
            else [wire.of_flat(member(node.type), found)]
            for node, found in zip(nodes, work.columns, strict=True)
        ]
        kept: list[list[list[Any]]] = []

        def chain(state: Sequence[Any], begin: int, end: int) -> Sequence[Any]:
            for first in range(begin, end, work.at_once):
                last = min(end, first + work.at_once)
                mine = [
                    _some(column, first, last) if is_stacked(node) else column
                    for node, column in zip(nodes, columns, strict=True)
                ]
                state, values_kept = place.fold(work.stage, state, values, mine, last - first, work.batch_rows)
                kept.append([[np.asarray(leaf) for leaf in each] for each in values_kept])
            return state

        zero = place.zero(work.stage, starts)
        states = []
        if work.parts is None:
            states.append(chain(zero if state is None else wire.apart(state), 0, work.clients))
        begin = 0
        for ends in work.parts or ():
            each = []
            for end in ends:
                each.append(chain(place.zero(work.stage, starts), begin, end))
                begin = end
            states.append(place.merge(work.stage, each))
        whole = [
            [np.concatenate(parts) if len(parts) > 1 else parts[0] for parts in zip(*each, strict=True)]
            for each in zip(*kept, strict=True)
        ]
        return [whole, *map(wire.together, states)]

    def merge(
        self, program: str, stage: int, news: Plain, sent: Plain, first: Plain, second: Plain
    ) -> tuple[None, Plain]:
        """The states of two groups of clients as one; in order, where that matters. None says that it is done."""
        self._learn(*news)
        place = self._programs[program]
        if not place.knows_states(stage):
            place.zero(stage, _resolved(sent)[1])
        return None, wire.together(place.merge(stage, [wire.apart(first), wire.apart(second)]))

    def hold(self, name: str, found: Plain) -> None:
        """Keeps arrays in this node's memory until what is called so is forgotten."""
        self._held[name] = stored.arrays(tuple(found))

    def gather(self, blocks: list[Plain], block: Any, row: Any) -> tuple[None, list[list[Any]]]:
        """Rows of some blocks, put together in their order. None says that it is done."""
        rows = Rows(tuple(Block(stored.arrays(each)) for each in blocks), block, row)
        return None, [list(rows.copied().blocks[0].arrays)]


def _some(column: Any, first: int, last: int) -> Any:
    """The part of what all clients have that some have."""
    if isinstance(column, list | np.ndarray):
        return column[first:last]
    return column.select(np.arange(first, last))


def _resolved(found: Plain) -> Any:
    """Values with what references are to in their place."""
    if isinstance(found, list | tuple):
        return [_resolved(each) for each in found]
    return ray.get(found) if isinstance(found, ray.ObjectRef) else found


def _told(do: Callable[[], None]) -> Plain:
    """What goes wrong, as text and the name of the error's class."""
    try:
        do()
    except Exception as error:
        known = next((kind.__name__ for kind in (TypeError, ValueError, MemoryError) if isinstance(error, kind)), None)
        kind = LOST_DATA if isinstance(error, ray.exceptions.ObjectLostError) else known or "RuntimeError"
        return {"kind": kind, "message": str(error), "where": traceback.format_exc()}
    return None


LOST_DATA = "lost data"
"""What is said to have gone wrong where a node is lost that had what is needed."""
