"""APFL (Deng et al. 2020, arXiv:2003.13461, Algorithm 1): each client mixes a model of its own with that of all.

In the notation of the paper w is the global model, v_i a client's own, alpha_i how much of it is in its personal model
alpha_i v_i + (1 - alpha_i) w, and eta the rate.
"""

from __future__ import annotations

from typing import Any, Unpack

import numpy as np

from hansa.learning.algorithms.arguments import OfProcess
from hansa.learning.arithmetic import add, choose, difference, dot, scale, subtract
from hansa.learning.client_training import local_training
from hansa.learning.finalizers import apply_optimizer
from hansa.learning.hparams import Hparam
from hansa.learning.model_fn import AnyModel, model_of
from hansa.learning.process import LearningProcess, build_process
from hansa.learning.several import Several
from hansa.learning.weighting import AnyWeighting
from hansa.models.optimizer import sgd
from hansa.models.weights import ModelWeights


def build_apfl(
    model_fn: AnyModel,
    *,
    client_learning_rate: float,
    alpha: float = 0.5,
    adaptive: bool = True,
    client_weighting: AnyWeighting = "uniform",
    **process: Unpack[OfProcess],
) -> LearningProcess:
    """APFL: the global model is that of federated averaging; each client also trains a model of its own, as a part of
    the mixture of both, and how much of it there is.

    Clients take steps of SGD, so there is a rate and no optimizer. In a step all three move by gradients at the weights
    before it, on one batch: w by that of the loss at w, and v_i and alpha_i by those of the loss at the mixture.

    Args:
        client_learning_rate: eta, above 0; a hyper-parameter of the state.
        alpha: the first alpha_i of each client, from 0 (the global model) to 1 (its own model).
        adaptive: whether alpha_i is trained, at the rate eta, and kept between 0 and 1; or else it stays as it is.
        model_fn, client_weighting, aggregator, distributor, seed: as of `build_federated_averaging_process`.

    Returns:
        A process with the state `<server=<…>@SERVER,clients={<work=<model=<…>,alpha=float32,seen=bool>>}@CLIENTS>`: v_i
        is `state.clients[client_id].work.model`. A client that has never had a part in a round begins with the model
        that it is sent as its own, and is evaluated with it. Metrics of a round are those of w. `process.weights_of`
        and `build_per_client_evaluation(process)` use the mixture of v_i and the server's model.

    Raises:
        TypeError, ValueError: if an argument is not what is said above.

    Examples:
        >>> process = hansa.learning.build_apfl(model, client_learning_rate=0.1, alpha=0.5)
        >>> state, metrics = process.next(process.initialize(), data.cohort([0, 1]))
        >>> 0 < state.clients[0].work.alpha < 1
        np.True_
    """
    model = model_of(model_fn)
    copies = Several(model, ("global", "own"), {"alpha": alpha})

    def mixed(alpha: Any, v: ModelWeights, w: ModelWeights) -> ModelWeights:
        trainable = add(scale(alpha, v.trainable), scale(1 - alpha, w.trainable))
        return ModelWeights.create(trainable, v.non_trainable)

    def first_own(at: Any) -> Any:
        return choose(at.own.seen, at.own.model, at.sent.model)

    def begin(at: Any) -> ModelWeights:
        return copies.joined({"global": at.sent.model, "own": first_own(at)}, {"alpha": at.own.alpha})

    def gradient(take: Any, weights: Any, batch: Any, at: Any) -> Any:
        (w, v), alpha = (copies.copy(weights, name) for name in copies.names), weights.trainable.alpha
        eta = at.hparams.client_learning_rate
        forward, of_w = copies.take_at(take, weights, batch, w)
        there, of_mixed = copies.take_at(take, weights, batch, mixed(alpha, v, w))
        moves = {"global": scale(eta, of_w), "own": scale(eta * alpha, of_mixed)}
        slope = dot(subtract(v.trainable, w.trainable), of_mixed)  # the derivative by alpha
        statistics = {"global": forward.non_trainable, "own": there.non_trainable}
        return copies.moves(forward, weights, moves, statistics, {"alpha": eta * slope if adaptive else 0 * slope})

    def finish(at: Any, weights: Any, steps: Any, num_examples: Any) -> Any:
        w, v = (copies.copy(weights, name) for name in copies.names)
        kept = {"model": v, "alpha": weights.trainable.alpha, "seen": np.bool_(True)}
        return difference(w, at.sent.model), None, kept

    def personal(at: Any) -> Any:
        return choose(at.own.seen, mixed(at.own.alpha, at.own.model, at.sent.model), at.sent.model)

    Hparam(alpha, least=0, most=1).checked("alpha")
    if not isinstance(adaptive, bool):
        raise TypeError(f"adaptive must be True or False, found {adaptive!r}")
    work = local_training(
        client_optimizer=sgd(1.0),
        client_weighting=client_weighting,
        begin=begin,
        gradient=gradient,
        finish=finish,
        own=lambda weights: {"model": weights, "alpha": np.float32(alpha), "seen": np.bool_(False)},
        hparams={"client_learning_rate": Hparam(client_learning_rate, above=0)},
        model=lambda _: copies.joined_model,
        personal=personal,
    )
    return build_process(model, client_work=work, finalizer=apply_optimizer(), name="APFL", **process)
