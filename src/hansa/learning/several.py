"""Several weights of one model that are trained side by side, as the weights of one model: each a copy by name.

In a step a copy may depend on the others, as where a client mixes its own weights with those of all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import jax.numpy as jnp
import numpy as np

from hansa.learning.arithmetic import zeros_like
from hansa.models.model import Forward, FunctionalModel
from hansa.models.weights import ModelWeights
from hansa.types import Struct


@dataclass(frozen=True)
class Several:
    """Copies of a model's weights by name, and some numbers, as the weights of one model.

    Args:
        model: the model.
        names: the names of the copies; the first is the one that the training is measured with.
        numbers: float32 scalars from 0 to 1 beside them, by name, with their first values.
    """

    model: FunctionalModel
    names: tuple[str, ...]
    numbers: Mapping[str, float] = field(default_factory=dict)

    @property
    def joined_model(self) -> FunctionalModel:
        """The model with all of them as its weights, for an optimizer that is given."""
        model = self.model
        numbers = {name: np.float32(number) for name, number in self.numbers.items()}
        initial = self.joined(dict.fromkeys(self.names, model.initial_weights), numbers)

        def forward(weights: ModelWeights, local: Struct, batch: Any, training: bool, key: Any) -> Forward:
            found = model.forward(self.copy(weights, self.names[0]), local, batch, training, key)
            return self._with(found, weights, {self.names[0]: found.non_trainable})

        def gradients(weights: ModelWeights, local: Struct, batch: Any, key: Any, scale: Any) -> Any:
            found, gradient = model.gradients_of(self.copy(weights, self.names[0]), local, batch, key, scale)
            others = {name: zeros_like(gradient) for name in self.names[1:]}
            numbers = {name: np.float32(0) for name in self.numbers}
            every = self._trainable({self.names[0]: gradient, **others}, numbers)
            return self._with(found, weights, {self.names[0]: found.non_trainable}), every

        return replace(
            model,
            initial_weights=initial,
            forward=forward,
            gradients=gradients,
            optimizer=None,
            train_on_batch=None,
            project=self._project,
            variables=None,
            with_weights=None,
        )

    def joined(self, copies: Mapping[str, ModelWeights], numbers: Mapping[str, Any] | None = None) -> ModelWeights:
        """The weights of the joined model, of all copies and numbers."""
        trainable = self._trainable({name: copies[name].trainable for name in self.names}, numbers or {})
        rest = [(f"{name}/{of}", leaf) for name in self.names for of, leaf in copies[name].non_trainable._items()]
        return ModelWeights.create(trainable, Struct(rest))

    def copy(self, weights: ModelWeights, name: str) -> ModelWeights:
        """One of the copies in the weights of the joined model."""
        initial = self.model.initial_weights
        parts = [
            Struct([(of, weights[str(part)][f"{name}/{of}"]) for of in like._fields]) for part, like in initial._items()
        ]
        return ModelWeights.create(*parts)

    def take_at(
        self,
        take: Callable[..., tuple[Forward, Struct]],
        weights: ModelWeights,
        batch: Any,
        at: ModelWeights,
    ) -> tuple[Forward, Struct]:
        """What the forward pass gives and the gradient of the loss on a batch, both for some weights of the model.

        Args:
            take: what the hook `gradient` is given.
            weights: those of the joined model, in the form that this hook is given.
            batch: the batch.
            at: the weights of the model at which the gradient is taken.
        """
        first = self.names[0]
        every = {name: at if name == first else self.copy(weights, name) for name in self.names}
        forward, found = take(self.joined(every, {name: weights.trainable[name] for name in self.numbers}), batch)
        named = ModelWeights.create(found, forward.non_trainable)
        own = self.copy(named, first)
        return forward._replace(non_trainable=own.non_trainable), own.trainable

    def moves(
        self,
        forward: Forward,
        weights: ModelWeights,
        moves: Mapping[str, Struct],
        non_trainable: Mapping[str, Struct],
        numbers: Mapping[str, Any] | None = None,
    ) -> tuple[Forward, Struct]:
        """What the hook `gradient` gives, where the optimizer is SGD with rate 1.

        Args:
            forward: what the forward pass gave that training is measured with.
            weights: those of the joined model.
            moves: what is subtracted of each copy.
            non_trainable: the non-trainable weights of copies after the step; others stay as they are.
            numbers: what is subtracted of each number.
        """
        return self._with(forward, weights, non_trainable), self._trainable(moves, numbers or {})

    def _trainable(self, copies: Mapping[str, Any], numbers: Mapping[str, Any]) -> Struct:
        pairs = [(f"{name}/{of}", leaf) for name in self.names for of, leaf in copies[name]._items()]
        return Struct([*pairs, *((name, numbers[name]) for name in self.numbers)])

    def _with(self, forward: Forward, weights: ModelWeights, changed: Mapping[str, Struct]) -> Forward:
        """The forward pass with the non-trainable weights of all copies after it."""
        after = {name: changed.get(name, self.copy(weights, name).non_trainable) for name in self.names}
        pairs = [(f"{name}/{of}", leaf) for name in self.names for of, leaf in after[name]._items()]
        return forward._replace(non_trainable=Struct(pairs))

    def _project(self, trainable: Struct) -> Struct:
        """The copies where the model allows them, and the numbers between 0 and 1."""
        project = self.model.project or (lambda weights: weights)
        copies = {}
        for name in self.names:
            fields = self.model.initial_weights.trainable._fields
            copies[name] = project(Struct([(of, trainable[f"{name}/{of}"]) for of in fields]))
        return self._trainable(copies, {name: jnp.clip(trainable[name], 0, 1) for name in self.numbers})
