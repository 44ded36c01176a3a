"""FedExP (Jhunjhunwala et al. 2023, arXiv:2301.09604, Algorithm 1): the server's rate comes of the clients' updates.

Where clients' updates differ much, their mean is short beside them, and the server goes further along it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

import jax
import jax.numpy as jnp
import numpy as np

from hansa.learning.algorithms.arguments import OfProcess
from hansa.learning.arithmetic import difference, moved, squared_norm
from hansa.learning.client_training import local_training
from hansa.learning.finalizers import Finalizer
from hansa.learning.hparams import Hparam
from hansa.learning.process import LearningProcess, build_process
from hansa.learning.weighting import AnyWeighting
from hansa.models._typing import AnyOptimizer
from hansa.models.model import FunctionalModel
from hansa.models.named_optimizers import LearningRate
from hansa.models.tensorflow.models import Model


def build_fed_exp(
    model_fn: Callable[[], FunctionalModel | Model] | FunctionalModel,
    *,
    epsilon: float = 1e-3,
    client_optimizer: AnyOptimizer | None = None,
    client_learning_rate: LearningRate | None = None,
    client_schedule: Callable[[jax.Array], Any] | None = None,
    client_weighting: AnyWeighting = None,
    **process: Unpack[OfProcess],
) -> LearningProcess:
    """FedExP: w + eta_g Delta is the next model, where eta_g = max(1, mean |Delta_i|^2 / (2 (|Delta|^2 + epsilon))).

    Delta is the mean of the clients' updates Delta_i, with the weights of `client_weighting`: the paper's formula is
    for equal ones, its experiments weight by examples. The paper evaluates the mean of the last two models, as the
    models of single rounds go to and fro; the process's state has the last one.

    Args:
        epsilon: at least 0: the larger, the nearer to federated averaging.
        model_fn, client_optimizer, client_learning_rate, client_schedule, client_weighting, aggregator, distributor,
            seed: as of `build_federated_averaging_process`. The aggregator is given updates `<model,squared_norm>`.

    Returns:
        A process as of `build_federated_averaging_process`. `state.finalizer.server_learning_rate` is eta_g of the
        last round, 1 at first, and epsilon a hyper-parameter of the state.

    Raises:
        TypeError, ValueError: if an argument is not what is said above.

    Examples:
        >>> process = hansa.learning.build_fed_exp(model)
        >>> state, metrics = process.next(process.initialize(), data.cohort(range(10)))
        >>> bool(state.finalizer.server_learning_rate >= 1)
        True
    """

    def finish(at: Any, weights: Any, steps: Any, num_examples: Any) -> Any:
        delta = difference(weights, at.sent.model)
        return {"model": delta, "squared_norm": squared_norm(delta.trainable)}, None, None

    def apply(state: Any, total: Any, num_clients: Any) -> Any:
        norm = squared_norm(total.model.trainable) + state.hparams.epsilon
        # Where both are 0, nobody has moved.
        rate = jnp.maximum(1.0, jnp.where(norm > 0, total.squared_norm / (2 * norm), 1.0))
        return state._replace(
            model=moved(state.model, total.model, rate), finalizer={"server_learning_rate": jnp.float32(rate)}
        )

    work = local_training(
        client_optimizer=client_optimizer,
        client_learning_rate=client_learning_rate,
        client_schedule=client_schedule,
        client_weighting=client_weighting,
        finish=finish,
    )
    finalizer = Finalizer(
        apply,
        initial={"server_learning_rate": np.float32(1)},
        hparams={"epsilon": Hparam(epsilon, least=0)},
    )
    return build_process(model_fn, client_work=work, finalizer=finalizer, name="FedExP", **process)
