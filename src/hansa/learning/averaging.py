"""Federated averaging (McMahan et al. 2017, arXiv:1602.05629, Algorithm 1), with an optimizer at the server (Reddi et
al. 2021, arXiv:2003.00295, Algorithm 1).

A round: the server broadcasts the model; each client trains it on its own batches and reports trained minus initial
weights; the server averages these updates, weighted by how many examples each client trained on, and its optimizer
takes minus the average as a gradient. With SGD of learning rate 1, the default, that is the average of the clients'
models.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from hansa.aggregators import Factory
from hansa.language import intrinsics as on
from hansa.language.computation import Computation
from hansa.language.computations import LocalComputation
from hansa.language.local import is_wide, tensors, unflatten
from hansa.language.sequences import sequence_reduce
from hansa.language.tracing import federated_computation, jax_computation, narrow_computation, wide_computation
from hansa.learning import training_steps
from hansa.learning.aggregating import Aggregating
from hansa.learning.fixed import Names, differing, moving, on_device, only, together
from hansa.learning.measuring import build_measuring
from hansa.learning.metrics import RoundMetrics
from hansa.learning.model_fn import model_of
from hansa.learning.screening import (
    counters,
    finite_difference,
    int64,
    is_float,
    reported_metrics,
    struct_of,
    zero_unless,
)
from hansa.learning.server_step import server_update_of
from hansa.models._typing import AnyOptimizer
from hansa.models.accumulators import type_of
from hansa.models.batch_types import leading_size
from hansa.models.exact import narrow
from hansa.models.learning_rates import check_schedule
from hansa.models.model import FunctionalModel, TrainingStep
from hansa.models.named_optimizers import LearningRate
from hansa.models.optimizer import Optimizer
from hansa.models.tensorflow.models import Model
from hansa.models.weights import ModelWeights
from hansa.templates import IterativeProcess
from hansa.types import CLIENTS, SERVER, FederatedType, SequenceType, Struct, StructType, TensorType, Type
from hansa.types.mismatch import describe

_KEY = TensorType("uint32", (2,))
_COUNT = TensorType("int64")
_FLAG = TensorType("bool")


def build_federated_averaging_process(
    model_fn: Callable[[], FunctionalModel | Model] | FunctionalModel,
    *,
    client_optimizer: AnyOptimizer | None = None,
    client_learning_rate: LearningRate | None = None,
    server_optimizer: AnyOptimizer | None = None,
    server_learning_rate: LearningRate | None = None,
    client_schedule: Callable[[jax.Array], Any] | None = None,
    client_weighting: str | Callable[[Struct], Any] = "num_examples",
    non_trainable: str = "mean",
    aggregator: Factory | None = None,
    seed: int = 0,
) -> IterativeProcess:
    """The federated averaging process of a model.

    Args:
        model_fn: makes the model; called once. A class derived from `Model` does, too. Or the model itself, if it is a
            `FunctionalModel`, which is a value.
        client_optimizer: the optimizer of the clients' steps, with new state for each client and round: its name,
            "sgd", "adam", "adamw", "adagrad", "rmsprop", "yogi" or "lion", or an Optax or Keras optimizer; by default
            the model's own, or its own training step.
        client_learning_rate: the learning rate of `client_optimizer`, if that is a name: a number, or a schedule by the
            number of a client's step.
        server_optimizer: likewise that of the server's step; by default SGD.
        server_learning_rate: likewise, the schedule by the number of the round; by default 1, of SGD.
        client_schedule: by what the clients' steps are multiplied in a round, as a function of its number, an int32
            scalar from 0 (as the state counts rounds): an Optax schedule such as
            `optax.cosine_decay_schedule(1.0, 100)`. For SGD, with or without momentum, and the usual adaptive
            optimizers that is a factor of the learning rate.
        client_weighting: "num_examples", "uniform", or a function from a client's local outputs (a `Struct`; with
            `num_examples`, unless the model's metrics are `MetricSums`) to its weight, a scalar. A client with a
            negative one is left out, and counted, like one that is not finite.
        non_trainable: what becomes of non-trainable weights of float dtype: their "mean" over clients, with the same
            weights, or the "server"'s values, unchanged. Those of other dtypes are the server's, and so are those
            that a training step hands on as they are, such as the weights of frozen layers, which are not reported.
        aggregator: how the clients' updates become one, a rule of `hansa.aggregators`, such as `median()`; by default
            their weighted mean. It takes in the statistics of `non_trainable`, too.
        seed: the root of all random draws of clients; the round's number and the client's id are folded into it.

    Returns:
        A process whose `initialize` gives the state
        `<model=<trainable=<…>,non_trainable=<…>>,optimizer_state=<int64,…>>@SERVER`, which counts the rounds that
        changed the model, and whose `next` takes the state and the clients' batches to the next state and the round's
        metrics. A client whose update or weight is not finite, or that has no examples, has no part in either; one of
        whose metrics some are not finite has no part in these. The metrics count both (`RoundMetrics`). Without any
        client that has a part in it, the state stays as it is, and so it does where the server's step would make NaN or
        infinity of finite numbers; the metrics say `model_unchanged`. An aggregator's state, if it has one, is a third
        field of the state, `aggregator`, and what it measures a field of the metrics of this name.

    Raises:
        TypeError, ValueError: if an argument is not what is said above.

    Examples:
        >>> process = hansa.learning.build_federated_averaging_process(model)
        >>> state = process.initialize()
        >>> for number in range(2):
        ...     state, metrics = process.next(state, data.cohort(range(10)))
        >>> print(metrics)
        <accuracy=...,loss=...>
    """
    model = model_of(model_fn)
    server = training_steps.server_optimizer(model, server_optimizer, server_learning_rate)
    scheduled = client_schedule is not None
    training = training_steps.training_step(model, client_optimizer, client_learning_rate, scheduled)
    if non_trainable not in ("mean", "server"):
        raise ValueError(f"non_trainable is 'mean' or 'server', found {non_trainable!r}")

    weights_type = type_of(model.initial_weights)
    schedule = None if client_schedule is None else _schedule(client_schedule)
    work = _client_work(model, training, weights_type, _weighting(client_weighting), schedule is not None)
    report = struct_of(work.type_signature.result)
    initialize = _initialize(model, server, struct_of(report["update"]))
    update_server = server_update_of(
        server, struct_of(initialize.type_signature.result), report, non_trainable == "mean"
    )
    aggregating = None if aggregator is None else Aggregating(aggregator, report["update"], report["weight"])
    if aggregating is not None:
        initialize = aggregating.initialize(initialize)
    state_type = initialize.type_signature.result
    after_model = struct_of(struct_of(struct_of(update_server.type_signature.result)["state"])["model"])
    new = {str(name): set(struct_of(part).names) for name, part in after_model.fields}
    measure = build_measuring(model.metrics, struct_of(report["counts"]))
    measured = None if aggregating is None else aggregating.measured
    combine = _round_metrics(model, struct_of(struct_of(measure.type_signature.result)["counters"]), measured)
    round_key, client_key = _keys(seed)
    batches = FederatedType(SequenceType(model.batch_type), CLIENTS)

    @federated_computation(state_type, batches)
    def next(state: Any, data: Any) -> Any:
        key = on.federated_map(round_key, state.optimizer_state[0])
        keys = on.federated_map(client_key, [on.federated_broadcast(key), on.federated_client_id()])
        if schedule is not None:
            factor = on.federated_map(schedule, state.optimizer_state[0])
            keys = on.federated_zip({"key": keys, "factor": on.federated_broadcast(factor)})
        trained = on.federated_map(work, [on.federated_broadcast(state.model), data, keys])
        if aggregating is None:
            before, average = state, on.federated_mean(trained.update, trained.weight)
        else:
            before, given = aggregating.parts(state, trained.update, trained.weight)
            average = given.result
        after = on.federated_map(update_server, [before, average, on.federated_sum(trained.used)])
        found = measure(trained.outputs, trained.counts)
        told = [] if measured is None else [given.measurements]
        metrics = on.federated_map(combine, [found.metrics, found.counters, after.changed, *told])
        made = after.state
        if made.model.type_signature != state.model.type_signature:
            weights = together(model.initial_weights, made.model, new, state.model)
            made = on.federated_zip(Struct.of(model=weights, optimizer_state=made.optimizer_state))
        if aggregating is not None:
            made = aggregating.state_after(made, given)
        return Struct([("state", made), ("metrics", metrics)])

    settings = {"client optimizer": training.name, "server optimizer": server.name}
    if aggregator is not None:
        settings["aggregator"] = repr(aggregator)
    known = model.with_weights
    of_state = None if known is None else lambda state: known(state.model)
    return IterativeProcess(initialize, next, model_of=of_state, settings=settings)


def _initialize(model: FunctionalModel, server: Optimizer, update: StructType) -> Computation:
    """The first state. Weights of which clients report no update are the same arrays in each that is made."""
    initial = model.initial_weights
    wide = server.wide or is_wide(type_of(initial))
    with jax.enable_x64(wide):
        optimizer_state = server.initial(initial.trainable)
    count = jax_computation(lambda: int64(0))
    rest = _constant(optimizer_state, wide) if len(optimizer_state) else None
    own = moving(initial, update)
    fixed, begun = on_device(initial, but=own), only(initial, own)
    begin = _constant(begun, model.wide) if jax.tree.leaves(begun) else lambda: begun

    @federated_computation
    def initialize() -> Any:
        fields = [count(), *(rest() if rest is not None else [])]
        names = [None, *optimizer_state._fields]
        state = Struct.of(
            model=together(initial, begin(), own, fixed), optimizer_state=Struct(zip(names, fields, strict=True))
        )
        if not jax.tree.leaves(fixed):
            return on.federated_value(state, SERVER)
        # Each part by itself: what is fixed goes into no program, and is not copied out of one.
        return on.federated_zip(jax.tree.map(partial(on.federated_value, placement=SERVER), state))

    return cast(Computation, initialize)


def _constant(value: Struct, wide: bool) -> Any:
    decorate = wide_computation if wide else narrow_computation
    return decorate()(lambda: jax.tree.map(jnp.asarray, value))


def _schedule(function: Callable[[Any], Any]) -> Computation:
    """(rounds so far) -> the factor of the clients' steps."""
    if not callable(function):
        raise TypeError(
            "client_schedule must be a function from the number of a round to a factor of the clients' steps, such as "
            f"optax.exponential_decay(1.0, 10, 0.5); found {function!r}"
        )
    check_schedule(function, "client_schedule", "round", "factor")

    @jax_computation(_COUNT)
    def client_schedule(rounds: Any) -> Any:
        with jax.enable_x64(False):
            factor = jnp.asarray(function(rounds.astype(jnp.int32)), jnp.float32)
        if factor.shape:
            raise TypeError(f"client_schedule must return a number, and returns an array of shape {list(factor.shape)}")
        return factor

    return client_schedule


