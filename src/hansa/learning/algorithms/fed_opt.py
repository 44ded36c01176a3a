"""FedAvgM, FedAdagrad, FedAdam, FedYogi (Reddi et al. 2021, arXiv:2003.00295, Algorithm 2): the server's optimizers.

In the notation of the paper Delta is the mean update, m its momentum, v the second moment, and x the model. There is no
correction of the bias of m and v, and tau stands outside of the root.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Unpack

import jax
import jax.numpy as jnp

from hansa.learning.algorithms.arguments import OfProcess
from hansa.learning.arithmetic import add, add_scaled, scale, zeros_like
from hansa.learning.client_training import local_training
from hansa.learning.finalizers import apply_optimizer
from hansa.learning.hparams import Hparam
from hansa.learning.model_fn import AnyModel
from hansa.learning.process import LearningProcess, build_process
from hansa.learning.weighting import AnyWeighting
from hansa.models._typing import AnyOptimizer
from hansa.models.named_optimizers import LearningRate
from hansa.models.optimizer import Optimizer
from hansa.types import Struct


def build_fed_avgm(
    model_fn: AnyModel,
    *,
    server_learning_rate: float = 1.0,
    momentum: float = 0.9,
    client_optimizer: AnyOptimizer | None = None,
    client_learning_rate: LearningRate | None = None,
    client_schedule: Callable[[jax.Array], Any] | None = None,
    client_weighting: AnyWeighting = None,
    non_trainable: str = "mean",
    **process: Unpack[OfProcess],
) -> LearningProcess:
    """FedAvgM: federated averaging with momentum at the server (Hsu et al. 2019, arXiv:1909.06335): m = momentum m +
    Delta, and x + eta m is the next model.

    Args:
        server_learning_rate: eta, above 0.
        momentum: from 0, with which it is federated averaging, to below 1.
        model_fn, client_optimizer, client_learning_rate, client_schedule, client_weighting, non_trainable, aggregator,
            distributor, seed: as of `build_federated_averaging_process`.

    Returns:
        A process as of `build_federated_averaging_process`. Both numbers are hyper-parameters of the state, and m is
        `state.optimizer_state.momentum`.

    Raises:
        TypeError, ValueError: if an argument is not what is said above.

    Examples:
        >>> process = hansa.learning.build_fed_avgm(model)
        >>> state, metrics = process.next(process.initialize(), data.cohort(range(10)))
        >>> state.hparams
        <server_learning_rate=1.0,momentum=0.9>
    """

    def optimizer(hparams: Struct) -> Optimizer:
        def apply(slots: Struct, gradient: Any, x: Any) -> tuple[Struct, Any]:
            m = add_scaled(scale(-1, gradient), hparams.momentum, slots.momentum)
            return Struct.of(momentum=m), add_scaled(x, hparams.server_learning_rate, m)

        return Optimizer(lambda x: Struct.of(momentum=zeros_like(x)), apply, name="FedAvgM")

    numbers = {
        "server_learning_rate": Hparam(server_learning_rate, above=0),
        "momentum": Hparam(momentum, least=0, below=1),
    }
    training = local_training(
        client_optimizer=client_optimizer,
        client_learning_rate=client_learning_rate,
        client_schedule=client_schedule,
        client_weighting=client_weighting,
    )
    finalizer = apply_optimizer(optimizer, non_trainable=non_trainable, hparams=numbers)
    return build_process(model_fn, client_work=training, finalizer=finalizer, name="FedAvgM", **process)


def build_fed_adagrad(
    model_fn: AnyModel,
    *,
    server_learning_rate: float,
    beta_1: float = 0.0,
    tau: float = 1e-3,
    client_optimizer: AnyOptimizer | None = None,
    client_learning_rate: LearningRate | None = None,
    client_schedule: Callable[[jax.Array], Any] | None = None,
    client_weighting: AnyWeighting = None,
    non_trainable: str = "mean",
    **process: Unpack[OfProcess],
) -> LearningProcess:
    """FedAdagrad: m = beta_1 m + (1 - beta_1) Delta, v = v + Delta^2, and the model moves by eta m / (sqrt(v) + tau).

    m begins with 0 and v with tau^2. The paper's experiments have beta_1 = 0.

    Args:
        server_learning_rate: eta, above 0.
        beta_1: the decay of m, from 0 to below 1.
        tau: above 0: the smaller, the more the step of each weight adapts to its own updates.
        model_fn, client_optimizer, client_learning_rate, client_schedule, client_weighting, non_trainable, aggregator,
            distributor, seed: as of `build_federated_averaging_process`.

    Returns:
        A process as of `build_federated_averaging_process`. The numbers are hyper-parameters of the state, and m and v
        are `state.optimizer_state.m` and `.v`.

    Raises:
        TypeError, ValueError: if an argument is not what is said above.

    Examples:
        >>> process = hansa.learning.build_fed_adagrad(model, server_learning_rate=0.1)
        >>> state, metrics = process.next(process.initialize(), data.cohort(range(10)))
        >>> state.optimizer_state.v["dense/bias"].shape
        (10,)
    """
    training = local_training(
        client_optimizer=client_optimizer,
        client_learning_rate=client_learning_rate,
        client_schedule=client_schedule,
        client_weighting=client_weighting,
    )
    moment = lambda v, delta, hparams: v + delta**2  # noqa: E731
    numbers = {"server_learning_rate": server_learning_rate, "beta_1": beta_1, "tau": tau}
    finalizer = _adaptive("FedAdagrad", moment, numbers, non_trainable)
    return build_process(model_fn, client_work=training, finalizer=finalizer, name="FedAdagrad", **process)


def build_fed_adam(
    model_fn: AnyModel,
    *,
    server_learning_rate: float,
    beta_1: float = 0.9,
    beta_2: float = 0.99,
    tau: float = 1e-3,
    client_optimizer: AnyOptimizer | None = None,
    client_learning_rate: LearningRate | None = None,
    client_schedule: Callable[[jax.Array], Any] | None = None,
    client_weighting: AnyWeighting = None,
    non_trainable: str = "mean",
    **process: Unpack[OfProcess],
) -> LearningProcess:
    """FedAdam: as FedAdagrad, with v = beta_2 v + (1 - beta_2) Delta^2.

    It differs from Adam at the server, `server_optimizer="adam"`, which corrects the bias of m and v.

    Args:
        server_learning_rate, beta_1, tau: as of `build_fed_adagrad`.
        beta_2: the decay of v, from 0 to below 1.
        model_fn, client_optimizer, client_learning_rate, client_schedule, client_weighting, non_trainable, aggregator,
            distributor, seed: as of `build_federated_averaging_process`.

    Returns:
        A process as of `build_fed_adagrad`.

    Raises:
        TypeError, ValueError: if an argument is not what is said above.

    Examples:
        >>> process = hansa.learning.build_fed_adam(model, server_learning_rate=0.01)
        >>> process.settings["server optimizer"]
        'FedAdam'
    """
    training = local_training(
        client_optimizer=client_optimizer,
        client_learning_rate=client_learning_rate,
        client_schedule=client_schedule,
        client_weighting=client_weighting,
    )
    moment = lambda v, delta, hparams: hparams.beta_2 * v + (1 - hparams.beta_2) * delta**2  # noqa: E731
    numbers = {"server_learning_rate": server_learning_rate, "beta_1": beta_1, "beta_2": beta_2, "tau": tau}
    finalizer = _adaptive("FedAdam", moment, numbers, non_trainable)
    return build_process(model_fn, client_work=training, finalizer=finalizer, name="FedAdam", **process)


def build_fed_yogi(
    model_fn: AnyModel,
    *,
    server_learning_rate: float,
    beta_1: float = 0.9,
    beta_2: float = 0.99,
    tau: float = 1e-3,
    client_optimizer: AnyOptimizer | None = None,
    client_learning_rate: LearningRate | None = None,
    client_schedule: Callable[[jax.Array], Any] | None = None,
    client_weighting: AnyWeighting = None,
    non_trainable: str = "mean",
    **process: Unpack[OfProcess],
) -> LearningProcess:
    """FedYogi: as FedAdagrad, with v = v - (1 - beta_2) Delta^2 sign(v - Delta^2).

    Args:
        server_learning_rate, beta_1, tau: as of `build_fed_adagrad`.
        beta_2: from 0 to below 1: the nearer to 1, the slower v changes.
        model_fn, client_optimizer, client_learning_rate, client_schedule, client_weighting, non_trainable, aggregator,
            distributor, seed: as of `build_federated_averaging_process`.

    Returns:
        A process as of `build_fed_adagrad`.

    Raises:
        TypeError, ValueError: if an argument is not what is said above.

    Examples:
        >>> process = hansa.learning.build_fed_yogi(model, server_learning_rate=0.01)
        >>> process.settings["server optimizer"]
        'FedYogi'
    """
    training = local_training(
        client_optimizer=client_optimizer,
        client_learning_rate=client_learning_rate,
        client_schedule=client_schedule,
        client_weighting=client_weighting,
    )
    moment = lambda v, delta, hparams: v - (1 - hparams.beta_2) * delta**2 * jnp.sign(v - delta**2)  # noqa: E731
    numbers = {"server_learning_rate": server_learning_rate, "beta_1": beta_1, "beta_2": beta_2, "tau": tau}
    finalizer = _adaptive("FedYogi", moment, numbers, non_trainable)
    return build_process(model_fn, client_work=training, finalizer=finalizer, name="FedYogi", **process)


def _adaptive(name: str, moment: Callable[..., Any], numbers: dict[str, float], non_trainable: str) -> Any:
    """The server's step of Algorithm 2.

    Args:
        name: what it is called.
        moment: (v, Delta, the hyper-parameters) -> the next v, of one array.
        numbers: the hyper-parameters.
        non_trainable: as of `build_federated_averaging_process`.
    """
    fraction, rate = Hparam(0, least=0, below=1), Hparam(1, above=0)
    bounded = {
        number: replace(fraction if number.startswith("beta") else rate, value=value)
        for number, value in numbers.items()
    }

    def optimizer(hparams: Struct) -> Optimizer:
        def initial(x: Any) -> Struct:
            return Struct.of(
                m=zeros_like(x), v=jax.tree.map(lambda leaf: leaf + leaf.dtype.type(tau**2), zeros_like(x))
            )

        def apply(slots: Struct, gradient: Any, x: Any) -> tuple[Struct, Any]:
            delta = scale(-1, gradient)
            m = add(scale(hparams.beta_1, slots.m), scale(1 - hparams.beta_1, delta))
            v = jax.tree.map(lambda v, d: moment(v, d, hparams), slots.v, delta)
            step = jax.tree.map(lambda m, v: m / (jnp.sqrt(v) + hparams.tau), m, v)
            return Struct.of(m=m, v=v), add_scaled(x, hparams.server_learning_rate, step)

        return Optimizer(initial, apply, name=name)

    tau = numbers["tau"]
    return apply_optimizer(optimizer, non_trainable=non_trainable, hparams=bounded)
