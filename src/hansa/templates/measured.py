"""`MeasuredProcess`: a process at the server whose steps have a result, and measurements of how it came about."""

from __future__ import annotations

from typing import Any, NamedTuple

from hansa._tracebacks import boundaries
from hansa.language.computation import Computation
from hansa.language.computations import PolymorphicComputation
from hansa.templates.iterative import IterativeProcess
from hansa.types import SERVER, FederatedType, StructType, Type


class MeasuredOutput(NamedTuple):
    """What the function of a measured process's `next` returns: `return MeasuredOutput(state, result, measurements)`.

    Where nothing is measured, or there is no state, `hansa.federated_value([], hansa.SERVER)` stands for it.

    Examples:
        >>> @hansa.federated_computation("int32@SERVER", "{float32}@CLIENTS")
        ... def next_mean(rounds, readings):
        ...     mean = hansa.federated_mean(readings)
        ...     return hansa.templates.MeasuredOutput(rounds, mean, {"largest": hansa.federated_max(readings)})
        >>> print(next_mean.type_signature.result)
        <
          state=int32@SERVER,
          result=float32@SERVER,
          measurements=<largest=float32@SERVER>
        >
    """

    state: Any
    result: Any
    measurements: Any


@boundaries
class MeasuredProcess(IterativeProcess):
    """A process with the state at the server whose `next` returns `state`, `result` and `measurements`, by name.

    Args:
        initialize: `( -> S@SERVER)`.
        next: `(<S@SERVER,…> -> <state=S@SERVER,result=R,measurements=M@SERVER>)`; R may be at any placement, or be a
            struct of such values.

    Raises:
        TypeError: if a type is another; the message says which and what to write.

    Examples:
        >>> none = hansa.federated_computation(lambda: hansa.federated_value([], hansa.SERVER))
        >>> @hansa.federated_computation("<>@SERVER", "{float32}@CLIENTS")
        ... def next_mean(state, readings):
        ...     mean = hansa.federated_mean(readings)
        ...     return hansa.templates.MeasuredOutput(state, mean, hansa.federated_max(readings))
        >>> process = hansa.templates.MeasuredProcess(none, next_mean)
        >>> process.next(process.initialize(), [1.0, 2.0])
        <state=<>,result=1.5,measurements=2.0>
    """

    def __init__(self, initialize: Computation, next: Computation | PolymorphicComputation) -> None:
        super().__init__(initialize, next)
        self._check_state(self.state_type, "the state that `initialize` returns")
        result = self.next.type_signature.result
        if not isinstance(result, StructType) or result.names != MeasuredOutput._fields:
            raise TypeError(
                f"{type(self).__name__}: next must return the fields state, result and measurements, found "
                f"{result}; write `return hansa.templates.MeasuredOutput(state, result, measurements)`"
            )
        self._check_state(result["state"], "the state that `next` returns")
        at_server(result["measurements"], "the measurements that `next` returns")

    def _check_state(self, kind: Type, what: str) -> None:
        """Checks where the state is."""
        at_server(kind, what)


def at_server(kind: Type, what: str) -> None:
    """Checks that a value is one federated value at the server."""
    if isinstance(kind, FederatedType) and kind.placement is SERVER:
        return
    if isinstance(kind, FederatedType):
        remedy = "aggregate it, with hansa.federated_sum or another"
    elif isinstance(kind, StructType) and any(isinstance(part, FederatedType) for part in kind.components()):
        remedy = "make one value of the struct with hansa.federated_zip"
    else:
        remedy = "place it with hansa.federated_value(value, hansa.SERVER)"
    member = kind.member if isinstance(kind, FederatedType) else "T"
    raise TypeError(f"{what} must be one value at the server, {member}@SERVER, found {kind}; {remedy}")
