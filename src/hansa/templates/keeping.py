"""`next` of a process whose clients keep a part of the state: from the states of a population to the next ones."""

from __future__ import annotations

from typing import Any

from hansa.language.computation import Computation
from hansa.language.computations import GraphComputation
from hansa.language.context import current_trace
from hansa.types import CLIENTS, FederatedType, Struct, StructType, Type, is_federated
from hansa.types.client_states import ClientStates
from hansa.types.client_values import ClientValues
from hansa.types.values import field_values, to_value


def keeps_at_clients(state: Type) -> bool:
    """Whether clients keep a part of a state."""
    if isinstance(state, StructType):
        return any(map(keeps_at_clients, state))
    return isinstance(state, FederatedType) and state.placement is CLIENTS and not state.all_equal


def model_type(state: Type) -> Type | None:
    """The type of the model in a state: of its field `model`, or that of its part `server`; None if it has none."""
    member = state.member if isinstance(state, FederatedType) else state
    if not isinstance(member, StructType):
        return None
    if "model" in member.names:
        return member["model"]
    return model_type(member["server"]) if "server" in member.names else None


def keeping(next: Computation, state: Type) -> Computation:
    """`next`, which takes and gives `ClientStates` where clients keep a part of the state; itself if they do not."""
    return Keeping(next, state) if isinstance(next, GraphComputation) and keeps_at_clients(state) else next


def reading(computation: Computation, state: Type) -> Computation:
    """A computation whose first parameter is a state, of which clients keep a part, and which gives no state."""
    if isinstance(computation, GraphComputation) and keeps_at_clients(state):
        return Keeping(computation, state, gives=False)
    return computation


class Keeping(GraphComputation):
    """A computation whose first parameter is a state, of which clients keep a part, and whose first result is the next.

    Called with data, it takes for such a part what all clients have at first, or the states of a population. Those of
    the clients that take part are replaced, and the states of the population are given back.

    Args:
        next: the computation.
        state: the type of the state.
        gives: whether its first result is a state, too.
    """

    def __init__(self, next: GraphComputation, state: Type, gives: bool = True) -> None:
        super().__init__(next.name, next.parameter, next.result, next.where)
        self.__doc__ = next.__doc__
        self._state, self._gives = state, gives

    def called_with(self, argument: Any) -> Any:
        """Runs it, or records the call, with the one argument that it takes."""
        if current_trace() is not None:
            return super().called_with(argument)
        kind, result = self.type_signature.parameter, self.type_signature.result
        assert kind is not None
        if kind is self._state:
            state = argument = with_states(kind, argument, "the state")
        else:
            assert isinstance(kind, StructType)
            given = field_values(argument, kind, f"the argument of {self.name!r}")
            state = with_states(self._state, given[0], "the state")
            argument = Struct(zip(kind.names, (state, *given[1:]), strict=True))
        after = super().called_with(argument)
        if not self._gives:
            return after
        if self._state.is_assignable_from(result):
            return _after(result, state, after)
        assert isinstance(result, StructType)
        values = (_after(result[0], state, after[0]), *list(after)[1:])
        return (result.container or Struct)(zip(result.names, values, strict=True))


def with_states(kind: Type, state: Any, what: str) -> Any:
    """A state with `ClientStates` in the place of what all clients have at first."""
    if isinstance(kind, StructType) and is_federated(kind):
        parts = zip(kind.fields, field_values(state, kind, what), strict=True)
        made = [(name, with_states(field, part, f"{what}.{name}")) for (name, field), part in parts]
        return (kind.container or Struct)(made)
    listed = isinstance(state, ClientStates | ClientValues | list | tuple)
    if not keeps_at_clients(kind) or listed:
        return state
    member = kind.member  # type: ignore[attr-defined]
    return ClientStates(to_value(state, member, what), member)


def _after(kind: Type, before: Any, after: Any) -> Any:
    """The next state, with the states of the population in the place of those of the clients that took part."""
    if isinstance(kind, StructType) and is_federated(kind):
        parts = zip(kind.fields, before, after, strict=True)
        return (kind.container or Struct)((name, _after(field, old, new)) for (name, field), old, new in parts)
    return before.updated(after) if isinstance(before, ClientStates) else after
