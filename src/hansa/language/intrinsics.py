"""The operations on federated values, each with its type rule.

What they compute is said here; how, in `hansa.compiler`.
Those on sequences are in `sequences`, those whose summands nobody is to see in `protected_sums`.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hansa.language import operands
from hansa.language._typing import Function, Operand
from hansa.language.computations import concrete
from hansa.language.context import Trace
from hansa.language.excluding import aggregated, terms_of
from hansa.language.graph import Node
from hansa.language.runtime_values import CLIENT_ID
from hansa.language.tracing import jax_computation
from hansa.language.values import Value, to_node
from hansa.types import (
    CLIENTS,
    SERVER,
    FederatedType,
    Placement,
    StructType,
    TensorType,
)
from hansa.types.dtypes import kind as dtype_kind


def federated_value(value: Operand, placement: Placement) -> Value:
    """`T -> T@P`: an unplaced value, at every member of a placement.

    Examples:
        >>> @hansa.federated_computation
        ... def one():
        ...     return hansa.federated_value(1, hansa.SERVER)
        >>> print(one.type_signature, one())
        ( -> int32@SERVER) 1
    """
    trace = operands.require_trace("federated_value")
    operands.placement(placement, "federated_value")
    node = to_node(value, what="the value of federated_value")
    remedy = "it has a placement already"
    if isinstance(node.type, FederatedType) and (node.type.placement, placement) == (SERVER, CLIENTS):
        remedy = "send it to the clients with hansa.federated_broadcast"
    operands.unplaced(node.type, "federated_value", remedy)
    return operands.recorded("federated_value", FederatedType(node.type, placement, True), trace, node)


def federated_broadcast(value: Operand) -> Value:
    """`T@SERVER -> T@CLIENTS`: the server's value, sent to every client.

    Examples:
        >>> @hansa.federated_computation("float32@SERVER", "{float32}@CLIENTS")
        ... def differences(target, readings):
        ...     sent = hansa.federated_broadcast(target)
        ...     return hansa.federated_map(hansa.jax_computation(lambda a, b: a - b), [readings, sent])
        >>> [float(difference) for difference in differences(20.0, [18.5, 23.5])]
        [-1.5, 3.5]
    """
    trace = operands.require_trace("federated_broadcast")
    node = operands.placed(value, "federated_broadcast", SERVER)
    return operands.recorded("federated_broadcast", FederatedType(operands.member(node), CLIENTS, True), trace, node)


def federated_map(fn: Function, value: Operand) -> Value:
    """`(T -> U), {T}@P -> {U}@P`: a function of each member's value, at the clients or at the server.

    A struct of federated values at one placement is zipped first.

    Examples:
        >>> @hansa.federated_computation("{float32}@CLIENTS")
        ... def doubled(readings):
        ...     return hansa.federated_map(hansa.jax_computation(lambda x: 2 * x), readings)
        >>> print(doubled.type_signature)
        ({float32}@CLIENTS -> {float32}@CLIENTS)
        >>> [float(reading) for reading in doubled([18.5, 23.5])]
        [37.0, 47.0]
    """
    trace = operands.require_trace("federated_map")
    operands.not_swapped("federated_map", fn, value)
    node = operands.placed(value, "federated_map")
    assert isinstance(node.type, FederatedType)
    function = concrete(fn, operands.member(node), "the function of federated_map")
    operands.local_result(function, "the function of federated_map")
    kind = FederatedType(function.type_signature.result, node.type.placement)
    return operands.recorded("federated_map", kind, trace, node, functions=(function,))


def federated_eval(fn: Function, placement: Placement) -> Value:
    """`( -> T), P -> {T}@P`: the result of a function without parameter, computed by every member of a placement.

    Examples:
        >>> @hansa.federated_computation
        ... def half():
        ...     return hansa.federated_eval(hansa.jax_computation(lambda: 1 / 2), hansa.SERVER)
        >>> print(half.type_signature, half())
        ( -> float32@SERVER) 0.5
    """
    trace = operands.require_trace("federated_eval")
    operands.placement(placement, "federated_eval")
    function = concrete(fn, None, "the function of federated_eval")
    operands.local_result(function, "the function of federated_eval")
    kind = FederatedType(function.type_signature.result, placement)
    return operands.recorded("federated_eval", kind, trace, functions=(function,))


def federated_zip(value: Operand) -> Value:
    """`<{T}@P,{U}@P> -> {<T,U>}@P`, in any nesting: a struct of federated values as one federated value of structs.

    Examples:
        >>> @hansa.federated_computation("{float32}@CLIENTS", "{int32}@CLIENTS")
        ... def pairs(a, b):
        ...     return hansa.federated_zip({"a": a, "b": b})
        >>> print(pairs.type_signature.result)
        {<a=float32,b=int32>}@CLIENTS
        >>> pairs([1.5, 2.5], [3, 4])
        [<a=1.5,b=3>, <a=2.5,b=4>]
    """
    trace = operands.require_trace("federated_zip")
    node = to_node(value, what="the value of federated_zip")
    if isinstance(node.type, FederatedType):
        raise TypeError(
            f"federated_zip takes a struct of federated values, found {node.type}, which is one value already; pass a "
            "list or a dict of values, or use it as it is"
        )
    return Value(operands.zipped(node, "federated_zip"), trace)


def federated_sum(
    value: Operand,
    *,
    max_norm: float | None = None,
    min_cohort: int | None = None,
    disclosure: str | None = None,
    count_excluded: bool = False,
) -> Value:
    """`{T}@CLIENTS -> T@SERVER`: the sum over the clients; zero if there are none. T is numeric, and not bool.

    A sum of floats is the exact one, rounded to float64 and then to its dtype: no order of the clients changes it. One
    of integers is taken modulo 2**bits of its dtype, as NumPy's is.

    Args:
        value: tensors of numbers, or a struct of them.
        max_norm: a client whose value has a larger Euclidean norm, of all its tensors together, is excluded, as is one
            whose norm is not a number: it adds zero. To shorten values instead, do so in a local computation.
        min_cohort: a call in which fewer clients take part, or fewer are left when others are excluded, is refused
            before it has a result.
        disclosure: what the server of a deployment may see: "each" client's value, or their "sum" only, as of a
            protected sum; None says nothing. Here it is simulated, and `hansa.explain` tells it.
        count_excluded: whether the result is a struct of the sum, `sum`, and of how many clients were excluded,
            `num_excluded`, int64.

    Raises:
        TypeError, ValueError: if a value or one of these is of another kind. At the call: if there are fewer clients
            than `min_cohort`.

    Examples:
        >>> @hansa.federated_computation("{int32}@CLIENTS")
        ... def total(numbers):
        ...     return hansa.federated_sum(numbers)
        >>> print(total([1, 2, 3]), total([]))
        6 0
        >>> @hansa.federated_computation("{float32[2]}@CLIENTS")
        ... def bounded(values):
        ...     return hansa.federated_sum(values, max_norm=5.0, min_cohort=2, count_excluded=True)
        >>> bounded([[3.0, 4.0], [1.0, 0.0], [300.0, 400.0]])
        <sum=[4.0,4.0],num_excluded=1>
    """
    trace, node = _numbers("federated_sum", value, ("int", "float", "complex"), "numbers")
    terms = terms_of("federated_sum", max_norm=max_norm, min_cohort=min_cohort, disclosure=disclosure)
    return aggregated("federated_sum", trace, [node], terms, count_excluded, "sum")


def federated_min(value: Operand, *, min_cohort: int | None = None) -> Value:
    """`{T}@CLIENTS -> T@SERVER`: the smallest value over the clients, element by element.

    Without clients it is the largest value of the dtype. `min_cohort` is as in `federated_sum`.

    Examples:
        >>> @hansa.federated_computation("{float32[2]}@CLIENTS")
        ... def least(readings):
        ...     return hansa.federated_min(readings)
        >>> least([[1.0, 9.0], [5.0, 2.0]])
        Array([1., 2.], dtype=float32)
    """
    return _extreme("federated_min", value, min_cohort)


def federated_max(value: Operand, *, min_cohort: int | None = None) -> Value:
    """`{T}@CLIENTS -> T@SERVER`: the largest value over the clients, element by element.

    Without clients it is the smallest value of the dtype. `min_cohort` is as in `federated_sum`.

    Examples:
        >>> @hansa.federated_computation("{float32[2]}@CLIENTS")
        ... def most(readings):
        ...     return hansa.federated_max(readings)
        >>> most([[1.0, 9.0], [5.0, 2.0]])
        Array([5., 9.], dtype=float32)
    """
    return _extreme("federated_max", value, min_cohort)


def federated_mean(
    value: Operand,
    weight: Operand | None = None,
    *,
    max_norm: float | None = None,
    max_weight: float | None = None,
    min_cohort: int | None = None,
    disclosure: str | None = None,
    count_excluded: bool = False,
) -> Value:
    """`{T}@CLIENTS, {W}@CLIENTS -> T@SERVER`: the mean over the clients, weighted if a weight is given.

    Args:
        value: tensors of float or complex dtype, or a struct of them.
        weight: a scalar of an integer or float dtype per client; by default every client counts the same.
        max_norm: a client whose value has a larger norm, weights apart, is excluded; see `federated_sum`.
        max_weight: a client whose weight, signs apart, is larger is excluded, as is one whose weight is not a number.
        min_cohort: see `federated_sum`.
        disclosure: see `federated_sum`.
        count_excluded: whether the result is a struct of the mean, `mean`, and of how many clients were excluded,
            `num_excluded`, int64.

    Returns:
        sum(weight * value) / sum(weight), and zero where the weights sum to zero or there are no clients. Both sums are
        exact, and then rounded to float64: no order of the clients changes them, and they may be larger or smaller than
        the value's dtype holds.

    Examples:
        >>> @hansa.federated_computation("{float32}@CLIENTS", "{int32}@CLIENTS")
        ... def average(readings, weights):
        ...     return hansa.federated_mean(readings, weights)
        >>> average([1.0, 2.0], [1, 3])
        np.float32(1.75)
    """
    trace, node = _numbers("federated_mean", value, ("float", "complex"), "floats or complex numbers")
    terms = terms_of(
        "federated_mean", max_norm=max_norm, max_weight=max_weight, min_cohort=min_cohort, disclosure=disclosure
    )
    if weight is None:
        if max_weight is not None:
            raise TypeError("the max_weight of federated_mean is of weights, and it is given none: give weight, too")
        return aggregated("federated_mean", trace, [node], terms, count_excluded, "mean")
    weights = operands.placed(weight, "the weight of federated_mean", CLIENTS)
    kind = operands.member(weights)
    if not isinstance(kind, TensorType) or kind.shape != () or dtype_kind(kind.dtype) not in ("int", "float"):
        raise TypeError(
            f"the weight of federated_mean must be an integer or float scalar at the clients, found {weights.type}; "
            "make one of it in a local computation"
        )
    return aggregated("federated_mean", trace, [node, weights], terms, count_excluded, "mean")


federated_average = federated_mean


def federated_aggregate(
    value: Operand,
    zero: Operand,
    accumulate: Function,
    merge: Function,
    report: Function,
    *,
    min_cohort: int | None = None,
) -> Value:
    """`{T}@CLIENTS, U, (<U,T> -> U), (<U,U> -> U), (U -> R) -> R@SERVER`: an aggregation of your own.

    Args:
        value: what each client contributes.
        zero: the unplaced state to start from. Each group of clients starts from it, so merging it with a state must
            give that state.
        accumulate: (state, contribution) -> state.
        merge: (state, state) -> state, of two partial aggregates.
        report: state -> result.
        min_cohort: see `federated_sum`.

    Clients are accumulated in the cohort's order, in groups of 16, and the states of the groups are merged by a fixed
    binary tree. So the result does not depend on devices, chunks or workers.

    Examples:
        >>> add = hansa.jax_computation(lambda state, x: state + x**2)
        >>> merge = hansa.jax_computation(lambda a, b: a + b)
        >>> @hansa.federated_computation("{float32}@CLIENTS")
        ... def norm(readings):
        ...     return hansa.federated_aggregate(readings, np.float32(0), add, merge, hansa.jax_computation(jnp.sqrt))
        >>> norm([3.0, 4.0])
        np.float32(5.0)
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
    terms = terms_of("federated_aggregate", min_cohort=min_cohort)
    return operands.recorded("federated_aggregate", kind, trace, node, start, functions=(*folds, reported), terms=terms)


