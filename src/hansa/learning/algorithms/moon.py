"""MOON (Li et al. 2021, arXiv:2103.16257, Algorithm 1): clients are drawn to the features of the model that they got.

A client's loss is l_sup + mu l_con, with equation 3, of the features z of its own model, z_glob of the one that was
sent, and z_prev of its own after its last round:

    l_con = -log( exp(sim(z, z_glob) / tau) / (exp(sim(z, z_glob) / tau) + exp(sim(z, z_prev) / tau)) )

where sim is the cosine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

import jax
import jax.numpy as jnp
import numpy as np

from hansa.learning.algorithms.arguments import OfProcess
from hansa.learning.arithmetic import difference
from hansa.learning.client_training import local_training
from hansa.learning.finalizers import apply_optimizer
from hansa.learning.hparams import Hparam
from hansa.learning.process import LearningProcess, build_process
from hansa.learning.weighting import AnyWeighting
from hansa.models._typing import AnyOptimizer
from hansa.models.model import FunctionalModel
from hansa.models.named_optimizers import LearningRate
from hansa.models.outputs import BatchOutput
from hansa.models.tensorflow.models import Model


def build_moon(
    model_fn: Callable[[], FunctionalModel | Model] | FunctionalModel,
    *,
    mu: float,
    tau: float = 0.5,
    features: Callable[[BatchOutput], Any] | None = None,
    client_optimizer: AnyOptimizer | None = None,
    client_learning_rate: LearningRate | None = None,
    server_optimizer: AnyOptimizer | None = None,
    server_learning_rate: LearningRate | None = None,
    client_schedule: Callable[[jax.Array], Any] | None = None,
    client_weighting: AnyWeighting = None,
    non_trainable: str = "mean",
    **process: Unpack[OfProcess],
) -> LearningProcess:
    """MOON: model-contrastive learning. Each client keeps its model of its last round.

    In the first round of a client there is no such model, and l_con is 0. All three models see a batch as in training,
    with the same draws. A round takes two more forward passes of each batch than federated averaging.

    Args:
        mu: the weight of l_con, at least 0; with 0 it is federated averaging.
        tau: the temperature, above 0. Both are hyper-parameters of the state.
        features: from what the model gives for a batch, a `BatchOutput`, to its features `[examples, size]`; by default
            `output.features`, which a model of `functional_model` may give. A Keras model with several outputs gives
            them among `output.predictions`.
        model_fn, client_optimizer, client_learning_rate, server_optimizer, server_learning_rate, client_schedule,
            client_weighting, non_trainable, aggregator, distributor, seed: as of `build_federated_averaging_process`.

    Returns:
        A process with the state `<server=<…>@SERVER,clients={<work=<model=<…>,rounds=int32>>}@CLIENTS>`: what a client
        keeps is its last model and in how many rounds it had a part.

    Raises:
        TypeError, ValueError: if an argument or the features are not what is said above, or JAX does not differentiate
            the model.

    Examples:
        >>> process = hansa.learning.build_moon(model, mu=1.0, features=lambda output: output.predictions)
        >>> state, metrics = process.next(process.initialize(), data.cohort(range(4)))
        >>> int(state.clients[0].work.rounds)
        1
    """

    def gradient(take: Any, weights: Any, batch: Any, at: Any) -> Any:
        # Nothing but the features is used of these two, so that no gradient is computed.
        z_glob, z_prev = (_of(take(model, batch)[0].output) for model in (at.sent.model, at.own.model))
        there = at.own.rounds > 0

        def loss(weights: Any, output: Any, batch: Any) -> Any:
            z = _of(output)
            to_glob, to_prev = (_cosine(z, other) / at.hparams.tau for other in (z_glob, z_prev))
            contrast = jax.nn.softplus(to_prev - to_glob).mean()  # equation 3
            return output.loss + at.hparams.mu * jnp.where(there, contrast, 0).astype(output.loss.dtype)

        return take(weights, batch, loss)

    def finish(at: Any, weights: Any, steps: Any, num_examples: Any) -> Any:
        return difference(weights, at.sent.model), None, {"model": weights, "rounds": at.own.rounds + 1}

    def _of(output: BatchOutput) -> Any:
        return _checked(output.features if features is None else features(output))

    if features is not None and not callable(features):
        raise TypeError(f"features must be a function of a BatchOutput, found {features!r}")
    return build_process(
        model_fn,
        client_work=local_training(
            client_optimizer=client_optimizer,
            client_learning_rate=client_learning_rate,
            client_schedule=client_schedule,
            client_weighting=client_weighting,
            gradient=gradient,
            finish=finish,
            own=lambda weights: {"model": weights, "rounds": np.int32(0)},
            hparams={"mu": Hparam(mu, least=0), "tau": Hparam(tau, above=0)},
        ),
        finalizer=apply_optimizer(server_optimizer, server_learning_rate, non_trainable),
        name="MOON",
        **process,
    )


def _cosine(a: Any, b: Any) -> Any:
    """The cosine of each row of a with that of b; 0 where one is zero."""
    squares = (a * a).sum(1) * (b * b).sum(1)
    there = squares > 0
    return jnp.where(there, (a * b).sum(1) / jnp.sqrt(jnp.where(there, squares, 1)), 0)


def _checked(features: Any) -> Any:
    shape = getattr(features, "shape", None)
    if shape is None or len(shape) != 2:
        found = f"an array of the shape {list(shape)}" if shape is not None else f"{type(features).__name__}"
        raise TypeError(
            f"MOON takes features of the shape [examples, size], found {found}: let the model give "
            "BatchOutput(loss, predictions, features=…), or pass features=lambda output: …"
        )
    return features.astype(jnp.float32)
