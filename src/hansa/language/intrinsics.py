"""The operations of the language, each with its type rule. What they compute is said here; how, in `hansa.compiler`."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hansa.language import operands
from hansa.language.computations import Computation, concrete
from hansa.language.context import Trace
from hansa.language.graph import Node
from hansa.language.tracing import jax_computation
from hansa.language.values import Value, to_node
from hansa.types import (
    CLIENTS,
    SERVER,
    FederatedType,
    Placement,
    SequenceType,
    StructType,
    TensorType,
    Type,
    is_federated,
)
from hansa.types.dtypes import kind as dtype_kind


def federated_value(value: Any, placement: Placement) -> Value:
    """`T -> T@P`: an unplaced value, at every member of a placement."""
    trace = operands.require_trace("federated_value")
    operands.placement(placement, "federated_value")
    node = to_node(value, what="the value of federated_value")
    remedy = "it has a placement already"
    if isinstance(node.type, FederatedType) and (node.type.placement, placement) == (SERVER, CLIENTS):
        remedy = "send it to the clients with hansa.federated_broadcast"
    operands.unplaced(node.type, "federated_value", remedy)
    return _value("federated_value", FederatedType(node.type, placement, True), trace, node)


def federated_broadcast(value: Any) -> Value:
    """`T@SERVER -> T@CLIENTS`: the server's value, sent to every client."""
    trace = operands.require_trace("federated_broadcast")
    node = operands.placed(value, "federated_broadcast", SERVER)
    return _value("federated_broadcast", FederatedType(operands.member(node), CLIENTS, True), trace, node)


def federated_map(fn: Any, value: Any) -> Value:
    """`(T -> U), {T}@P -> {U}@P`: a function of each member's value, at the clients or at the server.

    A struct of federated values at one placement is zipped first.
    """
    trace = operands.require_trace("federated_map")
    operands.not_swapped("federated_map", fn, value)
    node = operands.placed(value, "federated_map")
    assert isinstance(node.type, FederatedType)
    function = concrete(fn, operands.member(node), "the function of federated_map")
    operands.local_result(function, "the function of federated_map")
    kind = FederatedType(function.type_signature.result, node.type.placement)
    return _value("federated_map", kind, trace, node, functions=(function,))


def federated_eval(fn: Any, placement: Placement) -> Value:
    """`( -> T), P -> {T}@P`: the result of a function without parameter, computed by every member of a placement."""
    trace = operands.require_trace("federated_eval")
    operands.placement(placement, "federated_eval")
    function = concrete(fn, None, "the function of federated_eval")
    operands.local_result(function, "the function of federated_eval")
    kind = FederatedType(function.type_signature.result, placement)
    return _value("federated_eval", kind, trace, functions=(function,))


def federated_zip(value: Any) -> Value:
    """`<{T}@P,{U}@P> -> {<T,U>}@P`, in any nesting: a struct of federated values as one federated value of structs."""
    trace = operands.require_trace("federated_zip")
    node = to_node(value, what="the value of federated_zip")
    if isinstance(node.type, FederatedType):
        raise TypeError(
            f"federated_zip takes a struct of federated values, found {node.type}, which is one value already; pass a "
            "list or a dict of values, or use it as it is"
        )
    return Value(operands.zipped(node, "federated_zip"), trace)


def federated_sum(value: Any) -> Value:
    """`{T}@CLIENTS -> T@SERVER`: the sum over the clients; zero if there are none. T is numeric, and not bool."""
    return _reduce("federated_sum", value)


def federated_min(value: Any) -> Value:
    """`{T}@CLIENTS -> T@SERVER`: the smallest value over the clients, element by element.

    Without clients it is the largest value of the dtype.
    """
    return _reduce("federated_min", value)


def federated_max(value: Any) -> Value:
    """`{T}@CLIENTS -> T@SERVER`: the largest value over the clients, element by element.

    Without clients it is the smallest value of the dtype.
    """
    return _reduce("federated_max", value)


