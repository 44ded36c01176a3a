"""From what an artifact keeps of a program to a computation: a graph whose stages and folds are StableHLO."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
from jax import export
from jax.export import Exported

from hansa.compiler.aggregates import FOLDS
from hansa.compiler.artifacts.file import Reader
from hansa.compiler.artifacts.forms import Form
from hansa.compiler.artifacts.functions import Functions
from hansa.compiler.artifacts.save import REARRANGING
from hansa.compiler.artifacts.types import decode_type, decode_value
from hansa.compiler.stored import ReadArray, StoredFold, StoredFunction, StoredStage, Vectorised, narrow_paths, unplaced
from hansa.language.computations import GraphComputation
from hansa.language.graph import Apply, Intrinsic, Literal, MakeStruct, Node, Parameter
from hansa.language.values import select
from hansa.types import CLIENTS, SERVER, FederatedType, FunctionType, SequenceType, StructType, Type, to_value


class ProgramDecoder:
    """Decodes one program.

    Args:
        found: the program's part of the manifest.
        reader: the file.
        functions: its functions.
    """

    def __init__(self, found: dict[str, Any], reader: Reader, functions: Functions) -> None:
        self._found = found
        self._reader = reader
        self._functions = functions
        self._known: dict[tuple[str, int, int], Node] = {}
        signature = decode_type(found["type"])
        assert isinstance(signature, FunctionType)
        self._signature = signature
        self._parameter = None if signature.parameter is None else Parameter(signature.parameter)

    def decode(self) -> GraphComputation:
        """The computation. Whatever is wrong with the manifest raises some exception."""
        found = self._found
        for i, stage in enumerate(found["servers"]):
            self._server(i, stage)
            if i < len(found["clients"]):
                self._client(i, found["clients"][i])
        computation = GraphComputation(found["name"], self._parameter, self._node(found["result"]))
        if computation.type_signature != self._signature:
            raise ValueError(f"a computation of type {computation.type_signature} in place of {self._signature}")
        return computation

    def _server(self, number: int, found: dict[str, Any]) -> None:
        if found["function"] is not None:
            outputs = self._stage(f"server stage {number}", found, found["outputs"])
            self._known.update((("server", number, i), node) for i, node in enumerate(outputs))

    def _client(self, number: int, found: dict[str, Any]) -> None:
        for i, sent in enumerate(found["broadcasts"]):
            node = _rearranging(sent["operation"], decode_type(sent["type"]), (self._node(sent["of"]),))
            self._known["broadcast", number, i] = node
        outputs = self._stage(f"client stage {number}", found, [*found["contributions"], *found["kept"]])
        given, kept = outputs[: len(found["contributions"])], outputs[len(found["contributions"]) :]
        self._known.update((("kept", number, i), node) for i, node in enumerate(kept))
        contributions = iter(given)
        for i, fold in enumerate(found["aggregates"]):
            self._known["aggregate", number, i] = self._aggregate(fold, contributions)
        for i, sequence in enumerate(found["collected"]):
            kind, source = decode_type(sequence["type"]), self._node(sequence["of"])
            if kind != FederatedType(SequenceType(unplaced(source.type)), SERVER):
                raise ValueError(f"a sequence {kind} of {source.type}")
            self._known["collected", number, i] = Intrinsic(kind, "federated_collect", (source,))

    def _stage(self, name: str, found: dict[str, Any], outputs: list[Any]) -> list[Node]:
        """The outputs of a stage."""
        inputs = tuple(self._node(expression) for expression in found["inputs"])
        result = StructType([(None, decode_type(kind)) for kind in outputs])
        argument = None
        if inputs:
            names = (None,) * len(inputs)
            argument = MakeStruct(StructType([(None, node.type) for node in inputs]), names, inputs)
        signature = FunctionType(None if argument is None else argument.type, result)
        form = Form([unplaced(node.type) for node in inputs], [unplaced(kind) for kind in result])
        function = stored(found["function"], self._reader, self._functions, form, found.get("vectorised"))
        stage = StoredStage(name, signature, function, tuple(found["names"]), narrow_paths(found))
        node = Apply(result, stage, argument)
        return [select(node, i) for i in range(len(result))]

    def _aggregate(self, found: dict[str, Any], contributions: Any) -> Intrinsic:
        kinds = [decode_type(kind) for kind in found["contributions"]]
        arguments = [next(contributions) for _ in kinds]
        if [unplaced(node.type) for node in arguments] != kinds:
            raise ValueError("an aggregate of values of other types than it takes")
        kind, start = decode_type(found["type"]), None
        if found["start"] is not None:
            arguments.append(self._node(found["start"]))
            start = decode_type(found["start_type"])
            if unplaced(arguments[-1].type) != start:
                raise ValueError("an aggregate that starts from a value of another type than it says")
        if not isinstance(kind, FederatedType) or kind.placement is not SERVER:
            raise ValueError(f"an aggregate of type {kind}")
        if found["collective"] not in (None, "sum", "min", "max") or found["operation"] not in FOLDS:
            raise ValueError(f"an aggregate {found['operation']!r} by {found['collective']!r}")
        zero = self._part(found["zero"], Form([] if start is None else [start], None))
        states = zero.exported.out_avals
        if any(export.is_symbolic_dim(size) for state in states for size in state.shape):
            raise ValueError("an aggregate whose state has no known size")
        accumulate = self._part(found["accumulate"], Form(kinds, states, states))
        merge = self._part(found["merge"], Form([], states, [*states, *states]))
        report = self._part(found["report"], Form([], [unplaced(kind)], states))
        fold = StoredFold(
            found["name"],
            FunctionType(StructType([(None, part) for part in kinds]), unplaced(kind)),
            start,
            (zero, accumulate, merge, report),
            found["collective"],
            bool(found["protected"]),
        )
        return Intrinsic(kind, found["operation"], tuple(arguments), (fold,))

    def _part(self, found: dict[str, Any], form: Form) -> StoredFunction:
        return stored(found, self._reader, self._functions, form)

    def _node(self, expression: list[Any]) -> Node:
        match expression:
            case ["parameter"]:
                assert self._parameter is not None
                return self._parameter
            case ["select", source, int(index)]:
                return select(self._node(source), index)
            case ["struct", kind, elements]:
                struct, parts = decode_type(kind), tuple(map(self._node, elements))
                if not isinstance(struct, StructType) or list(struct) != [part.type for part in parts]:
                    raise ValueError(f"a struct {struct} of {', '.join(part.type.compact() for part in parts)}")
                return MakeStruct(struct, struct.names, parts)
            case ["literal", kind, value]:
                decoded = decode_type(kind)
                literal = decode_value(value, decoded, self._reader)
                to_value(literal, decoded, "a literal")
                return Literal(decoded, literal)
            case ["operation", name, kind, arguments]:
                return _rearranging(name, decode_type(kind), tuple(map(self._node, arguments)))
            case [str(what), int(stage), int(index)]:
                return self._known[what, stage, index]
        raise ValueError(f"a value that comes from {expression!r}")


def stored(
    found: dict[str, Any],
    reader: Reader,
    functions: Functions,
    form: Form,
    vectorised: dict[str, Any] | None = None,
) -> StoredFunction:
    """A function that the file has, and, if it does, the same for several clients at once.

    Raises:
        ValueError: if it takes or gives something else than its form says.
    """
    exported, constants = _function(found, reader, functions, form)
    is_open = partial(functions.is_open, found["entry"])
    if vectorised is None:
        return StoredFunction(exported, constants, is_open=is_open)
    varying, clients = tuple(bool(varies) for varies in vectorised["varying"]), vectorised["clients"]
    stacked = form.stacked(varying, clients)
    inner = vectorised["function"]
    open_too = partial(functions.is_open, inner["entry"])
    several = StoredFunction(*_function(inner, reader, functions, stacked), is_open=open_too)
    return StoredFunction(exported, constants, Vectorised(several, varying, clients), is_open)


def _function(
    found: dict[str, Any], reader: Reader, functions: Functions, form: Form
) -> tuple[Exported, tuple[ReadArray, ...]]:
    exported = functions.exported(found["entry"])
    constants = [reader.array(array) for array in found["constants"]]
    form.check(exported, [jax.ShapeDtypeStruct(array.shape, array.dtype) for array in constants])
    return exported, tuple(array.read for array in constants)


def _rearranging(name: str, kind: Type, arguments: tuple[Node, ...]) -> Intrinsic:
    types = [node.type for node in arguments]
    if name not in REARRANGING or not _rearranges(name, kind, types):
        taken = ", ".join(part.compact() for part in types)
        raise ValueError(f"an operation {name!r} that gives {kind} of {taken or 'nothing'}")
    return Intrinsic(kind, name, arguments)


def _rearranges(name: str, kind: Type, types: list[Type]) -> bool:
    """Whether an operation of these types gives one of that type."""
    if not isinstance(kind, FederatedType):
        return False
    if name == "federated_client_id":
        return not types and kind.placement is CLIENTS
    if len(types) != 1 or unplaced(types[0]) != kind.member:
        return False
    if name == "federated_broadcast":
        return isinstance(types[0], FederatedType) and types[0].placement is SERVER and kind.placement is CLIENTS
    return True
