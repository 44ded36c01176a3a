"""Mime and MimeLite (Karimireddy et al. 2021, arXiv:2008.03606, Algorithm 1): clients step as the server would.

The base optimizer has a state s, which the server updates once in a round by the clients' full gradient, and which is
fixed while clients train. U is its step. x is the server's model, y a client's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Unpack

from hansa.learning.algorithms.arguments import OfProcess
from hansa.learning.algorithms.fed_sgd import full_gradient
from hansa.learning.arithmetic import add, difference, moved, scale, subtract
from hansa.learning.client_training import local_training
from hansa.learning.finalizers import Finalizer
from hansa.learning.hparams import Hparam
from hansa.learning.model_fn import model_of
from hansa.learning.passes import mean_gradient
from hansa.learning.process import LearningProcess, build_process
from hansa.learning.training_steps import server_optimizer as optimizer_of
from hansa.learning.weighting import AnyWeighting
from hansa.models._typing import AnyOptimizer
from hansa.models.model import FunctionalModel
from hansa.models.named_optimizers import LearningRate
from hansa.models.optimizer import Optimizer, sgd
from hansa.models.tensorflow.models import Model
from hansa.types import Struct


def build_mime(
    model_fn: Callable[[], FunctionalModel | Model] | FunctionalModel,
    *,
    base_optimizer: AnyOptimizer,
    base_learning_rate: LearningRate | None = None,
    server_learning_rate: float = 1.0,
    client_weighting: AnyWeighting = None,
    **process: Unpack[OfProcess],
) -> LearningProcess:
    """Mime: as MimeLite, where the clients' gradients are corrected, too, by c, the full gradient of all clients.

    A round has two phases: in the first each client reports its full gradient at x, of which c is the mean. In the
    second, on a batch, a client's step is U of g(y) - g(x) + c, with gradients g of the batch.

    Args:
        base_optimizer, base_learning_rate, server_learning_rate, seed: as of `build_mime_lite`.
        client_weighting: the weights of clients in both phases, of the metrics in either. The paper's is "uniform".
        model_fn, aggregator, distributor: as of `build_federated_averaging_process`. The aggregator is given the
            updates of the second phase; c is the weighted mean.

    Returns:
        A process as of `build_mime_lite`.

    Raises:
        TypeError, ValueError: if an argument is not what is said above, or the model's gradients are of a loss scaled
            for float16.

    Examples:
        >>> process = hansa.learning.build_mime(model, base_optimizer="adam", base_learning_rate=0.01)
        >>> state, metrics = process.next(process.initialize(), data.cohort(range(10)))
    """
    model = model_of(model_fn)
    base = optimizer_of(model, base_optimizer, base_learning_rate, "base_optimizer")

    def gradient(take: Any, y: Any, batch: Any, at: Any) -> Any:
        forward, of_y = take(y, batch)
        _, of_x = take(y._replace(trainable=at.sent.model.trainable), batch)
        return forward, add(subtract(of_y, of_x), at.sent.gradient)  # g(y) - g(x) + c

    work = local_training(
        client_optimizer=sgd(1.0),
        client_weighting=client_weighting,
        gradient=gradient,
        direction=_step(base),
        sent=lambda state: {**_sent(state), "gradient": _full(state)},
    )
    work = replace(work, survey=full_gradient(client_weighting))
    finalizer = _finalizer(base, server_learning_rate, lambda state, total: (total, _full(state)))
    return build_process(model, client_work=work, finalizer=finalizer, name="Mime", **process)


def build_mime_lite(
    model_fn: Callable[[], FunctionalModel | Model] | FunctionalModel,
    *,
    base_optimizer: AnyOptimizer,
    base_learning_rate: LearningRate | None = None,
    server_learning_rate: float = 1.0,
    client_weighting: AnyWeighting = None,
    **process: Unpack[OfProcess],
) -> LearningProcess:
    """MimeLite: clients make the base optimizer's steps with its state at the server, which they do not change.

    Each client also reports its full gradient at x, by which the server updates the state. It is a pass over the data
    before training.

    Args:
        base_optimizer: whose steps clients make: a name, or an Optax or Keras optimizer.
        base_learning_rate: that of `base_optimizer`, if that is a name. As its state changes once in a round, a
            schedule is by the number of the round, as with TFF's `build_mime_lite_with_optimizer_schedule`.
        server_learning_rate: by what the clients' mean update is multiplied, above 0.
        client_weighting: of updates and full gradients. The paper's is "uniform".
        model_fn, distributor, seed: as of `build_federated_averaging_process`.
        aggregator: likewise; it is given updates `<model,gradient>`.

    Returns:
        A process as of `build_federated_averaging_process`, whose `optimizer_state` is that of the base optimizer, and
        the rate of the server a hyper-parameter.

    Raises:
        TypeError, ValueError: if an argument is not what is said above, or the model's gradients are of a loss scaled
            for float16.

    Examples:
        >>> import optax
        >>> process = hansa.learning.build_mime_lite(model, base_optimizer=optax.sgd(0.1, momentum=0.9))
        >>> state, metrics = process.next(process.initialize(), data.cohort(range(10)))
    """
    model = model_of(model_fn)
    base = optimizer_of(model, base_optimizer, base_learning_rate, "base_optimizer")

    def finish(at: Any, y: Any, steps: Any, num_examples: Any) -> Any:
        return {"model": difference(y, at.sent.model), "gradient": at.seen.gradient}, None, None

    work = local_training(
        client_optimizer=sgd(1.0),
        client_weighting=client_weighting,
        first_pass=mean_gradient(),
        gradient=lambda take, y, batch, at: take(y, batch),  # so that scaled losses are refused, as in the pass
        direction=_step(base),
        finish=finish,
        sent=_sent,
    )
    finalizer = _finalizer(base, server_learning_rate, lambda state, total: (total.model, total.gradient))
    return build_process(model, client_work=work, finalizer=finalizer, name="MimeLite", **process)


def _sent(state: Struct) -> dict[str, Any]:
    """The model, and the state of the base optimizer."""
    return {"model": state.model, "base": Struct(list(state.optimizer_state._items())[1:])}


def _full(state: Struct) -> Any:
    """The full gradient of all clients."""
    return scale(-1, state.survey.trainable)


def _step(base: Optimizer) -> Callable[..., Any]:
    """U: what the weights move by against, with the state of the server."""

    def direction(gradient: Any, y: Any, at: Any) -> Any:
        return subtract(y, base.apply(at.sent.base, gradient, y)[1])

    return direction


def _finalizer(base: Optimizer, rate: float, parts: Callable[[Struct, Any], tuple[Any, Any]]) -> Finalizer:
    """The server's step, where `parts` gives the clients' mean update and their full gradient."""

    def apply(state: Struct, total: Any, num_clients: Any) -> Struct:
        update, gradient = parts(state, total)
        slots, _ = base.apply(state.slots, gradient, state.model.trainable)
        return state._replace(model=moved(state.model, update, state.hparams.server_learning_rate), slots=slots)

    numbers = {"server_learning_rate": Hparam(rate, above=0)}
    return Finalizer(apply, hparams=numbers, slots=base.initial, wide=base.wide, name=base.name)
