"""Which parts of a state a computation hands on as they came: such as weights of frozen layers, from round to round.

They are results of no program, stay where they are, and need to be sent once only.
"""

from __future__ import annotations

from collections.abc import Iterator

from hansa.compiler.evaluate import member, sequence_elements
from hansa.compiler.narrowing import Path, tensor_paths
from hansa.compiler.partition import is_argument, parts_of, path_of
from hansa.compiler.program import Program
from hansa.language.graph import Node
from hansa.language.local import tensors
from hansa.types import SERVER, FederatedType, TensorType


def handed_on(program: Program) -> frozenset[Path]:
    """The ways to the parts of the parameter at the server that are at the same place in the result.

    A state is the first field of the parameter and of the result, or all of it.
    """
    found = set()
    for at, node in _parts(program.result, ()):
        at_server = isinstance(node.type, FederatedType) and node.type.placement is SERVER
        if at_server and is_argument(node):
            path = path_of(node)
            if path == at or (0, *path) == at or path == (0, *at):
                found.add(path)
    return frozenset(found)


def tensors_handed_on(node: Node, handed: frozenset[Path]) -> list[TensorType]:
    """The tensors of a part of the parameter, or of another value, that are handed on."""
    if not handed or not is_argument(node) or sequence_elements(member(node.type)):
        return []
    paths = tensor_paths(member(node.type), path_of(node))
    return [leaf for leaf, path in zip(tensors(member(node.type)), paths, strict=True) if _within(path, handed)]


def _within(path: Path, handed: frozenset[Path]) -> bool:
    return any(path[:length] in handed for length in range(len(path) + 1))


def _parts(node: Node, at: Path) -> Iterator[tuple[Path, Node]]:
    elements = parts_of(node)
    if elements is None:
        yield at, node
    for i, element in enumerate(elements or ()):
        yield from _parts(element, (*at, i))
