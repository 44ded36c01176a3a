"""`Aggregation`: an aggregation process with weights, which knows what of the clients the server has to see."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from hansa._tracebacks import boundaries
from hansa.language.computation import Computation
from hansa.language.computations import GraphComputation, PolymorphicComputation
from hansa.language.graph import Apply, Intrinsic, walk
from hansa.templates import AggregationProcess
from hansa.types import StructType, Type

Needs = Literal["sums", "extremes", "each"]

_SEEN: dict[str, Needs] = {
    "federated_sum": "sums",
    "federated_mean": "sums",
    "federated_secure_sum": "sums",
    "federated_secure_sum_bitwidth": "sums",
    "federated_secure_modular_sum": "sums",
    "federated_min": "extremes",
    "federated_max": "extremes",
    "federated_aggregate": "each",
    "federated_collect": "each",
    "federated_stack": "each",
}
"""What the server sees of the clients by each operation that brings their values to it."""

_LEVELS: tuple[Needs, ...] = ("sums", "extremes", "each")


@boundaries
class Aggregation(AggregationProcess):
    """An aggregation process that takes a weight of each client; a client of weight 0 has no part in it.

    Its state is at the server, `S@SERVER`, or has a part that each client keeps, too:
    `<server=S@SERVER,clients={E}@CLIENTS>`. A client of weight 0 keeps what it had.

    Args:
        initialize: `( -> S@SERVER)`.
        next: `(<S@SERVER,{T}@CLIENTS,{W}@CLIENTS> -> <state=S@SERVER,result=R@SERVER,measurements=M@SERVER>)`.

    Raises:
        TypeError: if a type is another; the message says which and what to write.

    Examples:
        >>> aggregation = hansa.aggregators.median()("float32[2]")
        >>> print(aggregation.value_type, aggregation.needs)
        float32[2] each
        >>> values, weights = [[1.0, 9.0], [5.0, 2.0], [2.0, 1000.0], [7.0, 7.0]], [1.0, 1.0, 1.0, 0.0]
        >>> aggregation.next(aggregation.initialize(), values, weights).result
        Array([2., 9.], dtype=float32)
    """

    def __init__(self, initialize: Computation, next: Computation | PolymorphicComputation) -> None:
        super().__init__(initialize, next)
        if not self.is_weighted:
            raise TypeError(
                f"next of an Aggregation must take the weight of each client after its value: <{self.state_type},"
                f"{{{self.value_type}}}@CLIENTS,{{float32}}@CLIENTS>; found {self.next.type_signature.parameter}"
            )

    @property
    def needs(self) -> Needs:
        """What the server has to see: "sums" over clients, "extremes" (least or greatest), or "each" client's value."""
        return max((_SEEN[name] for name in _operations(self.next) if name in _SEEN), key=_LEVELS.index, default="sums")

    @property
    def result_type(self) -> Type:
        """The type of the result, at the server.

        Examples:
            >>> print(hansa.aggregators.mean()("float32[2]").result_type)
            float32[2]@SERVER
        """
        result = self.next.type_signature.result
        assert isinstance(result, StructType)
        return result["result"]


def _operations(computation: Computation) -> Iterator[str]:
    """The names of the operations of a computation, and of those that it calls."""
    if not isinstance(computation, GraphComputation):
        return
    for node in walk(computation.result):
        if isinstance(node, Intrinsic):
            yield node.name
        if isinstance(node, Apply):
            yield from _operations(node.computation)
