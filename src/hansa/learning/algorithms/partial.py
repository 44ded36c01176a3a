"""Partial personalization: some weights are each client's own, and the others are learned together.

Which ones, and in what order they are trained, is where FedPer, LG-FedAvg, FedBN and FedRep differ (Pillutla et al.
2022, arXiv:2204.03809: "FedSim" trains both at once, "FedAlt" one after the other).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

import jax
import numpy as np

from hansa.learning.algorithms.arguments import OfAveraging, OfProcess
from hansa.learning.arithmetic import choose, difference
from hansa.learning.client_training import local_training
from hansa.learning.finalizers import apply_optimizer
from hansa.learning.fixed import Names, only, together
from hansa.learning.holding import Holding
from hansa.learning.model_fn import AnyModel, model_of
from hansa.learning.naming import Which, divided
from hansa.learning.passes import training_pass
from hansa.learning.process import LearningProcess, build_process
from hansa.learning.weighting import AnyWeighting
from hansa.models._typing import AnyOptimizer
from hansa.models.named_optimizers import LearningRate
from hansa.models.weights import ModelWeights


def build_partial_personalization(
    model_fn: AnyModel,
    *,
    personal: Which,
    personal_passes: int = 0,
    client_optimizer: AnyOptimizer | None = None,
    client_learning_rate: LearningRate | None = None,
    server_optimizer: AnyOptimizer | None = None,
    server_learning_rate: LearningRate | None = None,
    client_schedule: Callable[[jax.Array], Any] | None = None,
    client_weighting: AnyWeighting = None,
    non_trainable: str = "mean",
    **process: Unpack[OfProcess],
) -> LearningProcess:
    """Federated averaging of some weights, where each client keeps the others to itself.

    Args:
        personal: which weights are each client's own, trainable and non-trainable ones: their names, those of layers,
            patterns such as `"dense_1/*"`, or a function of a name.
        personal_passes: 0 to train all weights at once. Above 0 a client first trains its own weights alone, going over
            its batches so often, and then the others alone, with one step for each batch.
        model_fn, client_optimizer, client_learning_rate, server_optimizer, server_learning_rate, client_schedule,
            client_weighting, non_trainable, aggregator, distributor, seed: as of `build_federated_averaging_process`.
            Where the two are trained one after the other, each begins with an optimizer's first state.

    Returns:
        A process with the state `<server=<…>@SERVER,clients={<work=<weights=<…>,seen=bool>>}@CLIENTS>`, where `weights`
        are the personal ones of a client. A client that has never had a part in a round has those of the server, which
        stay as they are. `process.weights_of` and `build_per_client_evaluation(process)` use each client's own.

    Raises:
        TypeError, ValueError: if an argument is not what is said above; if a name or pattern is that of no weight, or
            all trainable weights are personal. With `personal_passes` a model that trains itself, by a
            `train_on_batch`, needs a `client_optimizer`.

    Examples:
        >>> process = hansa.learning.build_partial_personalization(model, personal="*/bias")
        >>> state, metrics = process.next(process.initialize(), data.cohort([0, 1]))
        >>> print(state.clients[0].work.weights.trainable["dense/bias"].shape)
        (10,)
    """
    model = model_of(model_fn)
    own, shared = divided(personal, model, "personal")
    _check(model.name, own, personal_passes)

    def joined(at: Any) -> ModelWeights:
        """The weights that a client begins with, and is evaluated with."""
        kept = choose(at.own.seen, at.own.weights, only(at.sent.model, own))
        return together(model.initial_weights, kept, own, at.sent.model)

    def finish(at: Any, weights: Any, steps: Any, num_examples: Any) -> Any:
        after = whole(weights)
        update = only(difference(after, at.sent.model), shared)
        return update, None, {"weights": only(after, own), "seen": np.bool_(True)}

    begin: Callable[[Any], ModelWeights] = joined
    whole: Callable[[ModelWeights], ModelWeights] = lambda weights: weights  # noqa: E731
    first_pass, trained = None, None
    if personal_passes:
        first, then = Holding(model, shared), Holding(model, own)
        whole, trained = then.whole, lambda _: then.trained_model()

        def begin(at: Any) -> ModelWeights:
            found = first.whole(at.seen.weights)
            return then.to_held(together(model.initial_weights, found, own, at.sent.model))

        first_pass = training_pass(
            client_optimizer=client_optimizer,
            client_learning_rate=client_learning_rate,
            passes=personal_passes,
            begin=lambda at: first.to_held(joined(at)),
            model=lambda _: first.trained_model(),
        )
    work = local_training(
        client_optimizer=client_optimizer,
        client_learning_rate=client_learning_rate,
        client_schedule=client_schedule,
        client_weighting=client_weighting,
        first_pass=first_pass,
        begin=begin,
        finish=finish,
        own=lambda weights: {"weights": only(weights, own), "seen": np.bool_(False)},
        model=trained,
        personal=joined,
    )
    finalizer = apply_optimizer(server_optimizer, server_learning_rate, non_trainable)
    return build_process(model, client_work=work, finalizer=finalizer, name="partial personalization", **process)


def build_fed_per(model_fn: AnyModel, *, personal: Which, **averaging: Unpack[OfAveraging]) -> LearningProcess:
    """FedPer (Arivazhagan et al. 2019, arXiv:1912.00818, Algorithms 1 and 2): the last layers are personal.

    A client trains the base layers that it was sent and its own last layers together, and sends the base layers.

    Args:
        personal: the personalization layers, as of `build_partial_personalization`.
        model_fn, averaging: as of `build_federated_averaging_process`.

    Returns:
        A process as of `build_partial_personalization`.

    Raises:
        TypeError, ValueError: as `build_partial_personalization`.

    Examples:
        >>> process = hansa.learning.build_fed_per(model, personal="dense/bias", client_learning_rate=0.1,
        ...     client_optimizer="sgd")
        >>> state, metrics = process.next(process.initialize(), data.cohort([0, 1]))
        >>> np.array_equal(state.model.trainable["dense/bias"], model.initial_weights.trainable["dense/bias"])
        True
    """
    return build_partial_personalization(model_fn, personal=personal, **averaging)


def build_lg_fed_avg(model_fn: AnyModel, *, personal: Which, **averaging: Unpack[OfAveraging]) -> LearningProcess:
    """LG-FedAvg (Liang et al. 2020, arXiv:2001.01523, Algorithm 1): the first layers are personal.

    Each client learns a local representation of its own data, and all learn the layers after it together.

    Args:
        personal: the layers of the local representation, as of `build_partial_personalization`.
        model_fn, averaging: as of `build_federated_averaging_process`.

    Returns:
        A process as of `build_partial_personalization`.

    Raises:
        TypeError, ValueError: as `build_partial_personalization`.

    Examples:
        >>> process = hansa.learning.build_lg_fed_avg(model, personal="dense/kernel")
        >>> state, metrics = process.next(process.initialize(), data.cohort([0, 1]))
    """
    return build_partial_personalization(model_fn, personal=personal, **averaging)


def build_fed_bn(
    model_fn: AnyModel, *, personal: Which | None = None, **averaging: Unpack[OfAveraging]
) -> LearningProcess:
    """FedBN (Li et al. 2021, arXiv:2102.07623, Algorithm 1): layers of batch normalization are personal, with their
    statistics.

    Args:
        personal: the layers of batch normalization, as of `build_partial_personalization`; by default those that have
            moving statistics among the non-trainable weights.
        model_fn, averaging: as of `build_federated_averaging_process`.

    Returns:
        A process as of `build_partial_personalization`.

    Raises:
        TypeError, ValueError: as `build_partial_personalization`; or if no layer has moving statistics.

    Examples:
        >>> process = hansa.learning.build_fed_bn(model, personal="dense/bias")
        >>> state, metrics = process.next(process.initialize(), data.cohort([0, 1]))
    """
    model = model_of(model_fn)
    found = _normalizing(model.initial_weights) if personal is None else personal
    if not found:
        raise ValueError(
            f"the model {model.name!r} has no layer with moving statistics, such as a BatchNormalization; name the "
            "weights that are personal, personal='norm_*', for example"
        )
    return build_partial_personalization(model, personal=found, **averaging)


def build_fed_rep(
    model_fn: AnyModel, *, personal: Which, head_passes: int = 1, **averaging: Unpack[OfAveraging]
) -> LearningProcess:
    """FedRep (Collins et al. 2021, arXiv:2102.07078, Algorithm 1): each client first trains its own head alone, and
    then the shared representation alone.

    Args:
        personal: the head, as of `build_partial_personalization`.
        head_passes: how often a client goes over its batches to train its head, at least 1.
        model_fn, averaging: as of `build_federated_averaging_process`.

    Returns:
        A process as of `build_partial_personalization`.

    Raises:
        TypeError, ValueError: as `build_partial_personalization`.

    Examples:
        >>> process = hansa.learning.build_fed_rep(model, personal="dense/bias", head_passes=2)
        >>> state, metrics = process.next(process.initialize(), data.cohort([0, 1]))
    """
    if head_passes == 0:
        raise ValueError("head_passes must be at least 1; with 0 it is build_fed_per")
    return build_partial_personalization(model_fn, personal=personal, personal_passes=head_passes, **averaging)


def _check(model: str, own: Names, passes: int) -> None:
    if isinstance(passes, bool) or not isinstance(passes, int) or passes < 0:
        raise ValueError(f"personal_passes must be an integer of at least 0, found {passes!r}")
    if passes and not own["trainable"]:
        raise ValueError(f"none of the personal weights of the model {model!r} is trainable, so none can be trained")


_STATISTICS = {"moving_mean", "moving_variance", "running_mean", "running_var", "mean", "var"}
"""The moving statistics of batch normalization as Keras, PyTorch and Flax name them."""


def _normalizing(weights: ModelWeights) -> list[str]:
    """The names of all weights in layers that keep statistics."""

    def layer_of(name: str | None) -> tuple[str, str]:
        layer, _, last = str(name).replace(".", "/").rpartition("/")
        return layer, last

    moving = [layer_of(name) for name in weights.non_trainable._fields]
    layers = {layer for layer, last in moving if last in _STATISTICS}
    return [str(name) for part in weights for name in part._fields if layer_of(name)[0] in layers]
