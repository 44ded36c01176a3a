"""Where a value comes from, as a manifest writes it, and the node of a graph that it is."""

from __future__ import annotations

from typing import Any

from hansa.compiler.artifacts.file import Reader
from hansa.compiler.artifacts.types import decode_type, decode_value
from hansa.compiler.stored import unplaced
from hansa.language.graph import Intrinsic, Literal, MakeStruct, Node, Parameter
from hansa.language.runtime_values import runtime_value
from hansa.language.values import select
from hansa.types import CLIENTS, SERVER, FederatedType, FunctionType, StructType, Type, to_value

REARRANGING = ("federated_broadcast", "federated_value", "federated_zip")
"""The operations that compute nothing, and are kept as they are."""

Address = tuple[str, int, int]
"""A value that a program makes: `broadcast`, `server`, `aggregate`, `kept` or `collected`, the stage, which of them."""


class Expressions:
    """The nodes of one program's values.

    Args:
        signature: the program's type.
        reader: the file.

    Attributes:
        parameter: the node of the argument, or None.
        known: the nodes of the values that the program makes.
    """

    def __init__(self, signature: FunctionType, reader: Reader) -> None:
        self._reader = reader
        self.parameter = None if signature.parameter is None else Parameter(signature.parameter)
        self.known: dict[Address, Node] = {}

    def node(self, expression: list[Any]) -> Node:
        """The node of a value.

        Raises:
            Exception: of some kind, if there is no such value.
        """
        match expression:
            case ["parameter"]:
                assert self.parameter is not None
                return self.parameter
            case ["select", source, int(index)]:
                return select(self.node(source), index)
            case ["struct", kind, elements]:
                struct, parts = decode_type(kind), tuple(map(self.node, elements))
                if not isinstance(struct, StructType) or list(struct) != [part.type for part in parts]:
                    raise ValueError(f"a struct {struct} of {', '.join(part.type.compact() for part in parts)}")
                return MakeStruct(struct, struct.names, parts)
            case ["literal", kind, value]:
                decoded = decode_type(kind)
                literal = decode_value(value, decoded, self._reader)
                to_value(literal, decoded, "a literal")
                return Literal(decoded, literal)
            case ["runtime", str(name), kind]:
                return runtime_value(name, decode_type(kind))
            case ["runtime", str(name), kind, int(number)]:
                return runtime_value(name, decode_type(kind), number)
            case ["runtime", str(name), kind, int(number), int(rounds)]:
                return runtime_value(name, decode_type(kind), number, rounds)
            case ["operation", "federated_client_id", kind, []]:  # of older files
                return runtime_value("client_id", decode_type(kind))
            case ["operation", name, kind, arguments]:
                return rearranging(name, decode_type(kind), tuple(map(self.node, arguments)))
            case [str(what), int(stage), int(index)]:
                return self.known[what, stage, index]
        raise ValueError(f"a value that comes from {expression!r}")


def rearranging(name: str, kind: Type, arguments: tuple[Node, ...]) -> Intrinsic:
    """An operation that computes nothing.

    Raises:
        ValueError: if there is none that takes and gives such types.
    """
    types = [node.type for node in arguments]
    if name not in REARRANGING or not _rearranges(name, kind, types):
        taken = ", ".join(part.compact() for part in types)
        raise ValueError(f"an operation {name!r} that gives {kind} of {taken or 'nothing'}")
    return Intrinsic(kind, name, arguments)


def _rearranges(name: str, kind: Type, types: list[Type]) -> bool:
    """Whether an operation of these types gives one of that type."""
    if not isinstance(kind, FederatedType):
        return False
    if name == "federated_zip" and isinstance(kind.member, StructType):
        parts = [part for part in types if isinstance(part, FederatedType) and part.placement is kind.placement]
        equal = all(part.all_equal for part in parts) or not kind.all_equal
        if equal and len(parts) == len(types) and list(kind.member) == [part.member for part in parts]:
            return True
    if len(types) != 1 or unplaced(types[0]) != kind.member:
        return False
    if name == "federated_broadcast":
        return isinstance(types[0], FederatedType) and types[0].placement is SERVER and kind.placement is CLIENTS
    return True
