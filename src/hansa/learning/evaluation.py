"""Federated evaluation: a model's metrics on clients' data, of all clients together or of each by itself.

Each client runs the forward pass on its batches as in inference (no dropout, moving statistics), keeps the model's
metrics, and reports them. Nothing is trained and no weight comes back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from hansa.language import intrinsics as on
from hansa.language.computation import Computation
from hansa.language.sequences import sequence_reduce
from hansa.language.tracing import federated_computation, narrow_computation, wide_computation
from hansa.learning.keys import KEY, key_of_client
from hansa.learning.measuring import build_measuring
from hansa.learning.metrics import RoundMetrics
from hansa.learning.model_fn import model_of
from hansa.learning.one_client import of_one_client
from hansa.learning.process import LearningProcess
from hansa.learning.screening import counters, int64, reported_metrics, struct_of, zero_unless
from hansa.models.accumulators import type_of
from hansa.models.batch_types import leading_size
from hansa.models.model import FunctionalModel
from hansa.models.tensorflow.models import Model
from hansa.templates.keeping import reading
from hansa.types import CLIENTS, SERVER, FederatedType, SequenceType, Struct, StructType, TensorType

_ID = TensorType("int32")


def build_federated_evaluation(
    model_fn: Callable[[], FunctionalModel | Model] | FunctionalModel, *, seed: int = 0
) -> Computation:
    """The evaluation of a model on the data of clients, as one computation.

    Args:
        model_fn: makes the model, or is it: as for `build_federated_averaging_process`.
        seed: the root of all random draws, for a model that draws in inference, too; the client's id is folded into
            it.

    Returns:
        A computation `(<weights@SERVER,{batches*}@CLIENTS> -> metrics@SERVER)`, of `state.model` of an averaging
        process and the clients' batches. The metrics are a `RoundMetrics`: the model's, aggregated over all examples as
        in training, and how many clients were left out. A client whose loss is not finite is left out and counted in
        `num_non_finite_clients`, and one without examples in `num_empty_clients`. So where weights are NaN, every
        client is left out, and the metrics are those of no examples. Any other metric that is not finite is left out by
        itself and counted in `num_non_finite_metrics`.

    Raises:
        TypeError, ValueError: if `model_fn` is no model and makes none, or the model has no metrics.

    Examples:
        >>> evaluation = hansa.learning.build_federated_evaluation(model)
        >>> print(evaluation(state.model, data.cohort(range(10))))
        <accuracy=...,loss=...>
    """
    model = model_of(model_fn)
    work = evaluation_of_client(model, seed)
    report = struct_of(work.type_signature.result)
    weights_type = FederatedType(type_of(model.initial_weights), SERVER)
    batches = FederatedType(SequenceType(model.batch_type), CLIENTS)
    measure = build_measuring(model.metrics, struct_of(report["counts"]))
    counters_type = struct_of(struct_of(measure.type_signature.result)["counters"])

    @federated_computation(reported_metrics(model, counters_type.names), counters_type)
    def round_metrics(metrics: Any, counters: Any) -> Any:
        both = (metrics, counters)
        return RoundMetrics([pair for part in both for pair in zip(part.type_signature.names, part, strict=True)])

    @federated_computation(weights_type, batches)
    def evaluate(weights: Any, data: Any) -> Any:
        reports = on.federated_map(work, [on.federated_broadcast(weights), data, on.federated_client_id()])
        found = measure(reports.used, reports.counts)
        return on.federated_map(round_metrics, [found.metrics, found.counters])

    return evaluate


def build_per_client_evaluation(
    model_fn: Callable[[], FunctionalModel | Model] | FunctionalModel | LearningProcess, *, seed: int = 0
) -> Computation:
    """The evaluation of a model on each client's data by itself; `ClientMetrics` tells how the results are distributed.

    This is for simulation, and for devices that keep the result: the metrics are of each client, and are at the
    clients.

    Args:
        model_fn: makes the model, or is it: as for `build_federated_averaging_process`. Or a learning process, whose
            clients may have weights of their own.
        seed: as for `build_federated_evaluation`.

    Returns:
        A computation `(<weights@SERVER,{batches*}@CLIENTS> ->
        {<client_id=int32,num_examples=int64,metrics=<…>>}@CLIENTS)`. The metrics are those that the federated
        evaluation of this one client would give; no client is left out, so they may be NaN. Of a learning process it
        takes the whole state instead of weights, and a client is evaluated with its own.

    Raises:
        TypeError, ValueError: if `model_fn` is no model and makes none, it has no metrics, or their aggregation has no
            meaning for one client (`federated_collect`, `federated_select`).

    Examples:
        >>> evaluation = hansa.learning.build_per_client_evaluation(model)
        >>> results = evaluation(state.model, data.cohort([0, 1, 2]))
        >>> print(results[0])
        <client_id=0,num_examples=180,metrics=<accuracy=...,loss=...>>
        >>> hansa.learning.ClientMetrics.of(results).worst("accuracy", 1)
        [ClientMetric(client_id=..., value=..., num_examples=...)]
    """
    process = model_fn if isinstance(model_fn, LearningProcess) else None
    model = model_of(model_fn) if process is None else process.model
    work = evaluation_of_client(model, seed)
    report = struct_of(work.type_signature.result)
    reported_metrics(model, ())
    finish = of_one_client(model.metrics, f"the metrics of the model {model.name!r}")
    weights_type = FederatedType(type_of(model.initial_weights), SERVER)
    batches = FederatedType(SequenceType(model.batch_type), CLIENTS)

    @federated_computation(report, _ID)
    def result(report: Any, client: Any) -> Any:
        return Struct.of(client_id=client, num_examples=report.num_examples, metrics=finish(report.outputs))

    def of_each(weights: Any, data: Any) -> Any:
        clients = on.federated_client_id()
        return on.federated_map(result, [on.federated_map(work, [weights, data, clients]), clients])

    @federated_computation(weights_type, batches)
    def evaluate_each(weights: Any, data: Any) -> Any:
        return of_each(on.federated_broadcast(weights), data)

    if process is None:
        return evaluate_each

    @federated_computation(process.state_type, batches)
    def evaluate_personal(state: Any, data: Any) -> Any:
        return of_each(process.weights_of(state), data)

    return reading(evaluate_personal, process.state_type)


def evaluation_of_client(model: FunctionalModel, seed: int) -> Computation:
    """(the model's weights, batches, client's id) -> what the client reports.

    Its fields: `outputs`, the model's local outputs; `used`, these, or zeros for a client that is left out; `counts`;
    and `num_examples`.
    """
    local = wide_computation if model.wide else narrow_computation
    weights_type = type_of(model.initial_weights)

    client_key = key_of_client(seed)

    @local()
    def start() -> Any:
        return {"local": model.initial_local, "step": 0, "num_examples": 0, "finite": True}

    given = StructType([("weights", weights_type), ("key", KEY)])

    @local(start.type_signature.result, model.batch_type, given)
    def step(carry: Any, batch: Any, at: Any) -> Any:
        key = jax.random.fold_in(jax.random.wrap_key_data(at.key), carry.step)
        after = model.forward(at.weights, carry.local, batch, False, key)
        count = after.output.num_examples
        seen = leading_size(batch) if count is None else jnp.asarray(count, jnp.int32)
        return carry._replace(
            local=after.local,
            step=carry.step + 1,
            num_examples=carry.num_examples + seen,
            finite=carry.finite & jnp.isfinite(after.output.loss),
        )

    @local(start.type_signature.result)
    def finish(carry: Any) -> Any:
        outputs = model.local_outputs(carry.local)
        has_data = carry.step > 0
        return {
            "outputs": outputs,
            "used": zero_unless(has_data & carry.finite, outputs),
            "counts": counters(has_data, carry.finite),
            "num_examples": int64(carry.num_examples),
        }

    @federated_computation(weights_type, SequenceType(model.batch_type), _ID)
    def client_evaluation(weights: Any, data: Any, client: Any) -> Any:
        return finish(sequence_reduce(data, start(), step, given={"weights": weights, "key": client_key(client)}))

    return client_evaluation
