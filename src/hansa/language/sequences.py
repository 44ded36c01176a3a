"""The operations on sequences, each with its type rule: at the members of a placement, or without any."""

from __future__ import annotations

from hansa.language import operands
from hansa.language._typing import Function, Operand
from hansa.language.computations import concrete
from hansa.language.context import Trace
from hansa.language.graph import Node
from hansa.language.values import Value, to_node
from hansa.types import FederatedType, SequenceType, StructType, Type, is_federated


def sequence_map(fn: Function, sequence: Operand) -> Value:
    """`(T -> U), T* -> U*`: a function of each element; of a federated sequence, at each member.

    Examples:
        >>> @hansa.federated_computation("int32*")
        ... def sum_of_squares(numbers):
        ...     return hansa.sequence_sum(hansa.sequence_map(hansa.jax_computation(lambda x: x * x), numbers))
        >>> print(sum_of_squares.type_signature, sum_of_squares([1, 2, 3]))
        (int32* -> int32) 14
    """
    trace = operands.require_trace("sequence_map")
    operands.not_swapped("sequence_map", fn, sequence)
    node, element = operands.sequence(sequence, "sequence_map")
    function = concrete(fn, element, "the function of sequence_map")
    operands.local_result(function, "the function of sequence_map")
    kind = _rewrap(node.type, SequenceType(function.type_signature.result))
    return operands.recorded("sequence_map", kind, trace, node, functions=(function,))


def sequence_reduce(sequence: Operand, zero: Operand, op: Function, *, given: Operand | None = None) -> Value:
    """`T*, U, (<U,T> -> U) -> U`: folds `op` over the elements in order, from `zero`; at each member, if federated.

    Args:
        sequence: the sequence.
        zero: the state to start from. Of a federated sequence it is an unplaced value, or one at the same placement.
        op: (state, element) -> state, or (state, element, given) -> state.
        given: what `op` needs of each element and does not change, such as the weights of a model that is evaluated:
            unplaced, or at the placement of the sequence. The state is copied from one step to the next, this is not.

    Examples:
        >>> larger = hansa.jax_computation(lambda most, x: jnp.maximum(most, x))
        >>> @hansa.federated_computation("{int32*}@CLIENTS")
        ... def largest(numbers):
        ...     return hansa.federated_max(hansa.sequence_reduce(numbers, 0, larger))
        >>> largest([[1, 5], [3]])
        np.int32(5)
        >>> count = hansa.jax_computation(lambda number, x, limit: number + jnp.int32(x > limit))
        >>> @hansa.federated_computation("{int32*}@CLIENTS", "int32@SERVER")
        ... def above(numbers, limit):
        ...     sent = hansa.federated_broadcast(limit)
        ...     return hansa.federated_sum(hansa.sequence_reduce(numbers, 0, count, given=sent))
        >>> above([[1, 5], [3]], 2)
        np.int32(2)
    """
    trace = operands.require_trace("sequence_reduce")
    node, element = operands.sequence(sequence, "sequence_reduce")
    what = "the op of sequence_reduce"
    start = _beside(zero, "the zero of sequence_reduce", node.type, trace)
    start = operands.arranged_zero(start, op, zero, what, "sequence_reduce")
    state = operands.member(start)
    constants = [] if given is None else [_beside(given, "what is given to sequence_reduce", node.type, trace)]
    taken = [state, element, *map(operands.member, constants)]
    fold = concrete(op, StructType([(None, kind) for kind in taken]), what)
    operands.check_fold(fold, state, what)
    kind = _rewrap(node.type, state)
    return operands.recorded("sequence_reduce", kind, trace, node, start, *constants, functions=(fold,))


def sequence_sum(sequence: Operand) -> Value:
    """`T* -> T`: the sum of the elements; zero if there are none. T has numeric tensors of known size.

    Examples:
        >>> @hansa.federated_computation("{int32*}@CLIENTS")
        ... def total(numbers):
        ...     return hansa.federated_sum(hansa.sequence_sum(numbers))
        >>> total([[1, 2], [3]])
        np.int32(6)
    """
    trace = operands.require_trace("sequence_sum")
    node, element = operands.sequence(sequence, "sequence_sum")
    operands.numeric(element, "sequence_sum", ("int", "float", "complex"), "numbers")
    return operands.recorded("sequence_sum", _rewrap(node.type, element), trace, node)


def _beside(value: Operand, what: str, kind: Type, trace: Trace) -> Node:
    """The node of a value where a sequence of that type is; an unplaced one is placed there."""
    node = to_node(value, what=what)
    if not isinstance(kind, FederatedType):
        remedy = "reduce in a computation that is mapped over both, with hansa.federated_map"
        operands.unplaced(node.type, f"{what} for an unplaced sequence", remedy)
        return node
    if not is_federated(node.type):
        node = operands.operation("federated_value", FederatedType(node.type, kind.placement, True), node)
    return operands.placed(Value(node, trace), what, kind.placement)


def _rewrap(kind: Type, inner: Type) -> Type:
    return FederatedType(inner, kind.placement) if isinstance(kind, FederatedType) else inner
