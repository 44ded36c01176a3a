"""The operations of the language, each with its type rule. What they compute is said here; how, in `hansa.compiler`."""

from __future__ import annotations

from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from hansa.language.computations import Computation, PolymorphicComputation, concrete
from hansa.language.context import Trace, current_trace, user_line
from hansa.language.graph import Intrinsic, MakeStruct, Node
from hansa.language.tracing import jax_computation, wide_computation
from hansa.language.values import Value, select, to_node
from hansa.types import CLIENTS, SERVER, FederatedType, Placement, SequenceType, StructType, TensorType, Type


def federated_value(value: Any, placement: Placement) -> Value:
    """`T -> T@P`: an unplaced value, at every member of a placement."""
    trace = _require("federated_value")
    node = to_node(value)
    _unplaced(node.type, "federated_value")
    return _value("federated_value", FederatedType(node.type, placement, True), trace, node)


def federated_broadcast(value: Any) -> Value:
    """`T@SERVER -> T@CLIENTS`: the server's value, sent to every client."""
    trace = _require("federated_broadcast")
    node = _placed(value, "federated_broadcast", SERVER)
    return _value("federated_broadcast", FederatedType(_member(node), CLIENTS, True), trace, node)


def federated_map(fn: Any, value: Any) -> Value:
    """`(T -> U), {T}@P -> {U}@P`: a function of each member's value, at the clients or at the server.

    A struct of federated values at one placement is zipped first.
    """
    trace = _require("federated_map")
    if isinstance(value, Computation | PolymorphicComputation):
        raise TypeError("federated_map takes the function first and the value second; they are swapped here")
    node = _placed(value, "federated_map")
    assert isinstance(node.type, FederatedType)
    function = concrete(fn, _member(node), "the function of federated_map")
    _unplaced(function.type_signature.result, "federated_map of a function that returns a placed value")
    kind = FederatedType(function.type_signature.result, node.type.placement)
    return _value("federated_map", kind, trace, node, functions=(function,))


def federated_eval(fn: Any, placement: Placement) -> Value:
    """`( -> T), P -> {T}@P`: the result of a function without parameter, computed by every member of a placement."""
    trace = _require("federated_eval")
    function = concrete(fn, None, "the function of federated_eval")
    kind = FederatedType(function.type_signature.result, placement)
    return _value("federated_eval", kind, trace, functions=(function,))


