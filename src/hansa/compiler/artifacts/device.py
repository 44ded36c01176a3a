"""`DeviceStage`: one client stage by itself, which is all of a computation that a client's device needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from hansa._tracebacks import boundaries
from hansa.compiler.artifacts.file import Reader, Writer
from hansa.compiler.artifacts.forms import Form
from hansa.compiler.artifacts.functions import Functions
from hansa.compiler.artifacts.load import stored
from hansa.compiler.artifacts.ports import Port, decode_port, distinct, encode_port, listing, picked
from hansa.compiler.stored import StoredStage, narrow_paths
from hansa.language.computations import GraphComputation
from hansa.language.context import default_runtime, runtime
from hansa.language.graph import Apply, MakeStruct, Node, Parameter
from hansa.language.mechanism import DeclaredMechanism
from hansa.language.runtime_values import CLIENT_NOISE
from hansa.language.terms import NO_TERMS, Terms
from hansa.language.values import select
from hansa.types import FunctionType, SequenceType, Struct, StructType, TensorType, Type

KIND = "client stage"
"""What a manifest calls a file of one."""


@dataclass(frozen=True)
class Contribution:
    """What a client gives to one aggregate.

    Attributes:
        operation: such as `federated_mean`.
        values: what it takes of each client.
        terms: what else holds for it: `disclosure`, `bound`, `max_weight` and `min_cohort`, None where nothing is
            said.
    """

    operation: str
    values: tuple[Port, ...]
    terms: Terms = NO_TERMS

    @property
    def protected(self) -> bool:
        """Whether no one but the client may see it; only the aggregate is to be known."""
        return self.terms.protected


@boundaries
class DeviceStage:
    """One client stage of a computation: what a client computes from what it is sent and what it has.

    It holds no other stage, no aggregate and no initial state. `hansa.load_client_stage` gives one.

    Attributes:
        name: the computation's name and the stage's number.
        broadcasts: what the server sends.
        inputs: what the client has: parts of the argument, its id, what it kept in earlier stages.
        contributions: what it gives, by aggregate.
        kept: what stays with it for later stages.
        noise: the noise that the client adds of its own, as its file says it.
        noised: whether all results of the computation are made of what has noise.
        computation: from a struct of `broadcasts` and `values` to one of `contributions` and `kept`, for whoever runs
            it in another way than `work`.

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
                Terms.decode(part),
            )
            for part in parts
        )
        self.kept = tuple(given)
        noise = found.get("noise", {"mechanisms": [], "all": False})
        self.noise = tuple(map(DeclaredMechanism.decode, noise["mechanisms"]))
        self.noised = bool(noise["all"])
        self.computation = self._graph()
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

    def work(self, broadcasts: Sequence[Any] | Mapping[str, Any], values: Sequence[Any] | Mapping[str, Any]) -> Struct:
        """What one client gives, on this machine, whatever runtime is set for other computations.

        Args:
            broadcasts: a value for each of `broadcasts`: a dict by their names, or a list in their order.
            values: a value for each of `inputs`, likewise; a sequence is a list of batches, `hansa.Batches` or the
                like.

        Returns:
            A struct of `contributions`, in which there is a struct of values for each aggregate, and `kept`. `named`
            gives them by name.

        Raises:
            TypeError, ValueError: if a value is missing, or is not of the type.
        """
        with runtime(default_runtime()):
            result: Struct = self.computation(self._argument(broadcasts, values))
        return result

    def _argument(self, broadcasts: Any, values: Any) -> Struct:
        sent = picked(self.broadcasts, broadcasts, f"the broadcasts of {self.name!r}")
        own = picked(self.inputs, values, f"the values of {self.name!r}")
        ports = [*self.broadcasts, *self.inputs]
        parts = [_in_host_memory(port, value) for port, value in zip(ports, [*sent, *own], strict=True)]
        return Struct([("broadcasts", parts[: len(sent)]), ("values", parts[len(sent) :])])

    def named(self, done: Struct) -> dict[str, Any]:
        """What `work` gives, by the names of the ports of `contributions` and of `kept`.

        Examples:
            >>> @hansa.federated_computation("{float32}@CLIENTS", "{int32}@CLIENTS")
            ... def weighted(readings, weights):
            ...     return hansa.federated_mean(readings, weights)
            >>> hansa.save(weighted, "weighted.hansa", platforms=["cpu"])
            >>> stage = hansa.load_client_stage("weighted.hansa")
            >>> stage.named(stage.work([], {"weights": 2, "readings": 1.5}))
            {'readings': np.float32(1.5), 'weights': np.int32(2)}
        """
        ports = [*(port for part in self.contributions for port in part.values), *self.kept]
        values = [*(value for part in done.contributions for value in part), *done.kept]
        return {port.name: value for port, value in zip(ports, values, strict=True)}

    def prepare(self, data: Any = None, broadcasts: Mapping[str, Any] | None = None) -> None:
        """Compiles for data of these shapes, so that `work` does not: it then takes no longer than it has to.

        No batch is worked on. Without it, the first call of `work` compiles. What is compiled is for all data that is
        not much smaller, and not larger.

        Args:
            data: a client's data, as for `work`: that of the one input that is a sequence, or a dict of inputs by their
                names. In place of arrays there may be `jax.ShapeDtypeStruct`s. What is not there are zeros.
            broadcasts: what the server sends, by name, where its type leaves sizes open.

        Raises:
            TypeError, ValueError: if a value is not of the type, or has to be there.

        Examples:
            >>> total = hansa.jax_computation(lambda total, batch: total + batch.sum(), "float32", "float32[?]")
            >>> @hansa.federated_computation("{float32[?]*}@CLIENTS")
            ... def sums(data):
            ...     return hansa.federated_sum(hansa.sequence_reduce(data, 0.0, total))
            >>> hansa.save(sums, "sums.hansa", platforms=["cpu"])
            >>> stage = hansa.load_client_stage("sums.hansa")
            >>> stage.prepare([np.zeros(8, "float32")] * 3)
            >>> stage.work([], [[np.ones(8, "float32"), np.ones(5, "float32")]]).contributions
            <<13.0>>
        """
        given = self._own(data)
        own = [_stand_in(port, given) for port in self.inputs]
        sent = [_stand_in(port, broadcasts or {}) for port in self.broadcasts]
        prepare = getattr(default_runtime(), "prepare", None)
        if prepare is not None:
            prepare(self.computation, self._argument(sent, own))

    def _own(self, data: Any) -> Mapping[str, Any]:
        """What is given to prepare for, by the names of inputs."""
        names = listing(self.inputs)
        if isinstance(data, Mapping):
            unknown = [name for name in data if name not in {port.name for port in self.inputs}]
            if unknown:
                raise TypeError(f"{self.name!r} has no input {unknown[0]!r}: its inputs are {names}")
            return data
        sequences = [port.name for port in self.inputs if isinstance(port.type, SequenceType)]
        if data is not None and len(sequences) != 1:
            raise TypeError(
                f"{self.name!r} has {len(sequences)} inputs that are sequences, so say of which the data is, in a dict "
                f"by name; its inputs are {names}"
            )
        return {} if data is None else {sequences[0]: data}

    def _encode(self, writer: Writer) -> dict[str, Any]:
        function = self._found["function"]
        entry = writer.function(self._reader.function(function["entry"]))
        constants = [writer.array(self._reader.array(array).read()) for array in function["constants"]]
        return {"kind": KIND, "stage": {**self._found, "function": {"entry": entry, "constants": constants}}}

    def __repr__(self) -> str:
        return f"<DeviceStage {self.name}: {self.computation.type_signature}>"


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
            **_noise(program, found),
        },
        reader,
    )


