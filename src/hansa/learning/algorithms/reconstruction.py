"""Federated reconstruction (Singhal et al. 2021, arXiv:2102.03448, Algorithm 1): local weights are found anew in each.

In the notation of the paper g are the global weights and l_i the local ones of client i, which nobody keeps: it finds
them on a part of its data, the support set, and trains g on the others, the query set.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

import jax

from hansa.learning.algorithms.arguments import OfProcess
from hansa.learning.arithmetic import difference
from hansa.learning.client_training import local_training
from hansa.learning.finalizers import apply_optimizer
from hansa.learning.fixed import only, together
from hansa.learning.holding import Holding
from hansa.learning.model_fn import AnyModel, model_of
from hansa.learning.naming import Which, divided
from hansa.learning.passes import training_pass
from hansa.learning.process import LearningProcess, build_process
from hansa.learning.weighting import AnyWeighting
from hansa.models._typing import AnyOptimizer
from hansa.models.named_optimizers import LearningRate


def build_reconstruction(
    model_fn: AnyModel,
    *,
    local: Which,
    reconstruction_optimizer: AnyOptimizer | None = None,
    reconstruction_learning_rate: LearningRate | None = None,
    reconstruction_passes: int = 1,
    split_dataset: bool = True,
    client_optimizer: AnyOptimizer | None = None,
    client_learning_rate: LearningRate | None = None,
    server_optimizer: AnyOptimizer | None = None,
    server_learning_rate: LearningRate | None = None,
    client_schedule: Callable[[jax.Array], Any] | None = None,
    client_weighting: AnyWeighting = None,
    non_trainable: str = "mean",
    **process: Unpack[OfProcess],
) -> LearningProcess:
    """Federated reconstruction: a client begins with the initial local weights, trains these alone on its support set,
    and then the global ones alone on its query set. It keeps nothing and sends nothing of the local ones.

    `build_personalization_eval(process, personal=…)` evaluates clients in the same way.

    Args:
        local: which weights are local, trainable and non-trainable ones: their names, those of layers, patterns such as
            `"user/*"`, or a function of a name.
        reconstruction_optimizer, reconstruction_learning_rate: what trains the local weights, as `client_optimizer` and
            `client_learning_rate`; by default these two.
        reconstruction_passes: how often a client goes over its support set, with one step for each batch.
        split_dataset: whether the support set is the 1st, 3rd, 5th batch of a client and so on, and the query set the
            others, so that a client with one batch is left out; or else both are all its batches.
        model_fn, client_optimizer, client_learning_rate, server_optimizer, server_learning_rate, client_schedule,
            client_weighting, non_trainable, aggregator, distributor, seed: as of `build_federated_averaging_process`.
            The number of a client's examples is that of its query set.

    Returns:
        A process as of `build_federated_averaging_process`. The local weights of `state.model` stay as they are, and
        its metrics are those of the query sets.

    Raises:
        TypeError, ValueError: if an argument is not what is said above; if a name or pattern is that of no weight, or
            of all trainable ones; or if the model trains itself, by a `train_on_batch`, and no `client_optimizer` is
            given.

    Examples:
        >>> process = hansa.learning.build_reconstruction(
        ...     model, local="dense/bias", reconstruction_optimizer="sgd", reconstruction_learning_rate=0.5
        ... )
        >>> state, metrics = process.next(process.initialize(), data.cohort(range(10)))
        >>> evaluation = hansa.learning.build_personalization_eval(
        ...     process, personal="dense/bias", client_optimizer="sgd", client_learning_rate=0.5
        ... )
        >>> results = evaluation(state, data.cohort(range(3)), data.cohort(range(3)))
    """
    model = model_of(model_fn)
    own, shared = divided(local, model, "local")
    if not isinstance(split_dataset, bool):
        raise TypeError(f"split_dataset must be True or False, found {split_dataset!r}")
    reconstructing, training = Holding(model, shared), Holding(model, own)
    default = reconstruction_optimizer is None and reconstruction_learning_rate is None

    def begin(at: Any) -> Any:
        found = reconstructing.whole(at.seen.weights)
        return training.to_held(together(model.initial_weights, found, own, at.sent.model))

    def finish(at: Any, weights: Any, steps: Any, num_examples: Any) -> Any:
        return only(difference(training.whole(weights), at.sent.model), shared), None, None

    reconstruct = training_pass(  # l_i = Reconstruct(support set, g)
        client_optimizer=client_optimizer if default else reconstruction_optimizer,
        client_learning_rate=client_learning_rate if default else reconstruction_learning_rate,
        passes=reconstruction_passes,
        uses=(lambda number: number % 2 == 0) if split_dataset else None,
        begin=lambda at: reconstructing.to_held(at.sent.model),
        model=lambda _: reconstructing.trained_model(),
    )
    work = local_training(  # ClientUpdate(query set, l_i, g)
        client_optimizer=client_optimizer,
        client_learning_rate=client_learning_rate,
        client_schedule=client_schedule,
        client_weighting=client_weighting,
        first_pass=reconstruct,
        uses=(lambda number: number % 2 == 1) if split_dataset else None,
        begin=begin,
        finish=finish,
        model=lambda _: training.trained_model(),
    )
    finalizer = apply_optimizer(server_optimizer, server_learning_rate, non_trainable)
    return build_process(model, client_work=work, finalizer=finalizer, name="federated reconstruction", **process)
