"""Training on a client's batches, a step for each, as computations: the start, a step, the weights after it.

The training of a round (`local_training`) is made of it, and a training before it (`training_pass`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from hansa.language.computation import Computation
from hansa.language.computations import LocalComputation
from hansa.language.local import tensors, to_struct, unflatten
from hansa.language.sequences import sequence_reduce
from hansa.language.tracing import narrow_computation, wide_computation
from hansa.learning.client_work import Given, alike, whole
from hansa.learning.fixed import Names, differing, together
from hansa.learning.schedules import part_of_step
from hansa.learning.training_steps import ClientOptimizer
from hansa.learning.weighting import weight_of_batch
from hansa.models.batch_types import leading_size
from hansa.models.model import Forward, FunctionalModel, TrainingStep
from hansa.models.weights import ModelWeights
from hansa.types import Struct, StructType, Type
from hansa.types.mismatch import describe


class Hooks:
    """The functions in which trainings differ.

    Raises:
        TypeError: if one is no function; the message says of what it is an argument.
    """

    def __init__(self, what: str, begin: Any, gradient: Any, direction: Any, finish: Any = None) -> None:
        for name, hook in (("begin", begin), ("gradient", gradient), ("direction", direction), ("finish", finish)):
            if hook is not None and not callable(hook):
                raise TypeError(f"{name} of {what} must be a function, found {hook!r}")
        self.begin = begin or (lambda at: at.sent.model)
        self.gradient, self.direction, self.finish = gradient, direction, finish

    def of_steps(self) -> list[str]:
        """The names of those that are used in each step."""
        return [name for name in ("gradient", "direction") if getattr(self, name) is not None]


class LocalSteps:
    """The steps of a training on one's own batches.

    Args:
        model: the model that is trained.
        optimizer: how it follows gradients.
        hooks: where it differs from others.
        given: the types of what a client is given.
        seen: the type of what a pass before it has found, if there was one.
        uses: from the number of a batch, from 0, to whether there is a step on it; None for a step on each.
        before: whether it comes before the training of a round, and makes other random draws.
        weighs: whether the weights of the examples are added up, as `weight` of the carry.

    Attributes:
        at: the type of what a client has.
        local: the decorator of its computations.
        start: (at) -> what the first step is given.
        changing: the names of the weights that a step may change.
    """

    def __init__(
        self,
        model: FunctionalModel,
        optimizer: ClientOptimizer,
        hooks: Hooks,
        given: Given,
        seen: Type | None = None,
        uses: Callable[[Any], Any] | None = None,
        before: bool = False,
        weighs: bool = False,
    ) -> None:
        self.model, self.optimizer, self.hooks, self.given = model, optimizer, hooks, given
        self._uses, self._before, self._weighs = uses, before, weighs
        self.at = StructType([*given.type.fields, *([] if seen is None else [("seen", seen)])])
        self.local = wide_computation if model.wide else narrow_computation
        # What each step is given: all that the client has, if a hook looks at it, or else keys and the factor alone.
        looks = bool(hooks.of_steps()) or optimizer.of_hparams
        self._names = [name for name in self.at.names if looks or name in ("key", "factor", "noise")]
        self.start = self._start()
        # What a step may change is read off one that is always made. All else is in each step what it was before,
        # although an optimizer may have added zero to it: then no step copies it.
        self._changing: Names | None = None
        made = self._step_of(None)
        self.changing = _changing(made, ends=optimizer.ends)
        if any(set(whole._fields) - self.changing[str(part)] for part, whole in model.initial_weights._items()):
            self._changing = self.changing
        self._step = made if uses is None and self._changing is None else self._step_of(uses)

    @property
    def carry(self) -> StructType:
        """The type of what a step gives to the next."""
        return cast(StructType, self.start.type_signature.result)

    def run(self, at: Any, data: Any, carry: Any = None) -> Any:
        """The steps on all batches, in a computation without placements, from the start or a carry."""
        given = {str(name): at[name] for name in self._names}
        return sequence_reduce(data, self.start(at) if carry is None else carry, self._step, given=given)

    def weights_after(self, at: Struct, carry: Any) -> ModelWeights:
        """The weights after the last step.

        What no step changes is what training began with, so that `difference` finds it to be the same.
        """
        training = self.optimizer.step(at.hparams)
        weights = carry.weights if training.finish is None else training.finish(carry.weights, carry.slots)
        return together(self.model.initial_weights, weights, self.changing, self.hooks.begin(at))

    def _start(self) -> Any:
        counted: dict[str, Any] = {} if self._uses is None else {"index": 0}
        if self._weighs:
            counted["weight"] = np.float32(0)

        @self.local(self.at)
        def start(at: Any) -> Any:
            at = whole(at)
            weights = self._begun(at)
            return {
                "weights": weights,
                "slots": self.optimizer.step(at.hparams).initial(weights),
                "local": self.model.initial_local,
                "step": 0,
                "num_examples": 0,
                **counted,
            }

        return start

    def _begun(self, at: Any) -> ModelWeights:
        initial = self.model.initial_weights
        found = alike(self.hooks.begin(at), initial, f"`begin` must give the weights of the model {self.model.name!r}")
        return cast(ModelWeights, found)

    def _step_of(self, uses: Callable[[Any], Any] | None) -> Computation:
        given_type = StructType([(name, kind) for name, kind in self.at.fields if name in self._names])

        @self.local(self.carry, self.model.batch_type, given_type)
        def step(carry: Any, batch: Any, given: Any) -> Any:
            if uses is None:
                return self._stepped(carry, batch, given)
            follow = lambda carry: self._stepped(carry, batch, given)  # noqa: E731
            after = jax.lax.cond(uses(carry.index), follow, lambda carry: carry, carry)
            return after._replace(index=carry.index + 1)

        return step  # type: ignore[no-any-return]

    def _stepped(self, carry: Any, batch: Any, given: Any) -> Any:
        number = -1 - carry.step if self._before else carry.step
        key = jax.random.fold_in(jax.random.wrap_key_data(given.key), number)
        after = self._training_step(whole(given)).apply(carry.weights, carry.local, carry.slots, batch, key)
        count = after.output.num_examples
        scheduled = self.given.scheduled
        more = {}
        if self._weighs:
            more["weight"] = carry.weight + weight_of_batch(batch, after.output, self.model.name)
        weights = part_of_step(given.factor, carry.weights, after.weights) if scheduled else after.weights
        if self._changing is not None:
            weights = together(self.model.initial_weights, weights, self._changing, carry.weights)
        return carry._replace(
            weights=weights,
            slots=after.slots,
            local=after.local,
            step=carry.step + 1,
            num_examples=carry.num_examples + (leading_size(batch) if count is None else jnp.asarray(count, jnp.int32)),
            **more,
        )

    def _training_step(self, at: Any) -> TrainingStep:
        """How the model trains on a batch, with the hooks."""
        direct = None if self.hooks.direction is None else partial(self._direction, at)
        gradients = None if self.hooks.gradient is None else partial(self._gradient, at)
        return self.optimizer.step(at.hparams, direct, gradients)

    def _direction(self, at: Any, gradients: Any, weights: Any) -> Any:
        found = self.hooks.direction(gradients, weights, at)
        return alike(to_struct(found, "direction"), gradients, "`direction` must give a struct like the gradient")

    def _gradient(self, at: Any, weights: Any, local: Any, batch: Any, key: Any, scale: Any) -> tuple[Forward, Any]:
        def take(weights: Any, batch: Any, loss: Any = None) -> tuple[Forward, Struct]:
            return self.model.gradients_of(weights, local, batch, key, scale, loss)

        found = self.hooks.gradient(take, weights, batch, at)
        if not isinstance(found, tuple) or len(found) != 2 or not isinstance(found[0], Forward):
            raise TypeError(
                "`gradient` must give a pair as `take` does, of what the forward pass gave and the gradient; found "
                f"{describe(found)}"
            )
        gradients = to_struct(found[1], "gradient")
        return found[0], alike(gradients, weights.trainable, "`gradient` must give the gradient by trainable weights")


def _changing(step: Computation, ends: bool) -> Names:
    """The weights that a training step may change, and with an end of training all that are trained."""
    kind = step.type_signature.parameter
    assert isinstance(step, LocalComputation) and kind is not None
    carry = unflatten(kind, list(range(len(tensors(kind)))))[0]
    found = differing(carry.weights, step.function.passed_on().weights)
    return {**found, "trainable": set(carry.weights.trainable._fields)} if ends else found
