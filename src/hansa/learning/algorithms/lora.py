"""Low-rank adapters learned together: FFA-LoRA (Sun et al. 2024, arXiv:2403.12313) and FedEx-LoRA (Singhal et al. 2025,
arXiv:2410.09432).

A layer computes with W_0 + s A B, where W_0 is frozen and A and B are trained. Federated averaging means A and B each
by itself, and the product of means is not the mean of products:

    mean(A_i B_i) - mean(A_i) mean(B_i) = mean(dA_i dB_i) - mean(dA_i) mean(dB_i),

where dA_i and dB_i are a client's changes. FFA-LoRA leaves A as it is, so this is zero; FedEx-LoRA adds it to W_0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Unpack, cast

import jax
import jax.numpy as jnp
import numpy as np

from hansa.aggregators import Factory
from hansa.aggregators.aggregation import Aggregation
from hansa.aggregators.writing import counted, stateless
from hansa.language import intrinsics as on
from hansa.language.tracing import jax_computation
from hansa.learning.algorithms.adapted import trained
from hansa.learning.algorithms.arguments import OfProcess
from hansa.learning.arithmetic import difference
from hansa.learning.client_training import local_training
from hansa.learning.finalizers import Finalizer, apply_optimizer
from hansa.learning.holding import Holding
from hansa.learning.model_fn import AnyModel, model_of
from hansa.learning.process import LearningProcess, build_process
from hansa.learning.weighting import AnyWeighting
from hansa.models._typing import AnyOptimizer
from hansa.models.adapters import Adapter, Adapters, added
from hansa.models.model import FunctionalModel
from hansa.models.named_optimizers import LearningRate
from hansa.types import Struct, StructType, Type


def build_ffa_lora(
    model_fn: AnyModel,
    *,
    adapters: Adapters | None = None,
    client_optimizer: AnyOptimizer | None = None,
    client_learning_rate: LearningRate | None = None,
    server_optimizer: AnyOptimizer | None = None,
    server_learning_rate: LearningRate | None = None,
    client_schedule: Callable[[jax.Array], Any] | None = None,
    client_weighting: AnyWeighting = None,
    non_trainable: str = "mean",
    **process: Unpack[OfProcess],
) -> LearningProcess:
    """FFA-LoRA: of each adapter B is trained, and A stays as it began. So the mean of B is the mean of the models.

    Clients send half as much as with both. With noise or clipping, a product of two noisy factors is avoided, too.

    Args:
        adapters: from weights of the base to the names of their two factors, as they are multiplied; by default those
            of Keras's `enable_lora` and of PEFT. A is the one that does not begin with zeros.
        model_fn, client_optimizer, client_learning_rate, server_optimizer, server_learning_rate, client_schedule,
            client_weighting, non_trainable, aggregator, distributor, seed: as of `build_federated_averaging_process`.

    Returns:
        A process with the state of federated averaging, in which A is the same in each round.

    Raises:
        TypeError, ValueError: if the model has no such adapters, or another argument is not what is said above.

    Examples:
        >>> network = keras.Sequential([keras.Input((64,)), keras.layers.Dense(10)])
        >>> network.layers[0].enable_lora(2)
        >>> network.compile("sgd", "mse")
        >>> adapted = hansa.learning.from_compiled_keras_model(network, sample_batch={"x": x, "y": np.eye(10)[y]})
        >>> hansa.learning.build_ffa_lora(adapted).settings["algorithm"]
        'FFA-LoRA'
    """
    model = model_of(model_fn)
    found = trained(model, adapters)
    held = Holding(model, {"trainable": {adapter.random for adapter in found}, "non_trainable": set()})

    def finish(at: Any, weights: Any, steps: Any, num_examples: Any) -> Any:
        return difference(held.whole(weights), at.sent.model), None, None

    work = local_training(
        client_optimizer=client_optimizer,
        client_learning_rate=client_learning_rate,
        client_schedule=client_schedule,
        client_weighting=client_weighting,
        begin=lambda at: held.to_held(at.sent.model),
        finish=finish,
        model=lambda _: held.trained_model(),
    )
    finalizer = apply_optimizer(server_optimizer, server_learning_rate, non_trainable)
    return build_process(model, client_work=work, finalizer=finalizer, name="FFA-LoRA", **process)


def build_fed_ex_lora(
    model_fn: AnyModel,
    *,
    scale: float | None = None,
    adapters: Adapters | None = None,
    client_optimizer: AnyOptimizer | None = None,
    client_learning_rate: LearningRate | None = None,
    client_schedule: Callable[[jax.Array], Any] | None = None,
    client_weighting: AnyWeighting = None,
    non_trainable: str = "mean",
    seed: int = 0,
) -> LearningProcess:
    """FedEx-LoRA: A and B are averaged, and what is missing to the mean of the clients' models is added to the base.

    So with A, B and the base of a state, the model is the weighted mean of the clients' models, to rounding. Clients
    send A and B only; the base changes in each round, so it is sent to them again.

    Args:
        scale: what the product of an adapter is multiplied by in the model, `lora_alpha / rank`. By default it is what
            the layers of Keras or PEFT say, and 1 for adapters of your own.
        adapters: as of `build_ffa_lora`.
        model_fn, client_optimizer, client_learning_rate, client_schedule, client_weighting, non_trainable, seed: as of
            `build_federated_averaging_process`.

    Returns:
        A process with the state of federated averaging.

    Raises:
        TypeError, ValueError: if the model has no such adapters, their base is no float, or another argument is not
            what is said above.

    Examples:
        >>> network = keras.Sequential([keras.Input((64,)), keras.layers.Dense(10)])
        >>> network.layers[0].enable_lora(2)
        >>> network.compile("sgd", "mse")
        >>> adapted = hansa.learning.from_compiled_keras_model(network, sample_batch={"x": x, "y": np.eye(10)[y]})
        >>> process = hansa.learning.build_fed_ex_lora(adapted)
        >>> process.settings["algorithm"], hansa.explain(process).bytes_up < 4 * 64 * 10
        ('FedEx-LoRA', True)
    """
    model = model_of(model_fn)
    found = trained(model, adapters, scale)
    work = local_training(
        client_optimizer=client_optimizer,
        client_learning_rate=client_learning_rate,
        client_schedule=client_schedule,
        client_weighting=client_weighting,
    )

    def finalizer(model: FunctionalModel) -> Finalizer:
        mean = apply_optimizer(non_trainable=non_trainable, update=lambda state, total, num_clients: total.update)(
            model
        )

        def apply(state: Struct, total: Any, num_clients: Any) -> Struct:
            after = mean.apply(state, total, num_clients)
            residuals = {adapter.base: total.residuals[i] for i, adapter in enumerate(found)}
            return after._replace(model=added(after.model, residuals))

        return replace(mean, apply=apply)

    return build_process(
        model, client_work=work, aggregator=_exact(found), finalizer=finalizer, name="FedEx-LoRA", seed=seed
    )


def _exact(adapters: list[Adapter]) -> Factory:
    """The mean of updates, and for each adapter the mean of products less the product of means.

    The products are made where they are added up, of the factors that clients send.
    """

    def create(value: Type, weight: Type) -> Aggregation:
        assert isinstance(value, StructType)
        trainable = cast(StructType, value["trainable"])
        factors = sorted({name for adapter in adapters for name in (adapter.first, adapter.second)})

        names = [str(name) for name in trainable.names]

        def shape_of(name: str) -> tuple[int, ...]:
            return cast(tuple[int, ...], cast(Any, trainable[name]).shape)

        @jax_computation
        def rest_of(value: Any) -> Any:
            kept = Struct([(name, value.trainable[name]) for name in names if name not in factors])
            return Struct.of(trainable=kept, non_trainable=value.non_trainable)

        @jax_computation
        def chosen(value: Any, weight: Any) -> Any:
            return {"factors": {name: value.trainable[name] for name in factors}, "weight": weight.astype(jnp.float32)}

        zero = Struct.of(
            products=Struct([(None, np.zeros(adapter.shape(shape_of), np.float32)) for adapter in adapters]),
            factors=Struct([(name, np.zeros(cast(Any, trainable[name]).shape, np.float32)) for name in factors]),
            weight=np.float32(0),
        )

        @jax_computation
        def accumulate(state: Any, given: Any) -> Any:
            wide = {name: given.factors[name].astype(jnp.float32) for name in factors}
            added = Struct.of(
                products=Struct([(None, adapter.product(wide)) for adapter in adapters]), factors=Struct(wide.items())
            )
            both = Struct.of(products=state.products, factors=state.factors)
            after = jax.tree.map(lambda total, x: total + given.weight * x, both, added)
            return Struct([*after._items(), ("weight", state.weight + given.weight)])

        @jax_computation
        def merge(one: Any, other: Any) -> Any:
            return jax.tree.map(jnp.add, one, other)

        @jax_computation
        def report(state: Any) -> Any:
            divisor = jnp.where(state.weight > 0, state.weight, 1)
            products, means = jax.tree.map(lambda x: x / divisor, (state.products, state.factors))
            residuals = [
                (None, product - adapter.product(means)) for product, adapter in zip(products, adapters, strict=True)
            ]
            return Struct.of(factors=means, residuals=Struct(residuals))

        @jax_computation
        def together(rest: Any, found: Any) -> Any:
            after = [
                (name, found.factors[name].astype(cast(Any, trainable[name]).dtype))
                if name in factors
                else (name, rest.trainable[name])
                for name in names
            ]
            update = Struct.of(trainable=Struct(after), non_trainable=rest.non_trainable)
            return Struct.of(update=update, residuals=found.residuals)

        def step(values: Any, weights: Any) -> Any:
            of_each = counted(values, weights)
            rest = on.federated_mean(on.federated_map(rest_of, of_each.value), of_each.weight)
            sent = on.federated_map(chosen, [of_each.value, of_each.weight])
            found = on.federated_aggregate(sent, zero, accumulate, merge, report)
            return on.federated_map(together, [rest, found])

        return stateless(step, value, weight)

    return Factory("exact_adapters", create)