def _client_work(
    model: FunctionalModel,
    training: TrainingStep,
    weights_type: Type,
    weighting: Callable[[Struct, Any], Any],
    scheduled: bool,
) -> Computation:
    """(model's weights, batches, key, with the factor of steps if scheduled) -> what the client reports."""
    local = wide_computation if model.wide else narrow_computation
    given_type = StructType([("key", _KEY), ("factor", TensorType("float32"))]) if scheduled else _KEY

    @local(weights_type)
    def start(weights: Any) -> Any:
        return {
            "weights": weights,
            "slots": training.initial(weights),
            "local": model.initial_local,
            "step": 0,
            "num_examples": 0,
        }

    @local(start.type_signature.result, model.batch_type, given_type)
    def step(carry: Any, batch: Any, given: Any) -> Any:
        key = jax.random.fold_in(jax.random.wrap_key_data(given.key if scheduled else given), carry.step)
        after = training.apply(carry.weights, carry.local, carry.slots, batch, key)
        count = after.output.num_examples
        weights = after.weights
        if scheduled:
            trainable = jax.tree.map(partial(_part_of_step, given.factor), carry.weights.trainable, weights.trainable)
            weights = ModelWeights.create(trainable, weights.non_trainable)
        return {
            "weights": weights,
            "slots": after.slots,
            "local": after.local,
            "step": carry.step + 1,
            "num_examples": carry.num_examples
            + (leading_size(batch) if count is None else jnp.asarray(count, jnp.int32)),
        }

    changing = _changing(step, ends=training.finish is not None)

    @local(weights_type, start.type_signature.result)
    def finish(before: Any, carry: Any) -> Any:
        outputs = model.local_outputs(carry.local)
        weights = carry.weights if training.finish is None else training.finish(carry.weights, carry.slots)
        after, before = only(weights, changing), only(before, changing)
        trainable = jax.tree.map(jnp.subtract, after.trainable, before.trainable)
        now, then = after.non_trainable, before.non_trainable
        statistics = Struct([(name, leaf - then[name]) for name, leaf in now._items() if is_float(leaf)])
        update = ModelWeights.create(trainable, statistics)
        weight = weighting(outputs, carry.num_examples)
        has_data = carry.step > 0
        finite = finite_difference(after, before) & jnp.isfinite(weight) & (weight >= 0)
        used = has_data & finite
        return {
            "update": zero_unless(used, update),
            "weight": zero_unless(used, weight),
            "outputs": zero_unless(used, outputs),
            "used": int64(zero_unless(used & (weight > 0), jnp.int32(1))),
            "counts": counters(has_data, finite),
        }

    @federated_computation(weights_type, SequenceType(model.batch_type), given_type)
    def client_work(weights: Any, data: Any, given: Any) -> Any:
        return finish(weights, sequence_reduce(data, start(weights), step, given=given))

    return client_work


