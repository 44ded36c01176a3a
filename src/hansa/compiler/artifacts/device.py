"""`DeviceStage`: one client stage by itself, which is all of a computation that a client's device needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hansa._tracebacks import boundaries
from hansa.compiler.artifacts.file import Reader, Writer
from hansa.compiler.artifacts.forms import Form
from hansa.compiler.artifacts.functions import Functions
from hansa.compiler.artifacts.load import stored
from hansa.compiler.artifacts.ports import Port, decode_port, distinct, encode_port
from hansa.compiler.stored import StoredStage, narrow_paths
from hansa.compiler.terms import NO_TERMS, Terms
from hansa.language.computations import GraphComputation
from hansa.language.graph import Apply, MakeStruct, Node, Parameter
from hansa.language.values import select
from hansa.types import FunctionType, Struct, StructType

KIND = "client stage"
"""What a manifest calls a file of one."""


@dataclass(frozen=True)
class Contribution:
    """What a client gives to one aggregate.

    Attributes:
        operation: such as `federated_mean`.
        values: what it takes of each client.
        protected: whether no one but the client may see it; only the aggregate is to be known.
        terms: what else holds for it: `disclosure`, `bound`, `max_weight` and `min_cohort`, None where nothing is
            said.
    """

    operation: str
    values: tuple[Port, ...]
    protected: bool
    terms: Terms = NO_TERMS


@boundaries
class DeviceStage:
    """One client stage of a computation: what a client computes of what it is sent and of what it has.

    It holds no other stage, no aggregate and no initial state. `hansa.load_client_stage` gives one.

    Attributes:
        name: the computation's name and the stage's number.
        broadcasts: what the server sends.
        inputs: what the client has: parts of the argument, its id, what it kept in earlier stages.
        contributions: what it gives, by aggregate.
        kept: what stays with it for later stages.

    Examples:
        >>> @hansa.federated_computation("{float32}@CLIENTS", "float32@SERVER")
        ... def distance(readings, target):
        ...     away = hansa.jax_computation(lambda reading, target: jnp.abs(reading - target))
        ...     return hansa.federated_mean(hansa.federated_map(away, [readings, hansa.federated_broadcast(target)]))
        >>> hansa.save(distance, "distance.hansa", platforms=["cpu"])
        >>> stage = hansa.load_client_stage("distance.hansa")
        >>> stage.name, stage.contributions[0].operation
        ('distance, client stage 0', 'federated_mean')
        >>> stage.work(broadcasts=[20.0], values=[18.5])
        <contributions=<<1.5>>,kept=<>>
    """

    def __init__(self, found: dict[str, Any], reader: Reader) -> None:
        self._found, self._reader = found, reader
        self._functions = Functions(reader, [found["function"]["entry"]])
        self.name: str = found["name"]
        self.broadcasts = _decoded(found["broadcasts"])
        self.inputs = _decoded(found["inputs"])
        parts = found["contributions"]
        outputs = _decoded([*(port for part in parts for port in part["values"]), *found["kept"]])
        given = iter(outputs)
        self.contributions = tuple(
            Contribution(
                str(part["operation"]),
                tuple(next(given) for _ in part["values"]),
                bool(part["protected"]),
                Terms.decode(part),
            )
            for part in parts
        )
        self.kept = tuple(given)
        self._computation = self._graph()
        self._functions.looked_at()

    def _graph(self) -> GraphComputation:
        given = [port for part in self.contributions for port in part.values]
        kinds = [port.type for port in [*given, *self.kept]]
        parameter = Parameter(
            StructType([("broadcasts", _struct(self.broadcasts)), ("values", _struct(self.inputs))]),
        )
        sources = [select(select(parameter, int(side)), int(index)) for side, index in self._found["arguments"]]
        argument = MakeStruct(
            StructType([(None, node.type) for node in sources]), (None,) * len(sources), tuple(sources)
        )
        signature = FunctionType(argument.type, StructType([(None, kind) for kind in kinds]))
        form = Form([node.type for node in sources], kinds)
        function = stored(self._found["function"], self._reader, self._functions, form)
        names = tuple(port.name for port in [*given, *self.kept])
        stage = StoredStage(self.name, signature, function, names, narrow_paths(self._found))
        whole = Apply(signature.result, stage, argument)
        outputs = iter([select(whole, i) for i in range(len(kinds))])
        contributions = [_made([next(outputs) for _ in part.values]) for part in self.contributions]
        result = _made([_made(contributions), _made(list(outputs))], ("contributions", "kept"))
        return GraphComputation(self.name, parameter, result)

    def work(self, broadcasts: Sequence[Any], values: Sequence[Any]) -> Struct:
        """What one client gives, in the current runtime.

        Args:
            broadcasts: a value for each of `broadcasts`.
            values: a value for each of `inputs`; a sequence is a list of batches, `hansa.Batches` or the like.

        Returns:
            A struct of `contributions`, in which there is a struct of values for each aggregate, and `kept`.

        Raises:
            TypeError, ValueError: if a value is not of the type.
        """
        result: Struct = self._computation(Struct([("broadcasts", list(broadcasts)), ("values", list(values))]))
        return result

    def _encode(self, writer: Writer) -> dict[str, Any]:
        function = self._found["function"]
        entry = writer.function(self._reader.function(function["entry"]))
        constants = [writer.array(self._reader.array(array).read()) for array in function["constants"]]
        return {"kind": KIND, "stage": {**self._found, "function": {"entry": entry, "constants": constants}}}

    def __repr__(self) -> str:
        return f"<DeviceStage {self.name}: {self._computation.type_signature}>"


def client_stage(program: dict[str, Any], number: int, reader: Reader) -> DeviceStage:
    """The client stage of this number of a program in a manifest."""
    found = program["clients"][number]
    places: list[tuple[int, int]] = []
    own: list[dict[str, Any]] = []
    for port in found["inputs"]:
        if port["from"][0] == "broadcast":
            places.append((0, port["from"][2]))
        else:
            places.append((1, len(own)))
            own.append(port)
    contributions = [
        {
            "operation": fold["operation"],
            "protected": fold["protected"],
            **Terms.decode(fold).encode(),
            "values": list(map(_unplaced, fold["contributions"])),
        }
        for fold in found["aggregates"]
    ]
    return DeviceStage(
        {
            "name": f"{program['name']}, client stage {number}",
            "broadcasts": list(map(_unplaced, found["broadcasts"])),
            "inputs": list(map(_unplaced, own)),
            "arguments": places,
            "contributions": contributions,
            "kept": list(map(_unplaced, found["kept"])),
            "narrow": sorted(narrow_paths(found)),
            "function": found["function"],
        },
        reader,
    )


def _unplaced(found: dict[str, Any]) -> dict[str, Any]:
    port = decode_port(found)
    return encode_port(port.name, port.type)


def _decoded(found: Sequence[dict[str, Any]]) -> tuple[Port, ...]:
    """Ports, whose names are all different, which files of version 1 do not promise."""
    ports = list(map(decode_port, found))
    return tuple(Port(name, port.type) for name, port in zip(distinct(port.name for port in ports), ports, strict=True))


def _struct(ports: Sequence[Port]) -> StructType:
    return StructType([(None, port.type) for port in ports])


def _made(nodes: list[Node], names: tuple[str | None, ...] | None = None) -> Node:
    names = names or (None,) * len(nodes)
    kind = StructType(zip(names, (node.type for node in nodes), strict=True))
    return MakeStruct(kind, names, tuple(nodes))
