"""From a graph to a `Program`: which stage computes what.

A value at the server belongs after as many client stages as aggregates lie one behind the other on its way; a value at
the clients belongs in the earliest stage where what it needs has been broadcast. What only rearranges values (structs,
zips, broadcasts) belongs nowhere: each stage does it again where it needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TypeGuard

from hansa.compiler.aggregates import aggregate, is_folded
from hansa.compiler.evaluate import member, sequence_elements
from hansa.compiler.program import ClientStage, Program, ServerStage
from hansa.compiler.stored import StoredStage
from hansa.language.computation import Computation
from hansa.language.computations import GraphComputation, LocalComputation
from hansa.language.functions import FunctionalComputation
from hansa.language.graph import Apply, Intrinsic, Literal, MakeStruct, Node, Parameter, RuntimeValue, Select, walk
from hansa.language.runtime_values import is_noise, noise_numbers
from hansa.language.values import select
from hansa.types import CLIENTS, FederatedType, StructType, Type, tensor_leaves


def compile_computation(computation: Computation) -> Program:
    """The program of a computation."""
    parameter, result = _graph(computation)
    parts = placed_parts(result)
    nodes = list(dict.fromkeys(node for root in (result, *parts) for node in walk(root)))
    depths = _depths(nodes)
    results = [collected_from(part) for part in parts]
    _refuse_results(computation.name, results)
    last = max((d for node, d in depths.items() if not _at_clients(node.type)), default=0)
    returned = [part for node in results if _at_clients(node.type) for part in _sources(node, _computed)]
    last = max([last, *(depths[node] + 1 for node in returned)])

    aggregates = [node for node in nodes if isinstance(node, Intrinsic) and is_aggregate(node)]
    needed: list[set[Node]] = [
        {part for node in aggregates if depths[node] == d + 1 for part in _client_inputs(node)} for d in range(last)
    ]
    kept: list[list[Node]] = [[] for _ in range(last)]

    def before(d: int) -> Callable[[Node], bool]:
        return lambda node: _computed(node) and depths[node] < d

    def keep(node: Node) -> None:
        if _computed(node) and node not in kept[depths[node]]:
            kept[depths[node]].append(node)

    for node in returned:
        keep(node)
    collects = [node for node in nodes if is_gathered(node)]
    for node in collects:
        if node.arguments[0] not in kept[depths[node] - 1]:
            kept[depths[node] - 1].append(node.arguments[0])
    for d in reversed(range(last)):
        for root in [*needed[d], *kept[d]]:
            for part in _sources(root, before(d)):
                keep(part)

    clients = []
    for d in range(last):
        folds = tuple(aggregate(node) for node in aggregates if depths[node] == d + 1 and is_folded(node))
        roots = [*(n for fold in folds for n in fold.contributions), *kept[d]]
        inner = list(dict.fromkeys(n for root in roots for n in within(root, before(d))))
        broadcasts = tuple((n.inputs[0], n) for n in inner if is_broadcast(n))
        inputs = tuple(n for n in inner if isinstance(n, Parameter | RuntimeValue) or before(d)(n))
        collected = tuple((n.arguments[0], n) for n in aggregates if depths[n] == d + 1 and is_gathered(n))
        clients.append(ClientStage(broadcasts, inputs, folds, tuple(kept[d]), collected))

    servers = _server_stages(depths, clients, results, aggregates, last)
    return Program(computation.name, computation.type_signature, parameter, result, servers, tuple(clients))


def _refuse_results(name: str, results: list[Node]) -> None:
    for node in results:
        if is_passed(node):
            continue
        what = f"{name!r} returns a value of type {node.type}" + (f" (made at {node.where})" if node.where else "")
        if sequence_elements(member(node.type)):
            raise TypeError(
                f"{what}: a sequence that was computed stays where it is, and cannot be a result; reduce it with "
                "hansa.sequence_reduce or hansa.sequence_sum"
            )
        if any(leaf.dtype.kind == "U" for leaf in tensor_leaves(node.type)):
            raise TypeError(
                f"{what}: strings can be returned as they were passed or written, but not in a value that is computed; "
                "return them by themselves"
            )


def is_collect(node: Node) -> TypeGuard[Intrinsic]:
    """Whether a node is the sequence of what the clients have."""
    return isinstance(node, Intrinsic) and node.name == "federated_collect"


def is_stack(node: Node) -> TypeGuard[Intrinsic]:
    """Whether a node is what the clients have, in arrays with a row for each."""
    return isinstance(node, Intrinsic) and node.name == "federated_stack"


def is_gathered(node: Node) -> TypeGuard[Intrinsic]:
    """Whether a node is all that the clients have, each value by itself."""
    return is_collect(node) or is_stack(node)


def is_aggregate(node: Node) -> bool:
    """Whether a node brings values from the clients to the server."""
    return is_folded(node) or is_gathered(node)


def collected_from(node: Node) -> Node:
    """The clients' value that a collected sequence is made of; any other node is itself."""
    return node.arguments[0] if is_collect(node) else node


