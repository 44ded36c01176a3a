"""`IterativeProcess`: a state, and what takes it to the next one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hansa._answers import Answering
from hansa._tracebacks import boundaries
from hansa.language.computation import Computation
from hansa.language.computations import PolymorphicComputation
from hansa.templates.keeping import keeping, model_type
from hansa.types import FederatedType, FunctionType, StructType, Type
from hansa.types.queries import tensor_leaves

_LONGEST = 60
"""Characters of a type that are printed in full."""


@boundaries
class IterativeProcess(Answering):
    """A process that has a state: `initialize` makes the first one, `next` makes the next one.

    Args:
        initialize: `( -> S)`.
        next: `(S -> S)` or `(<S,…> -> <S,…>)`: the state is the first of its parameters and of its results. Without
            declared types it may take the state only. In a run the second parameter is the round's data, and
            `hansa.program.train(…, arguments=)` gives what else it takes, by name. Where a part of the state is
            `{C}@CLIENTS`, each client keeps its own: `initialize` gives what all have at first, `C@CLIENTS`, and
            `next`, called with a round's data, takes and gives a `hansa.ClientStates`.
        model_of: from a state to the model in it, as its users know it, such as a Keras model; see the method
            `model_of`.
        settings: what it was made with, for people, such as `{"server optimizer": "SGD, learning rate 1"}`: its print
            and the reports of its runs say it.

    Raises:
        TypeError: if the states do not fit one another.

    Examples:
        >>> @hansa.federated_computation
        ... def initialize():
        ...     return hansa.federated_value(0, hansa.SERVER)
        >>> add = hansa.jax_computation(lambda a, b: a + b)
        >>> @hansa.federated_computation("int32@SERVER", "{int32}@CLIENTS")
        ... def next_total(total, numbers):
        ...     return hansa.federated_map(add, [total, hansa.federated_sum(numbers)])
        >>> process = hansa.templates.IterativeProcess(initialize, next_total)
        >>> print(process.state_type)
        int32@SERVER
        >>> process.next(process.initialize(), [1, 2, 3])
        np.int32(6)
        >>> process.settings
        {}

        Clients that count how often they have taken part:

        >>> @hansa.federated_computation
        ... def begin():
        ...     places = {"rounds": hansa.SERVER, "own": hansa.CLIENTS}
        ...     return {name: hansa.federated_value(0, place) for name, place in places.items()}
        >>> count = hansa.jax_computation(lambda n: n + 1)
        >>> @hansa.federated_computation("<rounds=int32@SERVER,own={int32}@CLIENTS>", "{float32[?]*}@CLIENTS")
        ... def visit(state, data):
        ...     own = hansa.federated_map(count, state.own)
        ...     return {"rounds": hansa.federated_map(count, state.rounds), "own": own}
        >>> process = hansa.templates.IterativeProcess(begin, visit)
        >>> cohort = hansa.ClientBatches(np.zeros(3, np.float32), [0, 1, 3], 2, ["ann", "bo"])
        >>> state = process.next(process.next(process.initialize(), cohort), cohort.select([1]))
        >>> state.own["ann"], state.own["bo"], state.own["cy"]
        (np.int32(1), np.int32(2), np.int32(0))
    """

    def __init__(
        self,
        initialize: Computation,
        next: Computation | PolymorphicComputation,
        *,
        model_of: Callable[[Any], Any] | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        start = _typed("initialize", initialize).type_signature
        if start.parameter is not None:
            raise TypeError(
                f"initialize must take no parameter, found the type {start}; close over what it needs instead"
            )
        if isinstance(next, PolymorphicComputation) and len(next.parameters) == 1:
            next = next.specialize(start.result)
        next = _typed("next", next)
        step = next.type_signature
        if step.parameter is None:
            raise TypeError(
                f"next must take the state, of type {start.result}, as its first parameter; found the type {step}, "
                "which has none"
            )
        state = _first(step, start)
        if state is not step.parameter:
            check_places(step.parameter, ("state",), "next takes")
        state.check_assignable_from(start.result, what="the state that `initialize` returns and `next` takes")
        result = step.result
        if not state.is_assignable_from(result):
            if not isinstance(result, StructType) or not len(result):
                raise TypeError(
                    f"next must return the state, or a struct that begins with it; the state that it takes is {state}, "
                    f"but it returns {result}"
                )
            check_places(result, ("state",), "next returns")
            state.check_assignable_from(result[0], what="the state that `next` returns, first, and takes")
        self._initialize, self._next, self._state = initialize, keeping(next, state), state
        self._model_of, self._settings = model_of, dict(settings or {})

    @property
    def initialize(self) -> Computation:
        """Makes the first state."""
        return self._initialize

    @property
    def next(self) -> Computation:
        """Takes a state, and what else the process needs, to the next state and what else it gives."""
        return self._next

    @property
    def state_type(self) -> Type:
        """The type of the state, as `next` takes it."""
        return self._state

    def model_of(self, state: Any) -> Any:
        """The model in a state, as its users know it: by default the field `model` of the state.

        Raises:
            TypeError: if the states have no such field.

        Examples:
            >>> process.model_of(state)
            <Sequential name=sequential..., built=True>
        """
        if self._model_of is not None:
            return self._model_of(state)
        if model_type(self._state) is None:
            member = self._state.member if isinstance(self._state, FederatedType) else self._state
            raise TypeError(f"the states of this process have no field `model`, so there is no model in them: {member}")
        return state.model

    @property
    def settings(self) -> Mapping[str, str]:
        """What the process was made with, by name, for people."""
        return dict(self._settings)

    def __repr__(self) -> str:
        said = [f"state: {_outline(self._state)}", *(f"{name}: {value}" for name, value in self._settings.items())]
        return f"{type(self).__name__}({'; '.join(said)})"


def _outline(kind: Type) -> str:
    """A type in a few words: `<model,optimizer_state>@SERVER, 9,611 numbers`."""
    text = str(kind)
    if len(text) <= _LONGEST:
        return text
    member, place = (kind.member, f"@{kind.placement}") if isinstance(kind, FederatedType) else (kind, "")
    sizes = [math.prod(size or 0 for size in leaf.shape) for leaf in tensor_leaves(member)]
    names = member.names if isinstance(member, StructType) else ()
    fields = ",".join(str(index) if name is None else name for index, name in enumerate(names))
    return f"{f'<{fields}>' if len(fields) <= _LONGEST else f'<{len(names)} fields>'}{place}, {sum(sizes):,} numbers"


def check_places(kind: Type, places: Sequence[str], what: str) -> None:
    """Checks that a struct type does not give one of these names to a field at the place of another.

    What a process takes is told by its place, as arguments are; a name that says another thing is a mistake.
    """
    for index, name in enumerate(kind.names if isinstance(kind, StructType) else ()):
        if name in places and places.index(name) != index:
            order = f"{', '.join(places)} in this order" if len(places) > 1 else f"the {places[0]} first"
            raise TypeError(
                f"{what} {order}, but in {kind} {name!r} is at the place {index} instead of {places.index(name)}; "
                "reorder the fields, or give it another name"
            )


def _typed(name: str, value: Any) -> Computation:
    if isinstance(value, Computation):
        return value
    if isinstance(value, PolymorphicComputation):
        raise TypeError(
            f"{name} must have declared types, but {value.name!r} takes its types from its arguments; write them into "
            "its decorator, such as @hansa.federated_computation(initialize.type_signature.result, …)"
        )
    if callable(value):
        raise TypeError(
            f"{name} must be a computation, found the Python function {getattr(value, '__name__', value)!r}; decorate "
            "it with @hansa.federated_computation and the types of its parameters"
        )
    raise TypeError(f"{name} must be a computation, found {value!r}; pass the computation itself, without calling it")


def _first(step: FunctionType, start: FunctionType) -> Type:
    parameter = step.parameter
    assert parameter is not None
    if parameter.is_assignable_from(start.result) or not isinstance(parameter, StructType) or not len(parameter):
        return parameter
    return parameter[0]