def _part_of_step(factor: Any, before: Any, after: Any) -> Any:
    """A weight after a part of its step."""
    return (before + factor * (after - before)).astype(before.dtype) if is_float(before) else after


def _changing(step: Computation, ends: bool) -> Names:
    """The weights that a training step may change, and with an `end` of training all that are trained."""
    kind = step.type_signature.parameter
    assert isinstance(step, LocalComputation) and kind is not None
    carry = unflatten(kind, list(range(len(tensors(kind)))))[0]
    found = differing(carry.weights, step.function.passed_on().weights)
    return {**found, "trainable": set(carry.weights.trainable._fields)} if ends else found


def _round_metrics(model: FunctionalModel, counters: StructType, measured: StructType | None) -> Computation:
    more = [] if measured is None else ["aggregator"]
    metrics = reported_metrics(model, [*counters.names, "model_unchanged", *more])
    negated = jax_computation(_FLAG)(lambda changed: ~changed)

    @federated_computation(metrics, counters, _FLAG)
    def round_metrics(metrics: Any, counters: Any, changed: Any) -> Any:
        both = (metrics, counters)
        fields = [pair for part in both for pair in zip(part.type_signature.names, part, strict=True)]
        return RoundMetrics([*fields, ("model_unchanged", negated(changed))])

    if measured is None:
        return round_metrics

    @federated_computation(metrics, counters, _FLAG, measured)
    def all_metrics(metrics: Any, counters: Any, changed: Any, told: Any) -> Any:
        plain = round_metrics(metrics, counters, changed)
        return RoundMetrics([*zip(plain.type_signature.names, plain, strict=True), ("aggregator", told)])

    return all_metrics


