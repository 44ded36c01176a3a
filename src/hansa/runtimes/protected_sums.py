"""Whether protected sums fit their dtypes, asked before any client works."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import jax

from hansa.compiler.aggregates import Aggregate
from hansa.compiler.evaluate import evaluate, member
from hansa.compiler.partition import is_aggregate
from hansa.language.graph import Node, Parameter, walk
from hansa.language.protected_sums import check_total, is_bounded, largest_bounds


class ProtectedSums:
    """The protected sums among some aggregates, and the bounds of what clients give to them.

    A bound that is written in the program is read here, once. One that the round makes of what clients report may be
    as large as its dtype allows. Any other is known when the argument is.

    Args:
        aggregates: those of a program, or of a stage.

    Attributes:
        asked: the bounds that are to be computed before a call, nodes at the server.
    """

    def __init__(self, aggregates: Iterable[Aggregate]) -> None:
        self._folds = [fold for fold in aggregates if is_bounded(fold.node)]
        self._bounds: dict[Node, list[int]] = {}
        asked = []
        for node in dict.fromkeys(fold.start for fold in self._folds if fold.start is not None):
            parts = list(walk(node))
            if any(map(is_aggregate, parts)):
                self._bounds[node] = largest_bounds(member(node.type))
            elif any(isinstance(part, Parameter) for part in parts):
                asked.append(node)
            else:
                with jax.enable_x64(True):
                    self._bounds[node] = _integers(evaluate([node], {})[0])
        self.asked = tuple(asked)

    def check(self, clients: int, asked: list[Any]) -> None:
        """Refuses a call with so many clients that a sum might be more than its dtype holds.

        Args:
            clients: how many take part.
            asked: the values of the bounds that were asked for.

        Raises:
            ValueError: names the operation, the number of clients, and a dtype that would do.
        """
        bounds = {**self._bounds, **dict(zip(self.asked, map(_integers, asked), strict=True))}
        for fold in self._folds:
            kind = member(fold.node.type)
            # A file of the first version keeps no bounds.
            most = largest_bounds(kind) if fold.start is None else bounds[fold.start]
            check_total(fold.node.name, kind, most, clients, fold.node.where)


def _integers(value: Any) -> list[int]:
    return [int(leaf) for leaf in jax.tree.leaves(value)]
