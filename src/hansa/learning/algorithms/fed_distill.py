"""Federated distillation (FD: Jeong et al. 2018, arXiv:1811.11479): clients teach each other, and send no weights.

Each client has a model of its own. What is sent are the mean outputs of the models for the examples of each class: F_kl
is that of client k for the class l, a vector of probabilities. A client learns from its labels, and from the mean of
what the others say of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

import jax
import jax.numpy as jnp
import numpy as np

from hansa.learning.algorithms.arguments import OfProcess
from hansa.learning.classes import checked_classes, class_outputs, logits_of
from hansa.learning.client_training import local_training
from hansa.learning.finalizers import Finalizer
from hansa.learning.hparams import Hparam
from hansa.learning.model_fn import AnyModel
from hansa.learning.process import LearningProcess, build_process
from hansa.models._typing import AnyOptimizer
from hansa.models.batch_types import class_indices
from hansa.models.named_optimizers import LearningRate


def build_fed_distill(
    model_fn: AnyModel,
    *,
    num_classes: int,
    gamma: float = 1.0,
    from_logits: bool = True,
    client_optimizer: AnyOptimizer | None = None,
    client_learning_rate: LearningRate | None = None,
    client_schedule: Callable[[jax.Array], Any] | None = None,
    **process: Unpack[OfProcess],
) -> LearningProcess:
    """Federated distillation: to the model's own loss comes gamma times the cross entropy of a client's outputs with
    the mean outputs of the other clients for the class of each example.

    The mean is over the clients of the round before that have examples of the class. A client that was one of them
    leaves out its own. In the first round, and for a class that nobody else had, there is no such term. Mean outputs
    are those of the client's model as the round begins; the paper's are of the steps of the round.

    Args:
        num_classes: how many classes there are, at least 2.
        gamma: the weight of the distillation, at least 0; a hyper-parameter of the state. With 0 each client trains
            alone.
        from_logits: whether the model's predictions are logits; else they are probabilities.
        model_fn, client_optimizer, client_learning_rate, client_schedule, distributor, seed: as of
            `build_federated_averaging_process`. Predictions are an array `[examples, num_classes]`, and labels as of
            `build_fed_lc`.
        aggregator: how what the clients tell becomes one, `<outputs=float32[c,c],there=float32[c]>`, of equal weights;
            by default their mean.

    Returns:
        A process with the state `<server=<…>@SERVER,clients={<work=<model=<…>,…>>}@CLIENTS>`: a client's model is
        `state.clients[client_id].work.model`, and `state.finalizer.outputs` the mean outputs of the last round.
        `state.model` stays as it is: the model that a client begins with. `build_per_client_evaluation(process)`
        evaluates each client with its own.

    Raises:
        TypeError, ValueError: if an argument, the labels or the predictions are not what is said above, or JAX does not
            differentiate the model.

    Examples:
        >>> process = hansa.learning.build_fed_distill(model, num_classes=10, from_logits=False)
        >>> state, metrics = process.next(process.initialize(), data.cohort(range(4)))
        >>> print(hansa.explain(process.next).bytes_up, state.finalizer.outputs.shape)
        532 bytes (10, 10)
    """

    def gradient(take: Any, weights: Any, batch: Any, at: Any) -> Any:
        of_all, number, own = at.sent.outputs, at.sent.number, at.own
        mine = own.there * (own.round == at.sent.round - 1)
        others = number - mine
        target = (number[:, None] * of_all - mine[:, None] * own.outputs) / jnp.maximum(others, 1)[:, None]

        def loss(weights: Any, output: Any, batch: Any) -> Any:
            log_p = jax.nn.log_softmax(logits_of(output.predictions, num_classes, from_logits, _NAME))
            y = class_indices(batch, num_classes, _NAME)
            distilled = jnp.where(others[y] > 0.5, -(target[y] * log_p).sum(1), 0).mean()
            return output.loss + at.hparams.gamma * distilled.astype(output.loss.dtype)

        return take(weights, batch, loss)

    def finish(at: Any, weights: Any, steps: Any, num_examples: Any) -> Any:
        share = at.seen.classes.share
        there = (share > 0).astype(jnp.float32)
        told = {"outputs": at.seen.classes.outputs / jnp.where(share > 0, share, 1)[:, None], "there": there}
        return told, 1.0, {"model": weights, "round": at.sent.round, **told}

    def apply(state: Any, total: Any, num_clients: Any) -> Any:
        share = total.there
        outputs = total.outputs / jnp.where(share > 0, share, 1)[:, None]
        after = {"outputs": outputs, "number": num_clients * share, "round": state.finalizer.round + 1}
        return state._replace(finalizer=after)

    c = checked_classes(num_classes)
    nothing = {"outputs": np.zeros((c, c), np.float32), "there": np.zeros(c, np.float32)}
    work = local_training(
        client_optimizer=client_optimizer,
        client_learning_rate=client_learning_rate,
        client_schedule=client_schedule,
        first_pass=class_outputs(c, from_logits, lambda at: at.own.model, _NAME),
        begin=lambda at: at.own.model,
        gradient=gradient,
        finish=finish,
        sent=lambda state: state.finalizer,
        own=lambda weights: {"model": weights, "round": np.int32(-2), **nothing},
        hparams={"gamma": Hparam(gamma, least=0)},
        personal=lambda at: at.own.model,
    )
    first = {"outputs": nothing["outputs"], "number": nothing["there"], "round": np.int32(0)}
    return build_process(
        model_fn,
        client_work=work,
        finalizer=Finalizer(apply, initial=first),
        name=_NAME,
        **process,
    )


_NAME = "federated distillation"
