"""What a computation compiles to, as text for people."""

from __future__ import annotations

from typing import Any

from hansa.compiler.evaluate import member
from hansa.compiler.partition import compile_computation, is_argument
from hansa.compiler.program import ClientStage, Program, ServerStage
from hansa.compiler.stored import StoredStage
from hansa.language.computations import Computation
from hansa.language.graph import Apply, Intrinsic, Literal, MakeStruct, Node, Parameter, Select
from hansa.types import CLIENTS, FederatedType, SequenceType, StructType, TensorType, Type


def explain(computation: Computation) -> str:
    """The stages of a computation: what the server and the clients compute, and what goes between them.

    Args:
        computation: a computation with declared types, such as `process.next`.

    Returns:
        Text to print. Sizes are those of one client's message, in bytes; `?` stands for what only the data tells.
    """
    if not isinstance(computation, Computation):
        raise TypeError(f"explain takes a computation with declared types, found {computation!r}")
    return explain_program(compile_computation(computation))


def explain_program(program: Program) -> str:
    """`explain` of a program."""
    stages = len(program.clients)
    lines = [
        f"{program.name}: {stages} client stage{'' if stages == 1 else 's'}, one XLA program",
        f"  {program.signature}",
        "",
    ]
    for i, server in enumerate(program.servers):
        lines += _server(i, server)
        if i < len(program.clients):
            lines += _client(i, program.clients[i])
    lines.append(f"result  {program.signature.result}")
    return "\n".join(lines)


def _server(number: int, stage: ServerStage) -> list[str]:
    lines = [f"server stage {number}"]
    if not stage.outputs:
        lines.append("  computes   nothing")
    for node in stage.outputs:
        verb = "passes on" if is_argument(node) else "computes "
        lines.append(f"  {verb}  {node_name(node)}: {_short(node.type)}")
    return [*lines, ""]


def _client(number: int, stage: ClientStage) -> list[str]:
    lines = [f"client stage {number}, on each client"]
    down = [member(node.type) for _, node in stage.broadcasts]
    for (source, _), kind in zip(stage.broadcasts, down, strict=True):
        lines.append(f"  receives   {node_name(source)}: {_short(kind)}, {_bytes([kind])}")
    for node in stage.inputs:
        held = _client_parts(node.type) if isinstance(node, Parameter) else [(node_name(node), member(node.type))]
        lines += [f"  has        {name}: {_short(kind)}" for name, kind in held]
    for aggregate in stage.aggregates:
        kinds = [member(node.type) for node in aggregate.contributions]
        shown = " and ".join(_short(kind) for kind in kinds)
        lines.append(f"  reports    {shown}, {_bytes(kinds)} -> {aggregate.name} at the server")
    for node in stage.kept:
        lines.append(f"  keeps      {_short(member(node.type))}")
    up = [member(node.type) for aggregate in stage.aggregates for node in aggregate.contributions]
    lines.append(f"  traffic    {_bytes(down)} down, {_bytes(up)} up, per client")
    return [*lines, ""]


def _client_parts(kind: Type, name: str = "") -> list[tuple[str, Type]]:
    """The parts of a parameter's type that clients have, with their names."""
    if isinstance(kind, FederatedType):
        return [(name or "the argument", kind.member)] if kind.placement is CLIENTS else []
    if not isinstance(kind, StructType):
        return []
    named = ((f"{name}.{field}" if name else field or f"#{i}", part) for i, (field, part) in enumerate(kind.fields))
    return [found for field, part in named for found in _client_parts(part, field)]


def node_name(node: Node) -> str:
    """What people call a value."""
    match node:
        case Parameter():
            return "the client's part of the argument"
        case Select() if isinstance(node.source, Apply) and isinstance(node.source.computation, StoredStage):
            return node.source.computation.output_names[node.index]
        case Select():
            kind = member(node.source.type)
            name = kind.names[node.index] if isinstance(kind, StructType) else None
            field = name or f"#{node.index}"
            return field if isinstance(node.source, Parameter) else f"{node_name(node.source)}.{field}"
        case Intrinsic() if node.functions:
            return node.functions[0].name
        case Intrinsic():
            return node.name.removeprefix("federated_")
        case Literal() | MakeStruct():
            return "a value"
    return type(node).__name__.lower()


def _short(kind: Any) -> str:
    text = str(kind)
    return text if len(text) <= 100 else f"{text[:80]}… {len(tensor_sizes(member(kind)))} tensors"


def _bytes(kinds: list[Type]) -> str:
    sizes = [size for kind in kinds for size in tensor_sizes(kind)]
    known = sum(size for size in sizes if size is not None)
    return f"{known:,} bytes" + (" + ?" if None in sizes else "")


def tensor_sizes(kind: Type) -> list[int | None]:
    """The size in bytes of each tensor in an unplaced type; None where it is not known."""
    if isinstance(kind, StructType):
        return [size for field in kind for size in tensor_sizes(field)]
    if isinstance(kind, SequenceType):
        return [None]
    assert isinstance(kind, TensorType)
    size = kind.dtype.itemsize
    for dim in kind.shape:
        if dim is None:
            return [None]
        size *= dim
    return [size]
