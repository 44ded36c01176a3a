"""What the server has of all clients, each client's value by itself, where it is much: it lies once, in host memory.

Each chunk's clients write their values to where they are in the cohort. So there is all of it once, and that of one
chunk's clients on the devices.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from hansa.compiler.evaluate import member
from hansa.compiler.partition import is_collect, is_gathered, is_stack
from hansa.compiler.program import ClientStage, Program
from hansa.compiler.sequences import Stack
from hansa.compiler.stacks import StackSize, of_clients
from hansa.language.graph import Node
from hansa.language.local import unflatten
from hansa.language.terms import check_cohort
from hansa.runtimes.dealt import Turns, rows_of
from hansa.types.aligned import aligned
from hansa.types.queries import tensor_sizes
from hansa.types.rows import Rows


class Gathered:
    """What the clients of a stage have kept for the server.

    Args:
        stage: the stage.
        size: how many clients take part.
        capacity: for how many there is room in a sequence of what they have.
        stack_size: how large stacks are, where there are some.
    """

    def __init__(self, stage: ClientStage, size: int, capacity: int, stack_size: StackSize | None) -> None:
        self._collected, self._size, self._stack_size = stage.collected, size, stack_size
        self._rows = {
            node: stack_size.rows if is_stack(node) and stack_size is not None else capacity
            for _, node in stage.collected
        }
        self._arrays: dict[Node, list[Any]] = {}

    def add(self, kept: Mapping[Node, Any], turns: Turns) -> None:
        """Puts what the clients of a chunk keep, as the devices have computed it, where it is in the cohort."""
        self.take({source: rows_of(kept[source], turns, self._size) for source, _ in self._collected})

    def take(self, kept: Mapping[Node, Rows]) -> None:
        """Puts what some clients keep where it is in the cohort."""
        for source, node in self._collected:
            found = kept[source]
            if node not in self._arrays:
                like = found.blocks[0].arrays
                self._arrays[node] = [aligned((self._rows[node], *one.shape[1:]), one.dtype) for one in like]
            found.write(self._arrays[node])

    def values(self) -> dict[Node, Any]:
        """The values at the server: sequences of what each client has, and stacks."""
        found: dict[Node, Any] = {}
        for source, node in self._collected:
            arrays = self._arrays[node]
            if is_stack(node):
                assert self._stack_size is not None
                found[node] = of_clients(unflatten(member(source.type), arrays), np.int32(self._size), self._stack_size)
            else:
                found[node] = Stack(tuple(jax.tree.leaves(arrays)), np.int32(self._size))
        return found


def check_rows(node: Node, value: Any) -> None:
    """Checks that a value of all clients, each by itself, is of as many as there must be.

    Raises:
        ValueError: if it is of fewer.
    """
    if is_gathered(node) and node.terms.min_cohort is not None:
        rows = list(value) if is_collect(node) else jax.tree.leaves(value)
        if rows:
            clients = len(rows) if is_collect(node) else np.shape(rows[0])[0]
            check_cohort(node.name, node.terms, clients, node.where)


def check_clients(program: Program, clients: int) -> None:
    """Checks that so many clients are enough for all that the server has of each.

    Raises:
        ValueError: if they are not.
    """
    for node in (node for stage in program.clients for _, node in stage.collected):
        check_cohort(node.name, node.terms, clients, node.where)


def has_all(program: Program) -> bool:
    """Whether the server has each client's value by itself at any time."""
    return any(stage.collected for stage in program.clients)


def bytes_of_each(program: Program) -> int:
    """How much of a client's values the server has at most, of one client stage; what no type says is not counted."""
    return max((sum(_sizes(stage)) for stage in program.clients), default=0)


def _sizes(stage: ClientStage) -> list[int]:
    sizes = (size for source, _ in stage.collected for size in tensor_sizes(member(source.type)))
    return [size or 0 for size in sizes]