def federated_mean(value: Any, weight: Any = None) -> Value:
    """`{T}@CLIENTS, {W}@CLIENTS -> T@SERVER`: the mean over the clients, weighted if a weight is given.

    Args:
        value: tensors of float or complex dtype, or a struct of them.
        weight: a scalar of an integer or float dtype per client; by default every client counts the same.

    Returns:
        sum(weight * value) / sum(weight), and zero where the weights sum to zero or there are no clients. Both sums are
        added up in 64 bits: they may be larger or smaller than the value's dtype holds.
    """
    trace = operands.require_trace("federated_mean")
    node = operands.placed(value, "federated_mean", CLIENTS)
    operands.numeric(operands.member(node), "federated_mean", ("float", "complex"), "floats or complex numbers")
    if weight is None:
        return _value("federated_mean", FederatedType(operands.member(node), SERVER), trace, node)
    weights = operands.placed(weight, "the weight of federated_mean", CLIENTS)
    kind = operands.member(weights)
    if not isinstance(kind, TensorType) or kind.shape != () or dtype_kind(kind.dtype) not in ("int", "float"):
        raise TypeError(
            f"the weight of federated_mean must be an integer or float scalar at the clients, found {weights.type}; "
            "make one of it in a local computation"
        )
    return _value("federated_mean", FederatedType(operands.member(node), SERVER), trace, node, weights)


federated_average = federated_mean


def federated_aggregate(value: Any, zero: Any, accumulate: Any, merge: Any, report: Any) -> Value:
    """`{T}@CLIENTS, U, (<U,T> -> U), (<U,U> -> U), (U -> R) -> R@SERVER`: an aggregation of your own.

    Args:
        value: what each client contributes.
        zero: the unplaced state to start from. Each worker starts from it, so merging it with a state must give that
            state.
        accumulate: (state, contribution) -> state.
        merge: (state, state) -> state, of two partial aggregates.
        report: state -> result.

    Clients are accumulated in the order of the runtime's schedule, and partial states merged in that of its workers.
    """
    trace = operands.require_trace("federated_aggregate")
    node = operands.placed(value, "federated_aggregate", CLIENTS)
    start = to_node(zero, what="the zero of federated_aggregate")
    remedy = "each worker starts from it, so it is data, not at a placement"
    operands.unplaced(start.type, "the zero of federated_aggregate", remedy)
    what = "the accumulate of federated_aggregate"
    start = operands.arranged_zero(start, accumulate, zero, what, "federated_aggregate")
    state, contribution = start.type, operands.member(node)
    folds = (
        concrete(accumulate, StructType([(None, state), (None, contribution)]), what),
        concrete(merge, StructType([(None, state), (None, state)]), "the merge of federated_aggregate"),
    )
    operands.check_fold(folds[0], state, what)
    operands.check_fold(folds[1], state, "the merge of federated_aggregate")
    reported = concrete(report, state, "the report of federated_aggregate")
    operands.local_result(reported, "the report of federated_aggregate")
    kind = FederatedType(reported.type_signature.result, SERVER)
    return _value("federated_aggregate", kind, trace, node, start, functions=(*folds, reported))


def federated_collect(value: Any) -> Value:
    """`{T}@CLIENTS -> T*@SERVER`: the clients' values as a sequence at the server, in the cohort's order.

    The server sees each client's value, and holds all of them at a time: aggregate instead wherever that will do. A
    collected sequence may be a result, and is then a list.
    """
    trace = operands.require_trace("federated_collect")
    node = operands.placed(value, "federated_collect", CLIENTS)
    operands.known_sizes(operands.member(node), "federated_collect")
    return _value("federated_collect", FederatedType(SequenceType(operands.member(node)), SERVER), trace, node)


