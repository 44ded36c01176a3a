"""From a program to what an artifact keeps of it: each stage and each fold as StableHLO, and how they are connected.

A value is named by where it comes from: a part of the parameter, an output of a server stage, what a client stage has
given, kept or collected. `artifact_load` makes a graph of that again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export, lax
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

from hansa.compiler.aggregates import Aggregate
from hansa.compiler.artifact_error import ArtifactError
from hansa.compiler.artifacts.file import Writer
from hansa.compiler.artifacts.functions import look_at
from hansa.compiler.artifacts.types import encode_type, encode_value
from hansa.compiler.boundary import Symbols, avals, flatten, has_strings, unflatten, varying
from hansa.compiler.evaluate import evaluate, member, sequence_elements
from hansa.compiler.explain.stages import name_of
from hansa.compiler.narrowing import narrowed_inputs
from hansa.compiler.partition import computed_sources, is_argument, is_client_id
from hansa.compiler.program import ClientStage, Program, ServerStage
from hansa.compiler.rewrites import faster
from hansa.compiler.sequences import Aval, NeedsSizes
from hansa.language.graph import Intrinsic, Literal, MakeStruct, Node, Parameter, Select
from hansa.portable.tensors import Refused
from hansa.types import FederatedType, TensorType, Type

_CLIENTS_AT_ONCE = 32
"""For how many clients at once a stage is compiled that cannot be for any number: the default of runtimes on a GPU."""

REARRANGING = ("federated_broadcast", "federated_value", "federated_zip", "federated_client_id")
"""The operations that compute nothing, and are kept as they are."""


class ProgramEncoder:
    """Encodes one program.

    Args:
        program: the program.
        writer: takes the functions and arrays.
        platforms: what to compile for, as in `jax.export`.
    """

    def __init__(self, program: Program, writer: Writer, platforms: tuple[str, ...]) -> None:
        self._program = program
        self._writer = writer
        self._platforms = platforms
        self._known: dict[Node, list[Any]] = {}
        self._folds: dict[Any, dict[str, Any]] = {}

    def encode(self) -> dict[str, Any]:
        """The program's part of the manifest.

        Raises:
            ArtifactError: if a part of it cannot be kept as StableHLO.
        """
        program, servers, clients = self._program, [], []
        for i, stage in enumerate(program.servers):
            servers.append(self._server(i, stage))
            if i < len(program.clients):
                clients.append(self._client(i, program.clients[i]))
        return {
            "name": program.name,
            "type": encode_type(program.signature),
            "servers": servers,
            "clients": clients,
            "result": self._expression(program.result),
        }

    def _server(self, number: int, stage: ServerStage) -> dict[str, Any]:
        outputs = [node for node in stage.outputs if not isinstance(node, Literal) and not is_argument(node)]
        inputs = self._inputs(outputs)
        encoded = {
            "inputs": [self._expression(node) for node in inputs],
            "outputs": [encode_type(node.type) for node in outputs],
            "names": [name_of(node) for node in outputs],
            "narrow": sorted(narrowed_inputs(inputs, outputs)),
            "function": self._function(f"{self._program.name}_server_{number}", inputs, outputs) if outputs else None,
        }
        self._known.update((node, ["server", number, i]) for i, node in enumerate(outputs))
        return encoded

    def _client(self, number: int, stage: ClientStage) -> dict[str, Any]:
        # What is known when the computation is written is a constant of the stage, and is not sent.
        broadcasts = [pair for pair in _intrinsics(stage.broadcasts) if not isinstance(pair[0], Literal)]
        sent = [
            {
                "operation": node.name,
                "name": name_of(source),
                "type": encode_type(node.type),
                "of": self._expression(source),
            }
            for source, node in broadcasts
        ]
        self._known.update((node, ["broadcast", number, i]) for i, (_, node) in enumerate(broadcasts))
        given = [node for aggregate in stage.aggregates for node in aggregate.contributions]
        kept = [n for n in dict.fromkeys(s for n in stage.kept for s in computed_sources(n)) if n not in self._known]
        outputs = [*given, *kept]
        inputs = self._inputs(outputs)
        encoded = {
            "broadcasts": sent,
            "inputs": [self._expression(node) for node in inputs],
            "input_types": [encode_type(member(node.type)) for node in inputs],
            "input_names": [name_of(node) for node in inputs],
            "contributions": [encode_type(node.type) for node in given],
            "kept": [encode_type(node.type) for node in kept],
            "names": [name_of(node) for node in outputs],
            "narrow": sorted(narrowed_inputs(inputs, outputs)),
            **self._client_work(f"{self._program.name}_client_{number}", inputs, outputs),
            "aggregates": [self._aggregate(aggregate) for aggregate in stage.aggregates],
        }
        self._known.update((node, ["kept", number, i]) for i, node in enumerate(kept))
        encoded["collected"] = [
            {"type": encode_type(node.type), "of": self._expression(source)} for source, node in stage.collected
        ]
        self._known.update((a.node, ["aggregate", number, i]) for i, a in enumerate(stage.aggregates))
        self._known.update((node, ["collected", number, i]) for i, (_, node) in enumerate(stage.collected))
        return encoded

    def _inputs(self, roots: Iterable[Node]) -> list[Node]:
        """What a stage takes in to compute `roots`: known values and parts of the parameter."""
        found: dict[Node, None] = {}
        seen: set[Node] = set()
        stack = list(roots)[::-1]
        while stack:
            node = stack.pop()
            if node in seen:
                continue
            seen.add(node)
            if node in self._known or is_argument(node) or is_client_id(node):
                found[node] = None
            else:
                stack.extend(reversed(node.inputs))
        return list(found)

    def _expression(self, node: Node) -> list[Any]:
        """Where a value comes from."""
        if node in self._known:
            return self._known[node]
        match node:
            case Parameter():
                return ["parameter"]
            case Select():
                return ["select", self._expression(node.source), node.index]
            case MakeStruct():
                return ["struct", encode_type(node.type), [self._expression(element) for element in node.elements]]
            case Literal():
                return ["literal", encode_type(node.type), encode_value(node.value, self._writer)]
            case Intrinsic() if node.name in REARRANGING:
                return [
                    "operation",
                    node.name,
                    encode_type(node.type),
                    [self._expression(argument) for argument in node.arguments],
                ]
        raise ArtifactError(
            f"{self._program.name!r} cannot be saved: it sends a sequence that it computes at the server to the "
            f"clients, of type {node.type}{_at(node)}; send what the sequence is made of, and compute it at the clients"
        )

    def _client_work(self, name: str, inputs: Sequence[Node], outputs: Sequence[Node]) -> dict[str, Any]:
        """What a client computes, as a function for one client and, if there is one, for several at once."""
        own = [varies for node in inputs for varies in varying(member(node.type), _is_own(node))]
        encoded = {"function": self._function(name, inputs, outputs), "vectorised": None}
        if any(own):
            work, kinds = self._work(inputs, outputs), [member(node.type) for node in inputs]
            for clients in (None, _CLIENTS_AT_ONCE):
                try:
                    several, _ = self._export_any_size(f"{name}_vectorised", work, kinds, stacked=(own, clients))
                except ArtifactError:  # Convolutions need a known number of clients, and some operations no number.
                    continue
                encoded["vectorised"] = {"function": several, "varying": own, "clients": clients}
                break
        return encoded

    def _function(self, name: str, inputs: Sequence[Node], outputs: Sequence[Node]) -> dict[str, Any]:
        """What a stage computes, as a function of the arrays of its inputs."""
        for node in outputs:
            if has_strings(member(node.type)):
                raise ArtifactError(
                    f"{self._program.name!r} cannot be saved: it computes a value of type {node.type}{_at(node)}, and "
                    "strings are not computed with; return the string beside it"
                )
        return self._export_any_size(name, self._work(inputs, outputs), [member(node.type) for node in inputs])[0]

    @staticmethod
    def _work(inputs: Sequence[Node], outputs: Sequence[Node]) -> Callable[..., list[Any]]:
        """From the arrays of a stage's inputs to those of its outputs."""

        def work(*arrays: Any) -> list[Any]:
            rest = iter(arrays)
            env = {node: unflatten(member(node.type), rest) for node in inputs}
            values = evaluate(list(outputs), env)
            return [a for node, value in zip(outputs, values, strict=True) for a in flatten(member(node.type), value)]

        return work

    def _aggregate(self, aggregate: Aggregate) -> dict[str, Any]:
        kinds = [member(node.type) for node in aggregate.contributions]
        result = member(aggregate.node.type)
        own = aggregate.node.name == "federated_aggregate" or aggregate.start is not None
        key = aggregate.node if own else (aggregate.node.name, tuple(kinds), result)
        if key not in self._folds:
            self._folds[key] = self._fold(aggregate, kinds, result)
        return {
            "operation": aggregate.node.name,
            "name": name_of(aggregate.node),
            "type": encode_type(aggregate.node.type),
            "start": None if aggregate.start is None else self._expression(aggregate.start),
            "start_type": None if aggregate.start is None else encode_type(member(aggregate.start.type)),
            "collective": aggregate.collective,
            "protected": aggregate.protected,
            **self._folds[key],
        }

    def _fold(self, aggregate: Aggregate, kinds: list[Type], result: Type) -> dict[str, Any]:
        """The four functions of an aggregate, of the leaves of its states."""
        trees: list[Any] = []

        def zero(*arrays: Any) -> list[Any]:
            start = None if aggregate.start is None else unflatten(member(aggregate.start.type), iter(arrays))
            leaves, tree = jax.tree.flatten(aggregate.zero(start))
            trees[:] = [tree]
            return [jnp.asarray(leaf) for leaf in leaves]

        name = f"{self._program.name}_{aggregate.name}"
        encoded, states = self._export_any_size(
            f"{name}_zero", zero, [] if aggregate.start is None else [member(aggregate.start.type)]
        )
        if any(export.is_symbolic_dim(dim) for state in states for dim in state.shape):
            raise ArtifactError(
                f"{self._program.name!r} cannot be saved: the state of {aggregate.name}{_at(aggregate.node)} has a "
                "size that only the data tells; give the zero a known size"
            )
        (tree,) = trees

        def state(arrays: Sequence[Any]) -> Any:
            return jax.tree.unflatten(tree, list(arrays))

        def as_state(value: Any) -> list[Any]:
            return [
                lax.convert_element_type(x, aval.dtype) for x, aval in zip(jax.tree.leaves(value), states, strict=True)
            ]

        def accumulate(*arrays: Any) -> list[Any]:
            rest = iter(arrays[len(states) :])
            given = [unflatten(kind, rest) for kind in kinds]
            return as_state(aggregate.accumulate(state(arrays[: len(states)]), given))

        def merge(*arrays: Any) -> list[Any]:
            return as_state(aggregate.merge(state(arrays[: len(states)]), state(arrays[len(states) :])))

        def report(*arrays: Any) -> list[Any]:
            return flatten(result, aggregate.report(state(arrays)))

        return {
            "contributions": [encode_type(kind) for kind in kinds],
            "zero": encoded,
            "accumulate": self._export_any_size(f"{name}_accumulate", accumulate, kinds, states)[0],
            "merge": self._export(f"{name}_merge", merge, [*states, *states])[0],
            "report": self._export(f"{name}_report", report, states)[0],
        }

    def _export_any_size(
        self,
        name: str,
        function: Callable[..., list[Any]],
        kinds: Sequence[Type],
        before: Sequence[Aval] = (),
        stacked: tuple[Sequence[bool], int | None] | None = None,
    ) -> tuple[dict[str, Any], list[Aval]]:
        """`_export`, for arguments `before` and then the arrays of types whose unknown sizes may be any.

        With `stacked`, it is for so many clients, or for any number: these of the arrays are stacks then, and so are
        all results.

        Each unknown size is one of its own, if the function can be traced so, or the same on the same axis of all.
        """
        try:
            unknown = _count_unknown(kinds)
            raised: Exception | None = None
            for shared in (False, True) if unknown > 1 else (False,):
                symbols = Symbols(shared)
                try:
                    arguments = [*before, *(aval for kind in kinds for aval in avals(kind, symbols))]
                    if stacked is None:
                        return self._export(name, function, arguments)
                    own, number = stacked
                    clients = symbols.new() if number is None else number
                    stacks = [
                        Aval((clients, *aval.shape), aval.dtype) if is_own else aval
                        for aval, is_own in zip(arguments, own, strict=True)
                    ]
                    axes = tuple(0 if is_own else None for is_own in own)
                    return self._export(name, jax.vmap(function, axes), stacks)
                except ArtifactError:
                    raise
                except Exception as error:
                    raised = raised or error
            assert raised is not None
            raise raised
        except ArtifactError:
            raise
        except NeedsSizes as error:
            raise ArtifactError(
                f"{self._program.name!r} cannot be saved: {error}. A file holds programs for batches of every size, so "
                "write the function for any: without `if` on a size, and with operations along the batch that Hansa "
                "knows"
            ) from error
        except Exception as error:
            raise ArtifactError(
                f"{self._program.name!r} cannot be saved: {name} cannot be compiled for data of every size: "
                f"{type(error).__name__}: {error}"
            ) from error

    def _export(
        self, name: str, function: Callable[..., list[Any]], arguments: Sequence[Aval]
    ) -> tuple[dict[str, Any], list[Aval]]:
        """A function as an entry, with the arrays it closes over as others, and the shapes of its results."""
        with jax.enable_x64(True):
            closed = faster(jax.make_jaxpr(function)(*arguments), portable=True)
            constants, restore = zip(*map(_plain, closed.consts), strict=True) if closed.consts else ((), ())

            def run(*arrays: Any) -> list[Any]:
                consts = [put(array) for put, array in zip(restore, arrays, strict=False)]
                return list(jaxpr_as_fun(ClosedJaxpr(closed.jaxpr, consts))(*arrays[len(consts) :]))

            run.__name__ = "".join(letter if letter.isalnum() else "_" for letter in name)
            shapes = [jax.ShapeDtypeStruct(array.shape, array.dtype) for array in constants]
            try:
                with _without_source_lines():
                    exported = export.export(jax.jit(run), platforms=self._platforms)(*shapes, *arguments)
                data = bytes(exported.serialize())
                look_at(exported)
            except Refused as error:
                raise ArtifactError(
                    f"{self._program.name!r} cannot be saved: {name} has {error}, which no file may have; write it "
                    "with other operations"
                ) from error
            except Exception as error:
                raise ArtifactError(
                    f"{self._program.name!r} cannot be saved: {name} cannot be exported for "
                    f"{', '.join(self._platforms)}: {error}"
                ) from error
        entry = {"entry": self._writer.function(data), "constants": [self._writer.array(a) for a in constants]}
        return entry, [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in closed.out_avals]


