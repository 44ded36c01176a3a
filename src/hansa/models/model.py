"""`FunctionalModel`: what an algorithm needs to know of a model, whatever it was written in: functions of values.

Frontends make one: `keras` of a Keras model, `jax` of plain JAX functions, `tensorflow` of a class with TensorFlow
variables.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax

from hansa._tracebacks import boundaries
from hansa.language.computation import Computation
from hansa.models.adapters import Adapter
from hansa.models.optimizer import Optimizer, TrainedVariables
from hansa.models.outputs import BatchOutput
from hansa.models.weights import ModelWeights
from hansa.types import Struct, Type

ScaleLoss = Callable[[Any], Any] | None
"""What multiplies a loss before gradients are taken of it, or nothing."""

Loss = Callable[[ModelWeights, BatchOutput, Any], Any] | None
"""What a loss is of a model's weights, its output and the batch, or nothing for the model's own."""


class Forward(NamedTuple):
    """A forward pass's output and what it changed.

    Attributes:
        output: loss, predictions and number of examples.
        non_trainable: the non-trainable weights after it.
        local: the local variables after it.
    """

    output: BatchOutput
    non_trainable: Struct
    local: Struct


class Trained(NamedTuple):
    """What a training step gives.

    Attributes:
        output: loss, predictions and number of examples.
        weights: the weights after it.
        local: the local variables after it.
        slots: the optimizer's state after it.
    """

    output: BatchOutput
    weights: ModelWeights
    local: Struct
    slots: Struct


@dataclass(frozen=True)
class TrainingStep:
    """A model's own way to train on a batch.

    Attributes:
        initial: from the weights that a client starts from, to the optimizer's state that it starts from.
        apply: (weights, local, slots, batch, key) -> `Trained`. `key` is a JAX random key for this batch alone.
        finish: (weights, slots) -> the weights after the last step; None for the weights as they are.
        name: what it is called, for people.
    """

    initial: Callable[[ModelWeights], Struct]
    apply: Callable[[ModelWeights, Struct, Struct, Any, Any], Trained]
    finish: Callable[[ModelWeights, Struct], ModelWeights] | None = None
    name: str = "the model's own training step"


@boundaries
@dataclass(frozen=True)
class FunctionalModel:
    """A model as pure functions.

    Attributes:
        name: what messages call it.
        batch_type: the type of a batch, with `?` for the number of examples.
        initial_weights: where training starts.
        initial_local: what each client's local variables (sums for metrics) start from.
        forward: (weights, local, batch, training, key) -> `Forward`. `key` is a JAX random key for this batch alone.
        local_outputs: local -> a struct of what a client reports after its last batch.
        metrics: a computation `({local outputs}@CLIENTS -> metrics@SERVER)`.
        optimizer: what trains it on a client unless the algorithm is given another; None if it has none.
        train_on_batch: how it trains itself on a batch, where that is not by `optimizer` and the gradient of the loss;
            not used where the algorithm is given an optimizer for the clients.
        project: puts trainable weights back to where the model allows them, after a step of an optimizer that does not;
            None if it allows all.
        gradients: (weights, local, batch, key, scale_loss) -> `Forward` in training, and the gradient of its loss by
            the trainable weights, of the loss as `scale_loss` multiplies it; None where that is what JAX makes of
            `forward`.
        differentiable: whether JAX differentiates `forward`, also where there are `gradients`.
        wide: its variables may have 64-bit dtypes, which it is to be given as they are.
        variables: the Keras variables that the trainable weights stand for, if there are any.
        with_weights: the model with other weights, as its users know it, such as a Keras model; None where that is the
            weights.
        adapters: the low-rank adapters that its layers have, if they say so.
        scales_loss: whether an optimizer needs gradients of a scaled loss, since they are computed in float16.

    Examples:
        >>> model = hansa.learning.from_compiled_keras_model(network, sample_batch={"x": x, "y": y})
        >>> print(model.batch_type)
        <x=float32[?,64],y=int32[?]>
        >>> model.initial_weights.trainable["dense/kernel"].shape
        (64, 10)
    """

    name: str
    batch_type: Type
    initial_weights: ModelWeights
    initial_local: Struct
    forward: Callable[[ModelWeights, Struct, Any, bool, Any], Forward]
    local_outputs: Callable[[Struct], Any]
    metrics: Computation
    optimizer: Optimizer | None
    train_on_batch: TrainingStep | None = None
    project: Callable[[Struct], Struct] | None = None
    gradients: Callable[[ModelWeights, Struct, Any, Any, ScaleLoss], tuple[Forward, Struct]] | None = None
    wide: bool = False
    variables: TrainedVariables | None = None
    scales_loss: bool = False
    with_weights: Callable[[ModelWeights], Any] | None = None
    differentiable: bool = True
    adapters: tuple[Adapter, ...] = ()

    def training_step(self, optimizer: Optimizer) -> TrainingStep:
        """The step that follows the gradient of the loss with an optimizer.

        Examples:
            >>> step = model.training_step(model.optimizer)
            >>> slots = step.initial(model.initial_weights)
        """

        def apply(weights: ModelWeights, local: Struct, slots: Struct, batch: Any, key: Any) -> Trained:
            scale = None if optimizer.scale_loss is None else partial(optimizer.scale_loss, slots, weights.trainable)
            forward, gradients = self.gradients_of(weights, local, batch, key, scale)
            slots, trainable = optimizer.apply(slots, gradients, weights.trainable)
            after = ModelWeights.create(trainable, forward.non_trainable)
            return Trained(forward.output, after, forward.local, slots)

        def finish(weights: ModelWeights, slots: Struct) -> ModelWeights:
            assert optimizer.finish is not None
            return ModelWeights.create(optimizer.finish(slots, weights.trainable), weights.non_trainable)

        ends = optimizer.finish is not None
        initial = lambda weights: optimizer.initial(weights.trainable)  # noqa: E731
        return TrainingStep(initial, apply, finish if ends else None, optimizer.name)

    def gradients_of(
        self,
        weights: ModelWeights,
        local: Struct,
        batch: object,
        key: jax.Array,
        scale_loss: ScaleLoss = None,
        loss: Loss = None,
    ) -> tuple[Forward, Struct]:
        """A forward pass in training, and the gradient of a loss by the trainable weights.

        Args:
            weights, local, batch, key, scale_loss: as of `gradients`.
            loss: (weights, output, batch) -> the loss of which the gradient is taken; by default that of the output.

        Raises:
            ValueError: if another loss is asked for than the model's, and JAX does not differentiate the model.

        Examples:
            >>> import jax
            >>> at = model.initial_weights, model.initial_local, hansa.Struct.of(x=x[:2], y=y[:2]), jax.random.key(0)
            >>> forward, gradients = model.gradients_of(*at)
            >>> gradients["dense/kernel"].shape
            (64, 10)
        """
        if self.gradients is not None and loss is None:
            return self.gradients(weights, local, batch, key, scale_loss)
        if not self.differentiable:
            raise ValueError(
                f"the model {self.name!r} gives the gradient of its own loss only, as JAX does not differentiate "
                "it; another loss needs a model in JAX, such as a Keras model on its JAX backend"
            )

        def of(trainable: Struct) -> tuple[Any, Forward]:
            now = ModelWeights.create(trainable, weights.non_trainable)
            forward = self.forward(now, local, batch, True, key)
            found = forward.output.loss if loss is None else loss(now, forward.output, batch)
            return found if scale_loss is None else scale_loss(found), forward

        gradients, forward = jax.grad(of, has_aux=True)(weights.trainable)
        return forward, gradients
