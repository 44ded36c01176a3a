"""A rule of aggregation in a round of averaging: its state beside the model's, its measurements beside the metrics."""

from __future__ import annotations

from typing import Any, cast

from hansa.aggregators import Factory
from hansa.language import intrinsics as on
from hansa.language.computation import Computation
from hansa.language.tracing import federated_computation
from hansa.learning.screening import struct_of
from hansa.types import SERVER, FederatedType, Struct, Type


class Aggregating:
    """What a rule of aggregation does with clients' updates.

    Args:
        rule: the argument `aggregator`.
        update: the type of a client's update.
        weight: the type of its weight.

    Raises:
        TypeError: if it is no rule, or what it makes of updates is no update.
    """

    def __init__(self, rule: object, update: Type, weight: Type) -> None:
        if not isinstance(rule, Factory):
            raise TypeError(
                f"aggregator must be a rule of hansa.aggregators, such as hansa.aggregators.median(), found {rule!r}"
            )
        self._aggregation = rule(update, weight)
        FederatedType(update, SERVER).check_assignable_from(
            self._aggregation.result_type, what=f"the result of the aggregator {rule!r}, which must be an update"
        )
        output = struct_of(self._aggregation.next.type_signature.result)
        measured = struct_of(output["measurements"])
        self.measured = measured if len(measured) else None
        self._has_state = bool(len(struct_of(self._aggregation.state_type)))

    def initialize(self, initialize: Computation) -> Computation:
        """What makes the first state, from what makes it without the aggregator."""
        if not self._has_state:
            return initialize

        @federated_computation
        def begin() -> Any:
            return with_aggregator(initialize(), self._aggregation.initialize())

        return cast(Computation, begin)

    def parts(self, state: Any, update: Any, weight: Any) -> tuple[Any, Any]:
        """The state without the aggregator's, and what the aggregator makes of the updates."""
        if not self._has_state:
            return state, self._aggregation.next(on.federated_value([], SERVER), update, weight)
        before = on.federated_zip(Struct.of(model=state.model, optimizer_state=state.optimizer_state))
        return before, self._aggregation.next(state.aggregator, update, weight)

    def state_after(self, state: Any, output: Any) -> Any:
        """The next state."""
        return with_aggregator(state, output.state) if self._has_state else state


def with_aggregator(state: Any, own: Any) -> Any:
    """A state with that of an aggregator."""
    return on.federated_zip(Struct.of(model=state.model, optimizer_state=state.optimizer_state, aggregator=own))
