"""FLTrust (Cao et al. 2021, arXiv:2012.13995, Algorithm 2): clients count as far as they move as the server does.

The server has a small data set of its own, the root data set, and trains on it as clients do on theirs. g_0 is its
update, g_i a client's. TS_i = ReLU(cos(g_i, g_0)) is the client's trust score.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

import jax
import jax.numpy as jnp

from hansa.learning.algorithms.arguments import OfProcess
from hansa.learning.arithmetic import dot, scale, squared_norm
from hansa.learning.client_training import local_training
from hansa.learning.finalizers import apply_optimizer
from hansa.learning.process import LearningProcess, build_process
from hansa.learning.server_data import ServerData
from hansa.models._typing import AnyOptimizer
from hansa.models.model import FunctionalModel
from hansa.models.named_optimizers import LearningRate
from hansa.models.tensorflow.models import Model


def build_fl_trust(
    model_fn: Callable[[], FunctionalModel | Model] | FunctionalModel,
    *,
    client_optimizer: AnyOptimizer | None = None,
    client_learning_rate: LearningRate | None = None,
    server_optimizer: AnyOptimizer | None = None,
    server_learning_rate: LearningRate | None = None,
    client_schedule: Callable[[jax.Array], Any] | None = None,
    non_trainable: str = "mean",
    **process: Unpack[OfProcess],
) -> LearningProcess:
    """FLTrust: the mean of the clients' updates, each as long as the server's own, weighted by their trust scores.

    Scores do not depend on how many examples a client has. They are computed where the client trains: they hold against
    data and training that are bad, and not against a device that runs another program.

    Args:
        model_fn, client_optimizer, client_learning_rate, server_optimizer, server_learning_rate, client_schedule,
            non_trainable, aggregator, distributor, seed: as of `build_federated_averaging_process`. The server trains
            on the root data set with the clients' optimizer; `server_learning_rate` is alpha. The aggregator is given
            the updates as long as the server's, and the scores as weights.

    Returns:
        A process whose `next` takes the root data set as its third argument, `server_data`: a list of batches like a
        client's. Its state is that of `build_federated_averaging_process`, and its metrics have
        `server_data=<mean_weight,min_weight>`, the mean and the least trust score of the round's clients. Where nobody
        is trusted, the model stays.

    Raises:
        TypeError, ValueError: if an argument is not what is said above.

    Examples:
        >>> process = hansa.learning.build_fl_trust(model)
        >>> root = [hansa.Struct.of(x=x[:20], y=y[:20])]
        >>> state, metrics = process.next(process.initialize(), data.cohort(range(10)), root)
        >>> print(metrics.server_data)
        <mean_weight=...,min_weight=...>

        In a run: `hansa.program.train(process, …, arguments={"server_data": root})`.
    """

    def compare(update: Any, of_server: Any) -> tuple[Any, Any]:
        g_i, g_0 = update.trainable, of_server.trainable
        length, of_root = jnp.sqrt(squared_norm(g_i)), jnp.sqrt(squared_norm(g_0))
        there = (length > 0) & (of_root > 0)
        unit = jnp.where(there, 1 / jnp.where(there, length, 1), 0)
        score = jax.nn.relu(dot(scale(unit, g_i), scale(1 / jnp.where(there, of_root, 1), g_0)))  # TS_i
        return update._replace(trainable=scale(of_root * unit, g_i)), score

    return build_process(
        model_fn,
        client_work=local_training(
            client_optimizer=client_optimizer,
            client_learning_rate=client_learning_rate,
            client_schedule=client_schedule,
            client_weighting="uniform",
        ),
        server_data=ServerData(compare),
        finalizer=apply_optimizer(server_optimizer, server_learning_rate, non_trainable),
        name="FLTrust",
        **process,
    )
