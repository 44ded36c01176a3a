"""Keras metric objects as accumulators. Keras itself is not imported here: the objects bring their functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from hansa._tracebacks import add_note
from hansa.language import intrinsics
from hansa.language.computation import Computation
from hansa.language.local import to_struct
from hansa.language.tracing import federated_computation, jax_computation
from hansa.models import exact
from hansa.models.accumulators import (
    Accumulator,
    Plan,
    Seen,
    example,
    extreme_of_clients,
    own_aggregation,
    type_of,
    type_of_report,
)
from hansa.models.keras.folds import folds_of
from hansa.models.merging import merged
from hansa.models.metrics import Metric
from hansa.types import CLIENTS, FederatedType, Struct, StructType, Type


def keras_metric_plan(name: str, metric: Metric) -> Plan:
    """How a Keras metric object is kept and aggregated: see `Metric`."""
    what = f"the metric {name!r}"
    _check_backend(what)

    def arguments(seen: Seen) -> Any:
        labels, predictions, weight = seen.arguments(what)
        if predictions is None:
            raise TypeError(f"{what} takes predictions, and there are none in the BatchOutput of the forward pass")
        return {"labels": labels, "predictions": predictions, **({} if weight is None else {"sample_weight": weight})}

    def planned(kind: Type) -> Accumulator:
        _build(metric.function, example(kind), what)
        kept = _merged if metric.aggregation is None else _of_clients
        return kept(what, metric, cast(StructType, kind), lambda seen: to_struct(arguments(seen), what))

    return Plan(arguments, planned)


def kept_by_clients(metric: Any) -> str:
    """How messages say to give a Keras metric whose variables do not come together."""
    name = type(metric).__name__
    return (
        "Let each client keep it, and say how the clients' results are aggregated: "
        f"metrics=[hansa.learning.Metric({name}(…), 'max')], or 'min', 'mean', or a federated computation of your own"
    )


def _check_backend(what: str) -> None:
    from keras import backend

    if backend.backend() != "jax":
        raise TypeError(
            f"{what} is a Keras metric on Keras's {backend.backend()!r} backend, and a hansa.learning.Metric runs on "
            "JAX: compile it into the Keras model, or give Metric a function in JAX"
        )


def to_keras(value: Any) -> Any:
    """A struct as Keras takes it: a dict if its fields have names, else a list."""
    if not isinstance(value, Struct):
        return value
    if len(value) and all(name is not None for name in value._fields):
        return {name: to_keras(part) for name, part in value._items()}
    return [to_keras(part) for part in value]


def _build(metric: Any, zeros: Any, what: str) -> None:
    """Lets the object make its variables, which some do only when they see data."""
    try:
        _update(metric, zeros)
    except Exception as error:
        add_note(
            error,
            f"while calling {what}, {type(metric).__name__}, on labels and predictions; one that takes values instead, "
            "as keras.metrics.Mean does, is hansa.learning.Metric of a function that makes these values",
        )
        raise
    metric.reset_state()


def _update(metric: Any, given: Any) -> None:
    positional, rest = _arguments(given)
    metric.update_state(*positional, **rest)


def _arguments(given: Any) -> tuple[list[Any], dict[str, Any]]:
    weight = given.sample_weight if "sample_weight" in given._fields else None
    return [to_keras(given.labels), to_keras(given.predictions)], {"sample_weight": weight}


def _updated(metric: Any, variables: Any, given: Any) -> Struct:
    positional, rest = _arguments(given)
    after = metric.stateless_update_state(list(variables), *positional, **rest)
    return Struct([(None, jnp.asarray(a, b.dtype)) for a, b in zip(after, variables, strict=True)])


def _result(metric: Any, variables: Any, what: str) -> Any:
    values = [jnp.asarray(value, v.dtype) for value, v in zip(variables, metric.variables, strict=True)]
    return to_struct(metric.stateless_result(values), what)


def _merged(what: str, metric: Metric, given: StructType, arguments: Callable[[Seen], Any]) -> Accumulator:
    """Variables that come together over batches and clients, and Keras's result of them."""
    keras_metric = cast(Any, metric.function)
    variables = list(keras_metric.variables)
    zeros = Struct([(None, np.zeros(v.shape, v.dtype)) for v in variables])

    def finish(total: Any) -> Any:
        result = _result(keras_metric, total, what)
        return result if metric.finalize is None else metric.finalize(result)

    def contribute(seen: Seen) -> Any:
        return _updated(keras_metric, zeros, arguments(seen))

    folds = folds_of([keras_metric], variables, lambda: given, lambda one: _update(keras_metric, one), kept_by_clients)
    kind = type_of(jax.tree.map(exact.summable, zeros))
    return merged(what, cast(StructType, kind), folds, contribute, finish)


def _of_clients(what: str, metric: Metric, given: StructType, arguments: Callable[[Seen], Any]) -> Accumulator:
    """The metric's own variables at each client, and the clients' results aggregated."""
    variables = Struct([(None, np.array(v.value)) for v in cast(Any, metric.function).variables])
    initial = Struct([("variables", variables), ("batches", np.int32(0)), ("num_examples", np.int32(0))])

    def update(state: Struct, seen: Seen) -> Struct:
        after = _updated(metric.function, state.variables, arguments(seen))
        return Struct.of(variables=after, batches=1, num_examples=state.num_examples + seen.output.num_examples)

    def value(state: Struct) -> Any:
        return _result(metric.function, state.variables, what)

    if not isinstance(metric.aggregation, str):
        kind = type_of_report(lambda state: exact.wide(value(state)), initial)
        convert, own = own_aggregation(
            metric.aggregation, kind, f"the aggregation of {what}", "it is not in the result"
        )
        return Accumulator(initial, update, lambda state: convert(exact.wide(value(state))), own)
    if metric.aggregation in ("min", "max"):
        finish = metric.finalize or (lambda aggregate: aggregate)

        def report(state: Struct) -> Any:
            return Struct.of(value=value(state), batches=state.batches)

        of_clients = extreme_of_clients(type_of_report(report, initial), metric.aggregation == "min", finish)
        return Accumulator(initial, update, report, of_clients)

    def weighted(state: Struct) -> Any:
        return Struct.of(value=exact.wide(value(state)), weight=state.num_examples)

    return Accumulator(initial, update, weighted, _of_weighted(metric, type_of_report(weighted, initial)))


def _of_weighted(metric: Metric, kind: Type) -> Computation:
    """The mean by examples, or the sum, of the clients' results."""

    def finish(found: Any) -> Any:
        if metric.finalize is not None:
            return metric.finalize(found)
        return found if metric.aggregation == "sum" else jax.tree.map(lambda leaf: leaf.astype(jnp.float32), found)

    @federated_computation(FederatedType(kind, CLIENTS))
    def aggregate(reports: Any) -> Any:
        if metric.aggregation == "sum":
            found = intrinsics.federated_sum(reports.value)
        else:
            found = intrinsics.federated_mean(reports.value, reports.weight)
        return intrinsics.federated_map(jax_computation(finish), found)

    return aggregate