def _noise(program: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """What a file says of the noise that clients add in a stage: that of the computation, as it has one such stage."""
    if not any(port["from"][:2] == ["runtime", CLIENT_NOISE] for port in found["inputs"]) or "privacy" not in program:
        return {}
    said = [each["mechanism"] for each in program["privacy"]["sources"] if each["mechanism"] is not None]
    mechanisms = [each for each in said if DeclaredMechanism.decode(each).place != "server"]
    return {"noise": {"mechanisms": mechanisms, "all": not any(bare for _, bare, *_ in program["privacy"]["results"])}}


def _unplaced(found: dict[str, Any]) -> dict[str, Any]:
    port = decode_port(found)
    return encode_port(port.name, port.type)


def _decoded(found: Sequence[dict[str, Any]]) -> tuple[Port, ...]:
    """Ports, whose names are all different, which files of version 1 do not promise."""
    ports = list(map(decode_port, found))
    return tuple(Port(name, port.type) for name, port in zip(distinct(port.name for port in ports), ports, strict=True))


def _in_host_memory(port: Port, value: Any) -> Any:
    """The value with NumPy's arrays for JAX's, for which a program is another one than for those of the host."""
    if isinstance(port.type, SequenceType):  # which runtimes lay out anew
        return value
    return jax.tree.map(lambda leaf: np.asarray(leaf) if isinstance(leaf, jax.Array) else leaf, value)


def _stand_in(port: Port, given: Mapping[str, Any]) -> Any:
    """A value to compile for: what is given, with zeros for arrays of which only shapes are, or zeros."""
    if port.name not in given:
        return _zeros(port)
    return jax.tree.map(
        lambda leaf: np.zeros(leaf.shape, leaf.dtype) if isinstance(leaf, jax.ShapeDtypeStruct) else leaf,
        given[port.name],
    )


def _zeros(port: Port) -> Any:
    def of(kind: Type) -> Any:
        if isinstance(kind, StructType):
            return (kind.container or Struct)([(name, of(field)) for name, field in kind.fields])
        if isinstance(kind, SequenceType):
            return []
        assert isinstance(kind, TensorType)
        shape = [size for size in kind.shape if size is not None]
        if len(shape) < len(kind.shape):
            raise ValueError(f"the sizes of {port.name!r}, of type {port.type}, are not all known: give a value for it")
        return np.zeros(shape, kind.dtype)[()]

    return of(port.type)


def _struct(ports: Sequence[Port]) -> StructType:
    return StructType([(None, port.type) for port in ports])


def _made(nodes: list[Node], names: tuple[str | None, ...] | None = None) -> Node:
    names = names or (None,) * len(nodes)
    kind = StructType(zip(names, (node.type for node in nodes), strict=True))
    return MakeStruct(kind, names, tuple(nodes))
