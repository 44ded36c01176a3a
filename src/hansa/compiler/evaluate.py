"""Evaluates nodes of a graph on JAX values: how a stage turns from a graph into a program.

The same rules serve the server, a client and a local composition: an operation on a federated value is done at each of
its members, and where that is does not matter here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from hansa.compiler import sequences, shared_maps, stacks
from hansa.compiler.rewrites import with_products_outside
from hansa.compiler.sequences import Aval, NeedsSizes, Sequence, Trace
from hansa.compiler.stored import StoredStage
from hansa.language.computation import Computation
from hansa.language.computations import GraphComputation, LocalComputation
from hansa.language.graph import Apply, Intrinsic, Literal, MakeStruct, Node, Parameter, RuntimeValue, Select
from hansa.language.local import Traced, tensors, unflatten
from hansa.types import FederatedType, SequenceType, Struct, StructType, Type

Environment = dict[Node, Any]


def evaluate(nodes: list[Node], env: Environment) -> list[Any]:
    """The values of `nodes`, given those of some in `env`, to which everything computed on the way is added.

    Values are arrays, `Struct`s of values, and `sequences.Sequence`s. Must be called in 64-bit mode.
    """
    stack = list(reversed(nodes))
    while stack:
        node = stack[-1]
        missing = [] if node in env else [source for source in node.inputs if source not in env]
        if missing:
            stack.extend(reversed(missing))
            continue
        stack.pop()
        if node not in env:
            env[node] = _compute(node, [env[source] for source in node.inputs])
    return [env[node] for node in nodes]


def _compute(node: Node, inputs: list[Any]) -> Any:
    match node:
        case Literal():
            return _literal(node.value)
        case MakeStruct():
            return Struct(zip(node.names, inputs, strict=True))
        case Select():
            return inputs[0][node.index]
        case Apply():
            return call(node.computation, inputs[0] if inputs else None)
        case Intrinsic():
            if node.name.startswith("sequence_") or node.name == "federated_select":
                stacks.refuse_rows(inputs, f"{node.name} takes arrays of as many rows as there are clients")
            return _INTRINSICS[node.name](node, inputs)
        case Parameter() | RuntimeValue():
            raise AssertionError(f"{node!r} has no value here")
    raise AssertionError(f"a node of an unknown kind: {node}")


def _literal(value: Any) -> Any:
    if isinstance(value, Struct):
        return Struct((name, _literal(element)) for name, element in value._items())
    return value if isinstance(value, str) else jnp.asarray(value)


def call(computation: Computation, argument: Any) -> Any:
    """The result of a computation on a value."""
    if isinstance(computation, LocalComputation):
        if stacks.has_rows(argument):
            return stacks.call(computation.function, argument)
        return shared_maps.call(computation.function, argument)
    if isinstance(computation, StoredStage):
        stacks.refuse_rows(argument, "a stage of a file is for arrays of as many rows as there are clients")
        return computation.run(argument)
    assert isinstance(computation, GraphComputation)
    env: Environment = (
        {} if computation.parameter is None else {computation.parameter: conform(argument, computation.parameter.type)}
    )
    return evaluate([computation.result], env)[0]


def conform(value: Any, kind: Type) -> Any:
    """A value with the field names of a type it is assignable to."""
    if isinstance(kind, StructType) and isinstance(value, Struct):
        return Struct(
            (name, conform(element, member)) for (name, member), element in zip(kind.fields, value, strict=True)
        )
    return value


def trace(computation: Computation) -> Trace:
    """How to make the jaxpr of a computation of tensors for the shapes of its leaves, which may be symbolic."""
    parameter = computation.type_signature.parameter
    if isinstance(computation, LocalComputation):
        function = computation.function

        def rewritten(avals: tuple[Aval, ...]) -> Traced:
            traced = function.trace(avals)
            return Traced(with_products_outside(traced.jaxpr), traced.result)

        return rewritten

    def of(avals: tuple[Aval, ...]) -> Traced:
        trees: list[jax.tree_util.PyTreeDef] = []

        def flat(*leaves: Any) -> list[Any]:
            result = call(computation, None if parameter is None else unflatten(parameter, list(leaves)))
            values, tree = jax.tree.flatten(result)
            trees[:] = [tree]
            return values

        return Traced(jax.make_jaxpr(flat)(*avals), trees[0])

    return of


def member(kind: Type) -> Type:
    """The type at one member of a placement."""
    return kind.member if isinstance(kind, FederatedType) else kind


def _zip(node: Intrinsic, inputs: list[Any]) -> Any:
    kind = member(node.type)
    assert isinstance(kind, StructType)
    return Struct(zip(kind.names, inputs, strict=True))


def _map(node: Intrinsic, inputs: list[Any]) -> Any:
    return call(node.functions[0], inputs[0] if inputs else None)


def _sequence_map(node: Intrinsic, inputs: list[Sequence]) -> Sequence:
    return sequences.sequence_map(trace(node.functions[0]), inputs[0])


def _sequence_reduce(node: Intrinsic, inputs: list[Any]) -> Any:
    sequence, zero, *given = inputs
    try:
        leaves = sequences.sequence_reduce(
            trace(node.functions[0]), sequence, jax.tree.leaves(zero), list(map(jnp.asarray, jax.tree.leaves(given)))
        )
    except NeedsSizes as error:
        raise NeedsSizes(f"{node.functions[0].name!r}: {error}") from None
    return unflatten(member(node.type), leaves)


def _sequence_sum(node: Intrinsic, inputs: list[Sequence]) -> Any:
    kind = member(node.type)
    totals = sequences.sequence_sum(inputs[0], [jnp.zeros(leaf.shape, wide(leaf.dtype)) for leaf in tensors(kind)])
    typed = [lax.convert_element_type(x, leaf.dtype) for x, leaf in zip(totals, tensors(kind), strict=True)]
    return unflatten(kind, typed)


def wide(dtype: Any) -> Any:
    """The dtype in which values of a dtype are summed: float32 for narrower floats, else their own."""
    return jnp.dtype("float32") if jnp.issubdtype(dtype, jnp.floating) and dtype.itemsize < 4 else dtype


def _select(node: Intrinsic, inputs: list[Any]) -> Any:
    keys, count, source = inputs
    if not jnp.ndim(keys):
        return call(node.functions[0], Struct([(None, source), (None, sequences.nearest(keys, count))]))
    return sequences.select(trace(node.functions[0]), keys, count, jax.tree.leaves(source))


_INTRINSICS: dict[str, Callable[[Intrinsic, list[Any]], Any]] = {
    "federated_value": lambda _, inputs: inputs[0],
    "federated_broadcast": lambda _, inputs: inputs[0],
    "federated_zip": _zip,
    "federated_map": _map,
    "federated_eval": _map,
    "federated_select": _select,
    "sequence_map": _sequence_map,
    "sequence_reduce": _sequence_reduce,
    "sequence_sum": _sequence_sum,
}


def sequence_elements(kind: Type) -> list[SequenceType]:
    """The sequence types in an unplaced type, in order."""
    if isinstance(kind, SequenceType):
        return [kind]
    if isinstance(kind, StructType):
        return [found for field in kind for found in sequence_elements(field)]
    return []
