"""What the stages of a program receive, compute, keep and send: the facts that the text and the picture show."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from hansa.compiler.aggregates import Aggregate
from hansa.compiler.evaluate import member, sequence_elements
from hansa.compiler.explain.flops import Flops, amount
from hansa.compiler.explain.work import Work, element_of, is_work
from hansa.compiler.partition import is_aggregate, is_argument
from hansa.compiler.program import Program, ServerStage
from hansa.compiler.stored import StoredStage, unplaced
from hansa.language.computation import Computation
from hansa.language.computations import GraphComputation
from hansa.language.graph import Apply, Intrinsic, Literal, MakeStruct, Node, Parameter, RuntimeValue, Select, walk
from hansa.types import CLIENTS, FederatedType, SequenceType, StructType, TensorType, Type, is_federated


class Bytes(int):
    """A number of bytes that is known before there is data, which is an int; `exact` if there are no others."""

    exact: bool

    def __new__(cls, known: int = 0, exact: bool = True) -> Bytes:  # noqa: D102
        self = super().__new__(cls, known)
        self.exact = exact
        return self

    @classmethod
    def of(cls, kinds: Iterable[Type]) -> Bytes:
        """The size of values of these types."""
        sizes = [size for kind in kinds for size in tensor_sizes(kind)]
        return cls(sum(size for size in sizes if size is not None), None not in sizes)

    @classmethod
    def total(cls, parts: Iterable[Bytes]) -> Bytes:
        """All of them together."""
        found = list(parts)
        return cls(sum(found), all(part.exact for part in found))

    @property
    def short(self) -> str:
        """`1.63 MB`, `8 bytes`, `4 bytes + ?`."""
        text = f"{int(self):,} byte{'' if self == 1 else 's'}" if self < 10_000 else amount(int(self), "B")
        return text if self.exact else f"{text} + ?"

    def __str__(self) -> str:
        return f"{int(self):,} byte{'' if self == 1 else 's'}" + ("" if self.exact else " + ?")


@dataclass(frozen=True)
class Held:
    """A value at one place.

    Attributes:
        name: what it is called in the computation, or what made it.
        type: its type there.
    """

    name: str
    type: Type


@dataclass(frozen=True)
class Operation:
    """A computation that one place does.

    Attributes:
        name: that of the local computation, or of the aggregation whose result is made.
        type: what comes out, at that place.
        flops: the floating-point operations.
        parts: the computations that it is composed of, if it is, with `per batch` and the like after their names.
    """

    name: str
    type: Type
    flops: Flops
    parts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Broadcast:
    """What each client gets from the server.

    Attributes:
        name: what is sent.
        type: its type; of what was selected, that of one slice.
        bytes: the size for one client.
        slices: how many slices a client selects by keys, or None if all clients get the same.
    """

    name: str
    type: Type
    bytes: Bytes
    slices: int | None = None


@dataclass(frozen=True)
class Report:
    """What each client gives to the server, and what becomes of it there.

    Attributes:
        into: what the server makes of all clients' reports: "sum", "mean", "secure_sum" and so on; "collect" for a
            sequence of them, "stack" for arrays of them, "select" for the keys of slices.
        name: what is given.
        types: the types of its parts: a value, and its weight if it has one.
        bytes: the size of one client's.
        protected: the server is to see only the sum; it would see each client's report otherwise.
        flops: what the server does to add one client's.
    """

    into: str
    name: str
    types: tuple[Type, ...]
    bytes: Bytes
    protected: bool
    flops: Flops


@dataclass(frozen=True)
class AtServer:
    """A server stage.

    Attributes:
        number: its place among the server stages.
        passes: values it had already, for the clients or for the result.
        computes: what it computes, in order.
        holds: what it has of each client, not added up.
    """

    number: int
    passes: tuple[Held, ...]
    computes: tuple[Operation, ...]
    holds: tuple[Report, ...] = ()

    @property
    def flops(self) -> Flops:
        """All that it computes; adding up the clients' reports is theirs (`Report.flops`)."""
        return Flops.total(operation.flops for operation in self.computes)


@dataclass(frozen=True)
class AtClients:
    """A client stage, as one client does it.

    Attributes:
        number: its place among the client stages.
        receives: what comes from the server.
        has: what the client has: its data, its number, what it kept.
        computes: what it computes, in order.
        reports: what goes to the server.
        keeps: what stays with the client, for a later stage or as its part of the result.
    """

    number: int
    receives: tuple[Broadcast, ...]
    has: tuple[Held, ...]
    computes: tuple[Operation, ...]
    reports: tuple[Report, ...]
    keeps: tuple[Held, ...]

    @property
    def flops(self) -> Flops:
        """All that one client computes."""
        return Flops.total(operation.flops for operation in self.computes)

    @property
    def bytes_down(self) -> Bytes:
        """The size of what one client receives."""
        return Bytes.total(broadcast.bytes for broadcast in self.receives)

    @property
    def bytes_up(self) -> Bytes:
        """The size of what one client reports."""
        return Bytes.total(report.bytes for report in self.reports)