def _weighting(value: str | Callable[[Any], Any]) -> Callable[[Struct, Any], Any]:
    if value == "num_examples":
        return lambda outputs, count: count
    if value == "uniform":
        return lambda outputs, count: jnp.int32(1)
    if callable(value):
        return lambda outputs, count: _number(value(narrow(outputs)))
    raise ValueError(
        f"client_weighting is 'num_examples', 'uniform' or a function of a client's local outputs, found {value!r}"
    )


def _number(weight: Any) -> Any:
    kind = getattr(weight, "dtype", np.result_type(weight) if isinstance(weight, bool | int | float) else None)
    if kind is None or np.shape(weight) or not jnp.isdtype(kind, ("bool", "integral", "real floating")):
        raise TypeError(f"client_weighting must return one number, found {describe(weight)}; reduce it to one")
    return jnp.asarray(weight, jnp.float32)


def _keys(seed: int) -> tuple[Computation, Computation]:
    """(number of a round) -> its key, and (key of a round, client id) -> the client's key."""

    @jax_computation(_COUNT)
    def round_key(count: Any) -> Any:
        return _fold_in(jax.random.key_data(jax.random.key(seed)), count)

    @jax_computation(_KEY, TensorType("int32"))
    def client_key(key: Any, client: Any) -> Any:
        return _fold_in(key, client)

    return round_key, client_key


def _fold_in(key: Any, data: Any) -> Any:
    return jax.random.key_data(jax.random.fold_in(jax.random.wrap_key_data(key), data.astype(jnp.uint32)))
