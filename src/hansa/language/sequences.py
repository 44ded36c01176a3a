"""The operations on sequences, each with its type rule: at the members of a placement, or without any."""

from __future__ import annotations

from hansa.language import operands
from hansa.language._typing import Function, Operand
from hansa.language.computations import concrete
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


def sequence_reduce(sequence: Operand, zero: Operand, op: Function) -> Value:
    """`T*, U, (<U,T> -> U) -> U`: folds `op` over the elements in order, from `zero`; at each member, if federated.

    Of a federated sequence `zero` is an unplaced value, or one at the same placement.

    Examples:
        >>> larger = hansa.jax_computation(lambda most, x: jnp.maximum(most, x))
        >>> @hansa.federated_computation("{int32*}@CLIENTS")
        ... def largest(numbers):
        ...     return hansa.federated_max(hansa.sequence_reduce(numbers, 0, larger))
        >>> largest([[1, 5], [3]])
        np.int32(5)
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
    return operands.recorded("sequence_reduce", _rewrap(node.type, state), trace, node, start, functions=(fold,))


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


def _rewrap(kind: Type, inner: Type) -> Type:
    return FederatedType(inner, kind.placement) if isinstance(kind, FederatedType) else inner
