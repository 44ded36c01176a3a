"""What the stages of a program receive, compute, keep and send, read off the program."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from hansa.compiler.aggregates import Aggregate
from hansa.compiler.evaluate import member, sequence_elements
from hansa.compiler.explain.facts import AtClients, AtServer, Broadcast, Bytes, Held, Operation, Report
from hansa.compiler.explain.work import Work, element_of, is_work
from hansa.compiler.handed_on import handed_on, tensors_handed_on
from hansa.compiler.partition import is_aggregate, is_argument
from hansa.compiler.program import Program, ServerStage
from hansa.compiler.stored import StoredStage, unplaced
from hansa.language.computation import Computation
from hansa.language.computations import GraphComputation
from hansa.language.graph import Apply, Intrinsic, Literal, MakeStruct, Node, Parameter, RuntimeValue, Select, walk
from hansa.types import CLIENTS, FederatedType, SequenceType, StructType, TensorType, Type, is_federated


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
    fixed = handed_on(program)
    receives = [
        Broadcast(name_of(s), kind, Bytes.of([kind]), once=Bytes.of(tensors_handed_on(s, fixed)))
        for s, kind in ((source, member(source.type)) for source, _ in sent)
    ]
    reports = [_report(fold, work) for fold in stage.aggregates]
    for source, whole in stage.collected:
        kind, into = member(source.type), whole.name.removeprefix("federated_")
        reports.append(Report(into, name_of(source), (kind,), Bytes.of([kind]), terms=whole.terms))
    for node in selects:
        receives.append(_slices(node))
        keys = node.arguments[0]
        kind = member(keys.type)
        reports.append(Report("select", name_of(keys), (kind,), Bytes.of([kind])))
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
    noised = fold.node.name == "federated_secure_modular_sum" and len(fold.node.arguments) > 1
    return Report("private_sum" if noised else fold.name, name, kinds, Bytes.of(kinds), work.folding(fold), fold.terms)


def _slices(node: Intrinsic) -> Broadcast:
    keys, _, source = node.arguments
    wanted, found = member(keys.type), member(node.type)
    assert isinstance(wanted, TensorType)
    (number,) = wanted.shape or (1,)
    assert number is not None
    kind = found.element if isinstance(found, SequenceType) else found
    size = Bytes.of([kind])
    return Broadcast(name_of(source), kind, Bytes(number * size, size.exact), number)


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


def is_local(program: Program) -> bool:
    """Whether a program knows no placements: it runs at one place, whichever that is."""
    kinds = (program.signature.parameter, program.signature.result)
    return not program.clients and not any(kind is not None and is_federated(kind) for kind in kinds)
