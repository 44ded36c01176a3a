"""What a round reports: the model's metrics, counters of clients that are left out, what its parts measure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hansa.language.computation import Computation
from hansa.language.tracing import federated_computation, jax_computation
from hansa.learning.metrics import RoundMetrics
from hansa.learning.screening import reported_metrics
from hansa.models.model import FunctionalModel
from hansa.types import StructType, TensorType

_FLAG = TensorType("bool")


def private_metrics(measured: StructType | None) -> Computation:
    """(whether the model changed, and what the aggregator measures, if it does) -> `RoundMetrics` that tell nothing of
    the clients."""
    negated = jax_computation(_FLAG)(lambda changed: ~changed)

    @federated_computation(_FLAG)
    def only_changed(changed: Any) -> Any:
        return RoundMetrics([("model_unchanged", negated(changed))])

    if measured is None:
        return only_changed

    @federated_computation(_FLAG, measured)
    def private_metrics(changed: Any, told: Any) -> Any:
        return RoundMetrics([("model_unchanged", negated(changed)), ("aggregator", told)])

    return private_metrics


def round_metrics(model: FunctionalModel, counters: StructType, measured: Mapping[str, StructType]) -> Computation:
    """(metrics, counters, whether the model changed, and what is measured by name, if anything is) -> `RoundMetrics`.

    Raises:
        ValueError: if a metric has the name of something else that is reported.
    """
    metrics = reported_metrics(model, [*counters.names, "model_unchanged", *measured])
    negated = jax_computation(_FLAG)(lambda changed: ~changed)

    @federated_computation(metrics, counters, _FLAG)
    def round_metrics(metrics: Any, counters: Any, changed: Any) -> Any:
        both = (metrics, counters)
        fields = [pair for part in both for pair in zip(part.type_signature.names, part, strict=True)]
        return RoundMetrics([*fields, ("model_unchanged", negated(changed))])

    if not measured:
        return round_metrics

    @federated_computation(metrics, counters, _FLAG, StructType(list(measured.items())))
    def all_metrics(metrics: Any, counters: Any, changed: Any, told: Any) -> Any:
        both = (round_metrics(metrics, counters, changed), told)
        return RoundMetrics([pair for part in both for pair in zip(part.type_signature.names, part, strict=True)])

    return all_metrics
