"""What a client finds out about its data before it trains: the first pass of `local_training`, which hooks see.

A pass is a function of the model that is trained and of the types of what a client is given, to a local computation
`(<at=A,data=B*> -> S)`, where S is a struct. Its result is `at.seen` in the hooks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from hansa.language.computation import Computation
from hansa.language.sequences import sequence_reduce
from hansa.language.tracing import federated_computation, narrow_computation, wide_computation
from hansa.learning import arithmetic
from hansa.learning.client_work import Given, batches_of, whole
from hansa.learning.hparams import Hparams, hparams_of
from hansa.learning.local_steps import Hooks, LocalSteps
from hansa.learning.training_steps import ClientOptimizer
from hansa.models._typing import AnyOptimizer
from hansa.models.batch_types import leading_size
from hansa.models.model import FunctionalModel
from hansa.models.named_optimizers import LearningRate
from hansa.models.optimizer import Optimizer
from hansa.models.weights import ModelWeights
from hansa.types import Struct

FirstPass: TypeAlias = Callable[[FunctionalModel, Given], Computation]
"""What makes the first pass for a model."""

At: TypeAlias = Callable[[Struct], ModelWeights | list[ModelWeights]]


def _sent(at: Struct) -> ModelWeights:
    return at.sent.model  # type: ignore[no-any-return]


def mean_gradient(weights: Callable[[Struct], ModelWeights] = _sent) -> FirstPass:
    """A first pass for the mean gradient over all examples of the client: `at.seen.gradient`, at the same weights.

    Args:
        weights: from `at` to the weights at which it is taken; by default those that were sent.

    Returns:
        The argument `first_pass` of `local_training`. `at.seen` is `<gradient,num_examples>`, where the gradient is a
        struct like the trainable weights, in training (with dropout, and statistics of batches).

    Examples:
        Gradient descent with all examples of a client at once:

        >>> def finish(at, weights, steps, num_examples):
        ...     step = hansa.learning.arithmetic.scale(-0.1, at.seen.gradient)
        ...     return {"trainable": step, "non_trainable": {}}, num_examples, None
        >>> work = hansa.learning.local_training(first_pass=hansa.learning.mean_gradient(), finish=finish)
        >>> process = hansa.learning.build_process(model, client_work=work)
        >>> state, metrics = process.next(process.initialize(), data.cohort([0, 1]))
    """

    def of_batch(model: FunctionalModel, at: Struct, batch: Any, key: Any) -> tuple[Any, Any]:
        forward, gradient = model.gradients_of(weights(at), model.initial_local, batch, key)
        return gradient, forward.output

    return mean_over_data(
        "gradient", lambda model, at: arithmetic.zeros_like(model.initial_weights.trainable), of_batch
    )


def mean_loss(weights: At = _sent) -> FirstPass:
    """A first pass for the mean loss over all examples of the client: `at.seen.loss`, without training.

    Args:
        weights: from `at` to the weights of the model; by default those that were sent. Or to a list of weights, for a
            loss of each.

    Returns:
        The argument `first_pass` of `local_training`. `at.seen` is `<loss,num_examples>`, where the loss is a float32
        scalar, or `float32[k]` of k weights, as in inference.

    Examples:
        Clients that count as much as their loss:

        >>> def finish(at, weights, steps, num_examples):
        ...     return hansa.learning.arithmetic.difference(weights, at.sent.model), at.seen.loss, None
        >>> work = hansa.learning.local_training(first_pass=hansa.learning.mean_loss(), finish=finish)
        >>> process = hansa.learning.build_process(model, client_work=work)
        >>> state, metrics = process.next(process.initialize(), data.cohort([0, 1]))
    """

    def first(model: FunctionalModel, at: Struct) -> Any:
        found = weights(at)
        return jnp.zeros(len(found) if isinstance(found, list) else (), jnp.float32)

    def of_batch(model: FunctionalModel, at: Struct, batch: Any, key: Any) -> tuple[Any, Any]:
        found = weights(at)
        several = found if isinstance(found, list) else [found]
        outputs = [model.forward(each, model.initial_local, batch, False, key).output for each in several]
        losses = [jnp.asarray(output.loss, jnp.float32) for output in outputs]
        return (jnp.stack(losses) if isinstance(found, list) else losses[0]), outputs[0]

    return mean_over_data("loss", first, of_batch)


def mean_over_data(
    name: str,
    first: Callable[[FunctionalModel, Struct], Any],
    of_batch: Callable[[FunctionalModel, Struct, Any, Any], tuple[Any, Any]],
) -> FirstPass:
    """A first pass for the mean of something over the examples.

    Args:
        name: what it is called.
        first: zeros of its shape.
        of_batch: (model, at, batch, key) -> its mean over a batch, and what the forward pass gave.
    """

    def create(model: FunctionalModel, given: Given) -> Computation:
        local = wide_computation if model.wide else narrow_computation

        @local(given.type)
        def start(at: Any) -> Any:
            return {"total": first(model, whole(at)), "step": 0, "num_examples": 0}

        @local(start.type_signature.result, model.batch_type, given.type)
        def step(carry: Any, batch: Any, at: Any) -> Any:
            # Other draws than those of the steps of training, which come of 0 and above.
            key = jax.random.fold_in(jax.random.wrap_key_data(at.key), -1 - carry.step)
            found, output = of_batch(model, whole(at), batch, key)
            size = leading_size(batch) if output.num_examples is None else jnp.asarray(output.num_examples, jnp.int32)
            total = jax.tree.map(lambda sum, x: sum + (size * x).astype(sum.dtype), carry.total, found)
            return {"total": total, "step": carry.step + 1, "num_examples": carry.num_examples + size}

        @local(start.type_signature.result)
        def report(carry: Any) -> Any:
            number = jnp.maximum(carry.num_examples, 1)
            mean = jax.tree.map(lambda sum: (sum / number).astype(sum.dtype), carry.total)
            return {name: mean, "num_examples": carry.num_examples}

        @federated_computation(given.type, batches_of(model))
        def first_pass(at: Any, data: Any) -> Any:
            return report(sequence_reduce(data, start(at), step, given=at))

        return first_pass

    return create


def training_pass(
    *,
    client_optimizer: AnyOptimizer | Optimizer | None = None,
    client_learning_rate: LearningRate | None = None,
    passes: int = 1,
    uses: Callable[[jax.Array], Any] | None = None,
    begin: Callable[[Struct], ModelWeights] | None = None,
    direction: Callable[[Struct, Struct, Struct], Any] | None = None,
    hparams: Hparams | None = None,
    model: Callable[[FunctionalModel], FunctionalModel] | None = None,
) -> FirstPass:
    """A first pass that trains weights, one step for each batch, such as those that a client keeps to itself.

    Args:
        passes: how often it goes over the client's batches.
        client_optimizer, client_learning_rate, uses, begin, direction, hparams: as of `local_training`.
        model: from the model that is trained after the pass to the one that the pass trains.

    Returns:
        The argument `first_pass` of `local_training`. `at.seen` is `<weights,steps,num_examples>`: the weights after
        the last step, and int32 scalars.

    Raises:
        TypeError, ValueError: if an argument is not what is said above; some where a process is built of it.

    Examples:
        Each client trains the model that it was sent, and tells how far that went:

        >>> def finish(at, weights, steps, num_examples):
        ...     return hansa.learning.arithmetic.difference(at.seen.weights, at.sent.model), num_examples, None
        >>> work = hansa.learning.local_training(first_pass=hansa.learning.training_pass(passes=2), finish=finish)
        >>> process = hansa.learning.build_process(model, client_work=work)
        >>> state, metrics = process.next(process.initialize(), data.cohort([0, 1]))
    """
    hooks = Hooks("training_pass", begin, None, direction)
    if isinstance(passes, bool) or not isinstance(passes, int) or passes < 1:
        raise ValueError(f"passes must be an integer of at least 1, found {passes!r}")

    def create(given_model: FunctionalModel, given: Given) -> Computation:
        trained = given_model if model is None else model(given_model)
        numbers = hparams_of(hparams)
        optimizer = ClientOptimizer(
            trained, client_optimizer, client_learning_rate, given.scheduled, hooks.of_steps(), numbers
        )
        steps = LocalSteps(trained, optimizer, hooks, given, uses=uses, before=True)

        @steps.local(steps.carry)
        def again(carry: Any) -> Any:
            return carry if uses is None else carry._replace(index=jnp.int32(0))

        @steps.local(given.type, steps.carry)
        def report(at: Any, carry: Any) -> Any:
            weights = steps.weights_after(whole(at), carry)
            return {"weights": weights, "steps": carry.step, "num_examples": carry.num_examples}

        @federated_computation(given.type, batches_of(trained))
        def first_pass(at: Any, data: Any) -> Any:
            carry = steps.run(at, data)
            for _ in range(passes - 1):
                carry = steps.run(at, data, again(carry))
            return report(at, carry)

        return first_pass

    return create
