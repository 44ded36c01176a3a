"""FedNova (Wang et al. 2020, arXiv:2007.07481): a client's change is divided by how many steps it is worth.

Clients that make more steps than others no longer pull the model their way. x is the server's model, y a client's after
tau steps; eta is the clients' rate, rho their momentum and mu their proximal strength.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

import jax
import jax.numpy as jnp

from hansa.learning.algorithms.arguments import OfProcess
from hansa.learning.arithmetic import add_scaled, difference, scale, subtract, zeros_like
from hansa.learning.client_training import local_training
from hansa.learning.finalizers import apply_optimizer
from hansa.learning.hparams import Hparam
from hansa.learning.process import LearningProcess, build_process
from hansa.learning.weighting import AnyWeighting
from hansa.models._typing import AnyOptimizer
from hansa.models.model import FunctionalModel
from hansa.models.named_optimizers import LearningRate
from hansa.models.optimizer import Optimizer, sgd
from hansa.models.tensorflow.models import Model
from hansa.types import Struct


def build_fed_nova(
    model_fn: Callable[[], FunctionalModel | Model] | FunctionalModel,
    *,
    client_learning_rate: float,
    client_momentum: float = 0.0,
    proximal_strength: float = 0.0,
    server_optimizer: AnyOptimizer | None = None,
    server_learning_rate: LearningRate | None = None,
    client_weighting: AnyWeighting = None,
    non_trainable: str = "mean",
    **process: Unpack[OfProcess],
) -> LearningProcess:
    """FedNova: clients report d_i, their change for each step, and the server makes tau_eff of the mean step.

    Clients take steps of SGD, with momentum rho and the proximal term of FedProx where asked for. Their change is
    -eta times a sum of their gradients, with factors a_i. d_i is the change divided by the sum of these factors, which
    is the number of steps for SGD alone. tau_eff is the mean of these sums, without the proximal term: with SGD alone,
    and with the proximal term, it is the mean number of steps, as in the authors' code. With both momentum and the
    proximal term, that code leaves out the momentum in tau_eff, too. With equal numbers of steps it is federated
    averaging.

    Args:
        client_learning_rate: eta, above 0.
        client_momentum: rho, from 0 to below 1.
        proximal_strength: mu, at least 0.
        server_optimizer, server_learning_rate: of the server's step; by default it adds the update. SGD with momentum
            is the authors' slow momentum.
        client_weighting: of d_i and of tau_eff: p_i; the paper's is that of examples.
        model_fn, non_trainable, aggregator, distributor, seed: as of `build_federated_averaging_process`. The
            aggregator is given updates `<model,steps>`.

    Returns:
        A process as of `build_federated_averaging_process`. The rate, and momentum and strength where they are not 0,
        are hyper-parameters of its state.

    Raises:
        TypeError, ValueError: if an argument is not what is said above.

    Examples:
        >>> process = hansa.learning.build_fed_nova(model, client_learning_rate=0.1, client_momentum=0.9)
        >>> state, metrics = process.next(process.initialize(), data.cohort(range(10)))
        >>> state.hparams
        <client_learning_rate=0.1,client_momentum=0.9>
    """
    hparams = {"client_learning_rate": Hparam(client_learning_rate, above=0)}
    more = {
        "client_momentum": Hparam(client_momentum, least=0, below=1),
        "proximal_strength": Hparam(proximal_strength, least=0),
    }
    # Those that are 0 are no part of what is compiled.
    hparams |= {name: number for name, number in more.items() if number.checked(name)}
    proximal = "proximal_strength" in hparams

    def direction(gradient: Any, weights: Any, at: Any) -> Any:
        return add_scaled(gradient, at.hparams.proximal_strength, subtract(weights, at.sent.model.trainable))

    def optimizer(hparams: Struct) -> Optimizer:
        if not client_momentum:
            return sgd(hparams.client_learning_rate)

        def apply(slots: Struct, gradient: Any, weights: Any) -> tuple[Struct, Any]:
            momentum = add_scaled(gradient, hparams.client_momentum, slots.momentum)
            return Struct.of(momentum=momentum), add_scaled(weights, -hparams.client_learning_rate, momentum)

        return Optimizer(lambda weights: Struct.of(momentum=zeros_like(weights)), apply, name="SGD with momentum")

    def finish(at: Any, y: Any, steps: Any, num_examples: Any) -> Any:
        change = difference(y, at.sent.model)
        d = scale(1 / _factors(at.hparams, steps, proximal), change.trainable)  # d_i
        return {"model": change._replace(trainable=d), "steps": _factors(at.hparams, steps, False)}, None, None

    def update(state: Any, total: Any, num_clients: Any) -> Any:
        return Struct.of(  # tau_eff times the weighted mean of d_i
            trainable=scale(total.steps, total.model.trainable), non_trainable=total.model.non_trainable
        )

    work = local_training(
        client_optimizer=optimizer,
        client_weighting=client_weighting,
        direction=direction if proximal else None,
        finish=finish,
        hparams=hparams,
    )
    finalizer = apply_optimizer(server_optimizer, server_learning_rate, non_trainable, update=update)
    return build_process(model_fn, client_work=work, finalizer=finalizer, name="FedNova", **process)


def _factors(hparams: Struct, steps: Any, proximal: bool) -> Any:
    """|a_i|_1, the sum of the factors of the gradients in a client's change: how far as many steps come on a number
    whose gradient is 1, in units of the rate."""
    rho = hparams.client_momentum if "client_momentum" in hparams._fields else 0.0
    shrink = hparams.client_learning_rate * hparams.proximal_strength if proximal else 0.0
    if not proximal and "client_momentum" not in hparams._fields:
        return jnp.asarray(steps, jnp.float32)

    def step(_: Any, at: tuple[Any, Any]) -> tuple[Any, Any]:
        reached, momentum = at
        momentum = rho * momentum + 1 - shrink * reached
        return reached + momentum, momentum

    reached, _ = jax.lax.fori_loop(0, steps, step, (jnp.float32(0), jnp.float32(0)))
    return reached
