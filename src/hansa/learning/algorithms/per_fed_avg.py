"""Per-FedAvg (Fallah et al. 2020, arXiv:2002.07948, Algorithm 1): a model from which a step leads to a personal one.

In the notation of the paper f_i is the loss of client i, alpha the rate of the step that personalises, and the clients
minimise F_i(w) = f_i(w - alpha grad f_i(w)), whose gradient is (I - alpha H(w)) grad f_i(w - alpha grad f_i(w)).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Unpack

import jax

from hansa.learning.algorithms.arguments import OfProcess
from hansa.learning.arithmetic import add_scaled, scale, subtract
from hansa.learning.client_training import local_training
from hansa.learning.finalizers import apply_optimizer
from hansa.learning.hparams import Hparam
from hansa.learning.model_fn import AnyModel
from hansa.learning.process import LearningProcess, build_process
from hansa.learning.weighting import AnyWeighting
from hansa.models._typing import AnyOptimizer
from hansa.models.named_optimizers import LearningRate


def build_per_fed_avg(
    model_fn: AnyModel,
    *,
    alpha: float,
    variant: Literal["FO", "HF"] = "FO",
    delta: float = 0.001,
    client_optimizer: AnyOptimizer | None = None,
    client_learning_rate: LearningRate | None = None,
    server_optimizer: AnyOptimizer | None = None,
    server_learning_rate: LearningRate | None = None,
    client_schedule: Callable[[jax.Array], Any] | None = None,
    client_weighting: AnyWeighting = "uniform",
    non_trainable: str = "mean",
    **process: Unpack[OfProcess],
) -> LearningProcess:
    """Per-FedAvg: clients learn together a model that suits each after a step of SGD on data of its own.

    The model of the state is that of before this step; `build_personalization_eval` takes the step, and evaluates. Each
    step of a client takes one batch for all three of the paper, D, D' and D'': it is the gradient of F_i on this batch.

    Args:
        alpha: the rate of the step that personalises, above 0; a hyper-parameter of the state.
        variant: "FO" leaves out the second derivatives. "HF" has their product with the gradient from a difference of
            two gradients, which takes four gradients in a step instead of two.
        delta: how far apart these are, above 0, in units of the gradient; a hyper-parameter of the state of "HF".
        model_fn, client_optimizer, client_learning_rate, server_optimizer, server_learning_rate, client_schedule,
            client_weighting, non_trainable, aggregator, distributor, seed: as of `build_federated_averaging_process`.
            The rate of the clients is the paper's beta.

    Returns:
        A process as of `build_federated_averaging_process`. Its metrics are those of the model before the step.

    Raises:
        TypeError, ValueError: if an argument is not what is said above, or the model trains itself, by a
            `train_on_batch`, and no `client_optimizer` is given.

    Examples:
        >>> process = hansa.learning.build_per_fed_avg(model, alpha=0.05, variant="HF")
        >>> state, metrics = process.next(process.initialize(), data.cohort(range(10)))
        >>> evaluation = hansa.learning.build_personalization_eval(
        ...     process, client_optimizer="sgd", client_learning_rate=0.05
        ... )
        >>> results = evaluation(state, data.cohort(range(3)), data.cohort(range(3)))
    """

    def gradient(take: Any, w: Any, batch: Any, at: Any) -> Any:
        def of(trainable: Any) -> Any:
            return take(w._replace(trainable=trainable), batch)[1]

        forward, first = take(w, batch)
        g = of(add_scaled(w.trainable, -at.hparams.alpha, first))  # at the personal model
        if variant == "FO":
            return forward, g
        apart = at.hparams.delta
        ahead, behind = (of(add_scaled(w.trainable, sign * apart, g)) for sign in (1, -1))
        product = scale(1 / (2 * apart), subtract(ahead, behind))  # H(w) g, nearly
        return forward, add_scaled(g, -at.hparams.alpha, product)

    if variant not in ("FO", "HF"):
        raise ValueError(f"variant is 'FO' or 'HF', found {variant!r}")
    hparams = {"alpha": Hparam(alpha, above=0)}
    if variant == "HF":
        hparams["delta"] = Hparam(delta, above=0)
    work = local_training(
        client_optimizer=client_optimizer,
        client_learning_rate=client_learning_rate,
        client_schedule=client_schedule,
        client_weighting=client_weighting,
        gradient=gradient,
        hparams=hparams,
    )
    finalizer = apply_optimizer(server_optimizer, server_learning_rate, non_trainable)
    return build_process(model_fn, client_work=work, finalizer=finalizer, name="Per-FedAvg", **process)
