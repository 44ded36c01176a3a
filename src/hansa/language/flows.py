"""What each result of a federated computation is made of: of sums with noise only, or of the clients' values otherwise.

What depends on the clients by way of noised sums alone is as private as these (differential privacy is closed under
post-processing: Dwork and Roth 2014, proposition 2.1). Dependence is followed tensor by tensor, into local
computations. What comes in at the server counts as private: a state is what a round before has made, so a run is
private if each of its rounds is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from hansa.language.computation import Computation
from hansa.language.computations import GraphComputation
from hansa.language.dependence import calls_python, dependence
from hansa.language.graph import Apply, Intrinsic, MakeStruct, Node, Parameter, RuntimeValue, Select, walk
from hansa.language.mechanism import Mechanism
from hansa.language.runtime_values import is_noise
from hansa.types import (
    CLIENTS,
    SERVER,
    FederatedType,
    SequenceType,
    StructType,
    TensorType,
    Type,
    is_federated,
    tensor_leaves,
)
from hansa.types import names as _names

AGGREGATES = frozenset(
    {
        "federated_sum",
        "federated_mean",
        "federated_min",
        "federated_max",
        "federated_aggregate",
        "federated_secure_sum",
        "federated_secure_sum_bitwidth",
        "federated_secure_modular_sum",
        "federated_collect",
        "federated_stack",
    }
)
"""The operations that bring the clients' values to the server."""

Kind = Literal["private", "released", "kept", "public"]
"""What is true of a result: it is made of noised sums; of the clients' values without noise; it stays with the clients;
it is made of nothing of the clients."""


@dataclass(frozen=True, eq=False)
class Source:
    """An aggregate in a computation: one for each time that it is computed.

    Attributes:
        node: its node.
    """

    node: Intrinsic

    @property
    def mechanism(self) -> Mechanism | None:
        """The noise that it has."""
        return self.node.mechanism

    @property
    def is_mark(self) -> bool:
        """Whether it stands for what a tensor of the argument is made of (`flows_of_parts`)."""
        return self.node.name == _MARK

    def __str__(self) -> str:
        at = f" at {self.node.where.rsplit('/', 1)[-1]}" if self.node.where else ""
        return f"{self.node.name}{at}"


@dataclass(frozen=True)
class Flow:
    """What a tensor is made of.

    Attributes:
        own: whether of what a client has.
        bare: aggregates without noise.
        noised: sums with noise.
    """

    own: bool = False
    bare: frozenset[Source] = frozenset()
    noised: frozenset[Source] = frozenset()

    def __or__(self, other: Flow) -> Flow:
        return Flow(self.own or other.own, self.bare | other.bare, self.noised | other.noised)


_NOTHING, _OWN = Flow(), Flow(own=True)
_PYTHON = "a function of Python (jax.debug.print, a callback), which may tell and read anything"
_MARK = "a tensor of the argument"


@dataclass(frozen=True)
class Release:
    """A sum with noise that results are made of.

    Attributes:
        mechanism: its noise.
        paths: the results that are made of it, such as `state.model`.
        where: the user's line, or an empty string.

    Examples:
        >>> @hansa.federated_computation("{float32}@CLIENTS")
        ... def total(values):
        ...     return hansa.federated_private_sum(values, 1.0, hansa.privacy.Gaussian(2.0))
        >>> (release,) = hansa.privacy.releases(total)
        >>> release.paths, release.mechanism.noise_multiplier
        (('the result',), 2.0)
    """

    mechanism: Mechanism
    paths: tuple[str, ...]
    where: str


@dataclass(frozen=True)
class Flows:
    """What the results of a computation are made of.

    Attributes:
        results: the tensors of the result in order: the path to each, whether it is at the clients, and its flow.
        unprotected: aggregates of which the server sees each client's contribution.
    """

    results: tuple[tuple[str, bool, Flow], ...]
    unprotected: tuple[Source, ...]
    protected: tuple[Source, ...]

    def paths(self, kind: Kind) -> list[str]:
        """The results of a kind; a struct by itself where all of its parts are of one kind."""
        return _together({path: kind_of(at_clients, flow) for path, at_clients, flow in self.results}, kind)

    @cached_property
    def bare(self) -> dict[Source, tuple[str, ...]]:
        """The aggregates without noise that results at the server are made of, and these results."""
        found: dict[Source, list[str]] = {}
        for path, at_clients, flow in self.results:
            for source in flow.bare if not at_clients else ():
                found.setdefault(source, []).append(_named(path))
        return {source: tuple(paths) for source, paths in found.items()}

    @cached_property
    def releases(self) -> list[Release]:
        """The sums with noise that leave the computation, each once."""
        found: dict[Source, list[str]] = {}
        for path, _, flow in self.results:
            for source in sorted(flow.noised, key=lambda source: source.node.where):
                found.setdefault(source, []).append(_named(path))
        return [
            Release(source.mechanism, tuple(paths), source.node.where)
            for source, paths in found.items()
            if source.mechanism is not None
        ]


