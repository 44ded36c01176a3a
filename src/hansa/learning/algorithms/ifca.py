"""IFCA (Ghosh et al. 2020, arXiv:2006.04088, Algorithm 1, option II): clients find out which group they belong to.

The server keeps k models theta_j. A client takes the one of least loss on its data, trains it, and sends what came of
it with the one-hot vector s_i of its group; theta_j becomes the mean of those of its group.
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


def build_ifca(
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
    """IFCA, the iterative federated clustering algorithm, with averages of models: a model for each group of clients.

    Each client of a group counts the same. All models are sent to each client, and each client sends rows for all.
    Which groups are found depends on where they begin: the paper runs it with several random starts, here seeds, and
    takes the best.

    Args:
        groups: k, the number of models, at least 1.
        initial_models: k weights of the model to begin with, such as those of `spread_models`; by default the model's
            initial weights, and others with the same numbers in an order that the seed gives, which is a start of the
            same distribution if they are random; where they are trained already, give `initial_models`.
        server_learning_rate: the factor of the mean updates, above 0; with 1, models are the means of clients' models.
            It is a hyper-parameter of the state.
        seed: that of the clients' draws and of the first models.
        model_fn, client_optimizer, client_learning_rate, client_schedule, aggregator, distributor: as of
            `build_federated_averaging_process`. The aggregator is given updates `<models,share>`, of which the rows of
            all groups but the client's are 0.

    Returns:
        A process with the state `<server=<…>@SERVER,clients={<work=<group=int32>>}@CLIENTS>`. The models are
        `state.finalizer.models`, whose arrays have a row for each group; `state.finalizer.share` is the share of
        the last round's clients that each had; `state.model` is the model of the largest; a client's group is
        `state.clients[client_id].work.group`, -1 where it has never taken part. `build_per_client_evaluation(process)`
        evaluates each with the model of its group, or with the largest one's.

    Raises:
        TypeError, ValueError: if an argument is not what is said above, or all groups would begin with one model.

    Examples:
        >>> process = hansa.learning.build_ifca(model, groups=2)
        >>> state, metrics = process.next(process.initialize(), data.cohort(range(4)))
        >>> state.finalizer.models.trainable["dense/kernel"].shape
        (2, 64, 10)
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
            client_weighting="uniform",
        ),
        finalizer=group_means(first, groups, server_learning_rate),
        name="IFCA",
        **process,
    )