def stages_of(program: Program) -> tuple[AtServer | AtClients, ...]:
    """The stages of a program in their order, which begins and ends at the server."""
    work = Work(walk(program.result))
    found: list[AtServer | AtClients] = []
    for i, server in enumerate(program.servers):
        before = found[-1].reports if found and isinstance(found[-1], AtClients) else ()
        holds = tuple(report for report in before if report.into in ("collect", "stack"))
        found.append(replace(_server(i, server, program.clients[i - 1].aggregates if i else (), work), holds=holds))
        if i < len(program.clients):
            found.append(_clients(i, program, work))
    return tuple(found)


def _server(number: int, stage: ServerStage, aggregates: Iterable[Aggregate], work: Work) -> AtServer:
    reports = [(fold, work.reporting(fold)) for fold in aggregates]
    made = [Operation(fold.name, member(fold.node.type), flops) for fold, flops in reports if flops]
    inner = _inside(stage.outputs, stage.inputs)
    computed = [_operation(node, work) for node in inner if is_work(node)]
    passed = [node for node in stage.outputs if _is_passed(node) and not _is_constant(node)]
    return AtServer(number, tuple(Held(name_of(n), member(n.type)) for n in passed), (*made, *computed))


def _is_passed(node: Node) -> bool:
    """Whether a value is passed on as it came: nothing but parts of the argument and of aggregates."""
    return is_argument(node) or not any(map(is_work, _inside([node], _aggregates([node]))))


def _clients(number: int, program: Program, work: Work) -> AtClients:
    stage = program.clients[number]
    roots = [*(node for fold in stage.aggregates for node in fold.contributions), *stage.kept]
    inner = _inside(roots, [*stage.inputs, *(node for _, node in stage.broadcasts)])
    selects = [node for node in inner if isinstance(node, Intrinsic) and node.name == "federated_select"]
    # What is sliced for the clients is not sent to them as a whole, unless they want it otherwise too.
    readers = [node for node in inner if node not in selects]
    wanted = {source for node in readers for source in node.inputs} | set(roots)
    sent = [pair for pair in stage.broadcasts if pair[1] in wanted and not _is_constant(pair[0])]
    receives = [Broadcast(name_of(s), member(s.type), Bytes.of([member(s.type)])) for s, _ in sent]
    reports = [_report(fold, work) for fold in stage.aggregates]
    for source, whole in stage.collected:
        kind, into = member(source.type), whole.name.removeprefix("federated_")
        reports.append(Report(into, name_of(source), (kind,), Bytes.of([kind]), False, Flops()))
    for node in selects:
        receives.append(_slices(node))
        keys = node.arguments[0]
        kind = member(keys.type)
        reports.append(Report("select", name_of(keys), (kind,), Bytes.of([kind]), False, Flops()))
    return AtClients(
        number,
        tuple(receives),
        tuple(held for node in stage.inputs for held in _held(node)),
        tuple(_operation(node, work) for node in inner if is_work(node)),
        tuple(reports),
        tuple(Held(name_of(node), member(node.type)) for node in _kept(program, number)),
    )


def _report(fold: Aggregate, work: Work) -> Report:
    kinds = tuple(member(node.type) for node in fold.contributions)
    name = " by ".join(map(name_of, fold.contributions))  # a value by its weight, if there are two
    return Report(fold.name, name, kinds, Bytes.of(kinds), fold.protected, work.folding(fold))


def _slices(node: Intrinsic) -> Broadcast:
    keys, _, source = node.arguments
    wanted, found = member(keys.type), member(node.type)
    assert isinstance(wanted, TensorType)
    (number,) = wanted.shape or (1,)
    assert number is not None
    kind = found.element if isinstance(found, SequenceType) else found
    size = Bytes.of([kind])
    return Broadcast(name_of(source), kind, Bytes(number * size, size.exact), number)


def sliced(sent: Broadcast) -> str:
    """How many slices a client gets of what."""
    return f"{'one slice' if sent.slices == 1 else f'{sent.slices} slices'} of {sent.name}"


def _kept(program: Program, number: int) -> list[Node]:
    """What the clients keep of a stage, for another reason than that it is collected."""
    later = {node for stage in program.clients[number + 1 :] for node in stage.inputs}
    result = set(_inside([program.result], _aggregates([program.result])))
    collected = {source for source, _ in program.clients[number].collected}
    return [n for n in program.clients[number].kept if n not in collected or n in later or n in result]


def _held(node: Node) -> list[Held]:
    if isinstance(node, Parameter):
        return [Held(name, kind) for name, kind in _client_parts(node.type)]
    return [Held(name_of(node), member(node.type))]