def flows_of(computation: Computation) -> Flows:
    """What the results of a computation are made of."""
    kind = computation.type_signature
    given = (
        [] if kind.parameter is None else [_OWN if at_clients else _NOTHING for at_clients in _places(kind.parameter)]
    )
    visit = _Visit()
    found = visit.through(computation, given)
    return Flows(
        tuple(
            (path, at_clients, flow)
            for (path, at_clients), flow in zip(
                zip(_paths(kind.result), _places(kind.result), strict=True), found, strict=True
            )
        ),
        tuple(source for source in visit.seen if not source.node.terms.protected),
        tuple(source for source in visit.seen if source.node.terms.protected),
    )


def flows_of_parts(computation: Computation) -> tuple[list[Flow], dict[Source, int]]:
    """What the tensors of a computation's result are made of, in order, also of the argument's tensors at the server.

    Returns:
        The flows, and the sources among them that stand for tensors of the argument, with the number of each.
    """
    kind = computation.type_signature.parameter
    marks: dict[Source, int] = {}
    given = []
    for i, at_clients in enumerate([] if kind is None else _places(kind)):
        if at_clients:
            given.append(_OWN)
        else:
            mark = Source(Intrinsic(FederatedType(StructType([]), SERVER), _MARK, ()))
            marks[mark] = i
            given.append(Flow(bare=frozenset({mark})))
    return _Visit().through(computation, given), marks


def kind_of(at_clients: bool, flow: Flow) -> Kind:
    """What is true of a result."""
    if at_clients:
        return "kept" if flow.own else "private" if flow.noised else "released" if flow.bare else "public"
    if flow.own or flow.bare:
        return "released"
    return "private" if flow.noised else "public"


_CALLBACK = Flow(bare=frozenset({Source(Intrinsic(FederatedType(StructType([]), SERVER), _PYTHON, ()))}))


class _Visit:
    """A walk through a computation.

    Attributes:
        seen: the aggregates, in order.
    """

    def __init__(self) -> None:
        self.seen: list[Source] = []

    def through(self, computation: Computation, given: list[Flow]) -> list[Flow]:
        """What the tensors of the result are made of, from what those of the argument are."""
        if isinstance(computation, GraphComputation) and computation.declared is not None:
            nodes = (node for node in walk(computation.result) if isinstance(node, Intrinsic))
            self.seen.extend(Source(node) for node in nodes if node.name in AGGREGATES)
            kind = computation.type_signature.parameter
            declared: list[Flow] = computation.declared.through(given, [] if kind is None else _places(kind))
            return declared
        placed = isinstance(computation, GraphComputation) and _is_federated(computation)
        if not isinstance(computation, GraphComputation) or not placed:
            # A size that is not declared is a fact about what it is the size of, and a function may tell it.
            sized = frozenset(i for i, is_open in enumerate(_open(computation.type_signature.parameter)) if is_open)
            found = [_union(given[i] for i in numbers | sized) for numbers in dependence(computation)]
            # What it calls may be told of what it is given anywhere, and read anything.
            return [flow | _CALLBACK for flow in found] if calls_python(computation) else found
        known: dict[Node, list[Flow]] = {}
        for node in walk(computation.result):
            inputs = [known[source] for source in node.inputs]
            known[node] = given if isinstance(node, Parameter) else self.node(node, inputs)
        return known[computation.result]

    def node(self, node: Node, inputs: list[list[Flow]]) -> list[Flow]:
        """What a node's tensors are made of, from what its inputs' are."""
        flat = [flow for each in inputs for flow in each]
        size = len(tensor_leaves(node.type))
        match node:
            case RuntimeValue():
                return [_NOTHING if is_noise(node) else _OWN] * size
            case MakeStruct():
                return flat
            case Select():
                first = sum(len(tensor_leaves(part)) for part in _fields(node.source.type)[: node.index])
                return inputs[0][first : first + size]
            case Apply():
                return self.through(node.computation, flat)
            case Intrinsic() if node.mechanism is not None or node.name in AGGREGATES:
                return [self.aggregate(node, _union(flat))] * size
            case Intrinsic(name="federated_map" | "federated_eval"):
                return self.through(node.functions[0], flat)
            case Intrinsic(name="federated_zip" | "federated_value" | "federated_broadcast"):
                return flat
            case Intrinsic(name="federated_select"):
                return [_union(flat) | _OWN | self.selected(node, inputs)] * size
        return [_union(flat)] * size

    def selected(self, node: Intrinsic, inputs: list[list[Flow]]) -> Flow:
        """What is told by what clients select: the server sees their keys, where these are made of what they have."""
        if not any(flow.own for flow in inputs[0]):
            return _NOTHING
        source = Source(node)
        self.seen.append(source)
        return Flow(bare=frozenset({source}))

    def aggregate(self, node: Intrinsic, given: Flow) -> Flow:
        """What an aggregate is made of, or a sum to which noise is added."""
        source = Source(node)
        if node.name in AGGREGATES:
            self.seen.append(source)
        if node.mechanism is not None:
            # What its contributions are made of beside the clients' own values, such as a bound, is not noised with it.
            summed = set(_summed(node))
            # Noise that the server adds is against those who read results: they do not see keys.
            seen = () if node.mechanism.place == "server" else ("federated_select",)
            told = (each for each in given.bare if each.node.name != "federated_select" or each.node.name in seen)
            rest = frozenset(each for each in told if each.node not in summed)
            return Flow(False, rest, given.noised | {source})
        bare = any(not each.is_mark for each in given.bare)
        if given.noised and not given.own and not bare and _is_noised_by_clients(given):
            return Flow(False, given.bare, given.noised)
        return Flow(False, given.bare | {source}, given.noised)


