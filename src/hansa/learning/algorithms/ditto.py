"""Ditto (Li et al. 2021, arXiv:2012.04221, Algorithm 1): a personal model of each client, held near the global one.

In the notation of the paper w is the global model, v_k the personal one of client k, and F_k its loss.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

import jax
import numpy as np

from hansa.learning.algorithms.arguments import OfProcess
from hansa.learning.arithmetic import add_scaled, choose, difference, subtract
from hansa.learning.client_training import local_training
from hansa.learning.finalizers import apply_optimizer
from hansa.learning.hparams import Hparam
from hansa.learning.model_fn import AnyModel
from hansa.learning.passes import training_pass
from hansa.learning.process import LearningProcess, build_process
from hansa.learning.weighting import AnyWeighting
from hansa.models._typing import AnyOptimizer
from hansa.models.named_optimizers import LearningRate


def build_ditto(
    model_fn: AnyModel,
    *,
    lambda_: float,
    personal_passes: int = 1,
    client_optimizer: AnyOptimizer | None = None,
    client_learning_rate: LearningRate | None = None,
    server_optimizer: AnyOptimizer | None = None,
    server_learning_rate: LearningRate | None = None,
    client_schedule: Callable[[jax.Array], Any] | None = None,
    client_weighting: AnyWeighting = None,
    non_trainable: str = "mean",
    **process: Unpack[OfProcess],
) -> LearningProcess:
    """Ditto: the global model is that of federated averaging, to the bit; beside it each client has a model of its own.

    Client k minimises h_k(v) = F_k(v) + lambda/2 |v - w|^2, where w is the global model that it was sent.

    Args:
        lambda_: lambda, at least 0; with 0 a client's model is trained on its own data alone. It is a hyper-parameter
            of the state.
        personal_passes: how often a client goes over its batches to train its own model, with one step for each batch.
        model_fn, client_optimizer, client_learning_rate, server_optimizer, server_learning_rate, client_schedule,
            client_weighting, non_trainable, aggregator, distributor, seed: as of `build_federated_averaging_process`.
            The optimizer of the clients trains both models, each with a state of its own.

    Returns:
        A process with the state `<server=<…>@SERVER,clients={<work=<model=<…>,seen=bool>>}@CLIENTS>`: v_k is
        `state.clients[client_id].work.model`. A client that has never had a part in a round begins with the model that
        it is sent, and is evaluated with it. `process.weights_of` and `build_per_client_evaluation(process)` use v_k.

    Raises:
        TypeError, ValueError: if an argument is not what is said above, or the model trains itself, by a
            `train_on_batch`, and no `client_optimizer` is given.

    Examples:
        >>> process = hansa.learning.build_ditto(model, lambda_=0.1)
        >>> state, metrics = process.next(process.initialize(), data.cohort([0, 1]))
        >>> print(state.clients[0].work.model.trainable["dense/bias"].shape)
        (10,)
    """

    def personal(at: Any) -> Any:
        return choose(at.own.seen, at.own.model, at.sent.model)

    def direction(gradient: Any, v: Any, at: Any) -> Any:
        return add_scaled(gradient, at.hparams.lambda_, subtract(v, at.sent.model.trainable))

    def finish(at: Any, w_k: Any, steps: Any, num_examples: Any) -> Any:
        return difference(w_k, at.sent.model), None, {"model": at.seen.weights, "seen": np.bool_(True)}

    personal_training = training_pass(
        client_optimizer=client_optimizer,
        client_learning_rate=client_learning_rate,
        passes=personal_passes,
        begin=personal,
        direction=direction,
    )
    work = local_training(
        client_optimizer=client_optimizer,
        client_learning_rate=client_learning_rate,
        client_schedule=client_schedule,
        client_weighting=client_weighting,
        first_pass=personal_training,
        finish=finish,
        own=lambda weights: {"model": weights, "seen": np.bool_(False)},
        hparams={"lambda_": Hparam(lambda_, least=0)},
        personal=personal,
    )
    finalizer = apply_optimizer(server_optimizer, server_learning_rate, non_trainable)
    return build_process(model_fn, client_work=work, finalizer=finalizer, name="Ditto", **process)
