"""What a saved computation says of its results: of which sums with noise, and of which without, each is made.

A file has stages, each of which is one function, so what its results are made of can no longer be followed. It is
written into the file when the computation is saved, and is as true as whoever has written the file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hansa.language.computation import Computation
from hansa.language.computations import GraphComputation
from hansa.language.flows import Flow, Source, flows_of_parts
from hansa.language.graph import Intrinsic, RuntimeValue, walk
from hansa.language.mechanism import DeclaredMechanism
from hansa.language.runtime_values import CLIENT_NOISE, is_noise
from hansa.types import CLIENTS, SERVER, FederatedType, FunctionType, StructType, TensorType, tensor_leaves


@dataclass(frozen=True)
class _Part:
    """What one tensor is made of: by numbers of sources, and of tensors of the argument at the server."""

    own: bool
    bare: tuple[int, ...]
    noised: tuple[int, ...]
    given: tuple[int, ...]


@dataclass(frozen=True)
class DeclaredFlows:
    """What the results of a computation are made of, beside its graph.

    Attributes:
        nodes: for each aggregate, or sum with noise, a node that stands for it.
        parts: for each tensor of the result, in order, what it is made of.
    """

    nodes: tuple[Intrinsic, ...]
    parts: tuple[_Part, ...]

    def through(self, given: Sequence[Flow], at_clients: Sequence[bool]) -> list[Flow]:
        """What the tensors of the result are made of, from what those of the argument are."""
        sources = [Source(node) for node in self.nodes]
        # Which of what comes in at the clients goes where, the file does not say.
        always = Flow()
        for flow, there in zip(given, at_clients, strict=True):
            if there:
                always = always | Flow(False, flow.bare, flow.noised)
        found = []
        for part in self.parts:
            flow = Flow(part.own, _of(sources, part.bare), _of(sources, part.noised)) | always
            for i in part.given:
                flow = flow | given[i]
            found.append(flow)
        return found

    def check(self, computation: GraphComputation) -> None:
        """Checks that a computation has so many sums with noise as it says.

        Raises:
            ValueError: if not.
        """
        asked = Counter(_asked(node) for node in walk(computation.result) if is_noise(node))
        said = Counter(
            (each.mechanism.place != "server", each.mechanism.terms)
            for each in self.nodes
            if isinstance(each.mechanism, DeclaredMechanism)
        )
        if asked != said:
            raise ValueError(f"noise is asked for {sum(asked.values())} times, and {sum(said.values())} sums have some")

    def encode(self) -> dict[str, Any]:
        """What `decode` reads."""
        sources = [
            {
                "operation": node.name,
                "where": node.where.rsplit("/", 1)[-1],
                "at_clients": isinstance(node.type, FederatedType) and node.type.placement is CLIENTS,
                "mechanism": None if node.mechanism is None else DeclaredMechanism.of(node.mechanism).encode(),
            }
            for node in self.nodes
        ]
        parts = [[part.own, list(part.bare), list(part.noised), list(part.given)] for part in self.parts]
        return {"sources": sources, "results": parts}

    @staticmethod
    def decode(found: Mapping[str, Any], signature: FunctionType) -> DeclaredFlows:
        """The flows that `encode` has written.

        Raises:
            Exception: of some kind, if there are none.
        """
        nodes = []
        for each in found["sources"]:
            kind = FederatedType(StructType([]), CLIENTS if each["at_clients"] else SERVER)
            mechanism = None if each["mechanism"] is None else DeclaredMechanism.decode(each["mechanism"])
            nodes.append(Intrinsic(kind, str(each["operation"]), (), mechanism=mechanism, where=str(each["where"])))
        taken = 0 if signature.parameter is None else len(tensor_leaves(signature.parameter))
        parts = []
        for own, bare, noised, given in found["results"]:
            part = _Part(bool(own), *(tuple(map(int, numbers)) for numbers in (bare, noised, given)))
            for numbers, most in ((part.bare, len(nodes)), (part.noised, len(nodes)), (part.given, taken)):
                if not all(0 <= number < most for number in numbers):
                    raise ValueError(f"a result that is made of {numbers}, of {most}")
            parts.append(part)
        if len(parts) != len(tensor_leaves(signature.result)):
            raise ValueError(f"{len(parts)} results in place of {len(tensor_leaves(signature.result))}")
        if not all(nodes[i].mechanism is not None for part in parts for i in part.noised):
            raise ValueError("a sum with noise that has none")
        return DeclaredFlows(tuple(nodes), tuple(parts))


def declared_flows(computation: Computation) -> DeclaredFlows | None:
    """What a file is to say of a computation; None if no sum of it has noise, as then all can be seen."""
    flows, marks = flows_of_parts(computation)
    if not any(flow.noised for flow in flows):
        return None
    known: dict[Source, int] = {}
    for flow in flows:
        for source in sorted((flow.bare | flow.noised) - marks.keys(), key=lambda source: source.node.where):
            known.setdefault(source, len(known))

    def part(flow: Flow) -> _Part:
        bare = sorted(known[source] for source in flow.bare if source not in marks)
        given = sorted(marks[source] for source in flow.bare if source in marks)
        return _Part(flow.own, tuple(bare), tuple(sorted(known[source] for source in flow.noised)), tuple(given))

    return DeclaredFlows(tuple(source.node for source in known), tuple(map(part, flows)))


def _of(sources: Sequence[Source], numbers: Sequence[int]) -> frozenset[Source]:
    return frozenset(sources[i] for i in numbers)


def _asked(node: Any) -> tuple[bool, int]:
    """Whether a key of noise is at the clients, and of how many rounds."""
    assert isinstance(node, RuntimeValue) and isinstance(node.type, FederatedType)
    member = node.type.member
    terms = member.shape[0] if isinstance(member, TensorType) and len(member.shape) == 2 else 1
    return node.name == CLIENT_NOISE, terms or 1
