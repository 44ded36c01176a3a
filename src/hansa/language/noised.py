"""Which noise a computation has."""

from __future__ import annotations

from collections.abc import Iterator

from hansa.language.computation import Computation
from hansa.language.computations import GraphComputation
from hansa.language.graph import Apply, Intrinsic, walk
from hansa.language.mechanism import Mechanism


def mechanisms_in(computation: Computation) -> Iterator[Mechanism]:
    """The noise that a computation has somewhere, whatever becomes of it; what is made of what is not followed."""
    if not isinstance(computation, GraphComputation):
        return
    declared = computation.declared
    for node in walk(computation.result) if declared is None else declared.nodes:
        if isinstance(node, Intrinsic) and node.mechanism is not None:
            yield node.mechanism
        if isinstance(node, Apply):
            yield from mechanisms_in(node.computation)
