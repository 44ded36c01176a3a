"""TensorFlow Federated's names for algorithms that are here under others, with its arguments and their order.

`client_optimizer_fn` and the like are an optimizer, by name or as an object of Optax or Keras, or a function without
arguments that makes one; `model_aggregator` is a rule of `hansa.aggregators`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from hansa.aggregators import Factory
from hansa.aggregators.codecs import Codec
from hansa.learning.algorithms.fed_prox import build_fed_prox
from hansa.learning.algorithms.mime import build_mime_lite
from hansa.learning.averaging import build_federated_averaging_process
from hansa.learning.client_work import ClientWork
from hansa.learning.finalizers import AnyFinalizer
from hansa.learning.model_fn import AnyModel
from hansa.learning.process import LearningProcess, build_process
from hansa.models._typing import AnyOptimizer
from hansa.types import Struct

OptimizerFn: TypeAlias = "AnyOptimizer | Callable[[], AnyOptimizer]"
"""An optimizer, or what makes one."""

Weighting: TypeAlias = str | Callable[[Struct], Any]


def build_weighted_fed_avg(
    model_fn: AnyModel,
    client_optimizer_fn: OptimizerFn,
    server_optimizer_fn: OptimizerFn | None = None,
    *,
    client_weighting: Weighting = "num_examples",
    model_aggregator: Factory | None = None,
    seed: int = 0,
) -> LearningProcess:
    """TFF's name of `build_federated_averaging_process`.

    Args:
        client_optimizer_fn, server_optimizer_fn: an optimizer, or a function without arguments that makes one; the
            server's is by default SGD with learning rate 1.
        model_fn, client_weighting, seed: as of `build_federated_averaging_process`.
        model_aggregator: its `aggregator`.

    Returns:
        A process as of `build_federated_averaging_process`.

    Raises:
        TypeError, ValueError: likewise.

    Examples:
        >>> import optax
        >>> process = hansa.learning.build_weighted_fed_avg(model, lambda: optax.sgd(0.1), lambda: optax.sgd(1.0))
        >>> state, metrics = process.next(process.initialize(), data.cohort(range(10)))
    """
    return build_federated_averaging_process(
        model_fn,
        client_optimizer=_made(client_optimizer_fn),
        server_optimizer=_made(server_optimizer_fn),
        client_weighting=client_weighting,
        aggregator=model_aggregator,
        seed=seed,
    )


def build_unweighted_fed_avg(
    model_fn: AnyModel,
    client_optimizer_fn: OptimizerFn,
    server_optimizer_fn: OptimizerFn | None = None,
    *,
    model_aggregator: Factory | None = None,
    seed: int = 0,
) -> LearningProcess:
    """TFF's name of `build_federated_averaging_process(…, client_weighting="uniform")`; the rest is as of
    `build_weighted_fed_avg`.

    Examples:
        >>> import optax
        >>> process = hansa.learning.build_unweighted_fed_avg(model, lambda: optax.sgd(0.1))
    """
    return build_weighted_fed_avg(
        model_fn,
        client_optimizer_fn,
        server_optimizer_fn,
        client_weighting="uniform",
        model_aggregator=model_aggregator,
        seed=seed,
    )


def build_weighted_fed_prox(
    model_fn: AnyModel,
    proximal_strength: float,
    client_optimizer_fn: OptimizerFn,
    server_optimizer_fn: OptimizerFn | None = None,
    *,
    client_weighting: Weighting = "num_examples",
    model_aggregator: Factory | None = None,
    seed: int = 0,
) -> LearningProcess:
    """TFF's name of `build_fed_prox`; the other arguments are those of `build_weighted_fed_avg`.

    Examples:
        >>> import optax
        >>> process = hansa.learning.build_weighted_fed_prox(model, 0.1, lambda: optax.sgd(0.1))
        >>> process.initialize().hparams
        <proximal_strength=0.1>
    """
    return build_fed_prox(
        model_fn,
        proximal_strength=proximal_strength,
        client_optimizer=_made(client_optimizer_fn),
        server_optimizer=_made(server_optimizer_fn),
        client_weighting=client_weighting,
        aggregator=model_aggregator,
        seed=seed,
    )


def build_unweighted_fed_prox(
    model_fn: AnyModel,
    proximal_strength: float,
    client_optimizer_fn: OptimizerFn,
    server_optimizer_fn: OptimizerFn | None = None,
    *,
    model_aggregator: Factory | None = None,
    seed: int = 0,
) -> LearningProcess:
    """TFF's name of `build_fed_prox(…, client_weighting="uniform")`; the rest is as of `build_weighted_fed_prox`.

    Examples:
        >>> import optax
        >>> process = hansa.learning.build_unweighted_fed_prox(model, 0.1, lambda: optax.sgd(0.1))
    """
    return build_weighted_fed_prox(
        model_fn,
        proximal_strength,
        client_optimizer_fn,
        server_optimizer_fn,
        client_weighting="uniform",
        model_aggregator=model_aggregator,
        seed=seed,
    )


def build_weighted_mime_lite(
    model_fn: AnyModel,
    base_optimizer: OptimizerFn,
    *,
    server_learning_rate: float = 1.0,
    client_weighting: Weighting = "num_examples",
    model_aggregator: Factory | None = None,
    seed: int = 0,
) -> LearningProcess:
    """TFF's name of `build_mime_lite`.

    Args:
        base_optimizer: whose steps clients make: an optimizer, or a function without arguments that makes one.
        server_learning_rate: in place of TFF's `server_optimizer`, which is SGD there, too, unless it is given.
        model_fn, client_weighting, seed: as of `build_mime_lite`.
        model_aggregator: its `aggregator`.

    Examples:
        >>> import optax
        >>> process = hansa.learning.build_weighted_mime_lite(model, optax.sgd(0.1, momentum=0.9))
    """
    return build_mime_lite(
        model_fn,
        base_optimizer=_made(base_optimizer),
        server_learning_rate=server_learning_rate,
        client_weighting=client_weighting,
        aggregator=model_aggregator,
        seed=seed,
    )


def build_unweighted_mime_lite(
    model_fn: AnyModel,
    base_optimizer: OptimizerFn,
    *,
    server_learning_rate: float = 1.0,
    model_aggregator: Factory | None = None,
    seed: int = 0,
) -> LearningProcess:
    """TFF's name of `build_mime_lite(…, client_weighting="uniform")`; the rest is as of `build_weighted_mime_lite`.

    Examples:
        >>> import optax
        >>> process = hansa.learning.build_unweighted_mime_lite(model, optax.sgd(0.1, momentum=0.9))
    """
    return build_weighted_mime_lite(
        model_fn,
        base_optimizer,
        server_learning_rate=server_learning_rate,
        client_weighting="uniform",
        model_aggregator=model_aggregator,
        seed=seed,
    )


def compose_learning_process(
    model_fn: AnyModel,
    model_weights_distributor: Codec | None,
    client_work: ClientWork,
    model_update_aggregator: Factory | None = None,
    model_finalizer: AnyFinalizer | None = None,
    *,
    seed: int = 0,
) -> LearningProcess:
    """TFF's name of `build_process`, with the order of its arguments.

    Args:
        model_fn: the model, in place of TFF's `initial_model_weights_fn`: the parts are made for it here.
        model_weights_distributor: the argument `distributor` of `build_process`; None where the model is sent as it is.
        client_work, seed: as of `build_process`.
        model_update_aggregator: its `aggregator`.
        model_finalizer: its `finalizer`.

    Examples:
        >>> process = hansa.learning.compose_learning_process(
        ...     model,
        ...     None,
        ...     hansa.learning.local_training(client_optimizer="sgd", client_learning_rate=0.1),
        ...     hansa.aggregators.mean(),
        ...     hansa.learning.apply_optimizer("sgd", 1.0),
        ... )
    """
    return build_process(
        model_fn,
        client_work=client_work,
        distributor=model_weights_distributor,
        aggregator=model_update_aggregator,
        finalizer=model_finalizer,
        seed=seed,
    )


def _made(given: Any) -> Any:
    """An optimizer, of what is one or makes one. A class is left for the message that says what it is."""
    return given() if callable(given) and not isinstance(given, type) else given
