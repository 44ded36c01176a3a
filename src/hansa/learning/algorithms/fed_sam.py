"""FedSAM (Qu et al. 2022, arXiv:2206.02618, Algorithm 1): clients look for weights around which the loss is flat.

A step follows the gradient at the point within distance rho where the loss is greatest, to first order: at
w + rho g / |g|, where g is the gradient at w (Foret et al. 2021, arXiv:2010.01412, equation 2).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

import jax
import jax.numpy as jnp

from hansa.learning.algorithms.arguments import OfProcess
from hansa.learning.arithmetic import squared_norm
from hansa.learning.client_training import local_training
from hansa.learning.finalizers import apply_optimizer
from hansa.learning.hparams import Hparam
from hansa.learning.process import LearningProcess, build_process
from hansa.learning.weighting import AnyWeighting
from hansa.models._typing import AnyOptimizer
from hansa.models.model import FunctionalModel
from hansa.models.named_optimizers import LearningRate
from hansa.models.tensorflow.models import Model


def build_fed_sam(
    model_fn: Callable[[], FunctionalModel | Model] | FunctionalModel,
    *,
    rho: float,
    client_optimizer: AnyOptimizer | None = None,
    client_learning_rate: LearningRate | None = None,
    server_optimizer: AnyOptimizer | None = None,
    server_learning_rate: LearningRate | None = None,
    client_schedule: Callable[[jax.Array], Any] | None = None,
    client_weighting: AnyWeighting = None,
    non_trainable: str = "mean",
    **process: Unpack[OfProcess],
) -> LearningProcess:
    """FedSAM: clients train with sharpness-aware minimisation. Each step takes two gradients of its batch.

    Metrics and non-trainable weights are those of the first of the two, at the weights themselves.

    Args:
        rho: how far from the weights the second gradient is taken, at least 0; with 0 it is federated averaging. It is
            a hyper-parameter of the state.
        model_fn, client_optimizer, client_learning_rate, server_optimizer, server_learning_rate, client_schedule,
            client_weighting, non_trainable, aggregator, distributor, seed: as of `build_federated_averaging_process`.

    Returns:
        A process as of `build_federated_averaging_process`, with `hparams=<rho=float32>` in its state.

    Raises:
        TypeError, ValueError: if an argument is not what is said above, or the model trains itself, by a
            `train_on_batch`, and no `client_optimizer` is given.

    Examples:
        >>> process = hansa.learning.build_fed_sam(model, rho=0.05)
        >>> state, metrics = process.next(process.initialize(), data.cohort(range(10)))
        >>> state.hparams.rho
        np.float32(0.05)
    """

    def gradient(take: Any, weights: Any, batch: Any, at: Any) -> Any:
        forward, g = take(weights, batch)
        length = jnp.sqrt(squared_norm(g))
        step = jnp.where(length > 0, at.hparams.rho / jnp.where(length > 0, length, 1), 0)
        there = jax.tree.map(lambda w, g: w + step.astype(w.dtype) * g, weights.trainable, g)
        return forward, take(weights._replace(trainable=there), batch)[1]

    return build_process(
        model_fn,
        client_work=local_training(
            client_optimizer=client_optimizer,
            client_learning_rate=client_learning_rate,
            client_schedule=client_schedule,
            client_weighting=client_weighting,
            gradient=gradient,
            hparams={"rho": Hparam(rho, least=0)},
        ),
        finalizer=apply_optimizer(server_optimizer, server_learning_rate, non_trainable),
        name="FedSAM",
        **process,
    )
