"""The optimizers of a learning process: what is given for the server and for the clients, with the model's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from hansa.models.loss_scaling import scaled
from hansa.models.model import FunctionalModel, TrainingStep
from hansa.models.named_optimizers import LearningRate
from hansa.models.optimizer import Optimizer, sgd
from hansa.models.optimizers import to_optimizer
from hansa.types import Struct


def server_optimizer(model: FunctionalModel, given: Any, learning_rate: LearningRate | None) -> Optimizer:
    """The server's optimizer; by default SGD with learning rate 1.

    Raises:
        TypeError, ValueError: if what is given is no optimizer, or one for clients only.
    """
    if given is None and learning_rate is None:
        return sgd(1.0)
    trained = None if model.variables is None else model.variables.as_weights()
    optimizer = to_optimizer("sgd" if given is None else given, "server_optimizer", trained, learning_rate)
    if optimizer.only_for_clients is not None:
        raise ValueError(f"the server_optimizer {optimizer.only_for_clients}")
    return optimizer


def training_step(
    model: FunctionalModel, client_optimizer: Any, learning_rate: LearningRate | None, scheduled: bool
) -> TrainingStep:
    """How a client trains on a batch: by the optimizer that is given, or as the model says itself.

    Raises:
        TypeError, ValueError: if what is given is no optimizer, or neither of the two says how.
    """
    if client_optimizer is None and learning_rate is not None:
        raise ValueError(
            "client_learning_rate is the rate of an optimizer by name: write client_optimizer='sgd', for example"
        )
    if client_optimizer is None and model.train_on_batch is not None:
        return model.train_on_batch
    optimizer = model.optimizer
    if client_optimizer is not None:
        optimizer = to_optimizer(client_optimizer, "client_optimizer", model.variables, learning_rate)
        if model.project is not None and not optimizer.projects:
            optimizer = _projected(optimizer, model.project)
        if model.scales_loss and optimizer.scale_loss is None:
            optimizer = scaled(optimizer)
    if optimizer is None:
        raise ValueError(
            f"the model {model.name!r} has no optimizer: pass one by name, client_optimizer='sgd', "
            "client_learning_rate=0.1, or as an object, such as optax.sgd(0.1, momentum=0.9)"
        )
    if scheduled and optimizer.finish is not None:
        raise ValueError(
            "client_schedule multiplies the clients' steps, and their optimizer puts other weights in place after the "
            "last one (use_ema, for example), which it would not reach: leave out one of the two, or give the "
            "optimizer a learning rate schedule of its own"
        )
    return model.training_step(optimizer)


def _projected(optimizer: Optimizer, project: Callable[[Struct], Struct]) -> Optimizer:
    """An optimizer after whose steps the weights are put back to where the model allows them."""

    def apply(state: Struct, gradients: Any, weights: Any) -> tuple[Struct, Any]:
        slots, after = optimizer.apply(state, gradients, weights)
        return slots, project(after)

    return replace(optimizer, apply=apply, projects=True)