def is_argument(node: Node) -> bool:
    """Whether a node is the parameter, or a part of it."""
    while isinstance(node, Select):
        node = node.source
    return isinstance(node, Parameter)


def path_of(node: Node) -> tuple[int, ...]:
    """The way from the parameter to a part of it, by the positions of fields."""
    return (*path_of(node.source), node.index) if isinstance(node, Select) else ()


def is_passed(node: Node) -> bool:
    """Whether nothing is computed for a node: it is the parameter, a literal, or a part of one, wherever it is sent."""
    return isinstance(_origin(node), Parameter | Literal)


def _origin(node: Node) -> Node:
    """What a node is a part of, or sent from."""
    while isinstance(node, Select) or is_sent(node):
        node = node.inputs[0]
    return node


def is_sent(node: Node) -> TypeGuard[Intrinsic]:
    """Whether a node is the same value as its one input, elsewhere."""
    return isinstance(node, Intrinsic) and node.name in ("federated_broadcast", "federated_value")


def _server_stages(
    depths: dict[Node, int], clients: list[ClientStage], results: list[Node], aggregates: list[Intrinsic], last: int
) -> tuple[ServerStage, ...]:
    wanted: list[list[Node]] = [[] for _ in range(last + 1)]
    for d, stage in enumerate(clients):
        starts = [fold.start for fold in stage.aggregates if fold.start is not None]
        for node in [*(source for source, _ in stage.broadcasts if _is_output(source)), *starts]:
            wanted[depths[node]].append(node)
            assert depths[node] <= d
    for node in results:
        if not _at_clients(node.type) and _is_output(node) and not is_argument(node):
            wanted[depths[node]].append(node)
    stages = []
    known: set[Node] = set(aggregates)
    for d in range(last + 1):
        outputs = tuple(n for n in dict.fromkeys(wanted[d]) if not is_aggregate(n) and not isinstance(n, Parameter))
        available = known - set(outputs)
        inner = dict.fromkeys(n for root in outputs for n in within(root, available.__contains__))
        inputs = tuple(n for n in inner if isinstance(n, Parameter | RuntimeValue) or n in available)
        stages.append(ServerStage(inputs, outputs))
        known |= set(outputs)
    return tuple(stages)


def _is_output(node: Node) -> bool:
    """Whether a server stage gives a value; literals and sequences are at hand wherever they are wanted."""
    return not isinstance(_origin(node), Literal) and not sequence_elements(member(node.type))


def _depths(nodes: list[Node]) -> dict[Node, int]:
    """For each node, in order of dependence: how many client stages come before it."""
    depths: dict[Node, int] = {}
    for node in nodes:
        depth = max((depths[source] for source in node.inputs), default=0)
        depths[node] = depth + 1 if is_aggregate(node) else depth
    return depths


def _at_clients(kind: Type) -> bool:
    return isinstance(kind, FederatedType) and kind.placement is CLIENTS


def is_stacked(node: Node) -> bool:
    """Whether a node has a value for each client."""
    return isinstance(node.type, FederatedType) and node.type.placement is CLIENTS and not node.type.all_equal


def is_broadcast(node: Node) -> bool:
    """Whether a node at the clients is a value that the server has, too."""
    return is_sent(node) and _at_clients(node.type)


def _computed(node: Node) -> bool:
    """Whether a node is work that a client does in one stage and keeps if a later one needs it."""
    if not _at_clients(node.type) or sequence_elements(member(node.type)):
        return False
    if isinstance(node, Select) and isinstance(node.source, Apply):
        return isinstance(node.source.computation, StoredStage)
    return isinstance(node, Intrinsic) and node.name in (
        "federated_map",
        "federated_eval",
        "federated_select",
        "sequence_reduce",
        "sequence_sum",
    )


def _client_inputs(node: Node) -> list[Node]:
    return [source for source in node.inputs if _at_clients(source.type)]


def _sources(root: Node, stop: Callable[[Node], bool]) -> list[Node]:
    """The nodes at the clients nearest to `root` for which `stop` holds; `root` may be one."""
    return [node for node in within(root, stop) if stop(node)]


def taken_in(roots: Iterable[Node], is_known: Callable[[Node], bool]) -> list[Node]:
    """What is taken in to compute some values: of what they are made of, the nearest that is known, what the runtime
    has, and parts of the parameter."""
    found: dict[Node, None] = {}
    seen: set[Node] = set()
    stack = list(roots)[::-1]
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        if is_known(node) or is_argument(node) or isinstance(node, RuntimeValue):
            found[node] = None
        else:
            stack.extend(reversed(node.inputs))
    return list(found)


