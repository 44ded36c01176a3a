"""The optimizers of a learning process: what is given for the server and for the clients, with the model's own."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from hansa.models.loss_scaling import scaled
from hansa.models.model import Forward, FunctionalModel, TrainingStep
from hansa.models.named_optimizers import LearningRate
from hansa.models.optimizer import Optimizer, sgd
from hansa.models.optimizers import to_optimizer
from hansa.privacy.sampled_steps import DPSGD
from hansa.types import Struct

NO_HPARAMS = Struct()

Direct = Callable[[Any, Any], Any]
"""From the gradient and the trainable weights to what an optimizer follows."""

Gradients = Callable[..., tuple[Forward, Struct]]
"""What `FunctionalModel.gradients` is."""


def server_optimizer(
    model: FunctionalModel, given: Any, learning_rate: LearningRate | None, what: str = "server_optimizer"
) -> Optimizer:
    """The server's optimizer; by default SGD with learning rate 1. Messages call it what the argument is called.

    Raises:
        TypeError, ValueError: if what is given is no optimizer, or one for clients only.
    """
    if given is None and learning_rate is None:
        return sgd(1.0)
    trained = None if model.variables is None else model.variables.as_weights()
    optimizer = to_optimizer("sgd" if given is None else given, what, trained, learning_rate)
    if optimizer.only_for_clients is not None:
        raise ValueError(f"the {what} {optimizer.only_for_clients}")
    return optimizer


class ClientOptimizer:
    """How clients train on a batch: by the optimizer that is given, or as the model says itself.

    Args:
        model: the model.
        given, learning_rate: the arguments `client_optimizer` and `client_learning_rate`.
        scheduled: whether steps are multiplied by a factor.
        hooks: the names of the hooks of steps that are used, `gradient` and `direction`.
        hparams: the hyper-parameters, for a function of them that gives the optimizer.

    Attributes:
        name: what it is called, for people.
        ends: whether it puts other weights in place after the last step.
        of_hparams: whether it is made of the hyper-parameters.

    Raises:
        TypeError, ValueError: if what is given is no optimizer, or neither of the two says how to train; or if a hook
            needs what the model does not do.
    """

    def __init__(
        self,
        model: FunctionalModel,
        given: Any,
        learning_rate: LearningRate | None,
        scheduled: bool = False,
        hooks: Sequence[str] = (),
        hparams: Struct = NO_HPARAMS,
    ) -> None:
        if given is None and learning_rate is not None:
            raise ValueError(
                "client_learning_rate is the rate of an optimizer by name: write client_optimizer='sgd', for example"
            )
        if isinstance(given, DPSGD):
            raise ValueError(
                "client_optimizer=hansa.privacy.dpsgd(…) is for the training of a round: what trains before it, or "
                "beside it, would have to add noise of its own; take another client_optimizer, or federated averaging"
            )
        self._model, self._given = model, given is not None
        self.of_hparams = takes_hparams(given)
        self._make: Callable[[Struct], Any] = given if self.of_hparams else lambda hparams: given
        self._learning_rate = learning_rate
        self._own = model.train_on_batch if given is None else None
        if self._own is not None:
            _refuse_own_step(model, hooks)
            self.name, self.ends = self._own.name, self._own.finish is not None
            return
        optimizer = model.optimizer if given is None else self._made(hparams)
        if optimizer is None:
            raise ValueError(
                f"the model {model.name!r} has no optimizer: pass one by name, client_optimizer='sgd', "
                "client_learning_rate=0.1, or as an object, such as optax.sgd(0.1, momentum=0.9)"
            )
        self._optimizer, self.name, self.ends = optimizer, optimizer.name, optimizer.finish is not None
        if scheduled and self.ends:
            raise ValueError(
                "client_schedule multiplies the clients' steps, and their optimizer puts other weights in place after "
                "the last one (use_ema, for example), which it would not reach: leave out one of the two, or give the "
                "optimizer a learning rate schedule of its own"
            )
        self._refuse_scaled_loss(hooks)

    def _made(self, hparams: Struct) -> Optimizer:
        return to_optimizer(self._make(hparams), "client_optimizer", self._model.variables, self._learning_rate)

    def step(
        self, hparams: Struct = NO_HPARAMS, direct: Direct | None = None, gradients: Gradients | None = None
    ) -> TrainingStep:
        """How to train on a batch.

        Args:
            hparams: the hyper-parameters, if it is made of them.
            direct: (gradient, trainable weights) -> what the optimizer follows instead.
            gradients: what gives the gradient instead of the model, as `FunctionalModel.gradients` does.
        """
        if self._own is not None:
            return self._own
        model = self._model if gradients is None else replace(self._model, gradients=gradients)
        optimizer = self._made(hparams) if self.of_hparams else self._optimizer
        if direct is not None:
            optimizer = _directed(optimizer, direct)
        if self._given and model.project is not None and not optimizer.projects:
            optimizer = _projected(optimizer, model.project)
        if self._given and model.scales_loss and optimizer.scale_loss is None:
            optimizer = scaled(optimizer)
        return model.training_step(optimizer)

    def _refuse_scaled_loss(self, hooks: Sequence[str]) -> None:
        own = self._optimizer.scale_loss is not None
        for hook in hooks:
            if own or (hook in ("gradient", "dpsgd") and self._model.scales_loss):
                remedy = "pass client_optimizer='sgd', client_learning_rate=…" if hook == "direction" else ""
                raise ValueError(
                    f"`{hook}` cannot be used with the model {self._model.name!r}, whose gradients are of a loss that "
                    f"is scaled for float16; {remedy or 'build the model with another policy, such as mixed_bfloat16'}"
                )


def takes_hparams(given: Any) -> bool:
    """Whether an optimizer is given as a function of the hyper-parameters: one that needs an argument."""
    if not inspect.isfunction(given):
        return False
    needed = [each for each in inspect.signature(given).parameters.values() if each.default is inspect.Parameter.empty]
    return len(needed) == 1


def _refuse_own_step(model: FunctionalModel, hooks: Sequence[str]) -> None:
    for hook in hooks:
        raise ValueError(
            f"`{hook}` changes the gradient that an optimizer follows, and the model {model.name!r} trains itself by "
            "its train_on_batch, which shows none: pass a client_optimizer, such as client_optimizer='sgd', "
            "client_learning_rate=0.1, which follows the gradient of the model's loss"
        )


def _directed(optimizer: Optimizer, direct: Direct) -> Optimizer:
    """An optimizer that follows something else than the gradient."""

    def apply(state: Struct, gradients: Any, weights: Any) -> tuple[Struct, Any]:
        return optimizer.apply(state, direct(gradients, weights), weights)

    return replace(optimizer, apply=apply)


def _projected(optimizer: Optimizer, project: Callable[[Struct], Struct]) -> Optimizer:
    """An optimizer after whose steps the weights are put back to where the model allows them."""

    def apply(state: Struct, gradients: Any, weights: Any) -> tuple[Struct, Any]:
        slots, after = optimizer.apply(state, gradients, weights)
        return slots, project(after)

    return replace(optimizer, apply=apply, projects=True)
