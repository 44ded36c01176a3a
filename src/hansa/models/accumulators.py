"""How metrics are kept by a client over its batches, and made of what all clients report. For models of every kind.

An `Accumulator` is one of them: a state at the client, and a federated computation of the clients' reports. The
`ModelMetrics` of a model are all of its accumulators as the functions that a `FunctionalModel` has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from hansa._tracebacks import add_note
from hansa.language import intrinsics
from hansa.language.computation import Computation
from hansa.language.computations import GraphComputation, concrete
from hansa.language.graph import Select, walk
from hansa.language.local import tensors, to_struct, unflatten
from hansa.language.tracing import federated_computation, jax_computation, narrow_computation
from hansa.models import exact
from hansa.models.batch_types import labels, leading_size, sample_weight
from hansa.models.outputs import BatchOutput
from hansa.types import CLIENTS, SERVER, FederatedType, Struct, StructType, TensorType, Type, infer_type


class Seen(NamedTuple):
    """What metrics see of a batch.

    Attributes:
        batch: the batch.
        output: what the forward pass gave; its number of examples is known.
        own: what the model itself adds to metrics that it keeps, such as a compiled Keras model's.
    """

    batch: Any
    output: BatchOutput
    own: Any = None

    @classmethod
    def of(cls, batch: Any, output: BatchOutput, own: Any = None) -> Seen:
        """With the number of examples counted, and without gradients through metrics."""
        count = leading_size(batch) if output.num_examples is None else output.num_examples
        loss, predictions = jax.tree.map(
            lambda x: lax.stop_gradient(x) if isinstance(x, jax.Array) else x, (output.loss, output.predictions)
        )
        return cls(batch, BatchOutput(loss, predictions, jnp.asarray(count, jnp.int32)), own)

    def arguments(self, name: str) -> tuple[Any, Any, Any]:
        """The (labels, predictions, sample weight) that the function of a metric takes."""
        return labels(self.batch, name), self.output.predictions, sample_weight(self.batch)


@dataclass(frozen=True)
class Accumulator:
    """How one metric is kept and aggregated.

    Attributes:
        initial: its state before a client's first batch.
        update: (state, what is seen of a batch) -> state.
        report: state -> what the client reports; all zeros, for a client that is left out, must change nothing.
        aggregate: a computation from the clients' reports to the metric at the server, with which `names` it is split
            into several metrics.
    """

    initial: Any
    update: Callable[[Any, Seen], Any]
    report: Callable[[Any], Any]
    aggregate: Computation


class Plan(NamedTuple):
    """An accumulator to be: what it takes of a batch, and from the type of that, to the accumulator."""

    contribute: Callable[[Seen], Any]
    build: Callable[[Type], Accumulator]


TypeOf = Callable[[Callable[[Seen], Any]], Type]
"""From a function of what is seen of a batch to the type of its result, for a model."""


@dataclass(frozen=True)
class ModelMetrics:
    """The accumulators of a model, as the functions of local variables that a `FunctionalModel` has.

    Attributes:
        initial: the local variables before a client's first batch.
        update: (local variables, what is seen of a batch) -> local variables.
        local_outputs: local variables -> what the client reports.
        aggregate: from the clients' reports to the metrics at the server.
    """

    initial: Struct
    update: Callable[[Struct, Seen], Struct]
    local_outputs: Callable[[Struct], Struct]
    aggregate: Computation


def build(plans: Sequence[tuple[str, Plan]], type_of: TypeOf) -> list[tuple[str, Accumulator]]:
    """The accumulators of some plans, after one trace of the model for all of them."""
    if not plans:
        return []
    names = [name for name, _ in plans]
    kinds = type_of(lambda seen: Struct(zip(names, [plan.contribute(seen) for _, plan in plans], strict=True)))
    assert isinstance(kinds, StructType)
    return [(name, plan.build(kind)) for (name, plan), kind in zip(plans, kinds, strict=True)]


def combine(accumulators: Sequence[tuple[str, Accumulator]], spread: Sequence[str] = ()) -> ModelMetrics:
    """Several accumulators as those of a model, each a field of the local variables and reports.

    Args:
        accumulators: with their names.
        spread: the names of those whose reports and metrics are structs, the fields of which are put among the others.
    """
    names = [name for name, _ in accumulators]
    parts = [part for _, part in accumulators]

    def update(local: Struct, seen: Seen) -> Struct:
        return Struct([(name, part.update(local[name], seen)) for name, part in accumulators])

    def local_outputs(local: Struct) -> Struct:
        return _spread([(name, part.report(local[name])) for name, part in accumulators], spread)

    initial = Struct(zip(names, [part.initial for part in parts], strict=True))
    kinds = [cast(FederatedType, part.aggregate.type_signature.parameter).member for part in parts]
    reports = _spread(zip(names, kinds, strict=True), spread)
    kind = StructType(reports._items())

    @federated_computation(FederatedType(kind, CLIENTS))
    def metrics(reports: Any) -> Any:
        results = []
        for (name, part), member in zip(accumulators, kinds, strict=True):
            if name in spread:
                report = intrinsics.federated_zip({field: reports[field] for field in cast(Any, member).names})
            else:
                report = reports[name]
            results.append((name, part.aggregate(report)))
        return intrinsics.federated_zip(_spread(results, spread))

    return ModelMetrics(initial, update, local_outputs, metrics)


def summed(
    name: str,
    contribute: Callable[[Seen], Any],
    finish: Callable[[Any], Any],
    computation: Callable[[Type], Callable[..., Any]] = jax_computation,
) -> Plan:
    """A plan for contributions that are added up exactly, over batches and clients, and then `finish`ed at the server.

    Args:
        name: what messages call it.
        contribute: what a batch adds: numbers, or a struct of them.
        finish: from the sum to the metric.
        computation: makes a computation of `finish`: by default one that sees 64-bit sums.
    """

    def aggregate(kind: Type) -> Computation:
        finished = computation(kind)(finish)

        @federated_computation(FederatedType(kind, CLIENTS))
        def add_up(totals: Any) -> Any:
            return intrinsics.federated_map(finished, intrinsics.federated_sum(totals))

        return add_up

    return reported_sums(name, contribute, exact.total, aggregate)


def reported_sums(
    name: str,
    contribute: Callable[[Seen], Any],
    report: Callable[[Struct], Any],
    aggregate: Callable[[Type], Computation],
) -> Plan:
    """A plan for contributions that a client adds up exactly, and for a report and an aggregation of one's own."""

    def contribution(seen: Seen) -> Any:
        return jax.tree.map(exact.summable, to_struct(contribute(seen), name))

    def planned(kind: Type) -> Accumulator:
        _known_sizes(kind, name)
        initial = exact.zero(kind)
        reported = type_of_report(report, initial)
        return Accumulator(
            initial, lambda state, seen: exact.add(state, contribution(seen)), report, aggregate(reported)
        )

    return Plan(contribution, planned)