def computed_sources(root: Node) -> list[Node]:
    """What clients compute, and `root`, a value at the clients, is put together from; `root` itself if it is such."""
    return _sources(root, _computed)


def within(root: Node, stop: Callable[[Node], bool]) -> list[Node]:
    """The nodes of `root`'s placement it is computed from, down to those for which `stop` holds and to broadcasts."""
    seen: dict[Node, None] = {}
    stack = [root]
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen[node] = None
        if not stop(node) and not is_broadcast(node) and not is_aggregate(node):
            stack.extend(node.inputs)
    return list(seen)


def placed_parts(node: Node) -> list[Node]:
    """The values a node is made of, each at one place, and of which nothing is computed by itself."""
    elements = parts_of(node)
    return [node] if elements is None else [part for element in elements for part in placed_parts(element)]


def parts_of(node: Node) -> tuple[Node, ...] | None:
    """The fields of a struct of placed values, or of one at the server of which a part is only passed on."""
    if isinstance(node, MakeStruct):
        return node.elements
    if isinstance(node.type, StructType) and any(_has_placement(field) for field in node.type):
        return tuple(select(node, i) for i in range(len(node.type)))
    if _is_zipped(node) and any(map(is_passed, _zipped(node))):
        return node.inputs
    return None


def _is_zipped(node: Node) -> bool:
    """Whether a node is a struct at the server that is put together of values there."""
    at_server = isinstance(node.type, FederatedType) and not _at_clients(node.type)
    return at_server and isinstance(node, Intrinsic) and node.name == "federated_zip"


def _zipped(node: Node) -> list[Node]:
    """The values that a node at the server is put together of."""
    return [part for source in node.inputs for part in _zipped(source)] if _is_zipped(node) else [node]


def _has_placement(kind: Type) -> bool:
    return isinstance(kind, FederatedType) or (isinstance(kind, StructType) and any(_has_placement(m) for m in kind))


def _graph(computation: Computation) -> tuple[Parameter | None, Node]:
    """The graph of a computation, with the federated computations it calls written out."""
    if isinstance(computation, LocalComputation):
        kind = computation.type_signature.parameter
        parameter = None if kind is None else Parameter(kind)
        return parameter, Apply(computation.type_signature.result, computation, parameter)
    if isinstance(computation, FunctionalComputation):
        raise TypeError(
            f"{computation.name!r} takes functions, so there is no one program of it; say which functions, with "
            f"{computation.name}.specialize(…)"
        )
    assert isinstance(computation, GraphComputation)
    result = inline(computation.result, {})
    keys = [node for node in walk(result) if isinstance(node, RuntimeValue) and is_noise(node)]
    if keys:  # of noise, which a file is to tell apart
        numbers = zip(keys, noise_numbers(keys), strict=True)
        result = inline(result, {node: replace(node, number=number) for node, number in numbers})
    return computation.parameter, result


def inline(result: Node, bound: dict[Node, Node]) -> Node:
    """The node with calls of federated computations replaced by their graphs, and `bound` nodes by others."""
    new = dict(bound)
    for node in walk(result):
        if node in new:
            continue
        inputs = tuple(new[source] for source in node.inputs)
        if is_noise(node):
            new[node] = replace(node)  # another wherever a computation is written out
        elif isinstance(node, Apply) and _is_federated(node.computation):
            inner = node.computation
            assert isinstance(inner, GraphComputation)
            new[node] = inline(inner.result, {inner.parameter: inputs[0]} if inner.parameter is not None else {})
        elif isinstance(node, Select):
            new[node] = node if inputs == node.inputs else _selected(inputs[0], node.index)
        else:
            new[node] = node if inputs == node.inputs else _with_inputs(node, inputs)
    return new[result]


def _selected(struct: Node, index: int) -> Node:
    """A field of a struct, without what the other fields are made of where they were only put together."""
    field = select(struct, index)
    if isinstance(struct, Intrinsic) and struct.name == "federated_zip" and struct.arguments[index].type == field.type:
        return struct.arguments[index]
    return field


def _with_inputs(node: Node, inputs: tuple[Node, ...]) -> Node:
    match node:
        case MakeStruct():
            return MakeStruct(node.type, node.names, inputs, where=node.where)
        case Apply():
            return Apply(node.type, node.computation, inputs[0], where=node.where)
        case Intrinsic():
            return replace(node, arguments=inputs)
    assert isinstance(node, Literal | RuntimeValue)
    return node


def _is_federated(computation: Computation) -> bool:
    kind = computation.type_signature
    return isinstance(computation, GraphComputation) and (
        _has_placement(kind.result) or (kind.parameter is not None and _has_placement(kind.parameter))
    )
