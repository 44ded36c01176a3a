"""Several models for groups of clients that nobody knows beforehand: a client trains the one that fits its data best.

What IFCA and HypCluster have in common, and where their models may start from.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from hansa.learning.arithmetic import difference, moved
from hansa.learning.client_training import local_training
from hansa.learning.client_work import ClientWork, alike, as_struct
from hansa.learning.evaluation import build_per_client_evaluation
from hansa.learning.finalizers import Finalizer
from hansa.learning.hparams import Hparam
from hansa.learning.passes import mean_loss
from hansa.learning.process import LearningProcess
from hansa.models.model import FunctionalModel
from hansa.models.weights import ModelWeights


def of_group(models: Any, group: Any) -> ModelWeights:
    """The model of one group, of those of all, whose arrays have a row for each."""
    return cast(ModelWeights, jax.tree.map(lambda leaf: leaf[group], models))


def group_work(groups: int, **training: Any) -> ClientWork:
    """Clients train the model of least mean loss on their data, and report its update in the row of its group.

    Args:
        groups: how many there are.
        training: arguments of `local_training`, of the optimizer and the weights.
    """

    def finish(at: Any, weights: Any, steps: Any, num_examples: Any) -> Any:
        group = jnp.argmin(at.seen.loss).astype(jnp.int32)
        member = jax.nn.one_hot(group, groups)

        def in_row(leaf: Any) -> Any:
            return member.astype(leaf.dtype).reshape(-1, *[1] * leaf.ndim) * leaf

        update = jax.tree.map(in_row, difference(weights, of_group(at.sent.models, group)))
        return {"models": update, "share": member}, None, {"group": group}

    def personal(at: Any) -> ModelWeights:
        group = jnp.where(at.own.group < 0, jnp.argmax(at.sent.share), at.own.group)
        return of_group(at.sent.models, group)

    return local_training(
        first_pass=mean_loss(lambda at: [of_group(at.sent.models, group) for group in range(groups)]),
        begin=lambda at: of_group(at.sent.models, jnp.argmin(at.seen.loss)),
        finish=finish,
        sent=lambda state: {"models": state.finalizer.models, "share": state.finalizer.share},
        own={"group": np.int32(-1)},
        personal=personal,
        **training,
    )


def group_means(models: ModelWeights, groups: int, server_learning_rate: float) -> Finalizer:
    """Each model moves by the mean update of the clients of its group; one without clients stays.

    Args:
        models: the first models, whose arrays have a row for each group.
        groups: how many there are.
        server_learning_rate: the factor of the mean updates.
    """

    def apply(state: Any, total: Any, num_clients: Any) -> Any:
        share = total.share

        def mean(leaf: Any) -> Any:
            of_row = share.reshape(-1, *[1] * (leaf.ndim - 1))
            return jnp.where(of_row > 0, leaf / jnp.where(of_row > 0, of_row, 1), 0).astype(leaf.dtype)

        update = jax.tree.map(mean, total.models)
        after = moved(state.finalizer.models, update, state.hparams.server_learning_rate)
        largest = of_group(after, jnp.argmax(share))
        return state._replace(model=largest, finalizer={"models": after, "share": share})

    first = {"models": models, "share": np.zeros(groups, np.float32)}
    return Finalizer(apply, initial=first, hparams={"server_learning_rate": Hparam(server_learning_rate, above=0)})


def first_models(model: FunctionalModel, groups: int, given: Sequence[Any] | None, seed: int) -> ModelWeights:
    """The models that groups begin with: those that are given, or others like the model's initial weights.

    Raises:
        TypeError: if one is not like the model's weights.
        ValueError: if there are not as many as groups, or all are the same.
    """
    if isinstance(groups, bool) or not isinstance(groups, int):
        raise TypeError(f"groups must be an integer, how many groups there are; found {groups!r}")
    if groups < 1:
        raise ValueError(f"groups must be at least 1, found {groups}")
    initial = model.initial_weights
    if given is None:
        models = [_shuffled(initial, seed, group) for group in range(groups)]
    else:
        says = f"each of initial_models must be weights of the model {model.name!r}"
        models = [alike(as_struct(each, says), initial, says) for each in given]
    if len(models) != groups:
        raise ValueError(f"initial_models must be as many as groups, {groups}; found {len(models)}")
    stacked = jax.tree.map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *models)
    if groups > 1 and all((leaf == leaf[:1]).all() for leaf in jax.tree.leaves(stacked)):
        raise ValueError(
            "all groups would begin with the same model, so that all clients chose the first: give initial_models, "
            "such as those of hansa.learning.spread_models, or a model with random initial weights"
        )
    return cast(ModelWeights, stacked)


def _shuffled(weights: ModelWeights, seed: int, group: int) -> ModelWeights:
    """Weights whose numbers are in another order within each array, as another draw would give them."""
    if group == 0:
        return weights
    draws = np.random.default_rng([seed, group])
    trainable = jax.tree.map(lambda leaf: draws.permutation(np.ravel(leaf)).reshape(leaf.shape), weights.trainable)
    return ModelWeights.create(trainable, weights.non_trainable)


def spread_models(
    process: LearningProcess, clients: Sequence[Any], groups: int, *, seed: int = 0
) -> list[ModelWeights]:
    """Models far from each other, for groups to begin with, as k-means++ chooses points.

    Each client trains a model on its own. The first choice is that of a client by the seed, and each next one that of
    the client whose data have the greatest loss under the best of those that are chosen. FedJAX begins HypCluster so.

    Args:
        process: of federated averaging, or another whose `state.model` is what one client alone has trained.
        clients: the clients to choose from, such as `data.cohort(range(20))`.
        groups: how many models are wanted.
        seed: by which the first is drawn.

    Returns:
        The models, for the argument `initial_models`.

    Raises:
        ValueError: if there are fewer clients than groups, or the model has no metric `loss`.

    Examples:
        >>> averaging = hansa.learning.build_federated_averaging_process(model)
        >>> starts = hansa.learning.spread_models(averaging, data.cohort(range(5)), groups=2)
        >>> process = hansa.learning.build_ifca(model, groups=2, initial_models=starts)
    """
    if not 1 <= groups <= len(clients):
        raise ValueError(f"groups must be from 1 to the number of clients, {len(clients)}; found {groups}")
    first, evaluate = process.initialize(), build_per_client_evaluation(process.model)

    def trained(client: int) -> ModelWeights:
        alone = clients.select([client]) if hasattr(clients, "select") else [clients[client]]
        return cast(ModelWeights, process.next(first, alone)[0].model)

    def losses(model: ModelWeights) -> Any:
        results = list(evaluate(model, clients))
        if "loss" not in results[0].metrics._fields:
            raise ValueError(f"the model {process.model.name!r} must have a metric 'loss' to choose models by")
        # Who has no examples, or no finite loss, is not chosen.
        return np.nan_to_num([float(each.metrics.loss) for each in results], nan=-np.inf, posinf=-np.inf)

    chosen = [trained(int(np.random.default_rng(seed).integers(len(clients))))]
    least = losses(chosen[0])
    while len(chosen) < groups:
        chosen.append(trained(int(np.argmax(least))))
        least = np.minimum(least, losses(chosen[-1]))
    return chosen
