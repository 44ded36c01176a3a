"""Federated averaging (McMahan et al. 2017, arXiv:1602.05629, Algorithm 1), with an optimizer at the server (Reddi et
al. 2021, arXiv:2003.00295, Algorithm 1).

A round: the server broadcasts the model; each client trains it on its own batches and reports trained minus initial
weights; the server averages these updates, weighted by how many examples each client trained on, and its optimizer
takes minus the average as a gradient. With SGD of learning rate 1, the default, that is the average of the clients'
models.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from hansa.aggregators import Factory
from hansa.aggregators.codecs import Codec
from hansa.learning.client_training import local_training
from hansa.learning.finalizers import apply_optimizer
from hansa.learning.process import LearningProcess, build_process
from hansa.learning.weighting import AnyWeighting
from hansa.models._typing import AnyOptimizer
from hansa.models.model import FunctionalModel
from hansa.models.named_optimizers import LearningRate
from hansa.models.tensorflow.models import Model
from hansa.privacy.sampled_steps import DPSGD


def build_federated_averaging_process(
    model_fn: Callable[[], FunctionalModel | Model] | FunctionalModel,
    *,
    client_optimizer: AnyOptimizer | DPSGD | None = None,
    client_learning_rate: LearningRate | None = None,
    server_optimizer: AnyOptimizer | None = None,
    server_learning_rate: LearningRate | None = None,
    client_schedule: Callable[[jax.Array], Any] | None = None,
    client_weighting: AnyWeighting = None,
    non_trainable: str = "mean",
    aggregator: Factory | None = None,
    distributor: Codec | None = None,
    seed: int = 0,
) -> LearningProcess:
    """The federated averaging process of a model.

    Args:
        model_fn: makes the model; called once. A class derived from `Model` does, too. Or the model itself, if it is a
            `FunctionalModel`, which is a value.
        client_optimizer: the optimizer of the clients' steps, with new state for each client and round: its name,
            "sgd", "adam", "adamw", "adagrad", "rmsprop", "yogi" or "lion", or an Optax or Keras optimizer; by default
            the model's own, or its own training step. Or `hansa.privacy.dpsgd(…)`, which protects each example.
        client_learning_rate: the learning rate of `client_optimizer`, if that is a name: a number, or a schedule by the
            number of a client's step.
        server_optimizer: likewise that of the server's step; by default SGD.
        server_learning_rate: likewise, the schedule by the number of the round; by default 1, of SGD.
        client_schedule: by what the clients' steps are multiplied in a round, as a function of its number, an int32
            scalar from 0 (as the state counts rounds): an Optax schedule such as
            `optax.cosine_decay_schedule(1.0, 100)`. For SGD, with or without momentum, and the usual adaptive
            optimizers that is a factor of the learning rate.
        client_weighting: "num_examples", the default; "sample_weight", the sum of the weights of its examples, or of
            their tokens, in all its batches; "uniform", the default where the aggregator is one of `hansa.privacy`;
            `hansa.privacy.capped(…)`; or a function from a client's local outputs (a `Struct`; with `num_examples`,
            unless the model's metrics are `MetricSums`) to its weight, a scalar. A client with a negative one is left
            out, and counted, like one that is not finite.
        non_trainable: what becomes of non-trainable weights of float dtype: their "mean" over clients, with the same
            weights, or the "server"'s values, unchanged. Those of other dtypes are the server's, and so are those
            that a training step hands on as they are, such as the weights of frozen layers, which are not reported.
        aggregator: how the clients' updates become one, a rule of `hansa.aggregators`, such as `median()`; by default
            their weighted mean. It takes in the statistics of `non_trainable`, too.
        distributor: how the model comes to the clients, as of `build_process`: a codec of
            `hansa.aggregators.codecs`, such as `quantised(bits=8)`; by default as it is.
        seed: the root of all random draws of clients; the round's number and the client's id are folded into it.

    Returns:
        A process whose `initialize` gives the state
        `<model=<trainable=<…>,non_trainable=<…>>,optimizer_state=<int64,…>>@SERVER`, which counts the rounds that
        changed the model, and whose `next` takes the state and the clients' batches to the next state and the round's
        metrics. A client whose update or weight is not finite, or that has no examples, has no part in either; one of
        whose metrics some are not finite has no part in these. The metrics count both (`RoundMetrics`). Without any
        client that has a part in it, the state stays as it is, and so it does where the server's step would make NaN or
        infinity of finite numbers; the metrics say `model_unchanged`. An aggregator's state, if it has one, is a third
        field of the state, `aggregator`, and what it measures a field of the metrics of this name.

    Raises:
        TypeError, ValueError: if an argument is not what is said above.

    Examples:
        >>> process = hansa.learning.build_federated_averaging_process(model)
        >>> state = process.initialize()
        >>> for number in range(2):
        ...     state, metrics = process.next(state, data.cohort(range(10)))
        >>> print(metrics)
        <accuracy=...,loss=...>
    """
    return build_process(
        model_fn,
        client_work=local_training(
            client_optimizer=client_optimizer,
            client_learning_rate=client_learning_rate,
            client_schedule=client_schedule,
            client_weighting=client_weighting,
        ),
        aggregator=aggregator,
        distributor=distributor,
        finalizer=apply_optimizer(server_optimizer, server_learning_rate, non_trainable),
        name="federated averaging",
        seed=seed,
    )
