"""pFedMe (Dinh et al. 2020, arXiv:2006.08848, Algorithm 1): personal models by Moreau envelopes of the clients' losses.

In the notation of the paper f_i is the loss of client i, w_i its local model, theta_i its personal one, and the clients
minimise F_i(w) = min over theta of f_i(theta) + lambda/2 |theta - w|^2, whose gradient is lambda (w - theta_i(w)).
"""

from __future__ import annotations

from typing import Any, Unpack

import jax
import numpy as np

from hansa.learning.algorithms.arguments import OfProcess
from hansa.learning.arithmetic import add_scaled, choose, difference, moved, scale, subtract
from hansa.learning.client_training import local_training
from hansa.learning.finalizers import Finalizer
from hansa.learning.hparams import Hparam
from hansa.learning.model_fn import AnyModel, model_of
from hansa.learning.process import LearningProcess, build_process
from hansa.learning.several import Several
from hansa.learning.weighting import AnyWeighting
from hansa.models.optimizer import sgd


def build_p_fed_me(
    model_fn: AnyModel,
    *,
    lambda_: float,
    client_learning_rate: float,
    personal_learning_rate: float,
    personal_steps: int = 5,
    beta: float = 1.0,
    client_weighting: AnyWeighting = "uniform",
    **process: Unpack[OfProcess],
) -> LearningProcess:
    """pFedMe: in each step a client first finds its personal model near its local one, and then moves this towards it.

    Both take steps of SGD, so there are rates and no optimizers. The personal model begins a round as the model that
    the client was sent, and each of its searches where the one on the batch before ended.

    Args:
        lambda_: lambda, above 0: how near the personal model is held.
        client_learning_rate: eta, above 0, of the local model: w_i - eta lambda (w_i - theta_i).
        personal_learning_rate: above 0, that of the steps that search the personal model.
        personal_steps: K, how many of these there are on each batch, at least 1.
        beta: above 0, of the server's step: (1 - beta) w + beta times the mean of the w_i.
        model_fn, client_weighting, aggregator, distributor, seed: as of `build_federated_averaging_process`.

    Returns:
        A process with the state `<server=<…>@SERVER,clients={<work=<model=<…>,seen=bool>>}@CLIENTS>`: theta_i is
        `state.clients[client_id].work.model`, of the last batch of its last round. A client that has never had a part
        in a round is evaluated with the server's model. The four numbers are hyper-parameters of the state, and its
        metrics are those of the personal models, each before the search on a batch. `process.weights_of` and
        `build_per_client_evaluation(process)` use theta_i.

    Raises:
        TypeError, ValueError: if an argument is not what is said above.

    Examples:
        >>> process = hansa.learning.build_p_fed_me(
        ...     model, lambda_=15.0, client_learning_rate=0.01, personal_learning_rate=0.05
        ... )
        >>> state, metrics = process.next(process.initialize(), data.cohort([0, 1]))
        >>> print(state.clients[0].work.model.trainable["dense/bias"].shape)
        (10,)
    """
    model = model_of(model_fn)
    copies = Several(model, ("personal", "local"))

    def gradient(take: Any, weights: Any, batch: Any, at: Any) -> Any:
        theta, w = (copies.copy(weights, name) for name in copies.names)
        near, rate = at.hparams.lambda_, at.hparams.personal_learning_rate

        def search(theta: Any) -> Any:
            forward, g = copies.take_at(take, weights, batch, theta)
            h = add_scaled(g, near, subtract(theta.trainable, w.trainable))
            after = add_scaled(theta.trainable, -rate, h)
            return forward, theta._replace(trainable=after, non_trainable=forward.non_trainable)

        forward, found = search(theta)
        found = jax.lax.fori_loop(1, personal_steps, lambda _, theta: search(theta)[1], found)  # theta_i(w)
        step = scale(at.hparams.client_learning_rate * near, subtract(w.trainable, found.trainable))
        moves = {"personal": subtract(theta.trainable, found.trainable), "local": step}
        return copies.moves(forward, weights, moves, dict.fromkeys(copies.names, found.non_trainable))

    def finish(at: Any, weights: Any, steps: Any, num_examples: Any) -> Any:
        theta, w = (copies.copy(weights, name) for name in copies.names)
        return difference(w, at.sent.model), None, {"model": theta, "seen": np.bool_(True)}

    def apply(state: Any, total: Any, num_clients: Any) -> Any:
        return state._replace(model=moved(state.model, total, state.hparams.beta))  # (1 - beta) w + beta mean

    if isinstance(personal_steps, bool) or not isinstance(personal_steps, int) or personal_steps < 1:
        raise ValueError(f"personal_steps must be an integer of at least 1, found {personal_steps!r}")
    numbers = {
        "lambda_": lambda_,
        "client_learning_rate": client_learning_rate,
        "personal_learning_rate": personal_learning_rate,
    }
    work = local_training(
        client_optimizer=sgd(1.0),
        client_weighting=client_weighting,
        begin=lambda at: copies.joined(dict.fromkeys(copies.names, at.sent.model)),
        gradient=gradient,
        finish=finish,
        own=lambda weights: {"model": weights, "seen": np.bool_(False)},
        hparams={name: Hparam(number, above=0) for name, number in numbers.items()},
        model=lambda _: copies.joined_model,
        personal=lambda at: choose(at.own.seen, at.own.model, at.sent.model),
    )
    finalizer = Finalizer(apply, hparams={"beta": Hparam(beta, above=0)})
    return build_process(model, client_work=work, finalizer=finalizer, name="pFedMe", **process)
