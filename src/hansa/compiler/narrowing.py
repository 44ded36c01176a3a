"""Which tensors of its argument a computation converts to 32 bits, as most models do: their numbers have to fit.

The graph is gone through with, in place of values, the paths of the parameter's tensors that they are. What is computed
from them is of no concern: only the caller can be told of a number that does not fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hansa.compiler.stored import StoredStage
from hansa.language.computation import Computation
from hansa.language.computations import GraphComputation, LocalComputation
from hansa.language.graph import Apply, Intrinsic, MakeStruct, Node, Parameter, Select, walk
from hansa.types import FederatedType, SequenceType, StructType, TensorType, Type
from hansa.types.narrow import HALVES

Path = tuple[int, ...]
"""The way from a type to a tensor in it, by the positions of fields; placements and sequences are no steps."""


def narrowed(parameter: Parameter | None, result: Node) -> frozenset[Path]:
    """The paths of the parameter's 64-bit tensors that a 32-bit function gets."""
    found: set[Path] = set()
    paths = None if parameter is None else _paths(parameter.type, ())
    if parameter is not None and _leaves(paths):
        _follow(result, {parameter: paths}, found)
    return frozenset(found)


def narrowed_inputs(inputs: Sequence[Node], outputs: Sequence[Node]) -> frozenset[Path]:
    """The same for a stage: the paths of its inputs' tensors, after the number of the input."""
    found: set[Path] = set()
    env = {node: _paths(node.type, (i,)) for i, node in enumerate(inputs)}
    for node in outputs:
        _follow(node, env, found)
    return frozenset(found)


def tensor_paths(kind: Type, path: Path = ()) -> list[Path]:
    """The paths of all tensors in a type, in order, after another path."""
    if isinstance(kind, StructType):
        return [found for i, field in enumerate(kind) for found in tensor_paths(field, (*path, i))]
    return [path]


def _paths(kind: Type, path: Path) -> Any:
    """The path of each 64-bit tensor in a type, None for others, in lists for structs."""
    if isinstance(kind, FederatedType):
        return _paths(kind.member, path)
    if isinstance(kind, SequenceType):
        return _paths(kind.element, path)
    if isinstance(kind, StructType):
        return [_paths(field, (*path, i)) for i, field in enumerate(kind)]
    return path if isinstance(kind, TensorType) and kind.dtype.name in HALVES else None


def _leaves(paths: Any) -> list[Path]:
    if isinstance(paths, list):
        return [leaf for part in paths for leaf in _leaves(part)]
    return [] if paths is None else [paths]


def _part(paths: Any, path: Path) -> Any:
    """What is at the end of a path, which may be a file's; None if there is nothing."""
    for index in path:
        paths = paths[index] if isinstance(paths, list) and 0 <= index < len(paths) else None
    return paths


def _follow(result: Node, env: dict[Node, Any], found: set[Path]) -> Any:
    for node in walk(result):
        if node not in env:
            env[node] = _of_node(node, [env[source] for source in node.inputs], found)
    return env[result]


def _of_node(node: Node, inputs: list[Any], found: set[Path]) -> Any:
    match node:
        case MakeStruct():
            return inputs
        case Select():
            return None if inputs[0] is None else inputs[0][node.index]
        case Apply():
            return _call(node.computation, inputs[0] if inputs else None, found)
        case Intrinsic(name="federated_value" | "federated_broadcast" | "federated_collect" | "federated_stack"):
            return inputs[0]
        case Intrinsic(name="federated_zip"):
            return inputs
        case Intrinsic(name="federated_map" | "federated_eval" | "sequence_map"):
            return _call(node.functions[0], inputs[0] if inputs else None, found)
        case Intrinsic(name="sequence_reduce" | "federated_aggregate"):
            _call(node.functions[0], [inputs[1], inputs[0], *inputs[2:]], found)
    return None


def _call(computation: Computation, argument: Any, found: set[Path]) -> Any:
    if isinstance(computation, LocalComputation) and computation.function.bits == 32:
        found.update(_leaves(argument))
    if isinstance(computation, StoredStage):
        found.update(leaf for path in computation.narrow for leaf in _leaves(_part(argument, path)))
    if not isinstance(computation, GraphComputation):
        return None
    return _follow(
        computation.result, {} if computation.parameter is None else {computation.parameter: argument}, found
    )
