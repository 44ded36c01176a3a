"""A model of which some weights are held as they are: training changes the others only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp

from hansa.learning.fixed import Names
from hansa.models.model import Forward, FunctionalModel, ScaleLoss
from hansa.models.optimizer import Optimizer, TrainedVariables
from hansa.models.weights import ModelWeights
from hansa.types import Struct

_HELD = "held/"


@dataclass(frozen=True)
class Holding:
    """A model's weights as those of the model that holds some: these are among its non-trainable ones.

    Args:
        model: the model.
        names: the names of the weights that are held; of the non-trainable ones none are, as no gradient changes them.
    """

    model: FunctionalModel
    names: Names

    def to_held(self, weights: ModelWeights) -> ModelWeights:
        """From the model's weights to those of the one that holds some."""
        trained, held = self._divided(weights.trainable)
        kept = [(f"{_HELD}{name}", leaf) for name, leaf in held._items()]
        return ModelWeights.create(trained, Struct([*weights.non_trainable._items(), *kept]))

    def whole(self, weights: ModelWeights) -> ModelWeights:
        """From the weights of the model that holds some to the model's."""
        rest = dict(weights.non_trainable._items())
        held = {name: rest[f"{_HELD}{name}"] for name in self.names["trainable"]}
        non_trainable = [(name, rest[name]) for name in self.model.initial_weights.non_trainable._fields]
        return ModelWeights.create(self._joined(weights.trainable, held), Struct(non_trainable))

    def trained_model(self) -> FunctionalModel:
        """The model that trains all weights but those that are held, by the gradient of its loss.

        An optimizer that the model brings sees a gradient of 0 for what is held.
        """
        model = self.model
        return replace(
            model,
            initial_weights=self.to_held(model.initial_weights),
            forward=self._forward,
            optimizer=None if model.optimizer is None else self._optimizer(model.optimizer),
            train_on_batch=None,
            project=None if model.project is None else self._project(model.project),
            gradients=None if model.gradients is None else self._gradients(model.gradients),
            variables=None if model.variables is None else self._variables(model.variables),
            with_weights=None,
        )

    def _divided(self, trainable: Struct) -> tuple[Struct, Struct]:
        """What is trained and what is held of trainable weights."""
        held = self.names["trainable"]
        first, second = ([pair for pair in trainable._items() if (pair[0] in held) is what] for what in (False, True))
        return Struct(first), Struct(second)

    def _joined(self, trained: Any, held: Any) -> Struct:
        """The trainable weights, of both."""
        names = self.model.initial_weights.trainable._fields
        return Struct([(name, (held if name in self.names["trainable"] else trained)[name]) for name in names])

    def _again(self, forward: Forward, weights: ModelWeights) -> Forward:
        kept = [pair for pair in weights.non_trainable._items() if str(pair[0]).startswith(_HELD)]
        return forward._replace(non_trainable=Struct([*forward.non_trainable._items(), *kept]))

    def _forward(self, weights: ModelWeights, local: Struct, batch: Any, training: bool, key: Any) -> Forward:
        return self._again(self.model.forward(self.whole(weights), local, batch, training, key), weights)

    def _gradients(self, gradients: Callable[..., tuple[Forward, Struct]]) -> Any:
        def of(weights: ModelWeights, local: Struct, batch: Any, key: Any, scale: ScaleLoss) -> tuple[Forward, Struct]:
            forward, found = gradients(self.whole(weights), local, batch, key, scale)
            return self._again(forward, weights), self._divided(found)[0]

        return of

    def _project(self, project: Callable[[Struct], Struct]) -> Callable[[Struct], Struct]:
        return lambda trained: self._divided(project(self._filled(trained)))[0]

    def _filled(self, trained: Any) -> Struct:
        return self._joined(trained, self.model.initial_weights.trainable)

    def _optimizer(self, optimizer: Optimizer) -> Optimizer:
        """The model's optimizer, which knows all its weights."""

        def gradients_of(trained: Any) -> Struct:
            return self._joined(trained, {name: jnp.zeros_like(leaf) for name, leaf in self._held_first()})

        def apply(state: Struct, gradients: Any, weights: Any) -> tuple[Struct, Any]:
            state, after = optimizer.apply(state, gradients_of(gradients), self._filled(weights))
            return state, self._divided(after)[0]

        scale, finish = optimizer.scale_loss, optimizer.finish
        return replace(
            optimizer,
            initial=lambda weights: optimizer.initial(self._filled(weights)),
            apply=apply,
            scale_loss=None if scale is None else lambda state, w, loss: scale(state, self._filled(w), loss),
            finish=None if finish is None else lambda state, w: self._divided(finish(state, self._filled(w)))[0],
        )

    def _held_first(self) -> list[tuple[Any, Any]]:
        return list(self._divided(self.model.initial_weights.trainable)[1]._items())

    def _variables(self, variables: TrainedVariables) -> TrainedVariables:
        """The Keras variables of what is trained."""
        fields = self.model.initial_weights.trainable._fields
        trained = [position for position, name in enumerate(fields) if name not in self.names["trainable"]]
        pairs = zip(variables.variables, variables.positions, strict=True)
        kept = [(variable, trained.index(position)) for variable, position in pairs if position in trained]
        return TrainedVariables(tuple(v for v, _ in kept), tuple(p for _, p in kept))