def _client_parts(kind: Type, name: str = "") -> list[tuple[str, Type]]:
    """The parts of a parameter's type that clients have, with their names."""
    if isinstance(kind, FederatedType):
        return [(name or "the argument", kind.member)] if kind.placement is CLIENTS else []
    if not isinstance(kind, StructType):
        return []
    named = ((f"{name}.{field}" if name else field or f"#{i}", part) for i, (field, part) in enumerate(kind.fields))
    return [found for field, part in named for found in _client_parts(part, field)]


def _operation(node: Node, work: Work) -> Operation:
    function = node.computation if isinstance(node, Apply) else next(iter(_functions(node)), None)
    name = " then ".join([*work.maps(node), name_of(node)])
    if isinstance(function, StoredStage):
        return Operation(name, unplaced(node.type), work.of(node), tuple(dict.fromkeys(function.output_names)))
    return Operation(name, member(node.type), work.of(node), () if function is None else _parts(function))


def _parts(computation: Computation) -> tuple[str, ...]:
    """The computations that a composition calls, in order."""
    if not isinstance(computation, GraphComputation):
        return ()
    called = [node for node in walk(computation.result) if isinstance(node, Apply) or _functions(node)]
    return tuple(name_of(node) + _repeated(node) for node in called)


def _functions(node: Node) -> tuple[Computation, ...]:
    return node.functions if isinstance(node, Intrinsic) else ()


def _repeated(node: Node) -> str:
    if not isinstance(node, Intrinsic) or not node.name.startswith("sequence_"):
        return ""
    return f" per {element_of(sequence_elements(member(node.inputs[0].type))[0])}"


def _inside(roots: Iterable[Node], given: Iterable[Node]) -> list[Node]:
    """The nodes that roots are computed from if some are given, each after its inputs."""
    known, order = set(given), []
    stack = [(root, False) for root in reversed(list(roots))]
    seen: set[Node] = set()
    while stack:
        node, ready = stack.pop()
        if ready:
            order.append(node)
        elif node not in seen and node not in known:
            seen.add(node)
            stack.append((node, True))
            stack.extend((source, False) for source in reversed(node.inputs))
    return order


def _aggregates(roots: Iterable[Node]) -> list[Node]:
    return [node for root in roots for node in walk(root) if is_aggregate(node)]


def _is_constant(node: Node) -> bool:
    """Whether a value is part of the computation itself, so that nobody need send it."""
    rearranged = ("federated_value", "federated_zip", "federated_broadcast")
    return all(
        isinstance(n, Literal | MakeStruct | Select) or (isinstance(n, Intrinsic) and n.name in rearranged)
        for n in walk(node)
    )


def name_of(node: Node) -> str:
    """What a value is called: the parameter that it is, or the computation or operation that made it."""
    match node:
        case Parameter():
            return "the argument"
        case Select(source=Apply(computation=StoredStage() as stage)):
            return stage.output_names[node.index]
        case Select():
            kind = member(node.source.type)
            name = kind.names[node.index] if isinstance(kind, StructType) else None
            if isinstance(node.source, Parameter):
                return name or f"#{node.index}"
            return f"{name_of(node.source)}.{name}" if name else f"{name_of(node.source)}[{node.index}]"
        case Apply():
            return node.computation.name
        case RuntimeValue():
            return node.name
        case Intrinsic() if node.functions and not is_aggregate(node):
            return node.functions[0].name
        case MakeStruct() | Intrinsic(name="federated_zip"):
            return _joined(node.inputs)
        case Intrinsic(name="federated_value" | "federated_broadcast"):
            return name_of(node.inputs[0])
        case Intrinsic(name="sequence_sum"):
            return "sum"
        case Intrinsic():
            return node.name.removeprefix("federated_")
    return "a constant"


def _joined(nodes: tuple[Node, ...]) -> str:
    sources = {node.source if isinstance(node, Select) else None for node in nodes}
    source = sources.pop()
    if source is not None and not sources and len(nodes) > 1:
        kind = member(source.type)
        assert isinstance(kind, StructType)
        return name_of(source) if len(nodes) == len(kind) else f"{len(nodes)} fields of {name_of(source)}"
    names = list(dict.fromkeys(map(name_of, nodes)))
    return ", ".join(names) if len(names) <= 3 else f"{', '.join(names[:2])} and {len(names) - 2} more"


def tensor_sizes(kind: Type) -> list[int | None]:
    """The size in bytes of each tensor in an unplaced type; None where it is not known."""
    if isinstance(kind, StructType):
        return [size for field in kind for size in tensor_sizes(field)]
    if isinstance(kind, SequenceType):
        return [None]
    assert isinstance(kind, TensorType)
    size: Any = kind.dtype.itemsize
    if None in kind.shape or kind.dtype.kind == "U":
        return [None]
    for dim in kind.shape:
        size *= dim
    return [size]


def is_local(program: Program) -> bool:
    """Whether a program knows no placements: it runs at one place, whichever that is."""
    kinds = (program.signature.parameter, program.signature.result)
    return not program.clients and not any(kind is not None and is_federated(kind) for kind in kinds)
