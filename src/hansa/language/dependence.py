"""What of a computation's argument each tensor of its result depends on."""

from __future__ import annotations

from collections.abc import Iterable

from hansa.language.computation import Computation
from hansa.language.computations import GraphComputation, LocalComputation
from hansa.language.graph import Apply, Intrinsic, Literal, MakeStruct, Node, Parameter, Select, walk
from hansa.types import FederatedType, Type, tensor_leaves

Numbers = frozenset[int]

SAME_OF_ONE = (
    "federated_broadcast",
    "federated_max",
    "federated_min",
    "federated_secure_sum",
    "federated_secure_sum_bitwidth",
    "federated_secure_modular_sum",
    "federated_sum",
    "federated_value",
)
"""The operations that give their first argument where there is one client, each tensor of it by itself."""


def dependence(computation: Computation) -> list[Numbers]:
    """For each tensor in the type of the result, in order, the numbers of the tensors in that of the parameter.

    What cannot be told apart depends on all.
    """
    kind = computation.type_signature
    parameter = [] if kind.parameter is None else [frozenset((i,)) for i in range(len(tensor_leaves(kind.parameter)))]
    return _through(computation, parameter)


def calls_python(computation: Computation) -> bool:
    """Whether a computation without placements calls functions of Python where it runs, such as `jax.debug.print`."""
    if isinstance(computation, LocalComputation):
        return computation.function.calls_python()
    if not isinstance(computation, GraphComputation):
        return False
    for node in walk(computation.result):
        called = [node.computation] if isinstance(node, Apply) else []
        called += node.functions if isinstance(node, Intrinsic) else ()
        if any(map(calls_python, called)):
            return True
    return False


def _through(computation: Computation, given: list[Numbers]) -> list[Numbers]:
    """What the result depends on, from what the argument does."""
    if isinstance(computation, LocalComputation):
        return [_union(given[i] for i in numbers) for numbers in computation.function.dependence()]
    if not isinstance(computation, GraphComputation):
        return _on_all(computation.type_signature.result, given)
    known: dict[Node, list[Numbers]] = {}
    for node in walk(computation.result):
        inputs = [numbers for source in node.inputs for numbers in known[source]]
        known[node] = given if isinstance(node, Parameter) else _of_node(node, inputs)
    return known[computation.result]


def _of_node(node: Node, inputs: list[Numbers]) -> list[Numbers]:
    match node:
        case Literal():
            return [frozenset()] * len(tensor_leaves(node.type))
        case MakeStruct():
            return inputs
        case Select():
            first = sum(len(tensor_leaves(member)) for member in _members(node.source.type)[: node.index])
            return inputs[first : first + len(tensor_leaves(node.type))]
        case Apply():
            return _through(node.computation, inputs)
        case Intrinsic(name="federated_map"):
            return _through(node.functions[0], inputs)
        case Intrinsic(name="federated_mean", arguments=(_, _)):
            *values, weight = inputs
            return [numbers | weight for numbers in values]
        case Intrinsic(name=name) if name in (*SAME_OF_ONE, "federated_zip", "federated_mean"):
            count = len(tensor_leaves(node.type))
            bounds = _union(inputs[count:])  # of a protected sum
            return [numbers | bounds for numbers in inputs[:count]]
    return _on_all(node.type, inputs)


def _members(kind: Type) -> list[Type]:
    return list(kind.member if isinstance(kind, FederatedType) else kind)  # type: ignore[call-overload, no-any-return]


def _on_all(kind: Type, inputs: Iterable[Numbers]) -> list[Numbers]:
    return [_union(inputs)] * len(tensor_leaves(kind))


def _union(parts: Iterable[Numbers]) -> Numbers:
    return frozenset().union(*parts)
