"""HypCluster (Mansour et al. 2020, arXiv:2002.10619, Algorithm 1): clients use the hypothesis that fits them.

A round is a step of stochastic EM: clients find the hypothesis of least empirical loss and train it, and the server
averages, within each group, by the clients' numbers of examples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Unpack

import jax

from hansa.learning.algorithms.arguments import OfProcess
from hansa.learning.groups import first_models, group_means, group_work
from hansa.learning.model_fn import model_of
from hansa.learning.process import LearningProcess, build_process
from hansa.models._typing import AnyOptimizer
from hansa.models.model import FunctionalModel
from hansa.models.named_optimizers import LearningRate
from hansa.models.tensorflow.models import Model


def build_hyp_cluster(
    model_fn: Callable[[], FunctionalModel | Model] | FunctionalModel,
    *,
    groups: int,
    initial_models: Sequence[Any] | None = None,
    client_optimizer: AnyOptimizer | None = None,
    client_learning_rate: LearningRate | None = None,
    server_learning_rate: float = 1.0,
    client_schedule: Callable[[jax.Array], Any] | None = None,
    **process: Unpack[OfProcess],
) -> LearningProcess:
    """HypCluster: as `build_ifca`, but a client counts as much in its group as it has examples.

    Args:
        model_fn, groups, initial_models, client_optimizer, client_learning_rate, server_learning_rate, client_schedule,
            aggregator, distributor, seed: as of `build_ifca`.

    Returns:
        A process as of `build_ifca`; `state.finalizer.share` is the share of the last round's examples.

    Raises:
        TypeError, ValueError: as of `build_ifca`.

    Examples:
        >>> averaging = hansa.learning.build_federated_averaging_process(model)
        >>> starts = hansa.learning.spread_models(averaging, data.cohort(range(4)), groups=2)
        >>> process = hansa.learning.build_hyp_cluster(model, groups=2, initial_models=starts)
        >>> state, metrics = process.next(process.initialize(), data.cohort(range(4)))
        >>> state.clients[0].work.group in (0, 1)
        True
    """
    model = model_of(model_fn)
    first = first_models(model, groups, initial_models, process.get("seed", 0))
    return build_process(
        model,
        client_work=group_work(
            groups,
            client_optimizer=client_optimizer,
            client_learning_rate=client_learning_rate,
            client_schedule=client_schedule,
            client_weighting="num_examples",
        ),
        finalizer=group_means(first, groups, server_learning_rate),
        name="HypCluster",
        **process,
    )
