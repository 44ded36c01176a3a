"""The metrics of a private round that are told with noise: means over its clients, of one noised sum."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import jax.numpy as jnp
import numpy as np

from hansa.language import intrinsics as on
from hansa.language.computation import Computation
from hansa.language.tracing import federated_computation, jax_computation, wide_computation
from hansa.learning.metrics import RoundMetrics
from hansa.learning.one_client import of_one_client
from hansa.learning.screening import reported_metrics
from hansa.models.model import FunctionalModel
from hansa.privacy.metric_ranges import NoisedMetrics
from hansa.privacy.rules import PrivateFactory
from hansa.types import CLIENTS, SERVER, FederatedType, StructType, TensorType, Type
from hansa.types.names import listing, suggestion

_CLIENTS = "noised_clients"
_FLAG, _FLOAT = TensorType("bool"), TensorType("float32")


def build_noised_metrics(
    model: FunctionalModel, private: PrivateFactory, told: NoisedMetrics, counts: StructType, measured: StructType
) -> Computation:
    """({what clients report}, {their counters}, whether the model changed, what the aggregator measures) ->
    `RoundMetrics`.

    Args:
        model: of whose metrics some are told.
        private: the rule of aggregation, whose noise it is.
        told: which metrics, and with how much noise.
        counts: the type of a client's counters; all are zero for one that has a part in the round.
        measured: the type of what the aggregator measures.

    Raises:
        ValueError: if the model has no such metric, or it is not one number.
    """
    names = [name for name, _ in told.ranges]
    kinds = reported_metrics(model, ["model_unchanged", "aggregator", _CLIENTS])
    _check(names, kinds)
    alone = of_one_client(model.metrics, f"the metrics of the model {model.name!r}")
    report = cast(FederatedType, model.metrics.type_signature.parameter).member
    low, high = (np.array([bounds[i] for _, bounds in told.ranges], np.float32) for i in (0, 1))
    middle, half = (low + high) / 2, (high - low) / 2
    part = np.float32(1 / math.sqrt(len(names) + 1))
    vector = TensorType("float32", (len(names) + 1,))

    @wide_computation(kinds, counts)
    def given(metrics: Any, counts: Any) -> Any:
        numbers = jnp.stack([metrics[name].astype(jnp.float32) for name in names])
        away = jnp.clip((numbers - middle) / half, -1, 1)  # NaN stays NaN, and the client has no part
        there = sum(counts) == 0
        return jnp.where(there, part * jnp.append(away, np.float32(1)), 0).astype(jnp.float32)

    @federated_computation(report, counts)
    def of_client(outputs: Any, counts: Any) -> Any:
        return given(alone(outputs), counts)

    @jax_computation(vector, _FLAG, measured)
    def combined(total: Any, changed: Any, measured: Any) -> Any:
        number = total[-1] / part
        means = middle + half * jnp.clip(total[:-1] / jnp.maximum(total[-1], part), -1, 1)
        fields = [(name, means[i]) for i, name in enumerate(names)]
        return RoundMetrics([*fields, (_CLIENTS, number), ("model_unchanged", ~changed), ("aggregator", measured)])

    @federated_computation(FederatedType(report, CLIENTS), FederatedType(counts, CLIENTS), *_at_server(_FLAG, measured))
    def metrics(outputs: Any, counts: Any, changed: Any, measured: Any) -> Any:
        vectors = on.federated_map(of_client, [outputs, counts])
        total = private.private_sum(vectors, 1.0, told.noise_multiplier)
        return on.federated_map(combined, [total, changed, measured])

    return metrics


def _at_server(*kinds: Type) -> list[FederatedType]:
    return [FederatedType(kind, SERVER) for kind in kinds]


def _check(names: Sequence[str], kinds: StructType) -> None:
    known = [str(name) for name in kinds.names]
    for name in names:
        if name not in known:
            hint = suggestion(name, known) or ";"
            raise ValueError(f"the model has no metric {name!r} for noised_metrics{hint} it has {listing(known)}")
        kind = kinds[name]
        if not isinstance(kind, TensorType) or kind.shape:
            raise ValueError(f"the metric {name!r} is of type {kind}, and noised_metrics tells single numbers")
