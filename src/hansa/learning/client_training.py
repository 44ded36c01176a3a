"""`local_training`: training on one's own batches, with the places in which the algorithms of the literature differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp

from hansa.language.computation import Computation
from hansa.language.computations import LocalComputation
from hansa.language.local import tensors, to_struct, unflatten
from hansa.language.sequences import sequence_reduce
from hansa.language.tracing import federated_computation, narrow_computation, wide_computation
from hansa.learning import arithmetic
from hansa.learning.client_work import ClientWork, Given, Kept, LocalWork, alike, batches_of, hparams_of, whole
from hansa.learning.fixed import Names, differing, only, together
from hansa.learning.passes import FirstPass
from hansa.learning.schedules import part_of_step
from hansa.learning.screening import counters, finite, finite_difference, int64, zero_unless
from hansa.learning.training_steps import ClientOptimizer
from hansa.learning.weighting import Weighting, weight_of, weighting_of
from hansa.models._typing import AnyOptimizer
from hansa.models.batch_types import leading_size
from hansa.models.model import Forward, FunctionalModel, TrainingStep
from hansa.models.named_optimizers import LearningRate
from hansa.models.optimizer import Optimizer
from hansa.models.weights import ModelWeights
from hansa.types import Struct, StructType
from hansa.types.mismatch import describe


def local_training(
    *,
    client_optimizer: AnyOptimizer | Optimizer | None = None,
    client_learning_rate: LearningRate | None = None,
    client_schedule: Callable[[jax.Array], Any] | None = None,
    client_weighting: str | Callable[[Struct], Any] = "num_examples",
    first_pass: FirstPass | None = None,
    begin: Callable[[Struct], ModelWeights] | None = None,
    gradient: Callable[[Callable[..., tuple[Forward, Struct]], ModelWeights, Any, Struct], Any] | None = None,
    direction: Callable[[Struct, Struct, Struct], Any] | None = None,
    finish: Callable[[Struct, ModelWeights, Any, Any], tuple[Any, Any, Any]] | None = None,
    sent: Callable[[Struct], Any] | None = None,
    own: Kept = None,
    hparams: Mapping[str, float] | None = None,
    model: Callable[[FunctionalModel], FunctionalModel] | None = None,
    personal: Callable[[Struct], ModelWeights] | None = None,
) -> ClientWork:
    """The client work that trains the model on the client's batches, one step for each batch.

    Without hooks it is that of federated averaging. Hooks are functions of JAX. `at` is what a client has in a round: a
    struct of `sent`, what the server sent; `own`, what the client keeps from round to round; `hparams`; and `seen`,
    what a first pass over the data has found.

    Args:
        client_optimizer, client_learning_rate, client_schedule, client_weighting: as of
            `build_federated_averaging_process`. Or `client_optimizer` is a function of the hyper-parameters that gives
            an optimizer, such as `lambda hparams: optax.sgd(hparams.client_learning_rate)`.
        first_pass: what the client finds out about its data before it trains: `mean_gradient()`, `mean_loss()`, or a
            function of the model and of the types of what a client is given (`given`) to a computation
            `(<at=A,data=B*> -> S)` without placements, where A is `given.type` and S a struct, which hooks see as
            `at.seen`.
        begin: `begin(at)` gives the weights that the client starts from, a `ModelWeights`; by default `at.sent.model`.
        gradient: `gradient(take, weights, batch, at)` gives the pair of what the forward pass gave and the gradient by
            the trainable weights, such as `take(weights, batch)` gives it: of the mean loss, at whatever weights and
            batch. It may be called more than once. `take(weights, batch, loss)` takes the gradient of
            `loss(weights, output, batch)` instead, where `output` is the `BatchOutput`; it needs a model that JAX
            differentiates.
        direction: `direction(gradient, weights, at)` gives what the optimizer follows instead of the gradient. All
            three are structs of the trainable weights, and so is what it gives.
        finish: `finish(at, weights, steps, num_examples)` gives three things: the update, any struct of arrays, for the
            aggregator; the weight, a number, or None for that of `client_weighting`; and what the client keeps, as
            `own`, or None for what it had. `weights` are those after the last step, `steps` and `num_examples` int32
            scalars. By default it gives `(difference(weights, at.sent.model), None, None)`.
        sent: from the server's state, with `model`, `optimizer_state` and, where there are any, `finalizer` and
            `hparams`, to the struct that each client is sent; by default `{"model": state.model}`.
        own: what a client keeps that has never taken part, a struct, or a function of the model's initial weights that
            gives it.
        hparams: hyper-parameters that hooks read as `at.hparams`, by name, with their first values.
        model: from the model of the process to the one that is trained, such as one with another loss. If it has other
            weights, `begin` and `finish` say how they come of those of the process.
        personal: `personal(at)` gives the weights that a client is evaluated with; by default `state.model`.

    Returns:
        The client work, for `build_process`. A client is left out whose update, weight or `own` is not finite, whose
        weight is negative, or that has no examples. It has the weight 0, its update is zero, and it keeps what it had.

    Raises:
        TypeError, ValueError: where a process is built of it: if a hook gives another thing, or the model cannot do
            what a hook needs. A model that trains itself (`train_on_batch`) needs a `client_optimizer` for `gradient`
            and `direction`.

    Examples:
        FedProx: a step follows the gradient of the loss plus mu/2 |w - w_t|^2.

        >>> mu = 0.1
        >>> def direction(gradient, weights, at):
        ...     apart = hansa.learning.arithmetic.subtract(weights, at.sent.model.trainable)
        ...     return hansa.learning.arithmetic.add_scaled(gradient, mu, apart)
        >>> process = hansa.learning.build_process(
        ...     model, client_work=hansa.learning.local_training(direction=direction)
        ... )
        >>> state, metrics = process.next(process.initialize(), data.cohort(range(10)))
    """
    hooks = _Hooks(begin, gradient, direction, finish)
    weighting = weighting_of(client_weighting)

    def create(given_model: FunctionalModel, given: Given) -> LocalWork:
        trained = given_model if model is None else model(given_model)
        if not isinstance(trained, FunctionalModel):
            raise TypeError(f"the argument `model` of local_training must give a model, found {describe(trained)}")
        numbers = hparams_of(hparams or {})
        optimizer = ClientOptimizer(
            trained, client_optimizer, client_learning_rate, given.scheduled, hooks.of_steps(), numbers
        )
        seen = None if first_pass is None else first_pass(trained, given)
        return _Training(trained, optimizer, weighting, hooks, given, seen).work()

    return ClientWork(
        create,
        **({} if sent is None else {"sent": sent}),
        own=own,
        hparams=dict(hparams or {}),
        schedule=client_schedule,
        personal=personal,
    )


class _Hooks:
    """The hooks of a local training."""

    def __init__(self, begin: Any, gradient: Any, direction: Any, finish: Any) -> None:
        for name, hook in (("begin", begin), ("gradient", gradient), ("direction", direction), ("finish", finish)):
            if hook is not None and not callable(hook):
                raise TypeError(f"{name} of local_training must be a function, found {hook!r}")
        self.begin = begin or (lambda at: at.sent.model)
        self.gradient, self.direction, self.finish = gradient, direction, finish

    def of_steps(self) -> list[str]:
        """The names of those that are used in each step."""
        return [name for name in ("gradient", "direction") if getattr(self, name) is not None]


class _Training:
    """The local training of one model, in three computations: what it starts from, a step, what it reports."""

    def __init__(
        self,
        model: FunctionalModel,
        optimizer: ClientOptimizer,
        weighting: Weighting,
        hooks: _Hooks,
        given: Given,
        first_pass: Computation | None,
    ) -> None:
        self.model, self.optimizer, self.weighting, self.hooks, self.given = model, optimizer, weighting, hooks, given
        self.first_pass = first_pass
        seen = [] if first_pass is None else [("seen", first_pass.type_signature.result)]
        self.at = StructType([*given.type.fields, *seen])
        self.local = wide_computation if model.wide else narrow_computation
        # What each step is given: all that the client has, if a hook looks at it, or else the key and the factor alone.
        looks = bool(hooks.of_steps()) or optimizer.of_hparams
        self.names = [name for name in self.at.names if looks or name in ("key", "factor")]

    def work(self) -> LocalWork:
        start = self._start()
        step = self._step(start)
        report = self._report(start, step)

        @federated_computation(self.given.type, batches_of(self.model))
        def client_work(at: Any, data: Any) -> Any:
            if self.first_pass is not None:
                found = self.first_pass(at, data)
                at = Struct([*((name, at[str(name)]) for name in self.given.type.names), ("seen", found)])
            given = {str(name): at[name] for name in self.names}
            return report(at, sequence_reduce(data, start(at), step, given=given))

        return LocalWork(self.model, client_work, self.given, self.optimizer.name)

    def _start(self) -> Any:
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
            }

        return start

    def _begun(self, at: Any) -> ModelWeights:
        initial = self.model.initial_weights
        found = alike(self.hooks.begin(at), initial, f"`begin` must give the weights of the model {self.model.name!r}")
        return cast(ModelWeights, found)

    def _step(self, start: Any) -> Computation:
        given_type = StructType([(name, kind) for name, kind in self.at.fields if name in self.names])

        @self.local(start.type_signature.result, self.model.batch_type, given_type)
        def step(carry: Any, batch: Any, given: Any) -> Any:
            key = jax.random.fold_in(jax.random.wrap_key_data(given.key), carry.step)
            training = self._training_step(whole(given))
            after = training.apply(carry.weights, carry.local, carry.slots, batch, key)
            count = after.output.num_examples
            weights = (
                part_of_step(given.factor, carry.weights, after.weights) if self.given.scheduled else after.weights
            )
            return {
                "weights": weights,
                "slots": after.slots,
                "local": after.local,
                "step": carry.step + 1,
                "num_examples": carry.num_examples
                + (leading_size(batch) if count is None else jnp.asarray(count, jnp.int32)),
            }

        return step  # type: ignore[no-any-return]

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

    def _report(self, start: Any, step: Computation) -> Any:
        changing = _changing(step, ends=self.optimizer.ends)

        @self.local(self.at, start.type_signature.result)
        def report(at: Any, carry: Any) -> Any:
            at = whole(at)
            training = self.optimizer.step(at.hparams)
            weights = carry.weights if training.finish is None else training.finish(carry.weights, carry.slots)
            # What no step changes is what training began with, so that `difference` finds it to be the same.
            after = together(self.model.initial_weights, weights, changing, self.hooks.begin(at))
            outputs = self.model.local_outputs(carry.local)
            update, weight, kept, good = self._finished(at, after, carry, changing)
            if weight is None:
                weight = self.weighting(outputs, carry.num_examples)
            has_data = carry.step > 0
            good = good & jnp.isfinite(weight) & (weight >= 0)
            used = has_data & good
            counted = used & (weight > 0)
            found = {
                "update": zero_unless(used, update),
                "weight": zero_unless(used, weight),
                "outputs": zero_unless(used, outputs),
                "used": int64(zero_unless(counted, jnp.int32(1))),
                "counts": counters(has_data, good),
            }
            return {**found, "own": arithmetic.choose(counted, kept, at.own)} if len(at.own) else found

        return report

    def _finished(self, at: Any, after: ModelWeights, carry: Any, changing: Names) -> tuple[Any, Any, Any, Any]:
        """The update, the weight if `finish` gives one, what is kept, and whether these are finite."""
        if self.hooks.finish is None:
            parts = [only(weights, changing) for weights in (after, at.sent.model)]
            return arithmetic.difference(after, at.sent.model), None, at.own, finite_difference(*parts)
        found = self.hooks.finish(at, after, carry.step, carry.num_examples)
        if not isinstance(found, tuple) or len(found) != 3:
            raise TypeError(
                "`finish` must give three things: the update, the weight or None, and what the client keeps or None; "
                f"found {describe(found)}"
            )
        update, weight = to_struct(found[0], "finish"), found[1]
        kept = at.own if found[2] is None else to_struct(found[2], "finish")
        kept = alike(kept, at.own, "`finish` must give what a client keeps, like `own`")
        if weight is not None:
            weight = weight_of(weight, "`finish` must give one number as the weight")
        return update, weight, kept, finite((update, kept))


def _changing(step: Computation, ends: bool) -> Names:
    """The weights that a training step may change, and with an end of training all that are trained."""
    kind = step.type_signature.parameter
    assert isinstance(step, LocalComputation) and kind is not None
    carry = unflatten(kind, list(range(len(tensors(kind)))))[0]
    found = differing(carry.weights, step.function.passed_on().weights)
    return {**found, "trainable": set(carry.weights.trainable._fields)} if ends else found
