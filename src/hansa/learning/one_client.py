"""What a federated aggregation gives where only one client takes part, as a computation that this client can do alone.

A sum, a mean or an extreme of one value is that value; everything else of the aggregation is computed as it stands.
"""

from __future__ import annotations

from typing import Any, cast

import jax
import jax.numpy as jnp

from hansa.language.computation import Computation
from hansa.language.computations import GraphComputation, apply
from hansa.language.context import current_trace
from hansa.language.dependence import SAME_OF_ONE
from hansa.language.graph import Apply, Intrinsic, Literal, MakeStruct, Node, Parameter, Select, walk
from hansa.language.tracing import federated_computation, wide_computation
from hansa.language.values import Value, to_node
from hansa.types import FederatedType, Struct, is_federated


def of_one_client(aggregation: Computation, what: str) -> Computation:
    """From `({T}@CLIENTS -> U@SERVER)`, the computation `(T -> U)` of a cohort of one.

    Args:
        aggregation: the computation.
        what: how messages name it.

    Raises:
        TypeError: if it has an operation that one client cannot do by itself, such as `federated_collect`.
    """
    kind = aggregation.type_signature.parameter
    assert isinstance(kind, FederatedType)

    @federated_computation(kind.member)
    def alone(value: Any) -> Any:
        return _run(aggregation, value, what)

    return alone


def _run(computation: Computation, argument: Any, what: str) -> Any:
    """The result of a computation for one client, of a value (or struct of values) without placements, or none."""
    if not isinstance(computation, GraphComputation) or not _is_placed(computation):
        return _recorded(apply(computation, argument))
    values: dict[Node, Any] = {}
    for node in walk(computation.result):
        values[node] = argument if isinstance(node, Parameter) else _value(node, [values[i] for i in node.inputs], what)
    return values[computation.result]


def _value(node: Node, inputs: list[Any], what: str) -> Any:
    match node:
        case Literal():
            return _recorded(node)
        case MakeStruct():
            return Struct(zip(node.names, inputs, strict=True))
        case Select():
            return inputs[0][node.index]
        case Apply():
            return _run(node.computation, inputs[0] if inputs else None, what)
        case Intrinsic(name=name) if name in SAME_OF_ONE:
            return inputs[0]
        case Intrinsic(name="federated_mean"):
            return _mean(*inputs)
        case Intrinsic(name="federated_map"):
            return _run(node.functions[0], inputs[0], what)
        case Intrinsic(name="federated_eval"):
            return _run(node.functions[0], None, what)
        case Intrinsic(name="federated_zip"):
            names = cast(Any, node.type).member.names
            return Struct(zip(names, inputs, strict=True))
        case Intrinsic(name="federated_aggregate", functions=(accumulate, _, report)):
            return _run(report, _run(accumulate, Struct([(None, inputs[1]), (None, inputs[0])]), what), what)
    name = node.name if isinstance(node, Intrinsic) else str(node)
    raise TypeError(
        f"{what} cannot be computed for each client by itself: their aggregation uses {name}"
        + (f" (at {node.where})" if node.where else "")
        + "; aggregate with federated_sum, federated_mean, federated_min, federated_max or federated_aggregate"
    )


def _mean(value: Any, weight: Any = None) -> Any:
    """A weighted mean of one value is the value, and zero without weight."""
    if weight is None:
        return value

    def weighed(value: Any, weight: Any) -> Any:
        return jax.tree.map(lambda leaf: jnp.where(weight == 0, jnp.zeros_like(leaf), leaf), value)

    kinds = [to_node(part, what="a mean").type for part in (value, weight)]
    return wide_computation(*kinds)(weighed)(value, weight)


def _recorded(node: Node) -> Value:
    trace = current_trace()
    assert trace is not None
    return Value(node, trace)


def _is_placed(computation: Computation) -> bool:
    kinds = computation.type_signature.parameter, computation.type_signature.result
    return any(kind is not None and is_federated(kind) for kind in kinds)
