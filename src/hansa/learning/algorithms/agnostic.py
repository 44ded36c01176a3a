"""Agnostic federated averaging (Ro et al. 2021, arXiv:2104.02748): training for the worst mixture of domains, which is
the objective of agnostic federated learning (Mohri et al. 2019, arXiv:1902.00146).

Each example is of a domain. lambda are the weights of the domains, which grow where the loss is high, by exponentiated
gradients. alpha is lambda divided by the numbers of examples of each domain in the last rounds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Unpack

import jax
import jax.numpy as jnp
import numpy as np

from hansa.language.computation import Computation
from hansa.language.sequences import sequence_reduce
from hansa.language.tracing import federated_computation, narrow_computation, wide_computation
from hansa.learning.algorithms.arguments import OfProcess
from hansa.learning.arithmetic import difference, scale
from hansa.learning.client_training import local_training
from hansa.learning.client_work import Given, batches_of, whole
from hansa.learning.finalizers import Finalizer, apply_optimizer
from hansa.learning.hparams import Hparam
from hansa.learning.model_fn import model_of
from hansa.learning.process import LearningProcess, build_process
from hansa.models._typing import AnyOptimizer
from hansa.models.model import FunctionalModel
from hansa.models.named_optimizers import LearningRate
from hansa.models.outputs import BatchOutput
from hansa.models.tensorflow.models import Model
from hansa.types import Struct, StructType, TensorType

ExampleLoss = Callable[[BatchOutput, Any], Any]


def build_agnostic(
    model_fn: Callable[[], FunctionalModel | Model] | FunctionalModel,
    *,
    example_loss: ExampleLoss,
    domain_weights: Sequence[float],
    domain_learning_rate: float,
    domain_window_size: int = 1,
    domain_window: Sequence[float] | None = None,
    client_optimizer: AnyOptimizer | None = None,
    client_learning_rate: LearningRate | None = None,
    server_optimizer: AnyOptimizer | None = None,
    server_learning_rate: LearningRate | None = None,
    non_trainable: str = "mean",
    **process: Unpack[OfProcess],
) -> LearningProcess:
    """Agnostic federated averaging: clients train on examples weighted by alpha of their domains.

    Clients' batches have a field more than the model takes, `domain_id`, int32 [examples], from 0 to below the number
    of domains; an example with another number does not count. Client k first finds the sum of losses and the number of
    its examples of each domain at the server's model, and beta_k, the sum of alpha of its examples. The loss of a batch
    is the sum of alpha times the losses of its examples, divided by beta_k, and beta_k is the weight of its update.
    Then lambda is multiplied by exp(rate times the mean loss) of each domain, and divided by its sum.

    The results are those of `agnostic_federated_averaging` of FedJAX. They differ where its numbers would not be
    finite: a domain without examples in the window counts there as one with 1.

    Args:
        example_loss: from the model's `BatchOutput` and a batch, with its `domain_id`, to the loss of each example,
            float32 [examples].
        domain_weights: lambda at first: a number for each domain, at least 0, with the sum 1.
        domain_learning_rate: of lambda, at least 0; with 0 it stays.
        domain_window_size: over how many rounds the numbers of examples are averaged.
        domain_window: these numbers before the first round; by default ones.
        model_fn, client_optimizer, client_learning_rate, server_optimizer, server_learning_rate, non_trainable,
            aggregator, distributor, seed: as of `build_federated_averaging_process`. The aggregator is given updates
            `<model,beta,domain_loss,domain_num>`, of equal weights: the model's is multiplied by beta.

    Returns:
        A process as of `build_federated_averaging_process`: lambda is `state.finalizer.domain_weights`, and
        `state.finalizer.domain_window` has a row for each round of the window. `domain_learning_rate` is a
        hyper-parameter of the state.

    Raises:
        TypeError, ValueError: if an argument is not what is said above, or JAX does not differentiate the model, or its
            batches are no structs with names, or have a field `domain_id`.

    Examples:
        >>> import optax
        >>> process = hansa.learning.build_agnostic(
        ...     model,
        ...     example_loss=lambda output, batch: optax.softmax_cross_entropy_with_integer_labels(
        ...         output.predictions, batch.y
        ...     ),
        ...     domain_weights=[0.5, 0.5],
        ...     domain_learning_rate=0.1,
        ... )
        >>> client = [{"x": x[:6], "y": y[:6], "domain_id": np.int32([0, 0, 0, 0, 0, 1])}]
        >>> state, metrics = process.next(process.initialize(), [client])
        >>> state.finalizer.domain_window
        Array([[5., 1.]], dtype=float32)
    """
    model = model_of(model_fn)
    weights, window = _numbers(domain_weights, domain_window, domain_window_size)
    domains = len(weights)

    def losses(output: BatchOutput, batch: Any) -> Any:
        found = jnp.asarray(example_loss(output, batch))
        if found.ndim != 1:
            raise TypeError(
                f"example_loss must give a loss for each example, float32[examples]; found {found.dtype} of "
                f"{found.ndim} dimensions"
            )
        return found

    def gradient(take: Any, w: Any, batch: Any, at: Any) -> Any:
        beta = jnp.where(at.seen.beta > 0, at.seen.beta, 1.0)

        def loss(w: Any, output: BatchOutput, batch: Any) -> Any:
            return jnp.sum(_of(at.sent.alpha, batch.domain_id) * losses(output, batch)) / beta

        return take(w, batch, loss)

    def finish(at: Any, w: Any, steps: Any, num_examples: Any) -> Any:
        seen = {name: at.seen[name] for name in ("beta", "domain_loss", "domain_num")}
        return {"model": scale(at.seen.beta, difference(w, at.sent.model)), **seen}, 1.0, None

    def sent(state: Struct) -> dict[str, Any]:
        number = jnp.mean(state.finalizer.domain_window, axis=0)
        alpha = state.finalizer.domain_weights / jnp.where(number > 0, number, 1.0)
        return {"model": state.model, "alpha": alpha}

    def finalizer(model: FunctionalModel) -> Finalizer:
        step = apply_optimizer(
            server_optimizer,
            server_learning_rate,
            non_trainable,
            update=lambda state, total, num_clients: scale(1 / total.beta, total.model),
        )(model)

        def apply(state: Struct, total: Any, num_clients: Any) -> Struct:
            number = total.domain_num
            mean = jnp.where(number > 0, total.domain_loss / jnp.where(number > 0, number, 1.0), 0.0)
            grown = state.finalizer.domain_weights * jnp.exp(state.hparams.domain_learning_rate * mean)
            # The aggregate is a mean over clients; the numbers are integers.
            row = jnp.round(num_clients * number)[None]
            rows = jnp.concatenate([state.finalizer.domain_window[1:], row])
            after = {"domain_weights": grown / jnp.sum(grown), "domain_window": rows}
            return step.apply(state, total, num_clients)._replace(finalizer=after)

        initial = {"domain_weights": weights, "domain_window": window}
        rate = {"domain_learning_rate": Hparam(domain_learning_rate, least=0)}
        return Finalizer(apply, initial=initial, hparams=rate, slots=step.slots, wide=step.wide, name=step.name)

    work = local_training(
        client_optimizer=client_optimizer,
        client_learning_rate=client_learning_rate,
        model=_with_domains,
        first_pass=_domains_of(losses, domains),
        gradient=gradient,
        finish=finish,
        sent=sent,
    )
    return build_process(
        model,
        client_work=work,
        finalizer=finalizer,
        name="agnostic federated averaging",
        **process,
    )


def _of(values: Any, domain_id: Any) -> Any:
    """The value of each example's domain, of values by domain."""
    return jax.nn.one_hot(domain_id, len(values), dtype=jnp.float32) @ values