def _is_noised_by_clients(flow: Flow) -> bool:
    """Whether it is of reports with noise of their own."""
    kinds = [source.node.type for source in flow.noised]
    return any(isinstance(kind, FederatedType) and kind.placement is CLIENTS for kind in kinds)


def _summed(node: Intrinsic) -> Iterator[Node]:
    """The sums to which a node adds noise: those that it is directly made of."""
    stack: list[Node] = list(node.arguments)
    while stack:
        each = stack.pop()
        if isinstance(each, Intrinsic) and each.name in AGGREGATES:
            yield each
        elif isinstance(each, MakeStruct) or (isinstance(each, Intrinsic) and each.name == "federated_zip"):
            stack.extend(each.inputs)


def _is_federated(computation: Computation) -> bool:
    kind = computation.type_signature
    return is_federated(kind.result) or (kind.parameter is not None and is_federated(kind.parameter))


def _open(kind: Type | None) -> list[bool]:
    """For each tensor of an argument, whether only the value tells how large it is, or how many there are."""
    if isinstance(kind, StructType):
        return [found for part in kind for found in _open(part)]
    if isinstance(kind, TensorType):
        return [None in kind.shape]
    return [] if kind is None else [True] * len(tensor_leaves(kind))


def _union(flows: Iterable[Flow]) -> Flow:
    found = _NOTHING
    for flow in flows:
        found = found | flow
    return found


def _fields(kind: Type) -> list[Type]:
    return list(kind.member if isinstance(kind, FederatedType) else kind)  # type: ignore[call-overload, no-any-return]


def _places(kind: Type, at_clients: bool = False) -> list[bool]:
    """For each tensor of a type, whether it is at the clients."""
    if isinstance(kind, FederatedType):
        return _places(kind.member, kind.placement is CLIENTS)
    if isinstance(kind, StructType):
        return [place for part in kind for place in _places(part, at_clients)]
    return [at_clients] * len(tensor_leaves(kind))


def _paths(kind: Type, path: str = "") -> list[str]:
    """For each tensor of a type, the path to it."""
    if isinstance(kind, FederatedType):
        return _paths(kind.member, path)
    if isinstance(kind, StructType):
        return [
            found for i, (name, part) in enumerate(kind.fields) for found in _paths(part, path + _names.step(name, i))
        ]
    if isinstance(kind, SequenceType):
        return [path] * len(tensor_leaves(kind))
    return [path]


def _together(kinds: dict[str, Kind], wanted: Kind) -> list[str]:
    """The paths of a kind, cut where all that begins with them is of it."""
    others = [path for path, kind in kinds.items() if kind != wanted]
    found: dict[str, None] = {}
    for path, kind in kinds.items():
        if kind != wanted:
            continue
        found[next(start for start in _starts(path) if not any(begins(other, start) for other in others))] = None
    return list(map(_named, found))


def _named(path: str) -> str:
    return path.removeprefix(".") or "the result"


def _starts(path: str) -> Iterator[str]:
    """The ways to what a path leads through, the shortest first."""
    yield ""
    for i in range(1, len(path)):
        if path[i] in ".[":
            yield path[:i]
    yield path


def begins(path: str, start: str) -> bool:
    """Whether a path is one, or leads through it."""
    return path == start or (path.startswith(start) and (not start or path[len(start)] in ".["))
