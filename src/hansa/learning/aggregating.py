"""A rule of aggregation in a round: its state beside the model's and at the clients, its measurements."""

from __future__ import annotations

from typing import Any, NamedTuple

from hansa._tracebacks import add_note
from hansa.aggregators import Aggregation, Factory
from hansa.aggregators.states import joined, nothing, parts
from hansa.language import intrinsics as on
from hansa.language.tracing import jax_computation
from hansa.learning import arithmetic
from hansa.learning.screening import struct_of
from hansa.types import FederatedType, StructType, Type

_EMPTY = StructType([])


class Aggregated(NamedTuple):
    """What a rule makes of the clients' updates.

    Attributes:
        result: the aggregate, at the server.
        state: the rule's next state at the server, or None.
        own: what it keeps at the clients, or None.
        measurements: what it measures, at the server, or None.
    """

    result: Any
    state: Any = None
    own: Any = None
    measurements: Any = None


class Aggregating:
    """What a rule of aggregation does with clients' updates; without a rule, their weighted mean.

    Args:
        rule: the argument `aggregator`, or None.
        update: the type of a client's update.
        weight: the type of its weight.

    Attributes:
        aggregation: the rule for these types, or None.
        result: the type of the result, without its placement.
        state: the type of its state at the server, `<>` if it has none.
        own: the type of its state at the clients, `<>` if it has none.
        measured: the type of its measurements, or None.

    Raises:
        TypeError: if it is no rule, or none for such updates.
    """

    def __init__(self, rule: object, update: Type, weight: Type) -> None:
        self.aggregation: Aggregation | None = None
        self.measured: StructType | None = None
        self.result: Type = update
        self.state: Type = _EMPTY
        self.own: Type = _EMPTY
        if rule is None:
            return
        self.aggregation = _aggregation(rule, update, weight)
        output = self.aggregation.next.type_signature.result
        assert isinstance(output, StructType)
        self.result = _member(output["result"])
        measured = struct_of(output["measurements"])
        self.measured = measured if len(measured) else None
        kinds = parts(self.aggregation.state_type)
        self.state = _member(kinds.server)
        self.own = _EMPTY if kinds.clients is None else _member(kinds.clients)

    @property
    def has_state(self) -> bool:
        """Whether it has a state at the server."""
        return self.state != _EMPTY

    def initialize(self) -> tuple[Any, Any]:
        """Its first state at the server and at the clients, None where it has none there."""
        if self.aggregation is None:
            return None, None
        first = parts(self.aggregation.initialize())
        return (first.server if self.has_state else None), first.clients

    def next(self, state: Any, own: Any, update: Any, weight: Any) -> Aggregated:
        """What it makes of updates, from its state at the server and at the clients, None where it has none there."""
        if self.aggregation is None:
            return Aggregated(on.federated_mean(update, weight))
        given = self.aggregation.next(joined(nothing() if state is None else state, own), update, weight)
        after, kept = parts(given.state)
        measurements = None if self.measured is None else given.measurements
        return Aggregated(given.result, None if state is None else after, kept, measurements)


def unless_unchanged(changed: Any, after: Any, before: Any) -> Any:
    """A state at the server, or that before where a round changes nothing."""
    return on.federated_map(jax_computation(arithmetic.choose), [changed, after, before])


def _aggregation(rule: object, update: Type, weight: Type) -> Aggregation:
    if isinstance(rule, Factory):
        try:
            return rule(update, weight)
        except TypeError as error:
            add_note(error, f"This is the aggregator {rule!r}, for the clients' updates, of type {update.compact()}.")
            raise
    if not isinstance(rule, Aggregation):
        raise TypeError(
            f"aggregator must be a rule of hansa.aggregators, such as hansa.aggregators.median(), found {rule!r}"
        )
    _, value, *_ = struct_of(rule.next.type_signature.parameter)  # type: ignore[arg-type]
    if not _member(value).is_assignable_from(update):
        raise TypeError(
            f"the aggregator takes values of type {_member(value).compact()}, and the clients' updates have the type "
            f"{update.compact()}; pass the rule itself, such as hansa.aggregators.median(), which is for values of any "
            "type"
        )
    return rule


def _member(kind: Type) -> Type:
    return kind.member if isinstance(kind, FederatedType) else kind
