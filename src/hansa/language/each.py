"""Operations in which each client is by itself: all clients' values at the server, and slices that clients ask for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hansa.language import operands
from hansa.language._typing import Function, Operand
from hansa.language.computations import concrete
from hansa.language.excluding import terms_of
from hansa.language.values import Value
from hansa.types import CLIENTS, SERVER, FederatedType, SequenceType, StructType, TensorType, Type


def federated_collect(value: Operand, *, min_cohort: int | None = None) -> Value:
    """`{T}@CLIENTS -> T*@SERVER`: the clients' values as a sequence at the server, in the cohort's order.

    The server sees each client's value, and holds all of them at a time: aggregate instead wherever that will do. A
    collected sequence may be a result, and is then a list.

    Args:
        value: what each client has.
        min_cohort: a call in which fewer clients take part is refused, before it has a result.

    Raises:
        ValueError: if `min_cohort` is no positive number; and in a call, if fewer clients take part.

    Examples:
        >>> @hansa.federated_computation("{int32}@CLIENTS")
        ... def all_of(numbers):
        ...     return hansa.federated_collect(numbers)
        >>> print(all_of.type_signature)
        ({int32}@CLIENTS -> int32*@SERVER)
        >>> all_of([3, 1, 2])
        [array(3, dtype=int32), array(1, dtype=int32), array(2, dtype=int32)]
    """
    return _gathered("federated_collect", value, min_cohort, SequenceType)


def federated_stack(value: Operand, *, min_cohort: int | None = None) -> Value:
    """`{T}@CLIENTS -> T[?,…]@SERVER`: the clients' values in arrays with a row for each, in the cohort's order.

    Each tensor of T has a leading axis more, of unknown size: for each client one row. So local computations at the
    server take them like any array, and sort them, take the median of each coordinate, or compare clients. Without
    clients there are no rows.

    The server sees each client's value, and holds all of them at a time: `hansa.explain` says how many bytes that is
    for each client. What is much, from 8 MiB on all CPU devices together, lies on one device only, which alone
    computes what the server does. Aggregate instead wherever that will do.

    Args:
        value: what each client has.
        min_cohort: a call in which fewer clients take part is refused, before it has a result.

    Raises:
        ValueError: if `min_cohort` is no positive number; and in a call, if fewer clients take part, or if none does
            and what is computed of the rows needs some.

    Examples:
        >>> median = hansa.jax_computation(lambda values: jnp.median(values, axis=0))
        >>> @hansa.federated_computation("{float32[2]}@CLIENTS")
        ... def robust(readings):
        ...     return hansa.federated_map(median, hansa.federated_stack(readings))
        >>> robust([[1.0, 9.0], [5.0, 2.0], [2.0, 1000.0]])
        Array([2., 9.], dtype=float32)
    """
    return _gathered("federated_stack", value, min_cohort, stacked_type)


def _gathered(name: str, value: Operand, min_cohort: int | None, of_all: Callable[[Type], Type]) -> Value:
    """All clients' values, of a type that is made of theirs."""
    trace = operands.require_trace(name)
    node = operands.placed(value, name, CLIENTS)
    kind = operands.member(node)
    operands.known_sizes(kind, name)
    terms = terms_of(name, min_cohort=min_cohort)
    return operands.recorded(name, FederatedType(of_all(kind), SERVER), trace, node, terms=terms)


def stacked_type(kind: Type) -> Type:
    """The type of values of a type in arrays with a row for each."""
    if isinstance(kind, StructType):
        return StructType([(name, stacked_type(field)) for name, field in kind.fields], container=kind.container)
    assert isinstance(kind, TensorType)
    return TensorType(kind.dtype, (None, *kind.shape))


def federated_select(client_keys: Operand, max_key: Operand, server_value: Operand, select_fn: Function) -> Value:
    """`{int32[N]}@CLIENTS, int32@SERVER, T@SERVER, (<T,int32> -> U) -> {U*}@CLIENTS`: the slices a client asks for.

    With one key for each client, `{int32}@CLIENTS`, the result is that slice, `{U}@CLIENTS`.

    Args:
        client_keys: which slices each client wants, in this order; N is known and the same for all. Or one key, a
            scalar.
        max_key: how many slices there are; a key outside of 0 to max_key - 1 stands for the nearest one in it.
        server_value: what is sliced.
        select_fn: (server_value, key) -> slice.

    Returns:
        At each client, the sequence of its N slices, or the one slice.

    Examples:
        >>> row = hansa.jax_computation(lambda table, key: table[key])
        >>> @hansa.federated_computation("float32[4]@SERVER", "{int32[2]}@CLIENTS")
        ... def sums(table, keys):
        ...     rows = hansa.federated_select(keys, 4, table, row)
        ...     return hansa.sequence_sum(rows)
        >>> [float(total) for total in sums([10.0, 20.0, 30.0, 40.0], [[0, 1], [3, 3]])]
        [30.0, 80.0]
        >>> @hansa.federated_computation("float32[4]@SERVER", "{int32}@CLIENTS")
        ... def each(table, key):
        ...     return hansa.federated_select(key, 4, table, row)
        >>> [float(found) for found in each([10.0, 20.0, 30.0, 40.0], [2, 0])]
        [30.0, 10.0]
    """
    trace = operands.require_trace("federated_select")
    keys = operands.placed(client_keys, "the client_keys of federated_select", CLIENTS)
    wanted = operands.member(keys)
    if not isinstance(wanted, TensorType) or wanted.dtype != "int32" or len(wanted.shape) > 1 or None in wanted.shape:
        raise TypeError(
            "the client_keys of federated_select must be a vector of int32 keys, of known length, at each client, such "
            f"as {{int32[8]}}@CLIENTS, or one key, {{int32}}@CLIENTS; found {keys.type}"
        )
    if isinstance(max_key, int | np.integer) and max_key < 1:
        raise ValueError(
            f"the max_key of federated_select must be at least 1, found {max_key}: there is nothing to select"
        )
    count = operands.at_server(max_key, "the max_key of federated_select", TensorType("int32"))
    source = operands.at_server(server_value, "the server_value of federated_select")
    element = StructType([(None, operands.member(source)), (None, TensorType("int32"))])
    function = concrete(select_fn, element, "the select_fn of federated_select")
    slices = function.type_signature.result
    operands.local_result(function, "the select_fn of federated_select")
    operands.known_sizes(slices, "federated_select")
    sent = [
        operands.operation("federated_broadcast", FederatedType(operands.member(node), CLIENTS, True), node)
        for node in (count, source)
    ]
    kind = FederatedType(SequenceType(slices) if wanted.shape else slices, CLIENTS)
    return operands.recorded("federated_select", kind, trace, keys, *sent, functions=(function,))
