"""Finalizers: how the server goes on from what the aggregator made of the clients' updates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from hansa._tracebacks import boundaries
from hansa.learning import arithmetic
from hansa.learning.client_work import Kept
from hansa.learning.hparams import Hparams, checked_hparams, hparams_of
from hansa.learning.training_steps import server_optimizer as optimizer_of
from hansa.learning.training_steps import takes_hparams
from hansa.models._typing import AnyOptimizer
from hansa.models.model import FunctionalModel
from hansa.models.named_optimizers import LearningRate
from hansa.models.optimizer import Optimizer
from hansa.models.weights import ModelWeights
from hansa.types import Struct, infer_type
from hansa.types.mismatch import describe


def _no_slots(trainable: Struct) -> Struct:
    return Struct()


@boundaries
@dataclass(frozen=True)
class Finalizer:
    """How the server goes on.

    Args:
        apply: `apply(state, total, num_clients)` gives the next state: a function of JAX. `total` is the aggregator's
            result, `num_clients` how many clients have a part in it, an int32 scalar. The state has the fields `model`,
            a `ModelWeights`; `slots`, what `slots` gives; and `finalizer` and `hparams`, where there are any. The next
            one is usually `state._replace(model=…)`. Where nobody has a part in the round, or a finite number would
            become NaN or infinity, the state stays as it is, whatever this gives.
        initial: what `state.finalizer` is at first, a struct of arrays, or a function of the model's initial weights
            that gives it; by default there is nothing.
        hparams: hyper-parameters, by name, with their first values, numbers or `Hparam`s: `state.hparams`.
        slots: from the model's trainable weights to the first state of an optimizer of the server, which is the rest of
            `state.optimizer_state` of the process, after the count of rounds.
        wide: whether `slots` may have 64-bit dtypes.
        name: what it is called, for people, as the setting "server optimizer".

    Examples:
        Averages that are averaged over rounds:

        >>> def apply(state, total, num_clients):
        ...     mean = hansa.learning.arithmetic.scale(0.9, state.finalizer.mean)
        ...     mean = hansa.learning.arithmetic.add_scaled(mean, 0.1, total.trainable)
        ...     moved = hansa.learning.arithmetic.moved(state.model, total._replace(trainable=mean))
        ...     return state._replace(model=moved, finalizer={"mean": mean})
        >>> finalizer = hansa.learning.Finalizer(
        ...     apply, initial=lambda weights: {"mean": hansa.learning.arithmetic.zeros_like(weights.trainable)}
        ... )
        >>> process = hansa.learning.build_process(
        ...     model, client_work=hansa.learning.local_training(), finalizer=finalizer
        ... )
        >>> process.initialize().finalizer.mean["dense/kernel"].shape
        (64, 10)
    """

    apply: Callable[[Struct, Any, Any], Struct]
    initial: Kept = None
    hparams: Hparams = field(default_factory=dict)
    slots: Callable[[Struct], Struct] = field(default_factory=lambda: _no_slots)
    wide: bool = False
    name: str | None = None

    def __post_init__(self) -> None:
        checked_hparams(self.hparams)


AnyFinalizer: TypeAlias = Finalizer | Callable[[FunctionalModel], Finalizer]
"""A finalizer, or what makes one for a model."""


def apply_optimizer(
    server_optimizer: AnyOptimizer | Optimizer | None = None,
    server_learning_rate: LearningRate | None = None,
    non_trainable: str = "mean",
    *,
    update: Callable[[Struct, Any, Any], Any] | None = None,
    hparams: Hparams | None = None,
) -> Callable[[FunctionalModel], Finalizer]:
    """The server's optimizer takes minus the mean update as a gradient (Reddi et al. 2021, arXiv:2003.00295,
    Algorithm 1): FedAvg, FedAvgM, FedAdagrad, FedAdam, FedYogi.

    Args:
        server_optimizer, server_learning_rate, non_trainable: as of `build_federated_averaging_process`. Or
            `server_optimizer` is a function of the hyper-parameters that gives an optimizer.
        update: `update(state, total, num_clients)`, as `apply` of a `Finalizer` is given them, gives the update of the
            model's weights; by default it is `total`.
        hparams: hyper-parameters, by name, with their first values, numbers or `Hparam`s: `state.hparams`.

    Returns:
        A finalizer for updates of the model's weights, `<trainable=<…>,non_trainable=<…>>`, as `local_training` makes
        them without a hook `finish`, or for what `update` makes one of.

    Raises:
        TypeError, ValueError: if the arguments are not what is said above; or, where a process is built of it, what the
            aggregator makes is no update of the model's weights.

    Examples:
        >>> import optax
        >>> process = hansa.learning.build_process(
        ...     model, client_work=hansa.learning.local_training(),
        ...     finalizer=hansa.learning.apply_optimizer(optax.adam(0.01)),
        ... )
        >>> process.settings["server optimizer"]
        'Adam, learning rate 0.01'
    """
    if non_trainable not in ("mean", "server"):
        raise ValueError(f"non_trainable is 'mean' or 'server', found {non_trainable!r}")

    numbers, of_hparams = hparams_of(hparams), takes_hparams(server_optimizer)
    make: Callable[[Struct], Any] = server_optimizer if of_hparams else lambda hparams: server_optimizer  # type: ignore[assignment]

    def of(model: FunctionalModel) -> Finalizer:
        optimizer = optimizer_of(model, make(numbers), server_learning_rate)

        def apply(state: Struct, total: Any, num_clients: Any) -> Struct:
            total = total if update is None else update(state, total, num_clients)
            check_update(total, state.model)
            weights = state.model
            gradients = {name: jnp.negative(leaf) for name, leaf in total.trainable._items()}
            every = [(name, gradients.get(name, jnp.zeros_like(leaf))) for name, leaf in weights.trainable._items()]
            now = optimizer_of(model, make(state.hparams), server_learning_rate) if of_hparams else optimizer
            slots, trainable = now.apply(state.slots, Struct(every), weights.trainable)
            changes = total.non_trainable if non_trainable == "mean" else Struct()
            rest = arithmetic.moved(weights, {"trainable": Struct(), "non_trainable": changes}).non_trainable
            return state._replace(model=ModelWeights.create(trainable, rest), slots=slots)

        return Finalizer(
            apply, hparams=dict(hparams or {}), slots=optimizer.initial, wide=optimizer.wide, name=optimizer.name
        )

    return of


def finalizer_of(given: Any, model: FunctionalModel) -> Finalizer:
    """The argument `finalizer` for a model.

    Raises:
        TypeError: if it is no finalizer and makes none.
    """
    made = given(model) if callable(given) and not isinstance(given, Finalizer | type) else given
    if isinstance(made, Finalizer):
        return made
    raise TypeError(
        "finalizer must be a hansa.learning.Finalizer, such as Finalizer(lambda state, total, num_clients: …), or "
        f"hansa.learning.apply_optimizer(…); found {describe(made)}"
    )


def check_update(total: Any, weights: ModelWeights) -> None:
    """Checks that a struct of arrays is an update of some of the weights.

    Raises:
        TypeError: if it is not; the message names the two types.
    """
    good = isinstance(total, Struct) and total._fields == weights._fields
    for part, known in weights._items() if good else ():
        given = total[part]
        good = good and isinstance(given, Struct) and set(given._fields) <= set(known._fields)
        good = good and all(_kind(leaf) == _kind(known[name]) for name, leaf in given._items())
    if not good:
        expected, found = (infer_type(jax.tree.map(lambda leaf: leaf, each)).compact() for each in (weights, total))
        raise TypeError(
            f"apply_optimizer takes an update of the model's weights, {expected} or of some of them, and the "
            f"aggregator gives {found}; write a hansa.learning.Finalizer for it, or let `finish` give an update of "
            "weights"
        )


def _kind(leaf: Any) -> Any:
    return getattr(leaf, "shape", None), getattr(leaf, "dtype", None)
