"""How many floating-point operations each part of a program is, and in which of its nodes.

A program's graph is gone through as `hansa.compiler.evaluate` does, with shapes in the place of values: sizes that only
the data knows are symbols, and a sequence is what one of its elements costs to read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import export

from hansa.compiler.aggregates import Aggregate, as_written
from hansa.compiler.evaluate import conform, member, sequence_elements, trace
from hansa.compiler.explain.counting import STORED, count
from hansa.compiler.explain.flops import Flops, Term, Turn
from hansa.compiler.sequences import Aval, Trace, is_batched
from hansa.compiler.stored import StoredStage
from hansa.language.computation import Computation
from hansa.language.computations import GraphComputation, LocalComputation
from hansa.language.graph import Apply, Intrinsic, MakeStruct, Node, Parameter, Select, walk
from hansa.language.local import Traced, tensors
from hansa.language.sizes import batch_symbols
from hansa.types import FederatedType, SequenceType, Struct, StructType, Type


@dataclass(frozen=True)
class Elements:
    """A sequence, of which nothing is known but what its elements are like.

    Attributes:
        avals: the shapes of an element's leaves; the batch is symbolic in them.
        turn: what an element is, and of which data.
        flops: what it costs to read one.
        names: the computations that are mapped over it, the last one last.
    """

    avals: tuple[Aval, ...]
    turn: Turn
    flops: Flops
    names: tuple[str, ...] = ()


class Work:
    """The operations of each node of a program, and of its aggregates."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        self._values: dict[Node, Any] = {}
        self._flops: dict[Node, Flops] = {}
        with jax.enable_x64(True):
            for node in nodes:
                self._values[node], self._flops[node] = _compute(node, [self._values[n] for n in node.inputs])

    def of(self, node: Node) -> Flops:
        """What a node costs, given its inputs."""
        return self._flops[node]

    def maps(self, node: Node) -> tuple[str, ...]:
        """The computations that are mapped over the sequences which a node reads."""
        read = [self._values[source] for source in node.inputs]
        return tuple(name for value in read if isinstance(value, Elements) for name in value.names)

    def folding(self, aggregate: Aggregate) -> Flops:
        """What it costs to add one client's contribution."""
        aggregate = as_written(aggregate)
        state = self._state(aggregate)
        return self._traced(aggregate.accumulate, state, [self._values[node] for node in aggregate.contributions])

    def reporting(self, aggregate: Aggregate) -> Flops:
        """What it costs to make the result once all clients' contributions are there."""
        aggregate = as_written(aggregate)
        return self._traced(aggregate.report, self._state(aggregate))

    def _state(self, aggregate: Aggregate) -> Any:
        return aggregate.state(None if aggregate.start is None else self._values[aggregate.start])

    @staticmethod
    def _traced(function: Callable[..., Any], *arguments: Any) -> Flops:
        try:
            with jax.enable_x64(True):
                return count(jax.make_jaxpr(function)(*arguments))
        except Exception:  # whatever the user's own functions raise for a contribution of unknown size
            return _UNKNOWN


_UNKNOWN = Flops(notes=("and what cannot be said for a batch of any size",))


def _compute(node: Node, inputs: list[Any]) -> tuple[Any, Flops]:
    match node:
        case MakeStruct():
            return Struct(zip(node.names, inputs, strict=True)), Flops()
        case Select():
            return inputs[0][node.index], Flops()
        case Apply():
            return _call(node.computation, inputs[0] if inputs else None)
        case Intrinsic() if node.name in _INTRINSICS:
            return _INTRINSICS[node.name](node, inputs)
        case Parameter():
            return _abstract(node.type, ""), Flops()
    return _abstract(node.type, type(node).__name__), Flops()


def _call(computation: Computation, argument: Any) -> tuple[Any, Flops]:
    """The result of a computation on a value, and its operations."""
    if isinstance(computation, LocalComputation):
        traced, flops = _local(computation.function.trace, tuple(jax.tree.leaves(argument)))
        kind = computation.type_signature.result
        return (_abstract(kind, "") if traced is None else _result(traced)), flops
    if isinstance(computation, StoredStage):
        return _abstract(computation.type_signature.result, ""), STORED
    assert isinstance(computation, GraphComputation)
    parameter, work = computation.parameter, []
    values: dict[Node, Any] = {} if parameter is None else {parameter: conform(argument, parameter.type)}
    for node in walk(computation.result):
        if node not in values:
            values[node], flops = _compute(node, [values[source] for source in node.inputs])
            work.append(flops)
    return values[computation.result], Flops.total(work)


def _result(traced: Traced) -> Any:
    leaves = [Aval(aval.shape, aval.dtype) for aval in traced.jaxpr.out_avals]
    return jax.tree.unflatten(traced.result, leaves)


def _local(trace: Trace, avals: tuple[Aval, ...]) -> tuple[Traced | None, Flops]:
    """A function's jaxpr for these shapes, if there is one for a batch of any size, and its operations."""
    try:
        traced = trace(avals)
        return traced, count(traced.jaxpr)
    except Exception:  # whatever the function raises on a symbolic size
        return None, _fitted(trace, avals)


def _fitted(trace: Trace, avals: tuple[Aval, ...]) -> Flops:
    """The operations of a function that is traced for each size of batch, as n + m * b if they are that for three."""
    for sizes in ((8, 12, 20), (2, 3, 5)):
        try:
            counts = [count(trace(tuple(_at(aval, size) for aval in avals)).jaxpr) for size in sizes]
        except Exception:  # some functions take certain sizes only
            continue
        if len({tuple(term.per for term in flops.terms) for flops in counts}) > 1:
            continue
        lines = [_line(sizes, amounts) for amounts in zip(*(flops.terms for flops in counts), strict=True)]
        terms = [line for line in lines if line is not None]
        if len(terms) == len(lines):
            return Flops(tuple(terms), (*counts[0].notes, "by example"))
    return _UNKNOWN


