"""Learning algorithms, and the models they train."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hansa.learning.averaging import build_federated_averaging_process
from hansa.learning.client_metrics import ClientMetric, ClientMetrics, Distribution
from hansa.learning.continuing import with_weights
from hansa.learning.evaluation import build_federated_evaluation, build_per_client_evaluation
from hansa.learning.metrics import RoundMetrics
from hansa.learning.prediction import build_prediction
from hansa.models.functional_models import functional_model
from hansa.models.metrics import Metric, MetricSums
from hansa.models.model import BatchOutput, FunctionalModel
from hansa.models.tensorflow_models import Model, TrainableModel
from hansa.models.weight_files import load_weights, save_weights
from hansa.models.weights import ModelWeights

if TYPE_CHECKING:
    from hansa.models.keras_models import from_compiled_keras_model, from_keras_model

_KERAS = ("from_compiled_keras_model", "from_keras_model")


def __getattr__(name: str) -> Any:
    if name in _KERAS:  # Importing Keras takes a second; who has a model of another kind need not wait for it.
        from hansa.models import keras_models

        return getattr(keras_models, name)
    raise AttributeError(f"module 'hansa.learning' has no attribute {name!r}")


__all__ = [
    "BatchOutput",
    "ClientMetric",
    "ClientMetrics",
    "Distribution",
    "FunctionalModel",
    "Metric",
    "MetricSums",
    "Model",
    "ModelWeights",
    "RoundMetrics",
    "TrainableModel",
    "build_federated_averaging_process",
    "build_federated_evaluation",
    "build_per_client_evaluation",
    "build_prediction",
    "from_compiled_keras_model",
    "from_keras_model",
    "functional_model",
    "load_weights",
    "save_weights",
    "with_weights",
]
