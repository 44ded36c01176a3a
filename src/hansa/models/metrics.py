"""`Metric` and `MetricSums`: metrics of one's own, for models of every kind, and how they are aggregated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import jax
import jax.numpy as jnp

from hansa._tracebacks import boundaries
from hansa.language.computation import Computation
from hansa.language.computations import PolymorphicComputation
from hansa.language.local import to_struct
from hansa.models import exact
from hansa.models.accumulators import Plan, Seen, extreme, own_aggregation, ratio, reported_sums, summed
from hansa.types import Struct, Type

if TYPE_CHECKING:
    import keras

_AGGREGATIONS = ("mean", "sum", "min", "max")


@boundaries
@dataclass(frozen=True)
class Metric:
    """A metric, and how it is aggregated over the examples of all clients.

    A function gets the labels (`y` of a batch, or the second of a pair), the predictions, and the batch's
    `sample_weight` (the third of a triple), or None if it has none. It returns a number for each example,
    `[examples, ...]`, or one for the batch, or a struct of these where they are not averaged.

    - "mean": of all examples, those of `[examples, ...]` averaged over the other axes first; a number for a batch
      counts as often as the batch has examples. With weights of its own the function returns (values, weights), and
      the mean is sum(weights * values) / sum(weights). Without any weight it is zero.
    - "sum": of everything, exact in 64 bits: float64 of floats, int64 of integers and bools.
    - "min", "max": of everything. Without any example they are infinite, or the extreme of an integer dtype.
    - A federated computation `({T}@CLIENTS -> U@SERVER)` of each client's sum, with the dtypes that it declares, or
      in 64 bits if it declares none. A client that is left out of a round has zeros in it.

    A Keras metric object may be given for the function. Without an aggregation its variables are added up, and Keras
    makes the result of the total, as in `compile`. Else each client has the metric's own result, and the aggregation is
    the "mean" of these, weighted by examples, their "sum", "min" or "max", or the computation of them.

    Attributes:
        function: (labels, predictions, sample weight) -> values; or a Keras metric object.
        aggregation: see above; "mean" where it is None and `function` is a function.
        finalize: from the aggregate to the metric, at the server, such as `jnp.sqrt`; not with a computation. It sees
            64-bit numbers.
        name: what the metric is called where it is given in a list; by default the name of the function.

    Raises:
        TypeError, ValueError: if an argument is not what is said above.

    Examples:
        >>> def squared_error(labels, predictions, sample_weight):
        ...     return (labels - predictions) ** 2
        >>> rmse = hansa.learning.Metric(squared_error, finalize=jnp.sqrt, name="rmse")
        >>> largest = hansa.learning.Metric(squared_error, "max", name="largest")
        >>> line = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        >>> sample = {"x": np.zeros((1, 3), np.float32), "y": np.zeros((1, 1), np.float32)}
        >>> model = hansa.learning.from_keras_model(line, sample, loss="mse", metrics=[rmse, largest])
        >>> print(model.metrics.type_signature.result)
        <rmse=float64,largest=float32,loss=float32>@SERVER
    """

    function: Callable[..., Any] | keras.metrics.Metric
    aggregation: str | Computation | PolymorphicComputation | None = None
    finalize: Callable[[Any], Any] | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.function, type) or not (callable(self.function) or is_keras_metric(self.function)):
            raise TypeError(
                "the function of a Metric takes (labels, predictions, sample_weight), or is a Keras metric object such "
                f"as keras.metrics.AUC(); found {self.function!r}"
            )
        if isinstance(self.aggregation, Computation | PolymorphicComputation):
            if self.finalize is not None:
                raise TypeError(
                    "a Metric with a computation as its aggregation has no finalize; do it in the computation"
                )
        elif self.aggregation is not None and self.aggregation not in _AGGREGATIONS:
            raise ValueError(
                "the aggregation of a Metric is 'mean', 'sum', 'min', 'max' or a federated computation "
                f"({{T}}@CLIENTS -> U@SERVER), found {self.aggregation!r}"
            )
        if self.finalize is not None and not callable(self.finalize):
            raise TypeError(f"the finalize of a Metric is a function of the aggregate, found {self.finalize!r}")

    def _name(self) -> str:
        """Its own name, or that of its function."""
        found = self.name or getattr(self.function, "name", None) or getattr(self.function, "__name__", "<lambda>")
        if found == "<lambda>":
            raise ValueError("a Metric of a function without a name needs one in a list: Metric(function, name='…')")
        return str(found)


@boundaries
@dataclass(frozen=True)
class MetricSums:
    """All metrics of a model, made of sums over examples.

    The sums are added up exactly over batches and clients, in 64 bits. Then either `finalize` makes the metrics of
    those of all clients; or each client makes its `local_outputs` of its own sums, and `aggregation` the metrics of
    those. Without any of these the sums are the metrics.

    Attributes:
        sums: (batch, output of the forward pass) -> a struct or dict of a batch's sums.
        finalize: from the sums of all clients, in 64 bits, to a struct or dict of metrics. Without clients they are
            zero, so it divides by `jnp.maximum(sums.num_examples, 1)`, for instance.
        local_outputs: from the sums of one client, in 32 bits, to a struct or dict of what it reports; by default the
            sums.
        aggregation: a federated computation from the reports to a struct of metrics, `({…}@CLIENTS -> …@SERVER)`. If it
            declares no types, numbers come as float64 and int64. A client that is left out of a round has zeros in it.

    Raises:
        TypeError: if an argument is not what is said above.

    Examples:
        >>> def sums(batch, output):
        ...     return {"right": (output.predictions.argmax(-1) == batch.y).sum(), "num_examples": len(batch.y)}
        >>> def finalize(sums):
        ...     return {"accuracy": sums.right / jnp.maximum(sums.num_examples, 1)}
        >>> metrics = hansa.learning.MetricSums(sums, finalize)
        >>> def forward(weights, batch, training, rng):
        ...     scores = batch.x @ weights["kernel"]
        ...     return hansa.learning.BatchOutput(jnp.mean((scores - jnp.eye(10)[batch.y]) ** 2), scores)
        >>> model = hansa.learning.functional_model(
        ...     {"kernel": np.zeros((64, 10))}, forward, sample_batch={"x": x, "y": y}, metrics=metrics
        ... )
        >>> print(model.metrics.type_signature.result)
        <accuracy=float64>@SERVER
    """

    sums: Callable[[Any, Any], Any]
    finalize: Callable[[Any], Any] | None = None
    local_outputs: Callable[[Any], Any] | None = None
    aggregation: Computation | PolymorphicComputation | None = None

    def __post_init__(self) -> None:
        if not callable(self.sums):
            raise TypeError(f"the sums of MetricSums are a function (batch, output) -> dict, found {self.sums!r}")
        if self.aggregation is None and self.local_outputs is not None:
            raise TypeError("MetricSums with local_outputs needs an aggregation of them, a federated computation")
        if self.aggregation is not None and self.finalize is not None:
            raise TypeError("MetricSums has a finalize, or an aggregation of its own, not both")
        if self.aggregation is not None and not isinstance(self.aggregation, Computation | PolymorphicComputation):
            raise TypeError(
                "the aggregation of MetricSums is a computation ({…}@CLIENTS -> …@SERVER); decorate the function with "
                f"@hansa.federated_computation; found {self.aggregation!r}"
            )


def is_keras_metric(value: Any) -> bool:
    """Whether a value is a Keras metric object, which can be told without importing Keras."""
    return (
        not isinstance(value, type) and hasattr(value, "stateless_update_state") and hasattr(value, "stateless_result")
    )


def metric_plan(name: str, metric: Metric) -> Plan:
    """How a metric that is a function is kept and aggregated."""
    what = f"the metric {name!r}"
    finish = metric.finalize or (lambda aggregate: aggregate)

    def values(seen: Seen) -> Any:
        return metric.function(*seen.arguments(what))

    if metric.aggregation in (None, "mean"):

        def mean(seen: Seen) -> Any:
            return _weighted(values(seen), seen.output.num_examples, what)

        def finish_mean(total: Any) -> Any:
            found = ratio(total.values, total.weights)
            return finish(found) if metric.finalize else found.astype(jnp.float32)

        return summed(what, mean, finish_mean)
    if metric.aggregation in ("min", "max"):
        lowest = metric.aggregation == "min"
        reduce = jnp.min if lowest else jnp.max
        return extreme(what, lambda seen: jax.tree.map(reduce, to_struct(values(seen), what)), lowest, finish)

    def contribute(seen: Seen) -> Any:
        return jax.tree.map(lambda x: jnp.sum(exact.summable(x)), to_struct(values(seen), what))

    if metric.aggregation == "sum":
        return summed(what, contribute, finish)
    return _with_aggregation(what, contribute, exact.total, metric.aggregation, "return it from the function")


def sums_plan(metrics: MetricSums) -> Plan:
    """How the metrics made of sums are kept and aggregated."""

    def sums(seen: Seen) -> Any:
        return _struct(metrics.sums(seen.batch, seen.output), "the sums of MetricSums")

    def finish(total: Any) -> Any:
        return total if metrics.finalize is None else _struct(metrics.finalize(total), "the finalize of MetricSums")

    def report(state: Struct) -> Any:
        if metrics.local_outputs is None:
            return exact.total(state)
        outputs = metrics.local_outputs(exact.narrow(exact.total(state)))
        return exact.wide(_struct(outputs, "the local_outputs of MetricSums"))

    if metrics.aggregation is None:
        return summed("the sums of MetricSums", sums, finish)
    return _with_aggregation(
        "MetricSums",
        sums,
        report,
        metrics.aggregation,
        f"return it from the {'sums' if metrics.local_outputs is None else 'local_outputs'} of MetricSums",
    )


def _with_aggregation(
    what: str, contribute: Callable[[Seen], Any], report: Callable[[Struct], Any], aggregation: Any, missing: str
) -> Plan:
    converted: list[Callable[[Any], Any]] = []

    def aggregate(kind: Type) -> Computation:
        convert, computation = own_aggregation(aggregation, kind, f"the aggregation of {what}", missing)
        converted[:] = [convert]
        return computation

    plan = reported_sums(what, contribute, report, aggregate)

    def build(kind: Type) -> Any:
        accumulator = plan.build(kind)
        convert = converted[0]
        return replace(accumulator, report=lambda state: convert(report(state)))

    return Plan(plan.contribute, build)


def _weighted(values: Any, num_examples: Any, what: str) -> Any:
    """The sums whose ratio is a mean."""
    weights = None
    if isinstance(values, tuple) and len(values) == 2:
        values, weights = values
    if not hasattr(values, "dtype") and not isinstance(values, bool | int | float):
        raise TypeError(
            f"{what} gives a {type(values).__name__}, and a mean is of one array [examples, ...], or of a pair "
            "(values, weights); add up a struct with aggregation='sum' and a finalize, or use hansa.learning.MetricSums"
        )
    values = exact.summable(values)
    if weights is not None:
        weights = exact.summable(weights)
    if values.ndim > 1 and (weights is None or weights.ndim < 2):
        values = values.mean(axis=tuple(range(1, values.ndim)))
    if weights is None:
        return {
            "values": jnp.sum(values) * (1 if values.ndim else num_examples),
            "weights": _count(values, num_examples),
        }
    weights = jnp.broadcast_to(weights, values.shape)
    return {"values": jnp.sum(values * weights), "weights": jnp.sum(weights)}


def _count(values: Any, num_examples: Any) -> Any:
    return jnp.asarray(values.shape[0], jnp.int32) if values.ndim else num_examples


def _struct(value: Any, what: str) -> Struct:
    if not isinstance(value, Mapping | Struct) and not (isinstance(value, tuple) and hasattr(value, "_fields")):
        raise TypeError(f"{what} must return a dict or struct with names, found a {type(value).__name__}")
    found = cast(Struct, to_struct(value, what))
    if None in found._fields or not len(found):
        raise TypeError(f"{what} must return a dict or struct with names, found {found._fields}")
    return found