def _domains_of(losses: ExampleLoss, domains: int) -> Callable[[FunctionalModel, Given], Computation]:
    """The pass in which a client finds L^k, N^k and beta^k."""

    def first_pass(model: FunctionalModel, given: Given) -> Computation:
        local = wide_computation if model.wide else narrow_computation

        @local(given.type)
        def start(at: Any) -> Any:
            zeros = jnp.zeros(domains, jnp.float32)
            return {"domain_loss": zeros, "domain_num": zeros, "step": 0}

        @local(start.type_signature.result, model.batch_type, given.type)
        def step(sums: Any, batch: Any, at: Any) -> Any:
            key = jax.random.fold_in(jax.random.wrap_key_data(at.key), -1 - sums.step)
            output = model.forward(whole(at).sent.model, model.initial_local, batch, True, key).output
            hot = jax.nn.one_hot(batch.domain_id, domains, dtype=jnp.float32)
            return {
                "domain_loss": sums.domain_loss + losses(output, batch) @ hot,
                "domain_num": sums.domain_num + jnp.sum(hot, axis=0),
                "step": sums.step + 1,
            }

        @local(start.type_signature.result, given.type)
        def report(sums: Any, at: Any) -> Any:
            beta = jnp.sum(at.sent.alpha * sums.domain_num)
            return {"domain_loss": sums.domain_loss, "domain_num": sums.domain_num, "beta": beta}

        @federated_computation(given.type, batches_of(model))
        def found(at: Any, data: Any) -> Any:
            return report(sequence_reduce(data, start(at), step, given=at), at)

        return found

    return first_pass


def _with_domains(model: FunctionalModel) -> FunctionalModel:
    """The model for batches that have a field `domain_id` beside its own."""
    known = model.batch_type
    if not isinstance(known, StructType) or None in known.names or "domain_id" in known.names:
        raise TypeError(
            f"agnostic averaging adds a field domain_id to the batches of the model {model.name!r}, which must be "
            f"structs with other names; found {known.compact()}"
        )

    def forward(weights: Any, local: Any, batch: Any, training: bool, key: Any) -> Any:
        return model.forward(weights, local, Struct([(n, batch[n]) for n in known.names]), training, key)

    batch_type = StructType([*known.fields, ("domain_id", TensorType("int32", [None]))])
    return replace(model, batch_type=batch_type, forward=forward)


def _numbers(weights: Sequence[float], window: Sequence[float] | None, size: int) -> tuple[Any, Any]:
    """lambda at first, and the window.

    Raises:
        ValueError: if they are not what they must be.
    """
    found = np.asarray(weights, np.float32)
    if found.ndim != 1 or not len(found) or not (found >= 0).all() or abs(found.sum() - 1) > 1e-6:
        raise ValueError(f"domain_weights must be numbers at least 0 with the sum 1, found {weights!r}")
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise ValueError(f"domain_window_size must be an integer at least 1, found {size!r}")
    row = np.ones_like(found) if window is None else np.asarray(window, np.float32)
    if row.shape != found.shape or not (row > 0).all():
        raise ValueError(f"domain_window must be a number above 0 for each of {len(found)} domains, found {window!r}")
    return found, np.tile(row, (size, 1))