def federated_select(client_keys: Any, max_key: Any, server_value: Any, select_fn: Any) -> Value:
    """`{int32[N]}@CLIENTS, int32@SERVER, T@SERVER, (<T,int32> -> U) -> {U*}@CLIENTS`: the slices a client asks for.

    Args:
        client_keys: which slices each client wants, in this order; N is known and the same for all.
        max_key: how many slices there are; a key outside of 0 to max_key - 1 stands for the nearest one in it.
        server_value: what is sliced.
        select_fn: (server_value, key) -> slice.

    Returns:
        At each client, the sequence of its N slices.
    """
    trace = operands.require_trace("federated_select")
    keys = operands.placed(client_keys, "the client_keys of federated_select", CLIENTS)
    wanted = operands.member(keys)
    if not isinstance(wanted, TensorType) or wanted.dtype != "int32" or len(wanted.shape) != 1 or None in wanted.shape:
        raise TypeError(
            "the client_keys of federated_select must be a vector of int32 keys, of known length, at each client, such "
            f"as {{int32[8]}}@CLIENTS; found {keys.type}"
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
    kind = FederatedType(SequenceType(slices), CLIENTS)
    return _value("federated_select", kind, trace, keys, *sent, functions=(function,))


def federated_client_key(key: Any) -> Value:
    """`uint32[2]@SERVER -> {uint32[2]}@CLIENTS`: a random key of each client's own, made of the server's and its id.

    Use it in a local computation as `jax.random.wrap_key_data(key)`. The same client has the same key in every order of
    the cohort; for other draws in another round, give another key, such as one that the round's number is folded into.

    Args:
        key: the data of a JAX random key at the server, or an integer, the seed of one.
    """
    trace = operands.require_trace("federated_client_key")
    if isinstance(key, int | np.integer) and not isinstance(key, bool):
        seed = int(key)
        key = federated_eval(jax_computation(lambda: jax.random.key_data(jax.random.key(seed))), SERVER)
    source = operands.at_server(key, "the key of federated_client_key", _KEY)
    parts = [federated_broadcast(Value(source, trace)), federated_client_id()]
    return federated_map(jax_computation(_client_key, _KEY, TensorType("int32")), parts)


_KEY = TensorType("uint32", (2,))


def _client_key(key: Any, client: Any) -> Any:
    folded = jax.random.fold_in(jax.random.wrap_key_data(key), client.astype(jnp.uint32))
    return jax.random.key_data(folded)


def federated_client_id() -> Value:
    """`int32@CLIENTS`, not all equal: the number that identifies each client to the runtime.

    Where the data says who the clients are (`hansa.ClientBatches`), it is made of the client's id, and is the same
    wherever it stands: the id itself, if that is an integer of 32 bits. Else it is the position in the list of clients.
    Fold it into a random key to give each client its own.
    """
    trace = operands.require_trace("federated_client_id")
    return _value("federated_client_id", FederatedType(TensorType("int32"), CLIENTS), trace)


def sequence_map(fn: Any, sequence: Any) -> Value:
    """`(T -> U), T* -> U*`: a function of each element; of a federated sequence, at each member."""
    trace = operands.require_trace("sequence_map")
    operands.not_swapped("sequence_map", fn, sequence)
    node, element = operands.sequence(sequence, "sequence_map")
    function = concrete(fn, element, "the function of sequence_map")
    operands.local_result(function, "the function of sequence_map")
    kind = _rewrap(node.type, SequenceType(function.type_signature.result))
    return _value("sequence_map", kind, trace, node, functions=(function,))


def sequence_reduce(sequence: Any, zero: Any, op: Any) -> Value:
    """`T*, U, (<U,T> -> U) -> U`: folds `op` over the elements in order, from `zero`; at each member, if federated.

    Of a federated sequence `zero` is an unplaced value, or one at the same placement.
    """
    trace = operands.require_trace("sequence_reduce")
    node, element = operands.sequence(sequence, "sequence_reduce")
    start = to_node(zero, what="the zero of sequence_reduce")
    place = node.type.placement if isinstance(node.type, FederatedType) else None
    if place is None:
        operands.unplaced(
            start.type,
            "the zero of sequence_reduce for an unplaced sequence",
            "reduce in a computation that is mapped over both, with hansa.federated_map",
        )
    else:
        if not is_federated(start.type):
            start = operands.operation("federated_value", FederatedType(start.type, place, True), start)
        start = operands.placed(Value(start, trace), "the zero of sequence_reduce", place)
    what = "the op of sequence_reduce"
    start = operands.arranged_zero(start, op, zero, what, "sequence_reduce")
    state = operands.member(start)
    fold = concrete(op, StructType([(None, state), (None, element)]), what)
    operands.check_fold(fold, state, what)
    return _value("sequence_reduce", _rewrap(node.type, state), trace, node, start, functions=(fold,))


def sequence_sum(sequence: Any) -> Value:
    """`T* -> T`: the sum of the elements; zero if there are none. T has numeric tensors of known size."""
    trace = operands.require_trace("sequence_sum")
    node, element = operands.sequence(sequence, "sequence_sum")
    operands.numeric(element, "sequence_sum", ("int", "float", "complex"), "numbers")
    return _value("sequence_sum", _rewrap(node.type, element), trace, node)


def _value(name: str, kind: Type, trace: Trace, *arguments: Node, functions: tuple[Computation, ...] = ()) -> Value:
    return Value(operands.operation(name, kind, *arguments, functions=functions), trace)


def _rewrap(kind: Type, inner: Type) -> Type:
    return FederatedType(inner, kind.placement) if isinstance(kind, FederatedType) else inner


def _reduce(name: str, value: Any) -> Value:
    trace = operands.require_trace(name)
    node = operands.placed(value, name, CLIENTS)
    if name == "federated_sum":
        operands.numeric(operands.member(node), name, ("int", "float", "complex"), "numbers")
    else:
        operands.numeric(operands.member(node), name, ("int", "float"), "integers or floats")
    return _value(name, FederatedType(operands.member(node), SERVER), trace, node)
