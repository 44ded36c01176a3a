"""The graph that a federated computation records: a few immutable kinds of node.

A node knows its type and the nodes it is computed from, nothing about how or where it runs. Nodes are compared by
identity: two nodes that happen to look alike are two values. This module does not trace Python (`tracing`), does not
check types (`intrinsics`) and does not execute anything (`hansa.compiler`, `hansa.runtimes`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from hansa.language.computation import Computation
from hansa.language.mechanism import Mechanism
from hansa.language.terms import NO_TERMS, Terms
from hansa.types import FederatedType, StructType, Type


@dataclass(frozen=True, eq=False, repr=False)
class Node:
    """A value in the graph.

    Attributes:
        type: the type of the value, with its placement if it has one.
        where: `file:line` of the user's code that made the node, or an empty string.
    """

    type: Type
    where: str = field(default="", kw_only=True)

    @property
    def inputs(self) -> tuple[Node, ...]:
        """The nodes this one is computed from, in order."""
        return ()

    def __repr__(self) -> str:
        return f"{self._label()}: {self.type}"

    def _label(self) -> str:
        """What the node does, in a few words."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False, repr=False)
class Parameter(Node):
    """The one parameter of a computation."""

    def _label(self) -> str:
        return "the parameter"


@dataclass(frozen=True, eq=False, repr=False)
class RuntimeValue(Node):
    """A value that whatever runs the computation has, and that is no argument (`hansa.language.runtime_values`).

    Attributes:
        name: what it is called.
        number: of those that are another value wherever they are asked for, which one it is in the computation; None
            until that is known, or where the name says all.
        rounds: of those that go together over rounds, for how many rounds they are; None for others.
    """

    name: str
    number: int | None = field(default=None, kw_only=True)
    rounds: int | None = field(default=None, kw_only=True)

    def _label(self) -> str:
        return f"the runtime's {self.name}"


@dataclass(frozen=True, eq=False, repr=False)
class Literal(Node):
    """A concrete, unplaced value: a NumPy array, a Python string, or a `Struct` of those."""

    value: Any

    def _label(self) -> str:
        return f"the literal {self.value!r}"


@dataclass(frozen=True, eq=False, repr=False)
class MakeStruct(Node):
    """A struct made of other values, which may be placed."""

    names: tuple[str | None, ...]
    elements: tuple[Node, ...]

    @property
    def inputs(self) -> tuple[Node, ...]:
        """The elements."""
        return self.elements

    def _label(self) -> str:
        return "a struct"


@dataclass(frozen=True, eq=False, repr=False)
class Select(Node):
    """One field of a struct; of a federated struct, that field of every member."""

    source: Node
    index: int

    @property
    def inputs(self) -> tuple[Node, ...]:
        """The struct."""
        return (self.source,)

    def _label(self) -> str:
        kind = self.source.type
        member = kind.member if isinstance(kind, FederatedType) else kind
        assert isinstance(member, StructType)
        return f"the field {member.names[self.index] or self.index!r}"


@dataclass(frozen=True, eq=False, repr=False)
class Apply(Node):
    """A computation called on a value."""

    computation: Computation
    argument: Node | None

    @property
    def inputs(self) -> tuple[Node, ...]:
        """The argument, if there is one."""
        return () if self.argument is None else (self.argument,)

    def _label(self) -> str:
        return f"the call of {self.computation.name!r}"


@dataclass(frozen=True, eq=False, repr=False)
class Intrinsic(Node):
    """An operation that the language itself defines.

    Attributes:
        name: the operation, one of the `federated_*` and `sequence_*` functions of `hansa`.
        arguments: the values it takes.
        functions: the computations it takes, each of a concrete type.
        terms: what holds for the clients' contributions, of an aggregate.
        mechanism: what noise the result has that the arguments have not.
    """

    name: str
    arguments: tuple[Node, ...]
    functions: tuple[Computation, ...] = ()
    terms: Terms = field(default=NO_TERMS, kw_only=True)
    mechanism: Mechanism | None = field(default=None, kw_only=True)

    @property
    def inputs(self) -> tuple[Node, ...]:
        """The arguments."""
        return self.arguments

    def _label(self) -> str:
        functions = ", ".join(repr(function.name) for function in self.functions)
        return f"{self.name} of {functions}" if functions else self.name


def walk(result: Node) -> Iterator[Node]:
    """Every node that `result` depends on, `result` last, each once and after its inputs."""
    seen: set[Node] = set()
    stack: list[tuple[Node, bool]] = [(result, False)]
    while stack:
        node, ready = stack.pop()
        if ready:
            yield node
        elif node not in seen:
            seen.add(node)
            stack.append((node, True))
            stack.extend((source, False) for source in reversed(node.inputs) if source not in seen)
