"""FedLC (Zhang et al. 2022, arXiv:2209.00189): clients calibrate logits by how often they have each label.

A client's loss is the cross entropy of the logits f_c - tau n_c^(-1/4), where n_c is its number of examples of class c.
So a class that it has seldom is learned with a greater margin, and one that it does not have is left as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

import jax
import jax.numpy as jnp

from hansa.learning.algorithms.arguments import OfProcess
from hansa.learning.classes import checked_classes, class_shares, logits_of
from hansa.learning.client_training import local_training
from hansa.learning.finalizers import apply_optimizer
from hansa.learning.hparams import Hparam
from hansa.learning.process import LearningProcess, build_process
from hansa.learning.weighting import AnyWeighting
from hansa.models._typing import AnyOptimizer
from hansa.models.batch_types import class_indices
from hansa.models.model import FunctionalModel
from hansa.models.named_optimizers import LearningRate
from hansa.models.tensorflow.models import Model


def build_fed_lc(
    model_fn: Callable[[], FunctionalModel | Model] | FunctionalModel,
    *,
    num_classes: int,
    tau: float = 1.0,
    from_logits: bool = True,
    client_optimizer: AnyOptimizer | None = None,
    client_learning_rate: LearningRate | None = None,
    server_optimizer: AnyOptimizer | None = None,
    server_learning_rate: LearningRate | None = None,
    client_schedule: Callable[[jax.Array], Any] | None = None,
    client_weighting: AnyWeighting = None,
    non_trainable: str = "mean",
    **process: Unpack[OfProcess],
) -> LearningProcess:
    """FedLC: the calibrated cross entropy takes the place of the model's own loss in training.

    The metrics, and the loss among them, are the model's own. The logit of a class that the client does not have is
    left out of the loss, which is the limit of the formula. Labels are counted in a first pass over the client's
    batches of the round; where these hold an example several times, for local epochs, it counts so often.

    Args:
        num_classes: how many classes there are, at least 2.
        tau: how much logits are calibrated, at least 0; with 0 it is averaging with the cross entropy of the classes
            that a client has. It is a hyper-parameter of the state.
        from_logits: whether the model's predictions are logits; else they are probabilities.
        model_fn, client_optimizer, client_learning_rate, server_optimizer, server_learning_rate, client_schedule,
            client_weighting, non_trainable, aggregator, distributor, seed: as of `build_federated_averaging_process`.
            The predictions are an array `[examples, num_classes]`, and the labels of a batch, `y` or the second of a
            pair, integers from 0, `[examples]` or `[examples, 1]`, or one-hot.

    Returns:
        A process as of `build_federated_averaging_process`, with `hparams=<tau=float32>` in its state.

    Raises:
        TypeError, ValueError: if an argument, the labels or the predictions are not what is said above, or JAX does not
            differentiate the model.

    Examples:
        >>> process = hansa.learning.build_fed_lc(model, num_classes=10, tau=0.5, from_logits=False)
        >>> state, metrics = process.next(process.initialize(), data.cohort(range(10)))
        >>> state.hparams.tau
        np.float32(0.5)
    """

    def gradient(take: Any, weights: Any, batch: Any, at: Any) -> Any:
        n = at.seen.share * at.seen.num_examples
        there = n > 0
        margin = at.hparams.tau * jnp.where(there, n, 1) ** -0.25

        def calibrated(weights: Any, output: Any, batch: Any) -> Any:
            f = logits_of(output.predictions, num_classes, from_logits, "FedLC")
            log_p = jax.nn.log_softmax(jnp.where(there, f - margin, -jnp.inf))
            y = class_indices(batch, num_classes, "FedLC")
            return -jnp.take_along_axis(log_p, y[:, None], 1).mean()

        return take(weights, batch, calibrated)

    checked_classes(num_classes)
    return build_process(
        model_fn,
        client_work=local_training(
            client_optimizer=client_optimizer,
            client_learning_rate=client_learning_rate,
            client_schedule=client_schedule,
            client_weighting=client_weighting,
            first_pass=class_shares(num_classes),
            gradient=gradient,
            hparams={"tau": Hparam(tau, least=0)},
        ),
        finalizer=apply_optimizer(server_optimizer, server_learning_rate, non_trainable),
        name="FedLC",
        **process,
    )