def extreme(name: str, contribute: Callable[[Seen], Any], lowest: bool, finish: Callable[[Any], Any]) -> Plan:
    """A plan for the least, or the greatest, of all contributions; of none, the identity of `min` or `max`."""
    choose = jnp.minimum if lowest else jnp.maximum

    def contribution(seen: Seen) -> Any:
        return jax.tree.map(exact.summable, to_struct(contribute(seen), name))

    def planned(kind: Type) -> Accumulator:
        _known_sizes(kind, name)
        none = jax.tree.map(lambda zero: np.full(zero.shape, _identity(zero, lowest)), exact.zero(kind).high)
        initial = Struct([("value", none), ("batches", np.int32(0))])

        def update(state: Struct, seen: Seen) -> Struct:
            return Struct([("value", jax.tree.map(choose, state.value, contribution(seen))), ("batches", 1)])

        return Accumulator(initial, update, lambda state: state, extreme_of_clients(type_of(initial), lowest, finish))

    return Plan(contribution, planned)


def extreme_of_clients(kind: Type, lowest: bool, finish: Callable[[Any], Any]) -> Computation:
    """From the clients' reports `<value=…,batches=…>` to the least or greatest value; zero `batches` have none."""
    fold = intrinsics.federated_min if lowest else intrinsics.federated_max

    @jax_computation(kind)
    def of_client(report: Any) -> Any:  # a client that is left out reports zeros
        return jax.tree.map(lambda x: jnp.where(report.batches > 0, x, _identity(x, lowest)), report.value)

    finished = jax_computation(finish, of_client.type_signature.result)

    @federated_computation(FederatedType(kind, CLIENTS))
    def choose_one(reports: Any) -> Any:
        return intrinsics.federated_map(finished, fold(intrinsics.federated_map(of_client, reports)))

    return choose_one


def _identity(like: Any, lowest: bool) -> Any:
    """What changes no minimum, or maximum."""
    if jnp.issubdtype(like.dtype, jnp.floating):
        return np.asarray(np.inf if lowest else -np.inf, like.dtype)
    limits = np.iinfo(like.dtype)
    return np.asarray(limits.max if lowest else limits.min, like.dtype)


def loss_and_count(keep_count: bool) -> Accumulator:
    """The mean loss over all examples, and, if it is kept, how many there were."""
    kinds = StructType([("loss", TensorType("float32")), ("num_examples", TensorType("int32"))])

    def contribute(seen: Seen) -> Any:
        count = seen.output.num_examples
        loss = jnp.asarray(seen.output.loss, jnp.float32) * count.astype(jnp.float32)
        return {"loss": loss, "num_examples": count}

    def finish(total: Any) -> Any:
        loss = {"loss": ratio(total.loss, total.num_examples).astype(jnp.float32)}
        return {**loss, "num_examples": total.num_examples} if keep_count else loss

    return summed("the loss", contribute, finish).build(kinds)


def ratio(total: Any, weight: Any) -> Any:
    """A mean, and zero where there is no weight."""
    return jnp.where(weight == 0, 0.0, total / jnp.where(weight == 0, 1, weight))


