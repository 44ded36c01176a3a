"""Looks at every operation of a module."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, NamedTuple

from hansa.portable import operations
from hansa.portable.tensors import Refused, Tensor, tensor

_DEEPEST = 100
"""Regions and calls within each other; XLA works on them by recursion."""

_MOST = 2_000_000
"""Operations, those of a function counted wherever it is called: XLA writes them out."""

_MODULE = {
    "jax.uses_shape_polymorphism": "true|false",
    "mhlo.num_partitions": "1 : i32",
    "mhlo.num_replicas": "1 : i32",
}
_FUNCTION = frozenset({"sym_name", "function_type", "sym_visibility", "arg_attrs", "res_attrs"})
_VALUES = frozenset({"jax.result_info", "jax.global_constant", "jax.arg_info"})
_SYMBOL = re.compile(r'@(?:"((?:[^"\\]|\\.)*)"|([\w.$-]+))')


class Signature(NamedTuple):
    """What a module takes and gives.

    Attributes:
        arguments: the types of `main`'s arguments.
        results: the types of its results.
        is_open: whether there are sizes that are not known yet, to be looked at when they are.
    """

    arguments: tuple[Tensor, ...]
    results: tuple[Tensor, ...]
    is_open: bool


@dataclass
class _Function:
    """What is counted in one function: its operations, how deep they lie, and the calls of others by depth."""

    operations: int
    depth: int
    calls: list[tuple[str, int]]


def check(module: Any) -> Signature:
    """Looks at a module that MLIR has read and verified.

    Raises:
        Refused: if there is something in it that no file may hold.
    """
    notes = module.operation.attributes
    for name in notes:
        if name != "sym_name" and re.fullmatch(_MODULE.get(name, "(?!)"), str(notes[name])) is None:
            raise Refused(f"a module with the attribute {name!r}")
    functions: dict[str, _Function] = {}
    is_open, signature = False, None
    for view in module.body.operations:
        function = view.operation
        if function.name != "func.func":
            raise Refused(f"the operation {function.name} outside of functions")
        name = _text(function.attributes["sym_name"])
        functions[name], later = _function(function)
        is_open |= later
        if name == "main":
            signature = _signature(view)
    if signature is None:
        raise Refused("a module without a function 'main'")
    _expanded("main", functions, {}, [])
    return Signature(*signature, is_open)


def _signature(function: Any) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    kind = function.type
    return tuple(tensor(str(part)) for part in kind.inputs), tuple(tensor(str(part)) for part in kind.results)


def _function(function: Any) -> tuple[_Function, bool]:
    """What is in a function, and whether to look at it again."""
    for name in function.attributes:
        if name not in _FUNCTION:
            raise Refused(f"a function with the attribute {name!r}")
    for which in ("arg_attrs", "res_attrs"):
        if which in function.attributes:
            for notes in function.attributes[which]:
                for name in notes:
                    if (name.name if hasattr(name, "name") else name) not in _VALUES:
                        raise Refused(f"a function whose {which} have {name}")
    found, is_open = _Function(0, 0, []), False
    regions = [(region, 1) for region in function.regions]
    if sum(len(region.blocks) for region, _ in regions) != 1:
        raise Refused("a function that is not one block")
    while regions:
        region, depth = regions.pop()
        found.depth = max(found.depth, depth)
        if depth > _DEEPEST:
            raise Refused(f"operations {_DEEPEST} deep in each other")
        for block in region.blocks:
            for argument in block.arguments:
                tensor(str(argument.type))
            for view in block.operations:
                operation = view.operation
                found.operations += 1
                is_open |= _operation(operation, depth, found)
                regions.extend((inner, depth + 1) for inner in operation.regions)
    return found, is_open


def _operation(operation: Any, depth: int, found: _Function) -> bool:
    operations.check_name(operation)
    operands = [tensor(str(value.type)) for value in operation.operands]
    results = [tensor(str(value.type)) for value in operation.results]
    operations.check(operation, operands, results)
    for name in ("callee", "decomposition", "called_computations"):
        if name in operation.attributes:
            text = str(operation.attributes[name])
            found.calls.extend((quoted or plain, depth) for quoted, plain in _SYMBOL.findall(text))
    return any(None in value.shape for value in (*operands, *results))


def _expanded(
    name: str, functions: dict[str, _Function], known: dict[str, tuple[int, int]], path: list[str]
) -> tuple[int, int]:
    """How many operations a function is with all that it calls, and how deep they lie."""
    if name in known:
        return known[name]
    if name in path:
        raise Refused(f"the function {name[:100]!r}, which calls itself")
    if name not in functions:
        raise Refused(f"a call of {name[:100]!r}, which is no function of the module")
    if len(path) > _DEEPEST:
        raise Refused(f"operations {_DEEPEST} deep in each other")
    function = functions[name]
    count, depth = function.operations, function.depth
    for callee, at in function.calls:
        more, deeper = _expanded(callee, functions, known, [*path, name])
        count, depth = count + more, max(depth, at + deeper)
    if count > _MOST:
        raise Refused(f"more than {_MOST} operations")
    if depth > _DEEPEST:
        raise Refused(f"operations {_DEEPEST} deep in each other")
    known[name] = count, depth
    return known[name]


def _text(attribute: Any) -> str:
    return str(attribute.value)
