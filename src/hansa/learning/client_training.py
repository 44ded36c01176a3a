"""`local_training`: training on one's own batches, with the places in which the algorithms of the literature differ."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from hansa.language.computation import Computation
from hansa.language.local import to_struct
from hansa.language.tracing import federated_computation
from hansa.learning import arithmetic
from hansa.learning.client_work import (
    ClientWork,
    Given,
    Kept,
    LocalWork,
    alike,
    batches_of,
    model_of,
    whole,
)
from hansa.learning.fixed import Names, only
from hansa.learning.hparams import Hparams, hparams_of
from hansa.learning.local_steps import Hooks, LocalSteps
from hansa.learning.passes import FirstPass
from hansa.learning.private import check_hooks
from hansa.learning.private_steps import PrivateSteps
from hansa.learning.screening import counters, finite, finite_difference, int64, zero_unless
from hansa.learning.training_steps import ClientOptimizer
from hansa.learning.weighting import AnyWeighting, Weighting, weighs, weight_of, weighting_of
from hansa.models._typing import AnyOptimizer
from hansa.models.model import Forward, FunctionalModel
from hansa.models.named_optimizers import LearningRate
from hansa.models.optimizer import Optimizer
from hansa.models.weights import ModelWeights
from hansa.privacy.sampled_steps import DPSGD
from hansa.types import Struct
from hansa.types.mismatch import describe


def local_training(
    *,
    client_optimizer: AnyOptimizer | Optimizer | DPSGD | None = None,
    client_learning_rate: LearningRate | None = None,
    client_schedule: Callable[[jax.Array], Any] | None = None,
    client_weighting: AnyWeighting = None,
    first_pass: FirstPass | None = None,
    uses: Callable[[jax.Array], Any] | None = None,
    begin: Callable[[Struct], ModelWeights] | None = None,
    gradient: Callable[[Callable[..., tuple[Forward, Struct]], ModelWeights, Any, Struct], Any] | None = None,
    direction: Callable[[Struct, Struct, Struct], Any] | None = None,
    finish: Callable[[Struct, ModelWeights, Any, Any], tuple[Any, Any, Any]] | None = None,
    sent: Callable[[Struct], Any] | None = None,
    own: Kept = None,
    hparams: Hparams | None = None,
    model: Callable[[FunctionalModel], FunctionalModel] | None = None,
    personal: Callable[[Struct], ModelWeights] | None = None,
    numbered: bool = False,
) -> ClientWork:
    """The client work that trains the model on the client's batches, one step for each batch.

    Without hooks it is that of federated averaging. Hooks are functions of JAX. `at` is what a client has in a round: a
    struct of `sent`, what the server sent; `own`, what the client keeps from round to round; `hparams`; and `seen`,
    what a first pass over the data has found.

    Args:
        client_optimizer, client_learning_rate, client_schedule, client_weighting: as of
            `build_federated_averaging_process`. Or `client_optimizer` is a function of the hyper-parameters that gives
            an optimizer, such as `lambda hparams: optax.sgd(hparams.client_learning_rate)`; or
            `hansa.privacy.dpsgd(…)`, with which there is no `first_pass`, `uses` or `gradient`.
        first_pass: what the client finds out about its data before it trains: `mean_gradient()`, `mean_loss()`,
            `training_pass(…)`, or a function of the model and of the types of what a client is given (`given`) to a
            computation `(<at=A,data=B*> -> S)` without placements, where A is `given.type` and S a struct, which hooks
            see as `at.seen`.
        uses: `uses(number)` tells whether the client trains on the batch of this number, an int32 scalar from 0 up; by
            default it trains on all. The others count neither as steps nor as examples, and are in no metrics.
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
        hparams: hyper-parameters that hooks read as `at.hparams`, by name, with their first values: numbers, or
            `hansa.learning.Hparam`s, which have bounds.
        model: from the model of the process to the one that is trained, such as one with another loss. If it has other
            weights, `begin` and `finish` say how they come of those of the process.
        personal: `personal(at)` gives the weights that a client is evaluated with; by default `state.model`.
        numbered: whether hooks see `at.client`, the number of the client that `hansa.federated_client_id` gives; not
            in `personal`.

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
    hooks = Hooks("local_training", begin, gradient, direction, finish)
    rule = client_optimizer if isinstance(client_optimizer, DPSGD) else None
    if rule is not None:
        check_hooks(client_weighting, first_pass=first_pass, uses=uses, gradient=gradient)
    if uses is not None and not callable(uses):
        raise TypeError(f"uses of local_training must be a function, found {uses!r}")
    weighting = weighting_of(client_weighting)

    def create(given_model: FunctionalModel, given: Given) -> LocalWork:
        trained = given_model if model is None else model(given_model)
        if not isinstance(trained, FunctionalModel):
            raise TypeError(f"the argument `model` of local_training must give a model, found {describe(trained)}")
        numbers = hparams_of(hparams)
        of_steps = hooks.of_steps() if rule is None else [*hooks.of_steps(), "dpsgd"]
        optimizer = ClientOptimizer(
            trained,
            client_optimizer if rule is None else rule.optimizer,
            client_learning_rate,
            given.scheduled,
            of_steps,
            numbers,
        )
        if rule is not None:
            return _Training(PrivateSteps(trained, optimizer, hooks, given, rule), weighting, None).work()
        seen = None if first_pass is None else first_pass(trained, given)
        of_pass = None if seen is None else seen.type_signature.result
        steps = LocalSteps(trained, optimizer, hooks, given, of_pass, uses, weighs=weighs(client_weighting))
        return _Training(steps, weighting, seen).work()

    return ClientWork(
        create,
        model_of if sent is None else sent,
        own=own,
        hparams=dict(hparams or {}),
        schedule=client_schedule,
        personal=personal,
        weighting=client_weighting,
        privacy=rule,
        numbered=numbered,
    )


class _Training:
    """The training of a round: a first pass, the steps, and what a client reports of them."""

    def __init__(self, steps: LocalSteps, weighting: Weighting, first_pass: Computation | None) -> None:
        self.steps, self.model, self.hooks, self.weighting = steps, steps.model, steps.hooks, weighting
        self.first_pass = first_pass

    def work(self) -> LocalWork:
        steps, report = self.steps, self._report()

        @federated_computation(steps.given.type, batches_of(self.model))
        def client_work(at: Any, data: Any) -> Any:
            if self.first_pass is not None:
                found = self.first_pass(at, data)
                at = Struct([*((name, at[str(name)]) for name in steps.given.type.names), ("seen", found)])
            return report(at, steps.run(at, data))

        return LocalWork(self.model, client_work, steps.given, steps.optimizer.name)

    def _report(self) -> Any:
        changing = self.steps.changing

        @self.steps.local(self.steps.at, self.steps.carry)
        def report(at: Any, carry: Any) -> Any:
            at = whole(at)
            after = self.steps.weights_after(at, carry)
            outputs = self.model.local_outputs(carry.local)
            update, weight, kept, good = self._finished(at, after, carry, changing)
            if weight is None:
                total = carry.weight if "weight" in carry._fields else None
                weight = self.weighting(outputs, carry.num_examples, total)
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