def federated_client_key(key: Operand) -> Value:
    """`uint32[2]@SERVER -> {uint32[2]}@CLIENTS`: a random key for each client, made of the server's key and its id.

    Use it in a local computation as `jax.random.wrap_key_data(key)`. The same client has the same key in every order of
    the cohort; for other draws in another round, give another key, such as one that the round's number is folded into.

    Args:
        key: the data of a JAX random key at the server, or an integer, the seed of one.

    Examples:
        >>> import jax
        >>> draw = hansa.jax_computation(lambda key: jax.random.normal(jax.random.wrap_key_data(key)))
        >>> @hansa.federated_computation("{int32}@CLIENTS")
        ... def noise(numbers):
        ...     return hansa.federated_map(draw, hansa.federated_client_key(0))
        >>> noise([7, 8])
        [np.float32(...), np.float32(...)]
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

    Examples:
        >>> @hansa.federated_computation("{float32[?]*}@CLIENTS")
        ... def who(readings):
        ...     return hansa.federated_client_id()
        >>> who([[[18.5]], [[23.5]]])
        [np.int32(0), np.int32(1)]
        >>> who(hansa.ClientBatches(np.float32([18.5, 23.5]), [0, 1, 2], batch_size=1, client_ids=[70, 80]))
        [np.int32(70), np.int32(80)]
    """
    return Value(CLIENT_ID, operands.require_trace("federated_client_id"))


def _numbers(name: str, value: Any, kinds: tuple[str, ...], expected: str) -> tuple[Trace, Node]:
    trace = operands.require_trace(name)
    node = operands.placed(value, name, CLIENTS)
    operands.numeric(operands.member(node), name, kinds, expected)
    return trace, node


def _extreme(name: str, value: Any, min_cohort: int | None) -> Value:
    trace, node = _numbers(name, value, ("int", "float"), "integers or floats")
    terms = terms_of(name, min_cohort=min_cohort)
    return operands.recorded(name, FederatedType(operands.member(node), SERVER), trace, node, terms=terms)
