"""The arguments that algorithms have in common, for those that pass them on as they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypedDict

import jax

from hansa.aggregators import Factory
from hansa.aggregators.codecs import Codec
from hansa.learning.weighting import AnyWeighting
from hansa.models._typing import AnyOptimizer
from hansa.models.named_optimizers import LearningRate


class OfProcess(TypedDict, total=False):
    """Arguments as of `build_process`, which no algorithm changes."""

    aggregator: Factory | None
    distributor: Codec | None
    seed: int


class OfAveraging(OfProcess, total=False):
    """Arguments as of `build_federated_averaging_process`."""

    client_optimizer: AnyOptimizer | None
    client_learning_rate: LearningRate | None
    server_optimizer: AnyOptimizer | None
    server_learning_rate: LearningRate | None
    client_schedule: Callable[[jax.Array], Any] | None
    client_weighting: AnyWeighting
    non_trainable: str
