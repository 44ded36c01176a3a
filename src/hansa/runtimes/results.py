"""From what a program computed to what the caller gets: structs, arrays, and a value for each client."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import numpy.typing as npt
from jax.sharding import SingleDeviceSharding

from hansa.compiler.evaluate import member
from hansa.compiler.evaluate import sequence_elements as contains_sequence
from hansa.compiler.partition import collected_from, is_collect, is_passed, is_sent, is_stacked, parts_of, placed_parts
from hansa.compiler.program import Program
from hansa.compiler.stacks import ClientRows
from hansa.language.graph import Literal, Node, Parameter, Select
from hansa.runtimes.replicas import first_part
from hansa.types import CLIENTS, SERVER, FederatedType, Struct, StructType, Type, to_value
from hansa.types.aligned import settled
from hansa.types.client_values import ClientValues
from hansa.types.values import field_values


def computed_parts(program: Program) -> list[Node]:
    """The parts of a program's result that it computes; literals and parts of the argument are returned as they are."""
    parts = [collected_from(part) for part in placed_parts(program.result)]
    return [part for part in parts if not is_passed(part)]


def stays_with_clients(program: Program) -> bool:
    """Whether a part of a program's result is one that each client has, and has computed."""
    return any(map(is_stacked, computed_parts(program)))


def assemble(program: Program, argument: Any, values: dict[Node, Any], clients: npt.NDArray[Any]) -> Any:
    """The result of a call.

    Args:
        program: the program.
        argument: the call's argument, as it was passed.
        values: of the parts that were computed; those of several clients as `Rows`.
        clients: who took part, [clients].
    """
    return _assemble(program.result, program.signature.result, argument, values, clients)


def _assemble(node: Node, kind: Type, argument: Any, values: dict[Node, Any], clients: npt.NDArray[Any]) -> Any:
    """The value of a node as one of a type to which it is assignable."""
    elements = parts_of(node)
    if elements is not None:
        whole = member(kind)
        assert isinstance(whole, StructType)
        kinds = [FederatedType(field, SERVER, True) if kind is not whole else field for field in whole]
        parts = [_assemble(part, field, argument, values, clients) for part, field in zip(elements, kinds, strict=True)]
        return (whole.container or Struct)(zip(whole.names, parts, strict=True))
    if is_collect(node):
        source, element = node.arguments[0], member(kind).element  # type: ignore[attr-defined]
        collected = _assemble(source, FederatedType(element, CLIENTS), argument, values, clients)
        return [to_value(value, element, "what is collected") for value in collected]
    inner = member(kind)
    if is_stacked(node):
        if is_passed(node):
            passed = pick(node, argument)
            return passed if isinstance(passed, ClientValues) else list(passed)
        return ClientValues(inner, values[node], clients)
    if is_passed(node):
        passed = pick(node, argument)
        value = passed
        if not contains_sequence(inner):
            value = _finish(jax.tree.map(_own, to_value(passed, inner, "the argument")), inner)
    else:
        value = _finish(jax.tree.map(_fetch, values[node]), inner)
    return [value] * len(clients) if _is_listed(kind) else value


def _is_listed(kind: Type) -> bool:
    return isinstance(kind, FederatedType) and kind.placement is CLIENTS and not kind.all_equal


def _fetch(leaf: Any) -> Any:
    """A scalar or a 64-bit array in host memory; any other array on its (first) device."""
    alone = isinstance(leaf, np.ndarray | np.generic) or isinstance(leaf.sharding, SingleDeviceSharding)
    if leaf.ndim == 0 or leaf.dtype.itemsize > 4:
        return np.asarray(leaf if alone else leaf.addressable_data(0))
    return leaf if alone else first_part(leaf)


def _own(leaf: Any) -> Any:
    """What is passed on, where what is computed would be (`_fetch`), and not in memory that the caller may write to."""
    if isinstance(leaf, np.ndarray) and leaf.ndim and leaf.dtype.kind != "U" and leaf.dtype.itemsize <= 4:
        return jax.device_put(settled(leaf) if leaf.flags.writeable else leaf)
    return leaf


def _finish(value: Any, kind: Type) -> Any:
    if isinstance(kind, StructType):
        return (kind.container or Struct)(
            (name, _finish(part, member)) for (name, member), part in zip(kind.fields, value, strict=True)
        )
    if isinstance(value, ClientRows):
        return value.array[: int(value.count)]
    return value[()] if isinstance(value, np.ndarray) and value.ndim == 0 else value


def pick(node: Node, argument: Any) -> Any:
    """A part of the argument, or of a literal, as it was passed."""
    if isinstance(node, Parameter):
        return argument
    if isinstance(node, Literal):
        return node.value
    if is_sent(node):
        return pick(node.inputs[0], argument)
    assert isinstance(node, Select)
    source, kind = pick(node.source, argument), node.source.type
    member = kind.member if isinstance(kind, FederatedType) else kind
    assert isinstance(member, StructType)

    def field(value: Any) -> Any:
        return field_values(value, member)[node.index]

    return [field(value) for value in source] if is_stacked(node.source) else field(source)
