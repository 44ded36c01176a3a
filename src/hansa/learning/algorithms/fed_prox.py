"""FedProx (Li et al. 2020, arXiv:1812.06127, Algorithm 2): clients are held near the model that they were sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

import jax

from hansa.learning.algorithms.arguments import OfProcess
from hansa.learning.arithmetic import add_scaled, subtract
from hansa.learning.client_training import local_training
from hansa.learning.finalizers import apply_optimizer
from hansa.learning.hparams import Hparam
from hansa.learning.process import LearningProcess, build_process
from hansa.learning.weighting import AnyWeighting
from hansa.models._typing import AnyOptimizer
from hansa.models.model import FunctionalModel
from hansa.models.named_optimizers import LearningRate
from hansa.models.tensorflow.models import Model
from hansa.privacy.sampled_steps import DPSGD


def build_fed_prox(
    model_fn: Callable[[], FunctionalModel | Model] | FunctionalModel,
    *,
    proximal_strength: float,
    client_optimizer: AnyOptimizer | DPSGD | None = None,
    client_learning_rate: LearningRate | None = None,
    server_optimizer: AnyOptimizer | None = None,
    server_learning_rate: LearningRate | None = None,
    client_schedule: Callable[[jax.Array], Any] | None = None,
    client_weighting: AnyWeighting = None,
    non_trainable: str = "mean",
    **process: Unpack[OfProcess],
) -> LearningProcess:
    """FedProx: client k minimises h_k(w) = F_k(w) + mu/2 |w - w_t|^2, where w_t is the model that it was sent.

    Args:
        proximal_strength: mu, at least 0; with 0 it is federated averaging. It is a hyper-parameter of the state.
        model_fn, client_optimizer, client_learning_rate, server_optimizer, server_learning_rate, client_schedule,
            client_weighting, non_trainable, aggregator, distributor, seed: as of `build_federated_averaging_process`.

    Returns:
        A process as of `build_federated_averaging_process`, with `hparams=<proximal_strength=float32>` in its state.

    Raises:
        TypeError, ValueError: if an argument is not what is said above, or the model trains itself, by a
            `train_on_batch`, and no `client_optimizer` is given.

    Examples:
        >>> process = hansa.learning.build_fed_prox(model, proximal_strength=0.1)
        >>> state, metrics = process.next(process.initialize(), data.cohort(range(10)))
        >>> state.hparams.proximal_strength
        np.float32(0.1)
    """

    def direction(gradient: Any, weights: Any, at: Any) -> Any:
        return add_scaled(gradient, at.hparams.proximal_strength, subtract(weights, at.sent.model.trainable))

    return build_process(
        model_fn,
        client_work=local_training(
            client_optimizer=client_optimizer,
            client_learning_rate=client_learning_rate,
            client_schedule=client_schedule,
            client_weighting=client_weighting,
            direction=direction,
            hparams={"proximal_strength": Hparam(proximal_strength, least=0)},
        ),
        finalizer=apply_optimizer(server_optimizer, server_learning_rate, non_trainable),
        name="FedProx",
        **process,
    )