def federated_zip(value: Any) -> Value:
    """`<{T}@P,{U}@P> -> {<T,U>}@P`, in any nesting: a struct of federated values as one federated value of structs."""
    trace = _require("federated_zip")
    node = to_node(value)
    if isinstance(node.type, FederatedType):
        raise TypeError(
            f"federated_zip takes a struct of federated values, found {node.type}, which is one value already"
        )
    return Value(_zip(node, "federated_zip"), trace)


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
        weight: a scalar of an integer or float dtype per client, used as the value's dtype (float32 or wider); by
            default every client counts the same.

    Returns:
        sum(weight * value) / sum(weight), and zero where the weights sum to zero or there are no clients.
    """
    trace = _require("federated_mean")
    node = _placed(value, "federated_mean", CLIENTS)
    _numeric(_member(node), "federated_mean", "fc", "float or complex tensors; convert it in a local computation")
    if weight is None:
        return _value("federated_mean", FederatedType(_member(node), SERVER), trace, node)
    weights = _placed(weight, "the weight of federated_mean", CLIENTS)
    kind = _member(weights)
    if not isinstance(kind, TensorType) or kind.shape != () or kind.dtype.kind not in "iuf" + _BFLOAT:
        raise TypeError(
            f"the weight of federated_mean must be an integer or float scalar at the clients, found {weights.type}"
        )
    return _value("federated_mean", FederatedType(_member(node), SERVER), trace, node, weights)


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
    trace = _require("federated_aggregate")
    node = _placed(value, "federated_aggregate", CLIENTS)
    start = to_node(zero)
    state, member = start.type, _member(node)
    _unplaced(state, "the zero of federated_aggregate")
    folds = (
        concrete(accumulate, StructType([(None, state), (None, member)]), "the accumulate of federated_aggregate"),
        concrete(merge, StructType([(None, state), (None, state)]), "the merge of federated_aggregate"),
    )
    for fold in folds:
        state.check_assignable_from(
            fold.type_signature.result, what=f"the state that {fold.name!r} of federated_aggregate returns"
        )
    reported = concrete(report, state, "the report of federated_aggregate")
    kind = FederatedType(reported.type_signature.result, SERVER)
    return _value("federated_aggregate", kind, trace, node, start, functions=(*folds, reported))


def federated_collect(value: Any) -> Value:
    """`{T}@CLIENTS -> T*@SERVER`: the clients' values as a sequence at the server, in the cohort's order.

    The server sees each client's value, and holds all of them at a time: aggregate instead wherever that will do. A
    collected sequence may be a result, and is then a list.
    """
    trace = _require("federated_collect")
    node = _placed(value, "federated_collect", CLIENTS)
    _known_sizes(_member(node), "federated_collect")
    return _value("federated_collect", FederatedType(SequenceType(_member(node)), SERVER), trace, node)


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
    trace = _require("federated_select")
    keys = _placed(client_keys, "the client_keys of federated_select", CLIENTS)
    wanted = _member(keys)
    if not isinstance(wanted, TensorType) or wanted.dtype != "int32" or len(wanted.shape) != 1 or None in wanted.shape:
        raise TypeError(
            "the client_keys of federated_select must be a vector of int32 keys, of known length, at each client, such "
            f"as {{int32[8]}}@CLIENTS; found {keys.type}"
        )
    count = _at_server(max_key, "the max_key of federated_select", TensorType("int32"))
    source = _at_server(server_value, "the server_value of federated_select")
    element = StructType([(None, _member(source)), (None, TensorType("int32"))])
    function = concrete(select_fn, element, "the select_fn of federated_select")
    slices = function.type_signature.result
    _unplaced(slices, "the slice that the select_fn of federated_select returns")
    _known_sizes(slices, "federated_select")
    sent = [_node("federated_broadcast", FederatedType(_member(node), CLIENTS, True), node) for node in (count, source)]
    kind = FederatedType(SequenceType(slices), CLIENTS)
    return _value("federated_select", kind, trace, keys, *sent, functions=(function,))


def federated_secure_sum(value: Any, max_input: Any) -> Value:
    """`{T}@CLIENTS -> T@SERVER`: the sum of integers over the clients, of which nobody is to see a single summand.

    Args:
        value: integer tensors, or a struct of them. Each client brings its numbers into the range 0 to `max_input`,
            whichever end is nearer, so that none can spoil the sum.
        max_input: a non-negative integer, or one at the server.

    Returns:
        The sum, in the dtype of the value. In this process, the sum is computed like any other: it is simulated, and
        `hansa.explain` marks what would be protected.
    """
    trace = _require("federated_secure_sum")
    node = _secure(value, "federated_secure_sum")
    if isinstance(max_input, int | np.integer) and not isinstance(max_input, bool):
        return _secure_sum("federated_secure_sum", trace, node, int(max_input))
    bound = to_node(max_input, what="the max_input of federated_secure_sum")
    kind = _member(bound)
    if not isinstance(kind, TensorType) or kind.dtype.kind not in "iu" or kind.shape:
        raise TypeError(
            "the max_input of federated_secure_sum must be a non-negative integer, or an integer scalar at the server; "
            f"found {bound.type}"
        )
    bound = _at_server(Value(bound, trace), "the max_input of federated_secure_sum")
    return _secure_sum("federated_secure_sum", trace, node, bound)


def federated_secure_sum_bitwidth(value: Any, bitwidth: int) -> Value:
    """`federated_secure_sum` of integers of at most `bitwidth` bits, 1 to 62: 0 to 2**bitwidth - 1."""
    trace = _require("federated_secure_sum_bitwidth")
    node = _secure(value, "federated_secure_sum_bitwidth")
    if isinstance(bitwidth, bool) or not isinstance(bitwidth, int | np.integer) or not 1 <= bitwidth <= 62:
        raise ValueError(
            f"the bitwidth of federated_secure_sum_bitwidth must be a number of bits from 1 to 62, found {bitwidth!r}"
        )
    return _secure_sum("federated_secure_sum_bitwidth", trace, node, 2 ** int(bitwidth) - 1)


def federated_client_key(key: Any) -> Value:
    """`uint32[2]@SERVER -> {uint32[2]}@CLIENTS`: a random key of each client's own, made of the server's and its id.

    Use it in a local computation as `jax.random.wrap_key_data(key)`. The same client has the same key in every order of
    the cohort; for other draws in another round, give another key, such as one that the round's number is folded into.

    Args:
        key: the data of a JAX random key at the server, or an integer, the seed of one.
    """
    trace = _require("federated_client_key")
    if isinstance(key, int | np.integer) and not isinstance(key, bool):
        seed = int(key)
        key = federated_eval(jax_computation(lambda: jax.random.key_data(jax.random.key(seed))), SERVER)
    source = _at_server(key, "the key of federated_client_key", _KEY)
    parts = [federated_broadcast(Value(source, trace)), federated_client_id()]
    return federated_map(jax_computation(_client_key, _KEY, TensorType("int32")), parts)


_KEY = TensorType("uint32", (2,))


def _client_key(key: Any, client: Any) -> Any:
    folded = jax.random.fold_in(jax.random.wrap_key_data(key), client.astype(jnp.uint32))
    return jax.random.key_data(folded)


def federated_client_id() -> Value:
    """`int32@CLIENTS`, not all equal: the number that identifies each client to the runtime.

    It is the client's own wherever it stands in the cohort, where the data says so (`hansa.ClientBatches`), else its
    position in the list of clients. Fold it into a random key to give each client its own.
    """
    trace = _require("federated_client_id")
    return _value("federated_client_id", FederatedType(TensorType("int32"), CLIENTS), trace)


def sequence_map(fn: Any, sequence: Any) -> Value:
    """`(T -> U), T* -> U*`: a function of each element; of a federated sequence, at each member."""
    trace = _require("sequence_map")
    node, element = _sequence(sequence, "sequence_map")
    function = concrete(fn, element, "the function of sequence_map")
    kind = _rewrap(node.type, SequenceType(function.type_signature.result))
    return _value("sequence_map", kind, trace, node, functions=(function,))


def sequence_reduce(sequence: Any, zero: Any, op: Any) -> Value:
    """`T*, U, (<U,T> -> U) -> U`: folds `op` over the elements in order, from `zero`; at each member, if federated.

    Of a federated sequence `zero` is an unplaced value, or one at the same placement.
    """
    trace = _require("sequence_reduce")
    node, element = _sequence(sequence, "sequence_reduce")
    start = to_node(zero)
    placed = node.type if isinstance(node.type, FederatedType) else None
    if placed is not None:
        if not _has_placement(start.type):
            start = _node("federated_value", FederatedType(start.type, placed.placement, True), start)
        start = _placed(Value(start, trace), "the zero of sequence_reduce", placed.placement)
    if placed is None:
        _unplaced(start.type, "the zero of sequence_reduce for an unplaced sequence")
    state = _member(start)
    fold = concrete(op, StructType([(None, state), (None, element)]), "the op of sequence_reduce")
    state.check_assignable_from(
        fold.type_signature.result, what=f"what {fold.name!r}, the op of sequence_reduce, returns"
    )
    return _value("sequence_reduce", _rewrap(node.type, state), trace, node, start, functions=(fold,))


def sequence_sum(sequence: Any) -> Value:
    """`T* -> T`: the sum of the elements; zero if there are none. T has numeric tensors of known size."""
    trace = _require("sequence_sum")
    node, element = _sequence(sequence, "sequence_sum")
    _numeric(element, "sequence_sum", "iufc", "numeric tensors other than bool")
    return _value("sequence_sum", _rewrap(node.type, element), trace, node)


_BFLOAT = "V"  # NumPy's kind of bfloat16, and of nothing else that a tensor type admits.


def _require(name: str) -> Trace:
    trace = current_trace()
    if trace is None:
        raise TypeError(
            f"hansa.{name} is used inside a @hansa.federated_computation; here no computation is being traced"
        )
    if trace.kind == "local computation":
        raise TypeError(
            f"hansa.{name} is used in {trace}: a local computation runs at one place; move it to the "
            "federated_computation"
        )
    return trace


def _node(name: str, kind: Type, *arguments: Node, functions: tuple[Computation, ...] = ()) -> Node:
    return Intrinsic(kind, name, arguments, functions, where=user_line())


def _value(name: str, kind: Type, trace: Trace, *arguments: Node, functions: tuple[Computation, ...] = ()) -> Value:
    return Value(_node(name, kind, *arguments, functions=functions), trace)


def _member(node: Node) -> Type:
    return node.type.member if isinstance(node.type, FederatedType) else node.type


def _at_server(value: Any, what: str, member: Type | None = None) -> Node:
    """The node of a value at the server; an unplaced one is placed there. Its type is checked if one is asked for."""
    node = to_node(value, what=what) if member is None or isinstance(value, Value) else to_node(value, member, what)
    if not _has_placement(node.type):
        node = _node("federated_value", FederatedType(node.type, SERVER, True), node)
    node = _placed(Value(node, cast(Trace, current_trace())), what, SERVER)
    if member is not None:
        member.check_assignable_from(_member(node), what=what)
    return node


def _secure(value: Any, what: str) -> Node:
    node = _placed(value, what, CLIENTS)
    _numeric(_member(node), what, "iu", "integer tensors; scale floats and round them in a local computation")
    return node


def _secure_sum(name: str, trace: Trace, node: Node, bound: int | Node) -> Value:
    """The sum of what each client has brought into the range 0 to `bound`, which may be a value at the server."""
    kind = _member(node)
    if isinstance(bound, int):
        if bound < 0:
            raise ValueError(f"the max_input of {name} must not be negative, found {bound}")

        def clipped(value: Any) -> Any:
            return jax.tree.map(lambda x: jnp.clip(x, 0, min(bound, np.iinfo(x.dtype).max)), value)

        clip, given = wide_computation(kind)(clipped), node
    else:

        def clipped_to(value: Any, most: Any) -> Any:
            def clip(x: Any) -> Any:
                limit = jnp.clip(most.astype(np.int64), 0, min(np.iinfo(x.dtype).max, np.iinfo(np.int64).max))
                return jnp.clip(x, 0, limit.astype(x.dtype))

            return jax.tree.map(clip, value)

        clip = wide_computation(kind, _member(bound))(clipped_to)
        sent = _node("federated_broadcast", FederatedType(_member(bound), CLIENTS, True), bound)
        given = to_node([Value(node, trace), Value(sent, trace)])
    within = _placed(federated_map(clip, Value(given, trace)), name, CLIENTS)
    return _value(name, FederatedType(kind, SERVER), trace, within)


def _known_sizes(kind: Type, what: str) -> None:
    if isinstance(kind, StructType):
        for member in kind:
            _known_sizes(member, what)
    elif not isinstance(kind, TensorType) or None in kind.shape or kind.dtype.kind == "U":
        raise TypeError(f"{what} needs tensors of known size, or structs of them, for each client; found {kind}")


def _rewrap(kind: Type, member: Type) -> Type:
    return FederatedType(member, kind.placement) if isinstance(kind, FederatedType) else member


def _has_placement(kind: Type) -> bool:
    return isinstance(kind, FederatedType) or (isinstance(kind, StructType) and any(_has_placement(m) for m in kind))


def _unplaced(kind: Type, what: str) -> None:
    if _has_placement(kind):
        raise TypeError(f"{what} needs an unplaced value, found {kind}")


def _placed(value: Any, what: str, placement: Placement | None = None) -> Node:
    """The node of a federated value; a struct of them is zipped. Checks the placement if one is asked for."""
    node = to_node(value, what=f"the argument of {what}")
    if isinstance(node.type, StructType) and _has_placement(node.type):
        node = _zip(node, what)
    if not isinstance(node.type, FederatedType):
        raise TypeError(
            f"{what} needs a federated value, found {node.type}, which is at no placement; place it with "
            "hansa.federated_value(value, hansa.SERVER or hansa.CLIENTS)"
        )
    if placement is not None and node.type.placement is not placement:
        hint = (
            "send it there with hansa.federated_broadcast"
            if placement is CLIENTS
            else "aggregate it first, with hansa.federated_sum or another"
        )
        raise TypeError(f"{what} needs a value at {placement}, found {node.type}; {hint}")
    return node


def _zip(node: Node, what: str) -> Node:
    kind = node.type
    if isinstance(kind, FederatedType):
        return node
    if not isinstance(kind, StructType):
        raise TypeError(
            f"{what} needs federated values only, found {kind} among them; place it with hansa.federated_value"
        )
    if not len(kind):
        raise TypeError(f"{what} cannot place an empty struct; use hansa.federated_value")
    if isinstance(node, MakeStruct):
        parts = [_zip(element, what) for element in node.elements]
    else:
        parts = [_zip(select(node, i), what) for i in range(len(kind))]
    members: list[FederatedType] = [part.type for part in parts]  # type: ignore[misc]
    if len({m.placement for m in members}) > 1:
        raise TypeError(
            f"{what} needs values at one placement, found {kind}; broadcast or aggregate to bring them together"
        )
    zipped = StructType(
        [(name, m.member) for name, m in zip(kind.names, members, strict=True)], container=kind.container
    )
    placed = FederatedType(zipped, members[0].placement, all(m.all_equal for m in members))
    return Intrinsic(placed, "federated_zip", tuple(parts), where=user_line())


def _numeric(kind: Type, what: str, kinds: str, expected: str) -> None:
    if isinstance(kind, StructType):
        for member in kind:
            _numeric(member, what, kinds, expected)
    elif not isinstance(kind, TensorType) or kind.dtype.kind not in kinds + (_BFLOAT if "f" in kinds else ""):
        raise TypeError(f"{what} takes {expected}; found {kind}")
    elif None in kind.shape:
        raise TypeError(
            f"{what} needs tensors of known size, found {kind}: members of different sizes do not add up; pad them to "
            "one size, "
            "or reduce them to one, in a local computation"
        )


def _reduce(name: str, value: Any) -> Value:
    trace = _require(name)
    node = _placed(value, name, CLIENTS)
    kinds = "iufc" if name == "federated_sum" else "iuf"
    _numeric(_member(node), name, kinds, "numeric tensors (convert a bool to an integer first)")
    return _value(name, FederatedType(_member(node), SERVER), trace, node)


def _sequence(value: Any, what: str) -> tuple[Node, Type]:
    node = to_node(value, what=f"the argument of {what}")
    member = _member(node)
    if not isinstance(member, SequenceType):
        raise TypeError(f"{what} needs a sequence, found {node.type}")
    return node, member.element
