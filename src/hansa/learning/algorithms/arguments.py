"""The arguments that algorithms have in common with federated averaging, for those that pass them on as they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypedDict

import jax

from hansa.aggregators import Factory
from hansa.learning.weighting import AnyWeighting
from hansa.models._typing import AnyOptimizer
from hansa.models.named_optimizers import LearningRate


class OfAveraging(TypedDict, total=False):
    """Arguments as of `build_federated_averaging_process`."""

    client_optimizer: AnyOptimizer | None
    client_learning_rate: LearningRate | None
    server_optimizer: AnyOptimizer | None
    server_learning_rate: LearningRate | None
    client_schedule: Callable[[jax.Array], Any] | None
    client_weighting: AnyWeighting
    non_trainable: str
    aggregator: Factory | None
    seed: int
