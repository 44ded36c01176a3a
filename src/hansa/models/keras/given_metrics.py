"""The metrics that are given with a Keras model: which of them Keras compiles, and which are kept beside those."""

from __future__ import annotations

from typing import Any

import jax
import keras

from hansa.models.accumulators import Plan
from hansa.models.keras.metrics import kept_by_clients, keras_metric_plan
from hansa.models.metrics import Metric, is_keras_metric, metric_plan


def plan_of(metric: Metric) -> Plan:
    """How a metric is kept and aggregated."""
    make = keras_metric_plan if is_keras_metric(metric.function) else metric_plan
    return make(metric._name(), metric)


def instead_of_compiled(metric: Any) -> str:
    """How messages say to give a metric that cannot be compiled."""
    if keras.backend.backend() == "jax":
        return f"Leave it out of compile. {kept_by_clients(metric)}; give that to from_compiled_keras_model"
    return (
        "Leave it out of compile, and write it as a function in JAX of all examples, such as hansa.learning.Metric("
        "lambda labels, predictions, weight: jnp.abs(labels - predictions), 'max', name='max_error'), in the list "
        "metrics= of from_compiled_keras_model"
    )


def split(metrics: Any) -> tuple[Any, list[Metric]]:
    """What Keras compiles of a list of metrics, and those that are Hansa's."""
    if isinstance(metrics, Metric):
        return None, [metrics]
    if isinstance(metrics, list | tuple):
        own = [metric for metric in metrics if isinstance(metric, Metric)]
        rest = [metric for metric in metrics if not isinstance(metric, Metric)]
    else:
        own, rest = [], metrics
    if any(isinstance(leaf, Metric) for leaf in jax.tree.leaves(rest, is_leaf=lambda x: isinstance(x, Metric))):
        raise TypeError(
            "a hansa.learning.Metric is given in the list of metrics itself, and not for one output: its function gets "
            "the labels and predictions of all outputs"
        )
    return rest, own


def own_metrics(metrics: Any) -> list[Metric]:
    """The metrics that are added to a compiled model's."""
    found = []
    for metric in [] if metrics is None else metrics:
        if not isinstance(metric, Metric) and not is_keras_metric(metric):
            raise TypeError(
                "the metrics that from_compiled_keras_model adds to the compiled ones are hansa.learning.Metrics or "
                f"Keras metric objects, found {metric!r}; give names and functions to compile"
            )
        found.append(metric if isinstance(metric, Metric) else Metric(metric))
    return found
