"""`AggregationProcess`: an aggregation of the clients' values that has a state, such as an adaptive clipping norm."""

from __future__ import annotations

from hansa._tracebacks import boundaries
from hansa.language.computation import Computation
from hansa.language.computations import PolymorphicComputation
from hansa.templates.iterative import check_places
from hansa.templates.measured import MeasuredProcess, at_server
from hansa.types import CLIENTS, FederatedType, StructType, TensorType, Type
from hansa.types.dtypes import kind as dtype_kind


@boundaries
class AggregationProcess(MeasuredProcess):
    """A measured process whose `next` makes one value at the server of the clients' values, perhaps with weights.

    The state is at the server, or, where each client keeps something of its own, a struct of two parts,
    `<server=S@SERVER,clients={E}@CLIENTS>`; `initialize` gives then what all clients have at first, `E@CLIENTS`.

    Args:
        initialize: `( -> S@SERVER)`.
        next: `(<S@SERVER,{T}@CLIENTS> -> <state=S@SERVER,result=R@SERVER,measurements=M@SERVER>)`, or with a third
            parameter `{W}@CLIENTS`, where W is a scalar of an integer or float dtype.

    Raises:
        TypeError: if a type is another; the message says which and what to write.

    Examples:
        >>> none = hansa.federated_computation(lambda: hansa.federated_value([], hansa.SERVER))
        >>> @hansa.federated_computation("<>@SERVER", "{float32}@CLIENTS", "{float32}@CLIENTS")
        ... def next_mean(state, value, weight):
        ...     nothing = hansa.federated_value([], hansa.SERVER)
        ...     return hansa.templates.MeasuredOutput(state, hansa.federated_mean(value, weight), nothing)
        >>> mean = hansa.templates.AggregationProcess(none, next_mean)
        >>> mean.is_weighted, mean.value_type
        (True, to_type('float32'))
        >>> mean.next(mean.initialize(), [1.0, 2.0], [1.0, 3.0]).result
        np.float32(1.75)
    """

    def __init__(self, initialize: Computation, next: Computation | PolymorphicComputation) -> None:
        super().__init__(initialize, next)
        signature = self.next.type_signature
        parameter, result = signature.parameter, signature.result
        assert isinstance(result, StructType)
        if not isinstance(parameter, StructType) or len(parameter) not in (2, 3):
            raise TypeError(
                "next of an AggregationProcess must take the state, a value of each client and, if it is weighted, a "
                f"weight of each client: <{self.state_type},{{T}}@CLIENTS> or <{self.state_type},{{T}}@CLIENTS,"
                f"{{float32}}@CLIENTS>; found {parameter}"
            )
        check_places(parameter, ("state", "value", "weight"), "next of an AggregationProcess takes")
        self._value = _of_each_client(parameter[1], "the value that `next` takes, its second parameter,")
        if len(parameter) == 3:
            _check_weight(parameter[2])
        at_server(result["result"], "the result that `next` of an AggregationProcess returns")

    def _check_state(self, kind: Type, what: str) -> None:
        """Checks that the state is at the server, or has a part there and one at the clients."""
        if not isinstance(kind, StructType) or kind.names != ("server", "clients"):
            return super()._check_state(kind, what)
        at_server(kind["server"], f"the part `server` of {what}")
        own = kind["clients"]
        if not isinstance(own, FederatedType) or own.placement is not CLIENTS:
            raise TypeError(f"the part `clients` of {what} must be a value of each client, {{E}}@CLIENTS, found {own}")

    @property
    def is_weighted(self) -> bool:
        """Whether `next` takes a weight of each client."""
        parameter = self.next.type_signature.parameter
        return isinstance(parameter, StructType) and len(parameter) == 3

    @property
    def value_type(self) -> Type:
        """The type T of one client's value."""
        return self._value


def _of_each_client(kind: Type, what: str) -> Type:
    """The type of one client's value, where there is one for each."""
    if isinstance(kind, FederatedType) and kind.placement is CLIENTS and not kind.all_equal:
        return kind.member
    member = kind.member if isinstance(kind, FederatedType) else kind
    reason = ", which is the same at all clients" if isinstance(kind, FederatedType) and kind.all_equal else ""
    reason = reason if isinstance(kind, FederatedType) and kind.placement is CLIENTS else ""
    wanted = f"{{{member}}}@CLIENTS"
    raise TypeError(f"{what} must be a value of each client, found {kind}{reason}; declare it as '{wanted}'")


def _check_weight(kind: Type) -> None:
    what = "the weight that `next` takes, its third parameter,"
    member = _of_each_client(kind, what)
    if not isinstance(member, TensorType) or member.shape != () or dtype_kind(member.dtype) not in ("int", "float"):
        raise TypeError(
            f"{what} must be an integer or float scalar of each client, found {kind}; declare it as "
            "'{float32}@CLIENTS'"
        )