def _line(sizes: tuple[int, int, int], terms: tuple[Term, ...]) -> Term | None:
    low, high, other = (int(term.amount) for term in terms)
    slope, rest = divmod(high - low, sizes[1] - sizes[0])
    start = low - slope * sizes[0]
    if rest or other != start + slope * sizes[2]:
        return None
    return Term(start + slope * batch_symbols()[0] if slope else start, terms[0].per)


def _at(aval: Aval, size: int) -> Aval:
    return Aval(tuple(size if export.is_symbolic_dim(n) else n for n in aval.shape), aval.dtype)


def _abstract(kind: Type, name: str) -> Any:
    """A value of a type, with symbols for the sizes that it does not know; strings are None."""
    if isinstance(kind, FederatedType):
        return _abstract(kind.member, name)
    if isinstance(kind, StructType):
        named = ((field, part, f"{name}.{field or i}".strip(".")) for i, (field, part) in enumerate(kind.fields))
        return (kind.container or Struct)((field, _abstract(part, path)) for field, part, path in named)
    if isinstance(kind, SequenceType):
        return Elements(tuple(_leaves(kind.element)), Turn(element_of(kind), name or "the sequence"), Flops())
    return _aval(tensors(kind)[0])


def element_of(kind: SequenceType) -> str:
    """What an element of a sequence is called: a `batch`, if its tensors hold an unknown number of examples."""
    return "batch" if any(is_batched(leaf.shape) for leaf in tensors(kind.element)) else "element"


def _aval(leaf: Any) -> Any:
    if leaf.dtype.kind == "U":
        return None
    symbols = batch_symbols()
    shape = tuple(symbols[min(i, len(symbols) - 1)] if n is None else n for i, n in enumerate(leaf.shape))
    return Aval(shape, leaf.dtype)


def _map(node: Intrinsic, inputs: list[Any]) -> tuple[Any, Flops]:
    return _call(node.functions[0], inputs[0] if inputs else None)


def _zip(node: Intrinsic, inputs: list[Any]) -> tuple[Any, Flops]:
    kind = member(node.type)
    assert isinstance(kind, StructType)
    return Struct(zip(kind.names, inputs, strict=True)), Flops()


def _same(node: Intrinsic, inputs: list[Any]) -> tuple[Any, Flops]:
    return inputs[0], Flops()


def _sequence_map(node: Intrinsic, inputs: list[Any]) -> tuple[Any, Flops]:
    sequence: Elements = inputs[0]
    traced, flops = _local(trace(node.functions[0]), sequence.avals)
    kind = sequence_elements(member(node.type))[0]
    avals = _leaves(kind.element) if traced is None else jax.tree.leaves(_result(traced))
    names = (*sequence.names, node.functions[0].name)
    return replace(sequence, avals=tuple(avals), flops=Flops.total([sequence.flops, flops]), names=names), Flops()


def _leaves(kind: Type) -> list[Aval]:
    return [_aval(leaf) for leaf in tensors(kind)]


def _sequence_reduce(node: Intrinsic, inputs: list[Any]) -> tuple[Any, Flops]:
    sequence, state, *given = inputs
    avals = (*jax.tree.leaves(state), *sequence.avals, *jax.tree.leaves(given))
    _, flops = _local(trace(node.functions[0]), avals)
    return state, Flops.total([sequence.flops, flops]).in_turn(sequence.turn)


def _sequence_sum(node: Intrinsic, inputs: list[Any]) -> tuple[Any, Flops]:
    sequence: Elements = inputs[0]
    result = _abstract(node.type, "")
    added = sum(aval.size for aval in jax.tree.leaves(result) if jnp.issubdtype(aval.dtype, jnp.inexact))
    return result, Flops.total([sequence.flops, Flops.of(added)]).in_turn(sequence.turn)


def _select(node: Intrinsic, inputs: list[Any]) -> tuple[Any, Flops]:
    keys, _, source = inputs
    traced, flops = _local(trace(node.functions[0]), (*jax.tree.leaves(source), Aval((), keys.dtype)))
    kind = member(node.type)
    if not isinstance(kind, SequenceType):
        return (_abstract(kind, "") if traced is None else _result(traced)), flops
    avals = _leaves(kind.element) if traced is None else jax.tree.leaves(_result(traced))
    return Elements(tuple(avals), Turn("slice", "what was selected"), flops), Flops()


def _collect(node: Intrinsic, inputs: list[Any]) -> tuple[Any, Flops]:
    return Elements(tuple(jax.tree.leaves(inputs[0])), Turn("collected value", "the clients"), Flops()), Flops()


_INTRINSICS: dict[str, Callable[[Intrinsic, list[Any]], tuple[Any, Flops]]] = {
    "federated_value": _same,
    "federated_broadcast": _same,
    "federated_zip": _zip,
    "federated_map": _map,
    "federated_eval": _map,
    "federated_select": _select,
    "federated_collect": _collect,
    "federated_stack": lambda node, _: (_abstract(node.type, ""), Flops()),
    "sequence_map": _sequence_map,
    "sequence_reduce": _sequence_reduce,
    "sequence_sum": _sequence_sum,
}


def is_work(node: Node) -> bool:
    """Whether a node computes something, rather than stand for a value that is there or be put together of others."""
    if isinstance(node, Intrinsic) and node.name == "federated_select":
        return not isinstance(member(node.type), SequenceType)  # which costs where it is read
    working = ("federated_map", "federated_eval", "sequence_reduce", "sequence_sum")
    return isinstance(node, Apply) or (isinstance(node, Intrinsic) and node.name in working)
