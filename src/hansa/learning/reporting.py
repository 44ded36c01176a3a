"""What a round reports: the model's metrics, counters of clients that are left out, what an aggregator measures."""

from __future__ import annotations

from typing import Any

from hansa.language.computation import Computation
from hansa.language.tracing import federated_computation, jax_computation
from hansa.learning.metrics import RoundMetrics
from hansa.learning.screening import reported_metrics
from hansa.models.model import FunctionalModel
from hansa.types import StructType, TensorType

_FLAG = TensorType("bool")


def round_metrics(model: FunctionalModel, counters: StructType, measured: StructType | None) -> Computation:
    """(metrics, counters, whether the model changed, what is measured if anything is) -> `RoundMetrics`.

    Raises:
        ValueError: if a metric has the name of something else that is reported.
    """
    more = [] if measured is None else ["aggregator"]
    metrics = reported_metrics(model, [*counters.names, "model_unchanged", *more])
    negated = jax_computation(_FLAG)(lambda changed: ~changed)

    @federated_computation(metrics, counters, _FLAG)
    def round_metrics(metrics: Any, counters: Any, changed: Any) -> Any:
        both = (metrics, counters)
        fields = [pair for part in both for pair in zip(part.type_signature.names, part, strict=True)]
        return RoundMetrics([*fields, ("model_unchanged", negated(changed))])

    if measured is None:
        return round_metrics

    @federated_computation(metrics, counters, _FLAG, measured)
    def all_metrics(metrics: Any, counters: Any, changed: Any, told: Any) -> Any:
        plain = round_metrics(metrics, counters, changed)
        return RoundMetrics([*zip(plain.type_signature.names, plain, strict=True), ("aggregator", told)])

    return all_metrics
