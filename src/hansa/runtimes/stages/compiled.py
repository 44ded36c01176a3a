"""A computation's program, and what is known of it: its outputs, the room of its arguments, what has been compiled."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from hansa.compiler.evaluate import member
from hansa.compiler.handed_on import handed_on
from hansa.compiler.narrowing import Path, narrowed
from hansa.compiler.partition import compile_computation, is_argument, is_stack, is_stacked, path_of, taken_in
from hansa.compiler.program import Program
from hansa.compiler.sequences import NeedsSizes
from hansa.compiler.stacks import NeedsNumber, StackSize
from hansa.compiler.sums.exact import Form, exact
from hansa.language.computation import Computation
from hansa.language.graph import Intrinsic, Node
from hansa.language.local import tensors
from hansa.runtimes.columns import Packed, Room
from hansa.runtimes.protected_sums import ProtectedSums
from hansa.runtimes.results import computed_parts
from hansa.runtimes.stages.counting import counted
from hansa.runtimes.stages.executable import Executable
from hansa.runtimes.stages.round import NeedsWideSums
from hansa.types import FunctionType


@dataclass
class Compiled:
    """A program in use.

    Attributes:
        program: the program.
        outputs: the parts of its result that it computes.
        room: the capacities of its arguments.
        executables: what has been compiled of it, by a key of whoever compiles.
        sizes: the sizes of batch that have occurred, if functions have to be compiled for each.
        by_number: whether a program is for one number of clients.
        forms: how floats are added up by aggregates for which the usual form was not enough, where sums are exact.
        written: the program before anything was said of how it adds up.
        counts: whether nobody knows beforehand how many clients take part in a fold.
    """

    program: Program
    outputs: list[Node]
    room: Room = field(default_factory=Room)
    executables: dict[Any, Executable] = field(default_factory=dict)
    sizes: set[int] | None = None
    by_number: bool = False
    forms: Mapping[Node, Form] = field(default_factory=dict)
    written: Program | None = None
    counts: bool = False

    @classmethod
    def of(
        cls,
        computation: Computation,
        sums: str = "exact",
        counts: bool = False,
        signature: FunctionType | None = None,
    ) -> Compiled:
        """The program of a computation.

        Args:
            computation: the computation.
            sums: how floats are added up: "exact", "wide", which is exact for any numbers, or "fast".
            counts: whether nobody knows beforehand how many clients take part in a fold.
            signature: its type with the classes of structs that results are to have, if it has lost them in a file.
        """
        written = compile_computation(computation)
        if signature is not None:
            written = replace(written, signature=signature)
        program = written if sums == "fast" else exact(written, "wide" if sums == "wide" else "usual")
        return cls(counted(program, counts), computed_parts(written), written=written, counts=counts)

    def otherwise(self, error: NeedsSizes | NeedsNumber | NeedsWideSums) -> None:
        """From now on compiled in another form, as an attempt has found that this one is not enough.

        Raises:
            NeedsSizes, NeedsNumber: if it is in that form already.
        """
        if isinstance(error, NeedsWideSums):
            self.widen(error.forms)
        elif isinstance(error, NeedsSizes) and self.sizes is None:
            self.sizes = set()
        elif isinstance(error, NeedsNumber) and not self.by_number:
            self.by_number = True
            self.executables.clear()
        else:
            raise error

    def widen(self, forms: Mapping[Node, Form]) -> None:
        """From now on with sums that hold more: where some values were beyond the usual, the next ones may well be.

        Args:
            forms: for the aggregates that need it, by their nodes.
        """
        self.forms = {**self.forms, **forms}
        self.program = counted(exact(self.written or self.program, "usual", self.forms), self.counts)
        self.executables.clear()

    def stack_size(self, clients: int) -> StackSize | None:
        """How large stacks of so many clients' values are; None if there are none."""
        return StackSize.of(clients, self.by_number) if self.stacks else None

    @cached_property
    def stacks(self) -> list[Intrinsic]:
        """What the server has of all clients in arrays with a row for each."""
        return [node for stage in self.program.clients for _, node in stage.collected if is_stack(node)]

    @cached_property
    def at_clients(self) -> bool:
        """Whether clients have any part in it; if not, one device does it all."""
        return bool(self.program.clients) or any(map(is_stacked, self.outputs))

    @cached_property
    def keeps_much(self) -> bool:
        """Whether clients keep so much of what they compute that room for others is to be spared."""
        leaves = [leaf for stage in self.program.clients for node in stage.kept for leaf in tensors(member(node.type))]
        return sum(math.prod(size or 1 for size in leaf.shape) * leaf.dtype.itemsize for leaf in leaves) > _MUCH

    def reads(self, path: Path) -> bool:
        """Whether a part of the argument is read in computing anything."""
        return any(all(a == b for a, b in zip(path, other, strict=False)) for other in self._read)

    @cached_property
    def _read(self) -> frozenset[Path]:
        roots = [*self.outputs, *(node for stage in self.program.servers for node in stage.outputs)]
        for stage in self.program.clients:
            roots += [node for fold in stage.aggregates for node in fold.contributions]
            roots += [*stage.kept, *(source for source, _ in stage.broadcasts)]
        return frozenset(path_of(node) for node in taken_in(roots, lambda node: False) if is_argument(node))

    @cached_property
    def narrow(self) -> frozenset[Path]:
        """The tensors of the argument that are computed with in 32 bits."""
        return narrowed(self.program.parameter, self.program.result)

    @cached_property
    def handed_on(self) -> frozenset[Path]:
        """The parts of the argument that come back as they are, to be the argument of the next call."""
        return handed_on(self.program)

    @cached_property
    def protected(self) -> ProtectedSums:
        """Its protected sums."""
        return ProtectedSums(fold for stage in self.program.clients for fold in stage.aggregates)

    def sizes_with(self, sequences: list[Packed]) -> tuple[int, ...] | None:
        """The sizes of batch to compile for, with those of some more sequences."""
        if self.sizes is None:
            return None
        for packed in sequences:
            self.sizes |= packed.sizes | {packed.capacity}
        return tuple(sorted(self.sizes))


_MUCH = 1 << 16
"""Bytes that each client keeps."""
