"""FedSGD (McMahan et al. 2017, arXiv:1602.05629, section 2): the server steps along the clients' mean gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

from hansa.learning.algorithms.arguments import OfProcess
from hansa.learning.arithmetic import add, difference, scale, zeros_like
from hansa.learning.client_training import local_training
from hansa.learning.client_work import ClientWork
from hansa.learning.finalizers import apply_optimizer
from hansa.learning.process import LearningProcess, build_process
from hansa.learning.weighting import AnyWeighting
from hansa.models._typing import AnyOptimizer
from hansa.models.batch_types import leading_size
from hansa.models.model import FunctionalModel
from hansa.models.named_optimizers import LearningRate
from hansa.models.optimizer import Optimizer
from hansa.models.tensorflow.models import Model
from hansa.models.weights import ModelWeights
from hansa.types import Struct


def build_fed_sgd(
    model_fn: Callable[[], FunctionalModel | Model] | FunctionalModel,
    *,
    server_optimizer: AnyOptimizer | None = None,
    server_learning_rate: LearningRate | None = None,
    client_weighting: AnyWeighting = None,
    non_trainable: str = "mean",
    **process: Unpack[OfProcess],
) -> LearningProcess:
    """FedSGD: each client reports the mean gradient over its examples, at the model that it was sent.

    Clients make no steps, so they need no optimizer, and how their data is cut into batches does not matter but for
    statistics of batches and what is random.

    Args:
        server_optimizer, server_learning_rate: of the server's step along the mean gradient; by default SGD with
            learning rate 0.1.
        model_fn, client_weighting, non_trainable, aggregator, distributor, seed: as of
            `build_federated_averaging_process`. The aggregator is given minus the gradients, as updates of the model's
            weights.

    Returns:
        A process as of `build_federated_averaging_process`.

    Raises:
        TypeError, ValueError: if an argument is not what is said above, or the model's gradients are of a loss scaled
            for float16.

    Examples:
        >>> process = hansa.learning.build_fed_sgd(model, server_learning_rate=0.5)
        >>> state, metrics = process.next(process.initialize(), data.cohort(range(10)))
    """
    if server_optimizer is None and server_learning_rate is None:
        server_learning_rate = 0.1
    return build_process(
        model_fn,
        client_work=full_gradient(client_weighting),
        finalizer=apply_optimizer(server_optimizer, server_learning_rate, non_trainable),
        name="FedSGD",
        **process,
    )


def full_gradient(client_weighting: AnyWeighting = None) -> ClientWork:
    """The client work that reports minus the mean gradient over all examples, at the model that was sent.

    What is carried from batch to batch in the place of the trainable weights is the sum of the examples' gradients.
    """

    def begin(at: Any) -> Any:
        return at.sent.model._replace(trainable=zeros_like(at.sent.model.trainable))

    def gradient(take: Any, weights: Any, batch: Any, at: Any) -> Any:
        forward, found = take(weights._replace(trainable=at.sent.model.trainable), batch)
        number = forward.output.num_examples
        return forward, scale(leading_size(batch) if number is None else number, found)

    def finish(at: Any, sums: Any, steps: Any, num_examples: Any) -> Any:
        statistics = difference(sums, at.sent.model).non_trainable
        return ModelWeights.create(scale(-1 / num_examples, sums.trainable), statistics), None, None

    adding = Optimizer(
        lambda weights: Struct(), lambda slots, found, sums: (slots, add(sums, found)), projects=True, name="none"
    )
    return local_training(
        client_optimizer=adding, client_weighting=client_weighting, begin=begin, gradient=gradient, finish=finish
    )
