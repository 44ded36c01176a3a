"""From what an artifact keeps of a program to a computation: a graph whose stages and folds are StableHLO."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
from jax import export
from jax.export import Exported

from hansa.compiler.aggregates import FOLDS, Aggregate, aggregate
from hansa.compiler.artifacts.expressions import Address, Expressions, rearranging
from hansa.compiler.artifacts.file import Reader
from hansa.compiler.artifacts.forms import Form
from hansa.compiler.artifacts.functions import Functions
from hansa.compiler.artifacts.ports import Ports
from hansa.compiler.artifacts.types import decode_type, state_types
from hansa.compiler.stored import ReadArray, StoredFold, StoredFunction, StoredStage, Vectorised, narrow_paths, unplaced
from hansa.language.computations import GraphComputation
from hansa.language.declared_flows import DeclaredFlows
from hansa.language.each import stacked_type
from hansa.language.graph import Apply, Intrinsic, MakeStruct, Node
from hansa.language.terms import Terms
from hansa.language.values import select
from hansa.types import SERVER, FederatedType, FunctionType, SequenceType, StructType


@dataclass(frozen=True)
class StoredProgram:
    """A program of a file.

    Attributes:
        computation: what was saved.
        ports: what goes into its stages and comes out of them.
        nodes: the nodes of its graph by the sources of `ports`, but for parts of the argument: what server stage i
            computes at `("server", i, j)`, what client stage i is sent and keeps, and its aggregates.
    """

    computation: GraphComputation
    ports: Ports
    nodes: Mapping[Address, Node]

    def aggregate(self, stage: int, number: int) -> Aggregate:
        """An aggregate of a client stage, which has its `zero`, `accumulate`, `merge` and `report`."""
        node = self.nodes["aggregate", stage, number]
        assert isinstance(node, Intrinsic)
        return aggregate(node)


def functions_of(program: dict[str, Any]) -> dict[str, None]:
    """The entries of the functions of a program in a manifest."""
    found: dict[str, None] = {}
    for stage in program["servers"]:
        if stage["function"] is not None:
            found[stage["function"]["entry"]] = None
    for stage in program["clients"]:
        several = [stage["vectorised"]["function"]] if stage.get("vectorised") else []
        folds = (fold[part] for fold in stage["aggregates"] for part in ("zero", "accumulate", "merge", "report"))
        found.update((part["entry"], None) for part in (stage["function"], *several, *folds))
    return found


class ProgramDecoder:
    """Decodes one program.

    Args:
        found: the program's part of the manifest.
        reader: the file.
        functions: its functions.

    Attributes:
        known: the nodes of what the program makes, by where it is made.
    """

    def __init__(self, found: dict[str, Any], reader: Reader, functions: Functions) -> None:
        self._found = found
        self._reader = reader
        self._functions = functions
        signature = decode_type(found["type"])
        assert isinstance(signature, FunctionType)
        self._signature = signature
        self._expressions = Expressions(signature, reader)
        self.known = self._expressions.known

    def decode(self) -> GraphComputation:
        """The computation. Whatever is wrong with the manifest raises some exception."""
        found = self._found
        for i, stage in enumerate(found["servers"]):
            self._server(i, stage)
            if i < len(found["clients"]):
                self._client(i, found["clients"][i])
        declared = DeclaredFlows.decode(found["privacy"], self._signature) if "privacy" in found else None
        result = self._node(found["result"])
        computation = GraphComputation(found["name"], self._expressions.parameter, result, declared=declared)
        if declared is not None:
            declared.check(computation)
        if computation.type_signature != self._signature:
            raise ValueError(f"a computation of type {computation.type_signature} in place of {self._signature}")
        return computation

    def _server(self, number: int, found: dict[str, Any]) -> None:
        if found["function"] is not None:
            outputs = self._stage(f"server stage {number}", found, found["outputs"])
            self.known.update((("server", number, i), node) for i, node in enumerate(outputs))

    def _client(self, number: int, found: dict[str, Any]) -> None:
        for i, sent in enumerate(found["broadcasts"]):
            kind = decode_type(sent["type"])
            self.known["broadcast", number, i] = rearranging(sent["operation"], kind, (self._node(sent["from"]),))
        given = [port for fold in found["aggregates"] for port in fold["contributions"]]
        outputs = self._stage(f"client stage {number}", found, [*given, *found["kept"]])
        self.known.update((("kept", number, i), node) for i, node in enumerate(outputs[len(given) :]))
        contributions = iter(outputs[: len(given)])
        for i, fold in enumerate(found["aggregates"]):
            self.known["aggregate", number, i] = self._aggregate(fold, contributions)
        for i, values in enumerate(found["collected"]):
            kind, source = decode_type(values["type"]), self._node(values["from"])
            operation = values.get("operation", "federated_collect")
            own = unplaced(source.type)
            whole = {"federated_collect": SequenceType(own), "federated_stack": stacked_type(own)}[operation]
            if kind != FederatedType(whole, SERVER):
                raise ValueError(f"{kind} of all {source.type}")
            self.known["collected", number, i] = Intrinsic(kind, operation, (source,), terms=Terms.decode(values))

    def _stage(self, name: str, found: dict[str, Any], outputs: list[Any]) -> list[Node]:
        """The outputs of a stage."""
        inputs = tuple(map(self._input, found["inputs"]))
        result = StructType([(None, decode_type(port["type"])) for port in outputs])
        argument = None
        if inputs:
            names = (None,) * len(inputs)
            argument = MakeStruct(StructType([(None, node.type) for node in inputs]), names, inputs)
        signature = FunctionType(None if argument is None else argument.type, result)
        form = Form([unplaced(node.type) for node in inputs], [unplaced(kind) for kind in result])
        function = stored(found["function"], self._reader, self._functions, form, found.get("vectorised"))
        output_names = tuple(str(port["name"]) for port in outputs)
        stage = StoredStage(name, signature, function, output_names, narrow_paths(found))
        node = Apply(result, stage, argument)
        return [select(node, i) for i in range(len(result))]

    def _aggregate(self, found: dict[str, Any], contributions: Any) -> Intrinsic:
        arguments = [next(contributions) for _ in found["contributions"]]
        kinds = [unplaced(node.type) for node in arguments]
        kind, start = decode_type(found["result"]["type"]), None
        if found["start"] is not None:
            arguments.append(self._input(found["start"]))
            start = unplaced(arguments[-1].type)
        if not isinstance(kind, FederatedType) or kind.placement is not SERVER:
            raise ValueError(f"an aggregate of type {kind}")
        if found["collective"] not in (None, "sum", "min", "max") or found["operation"] not in FOLDS:
            raise ValueError(f"an aggregate {found['operation']!r} by {found['collective']!r}")
        zero = self._part(found["zero"], Form([] if start is None else [start], None))
        states = zero.exported.out_avals
        if any(export.is_symbolic_dim(size) for state in states for size in state.shape):
            raise ValueError("an aggregate whose state has no known size")
        declared = found["state"]
        if declared is not None and list(map(decode_type, declared)) != state_types(states):
            raise ValueError(f"an aggregate whose state is of other types than {declared}")
        accumulate = self._part(found["accumulate"], Form(kinds, states, states))
        merge = self._part(found["merge"], Form([], states, [*states, *states]))
        report = self._part(found["report"], Form([], [unplaced(kind)], states))
        fold = StoredFold(
            found["name"],
            FunctionType(StructType([(None, part) for part in kinds]), unplaced(kind)),
            start,
            (zero, accumulate, merge, report),
            found["collective"],
        )
        return Intrinsic(kind, found["operation"], tuple(arguments), (fold,), terms=Terms.decode(found))

    def _input(self, found: dict[str, Any]) -> Node:
        """What a stage takes, which is of the type that is said."""
        node, kind = self._node(found["from"]), decode_type(found["type"])
        if node.type != kind:
            raise ValueError(f"a value {found['name']!r} of type {kind} that comes from one of type {node.type}")
        return node

    def _node(self, expression: list[Any]) -> Node:
        return self._expressions.node(expression)

    def _part(self, found: dict[str, Any], form: Form) -> StoredFunction:
        return stored(found, self._reader, self._functions, form)


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
