"""FedDyn (Acar et al. 2021, arXiv:2111.04263, Algorithm 1): clients' losses are regularised so that they agree.

theta is a model, theta_t the server's at the beginning of a round, and alpha the strength of the regulariser: a client
minimises L_k(theta) - <g_k, theta> + alpha/2 |theta - theta_t|^2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

import jax

from hansa.learning.algorithms.arguments import OfProcess
from hansa.learning.arithmetic import add_scaled, difference, moved, subtract, zeros_like
from hansa.learning.client_training import local_training
from hansa.learning.finalizers import Finalizer
from hansa.learning.hparams import Hparam
from hansa.learning.process import LearningProcess, build_process
from hansa.models._typing import AnyOptimizer
from hansa.models.model import FunctionalModel
from hansa.models.named_optimizers import LearningRate
from hansa.models.tensorflow.models import Model


def build_fed_dyn(
    model_fn: Callable[[], FunctionalModel | Model] | FunctionalModel,
    *,
    alpha: float,
    population: int,
    client_optimizer: AnyOptimizer | None = None,
    client_learning_rate: LearningRate | None = None,
    client_schedule: Callable[[jax.Array], Any] | None = None,
    **process: Unpack[OfProcess],
) -> LearningProcess:
    """FedDyn: client k minimises L_k(theta) - <g_k, theta> + alpha/2 |theta - theta_t|^2, where it keeps g_k.

    g_k is the gradient of L_k where the client's training last ended, if it came to a minimum. The server keeps h,
    minus alpha times the mean of all changes of all clients. Every client that has a part in a round counts the same.

    Args:
        alpha: above 0.
        population: m, the number of all clients, of which some take part in a round.
        model_fn, client_optimizer, client_learning_rate, client_schedule, aggregator, distributor, seed: as of
            `build_federated_averaging_process`. The aggregator is given updates of the model's weights.

    Returns:
        A process with the state `<server=<…>@SERVER,clients={<work=<gradient=<…>>>}@CLIENTS>`: h is
        `state.finalizer.h`, g_k `state.clients[client_id].work.gradient`. Both numbers are hyper-parameters of the
        state.

    Raises:
        TypeError, ValueError: if an argument is not what is said above, or the model trains itself, by a
            `train_on_batch`, and no `client_optimizer` is given.

    Examples:
        >>> process = hansa.learning.build_fed_dyn(model, alpha=0.1, population=10)
        >>> state, metrics = process.next(process.initialize(), data.cohort(range(3)))
        >>> state.finalizer.h["dense/bias"].shape
        (10,)
    """

    def direction(gradient: Any, theta: Any, at: Any) -> Any:  # of the client's loss
        apart = subtract(theta, at.sent.model.trainable)
        return add_scaled(subtract(gradient, at.own.gradient), at.hparams.alpha, apart)

    def finish(at: Any, theta: Any, steps: Any, num_examples: Any) -> Any:
        apart = subtract(theta.trainable, at.sent.model.trainable)
        kept = add_scaled(at.own.gradient, -at.hparams.alpha, apart)  # its next g_k
        return difference(theta, at.sent.model), 1.0, {"gradient": kept}

    def apply(state: Any, total: Any, num_clients: Any) -> Any:
        alpha, share = state.hparams.alpha, num_clients / state.hparams.population
        mean = moved(state.model, total)
        h = add_scaled(state.finalizer.h, -alpha * share, subtract(mean.trainable, state.model.trainable))
        theta = mean._replace(trainable=add_scaled(mean.trainable, -1 / alpha, h))
        return state._replace(model=theta, finalizer={"h": h})

    numbers = {"alpha": Hparam(alpha, above=0)}
    work = local_training(
        client_optimizer=client_optimizer,
        client_learning_rate=client_learning_rate,
        client_schedule=client_schedule,
        direction=direction,
        finish=finish,
        own=lambda weights: {"gradient": zeros_like(weights.trainable)},
        hparams=numbers,
    )
    finalizer = Finalizer(
        apply,
        initial=lambda weights: {"h": zeros_like(weights.trainable)},
        hparams={**numbers, "population": Hparam(population, least=1)},
    )
    return build_process(model_fn, client_work=work, finalizer=finalizer, name="FedDyn", **process)