def own_aggregation(computation: Any, kind: Type, what: str, missing: str) -> tuple[Callable[[Any], Any], Computation]:
    """A user's computation of the clients' reports of a type, and what the reports must be for it.

    Args:
        computation: `({T}@CLIENTS -> U@SERVER)`, with or without declared types.
        kind: the type of the reports.
        what: how messages name it.
        missing: what messages say is to be done about a field that is not reported.

    Returns:
        A function that gives reports the dtypes and the order of fields that the computation declares, and a
        computation of reports of that type.
    """
    declared = getattr(getattr(computation, "type_signature", None), "parameter", None)
    to = declared.member if isinstance(declared, FederatedType) else None
    kind, convert = _as_declared(kind, to, what, missing)
    try:
        aggregation = concrete(computation, FederatedType(kind, CLIENTS), what)
    except (AttributeError, KeyError, TypeError) as error:
        add_note(error, f"while tracing {what} on {FederatedType(kind, CLIENTS)}; if a field is missing, {missing}")
        raise
    result = aggregation.type_signature.result
    placed = result if isinstance(result, StructType) else [result]
    if not len(placed) or not all(isinstance(part, FederatedType) and part.placement is SERVER for part in placed):
        raise TypeError(f"{what} must return what is at the server, found {result}; aggregate with hansa.federated_sum")
    if unused := _unused(aggregation):
        raise TypeError(
            f"{what} does nothing with {unused[0]!r}, which each client reports: aggregate it, as by "
            f"hansa.federated_sum(reports.{unused[0]}), or do not report it"
        )

    @federated_computation(FederatedType(kind, CLIENTS))
    def aggregate(reports: Any) -> Any:
        found = aggregation(reports)
        return intrinsics.federated_zip(found) if isinstance(result, StructType) else found

    return convert, aggregate


def _unused(aggregation: Computation) -> list[str]:
    """The fields of its parameter that a computation makes no use of."""
    if not isinstance(aggregation, GraphComputation) or aggregation.parameter is None:
        return []
    kind = aggregation.parameter.type
    member = kind.member if isinstance(kind, FederatedType) else kind
    uses = [node for node in walk(aggregation.result) if aggregation.parameter in node.inputs]
    if not isinstance(member, StructType) or not all(isinstance(node, Select) for node in uses):
        return []
    used = {node.index for node in uses if isinstance(node, Select)}
    return [str(name or i) for i, name in enumerate(member.names) if i not in used]


def _as_declared(kind: Type, to: Type | None, what: str, missing: str) -> tuple[Type, Callable[[Any], Any]]:
    """Fields in the declared order, numbers of the declared width."""
    if isinstance(kind, TensorType) and isinstance(to, TensorType):
        if kind.dtype.kind not in "if" or kind.dtype.kind != to.dtype.kind:
            return kind, lambda value: value
        dtype = to.dtype

        def cast_to(value: Any) -> Any:
            with jax.enable_x64(True):
                return value.astype(dtype)

        return TensorType(dtype, kind.shape), cast_to
    if isinstance(kind, StructType) and isinstance(to, StructType) and None not in (*kind.names, *to.names):
        if set(kind.names) != set(to.names):
            lacking = sorted(set(map(str, to.names)) - set(map(str, kind.names)))
            reason = f"{', '.join(map(repr, lacking))} missing" if lacking else "fields that it does not take"
            raise TypeError(f"{what} takes {to} of each client, and is to be given {kind}, with {reason}; {missing}")
        parts = [(str(name), *_as_declared(kind[str(name)], member, what, missing)) for name, member in to.fields]
        return StructType([(name, part) for name, part, _ in parts]), lambda value: Struct(
            [(name, convert(value[name])) for name, _, convert in parts]
        )
    return kind, lambda value: value


def type_of(value: Any) -> Type:
    """The type of a struct of arrays."""
    return infer_type(jax.tree.map(np.asarray, value))


def type_of_report(report: Callable[[Any], Any], state: Any) -> Type:
    """The type of what a client with a state reports."""
    return cast(Type, narrow_computation(type_of(state))(report).type_signature.result)


def example(kind: Type) -> Any:
    """Zeros of a type, two for each size that is not known."""
    return unflatten(
        kind, [np.zeros([2 if n is None else n for n in leaf.shape], leaf.dtype) for leaf in tensors(kind)]
    )


def _known_sizes(kind: Type, name: str) -> None:
    for leaf in tensors(kind):
        if None in leaf.shape:
            raise TypeError(
                f"{name} gives {leaf} for a batch, of a size that differs from batch to batch; reduce it over the "
                "examples, as with jnp.sum(values)"
            )


def _spread(fields: Any, spread: Sequence[str]) -> Struct:
    found: list[tuple[str, Any]] = []
    for name, value in fields:
        if name not in spread:
            found.append((name, value))
        elif isinstance(value, StructType):
            found.extend((str(field), member) for field, member in value.fields)
        elif isinstance(value, Struct):
            found.extend((str(field), member) for field, member in value._items())
        else:
            names = cast(Any, value).type_signature.member.names
            found.extend(zip(names, value, strict=True))
    names = [name for name, _ in found]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two metrics have the name {name!r}; give one of them another")
    return Struct(found)