@contextmanager
def _without_source_lines() -> Iterator[None]:
    """StableHLO that does not say which files and lines it comes from: a file is for other people's machines."""
    name = "jax_traceback_in_locations_limit"
    before = getattr(jax.config, name)
    jax.config.update(name, 0)
    try:
        yield
    finally:
        jax.config.update(name, before)


def _plain(constant: Any) -> tuple[Any, Callable[[Any], Any]]:
    """A constant as an array that NumPy has, and how to make it of that."""
    if jnp.issubdtype(constant.dtype, jax.dtypes.prng_key):
        kind = jax.random.key_impl(constant)
        return np.asarray(jax.random.key_data(constant)), lambda data: jax.random.wrap_key_data(data, impl=kind)
    return np.asarray(constant), lambda data: data


def _count_unknown(kinds: Iterable[Type]) -> int:
    """How many sizes of tensors are unknown, those in sequences apart."""
    plain = [part for kind in kinds if not sequence_elements(kind) for part in kind.components()]
    return sum(part.shape.count(None) for part in plain if isinstance(part, TensorType))


def _is_own(node: Node) -> bool:
    """Whether a value at the clients is another one for each."""
    return isinstance(node.type, FederatedType) and not node.type.all_equal


def _intrinsics(pairs: Iterable[tuple[Node, Node]]) -> list[tuple[Node, Intrinsic]]:
    return [(source, node) for source, node in pairs if isinstance(node, Intrinsic)]


def _at(node: Node) -> str:
    return f" (made at {node.where})" if node.where else ""
