"""How well a model suits clients after each has trained it on data of its own."""

from __future__ import annotations

from typing import Any

from hansa.language import intrinsics as on
from hansa.language.computation import Computation
from hansa.language.tracing import federated_computation, narrow_computation, wide_computation
from hansa.learning.client_work import Given
from hansa.learning.evaluation import evaluation_of_client
from hansa.learning.holding import Holding
from hansa.learning.keys import key_of_client
from hansa.learning.model_fn import AnyModel, model_of
from hansa.learning.naming import Which, names_of, others
from hansa.learning.one_client import of_one_client
from hansa.learning.passes import training_pass
from hansa.learning.process import LearningProcess
from hansa.learning.screening import reported_metrics, struct_of
from hansa.models._typing import AnyOptimizer
from hansa.models.accumulators import type_of
from hansa.models.named_optimizers import LearningRate
from hansa.models.optimizer import Optimizer
from hansa.templates.keeping import reading
from hansa.types import CLIENTS, SERVER, FederatedType, SequenceType, Struct, StructType, TensorType


def build_personalization_eval(
    model_fn: AnyModel | LearningProcess,
    *,
    client_optimizer: AnyOptimizer | Optimizer | None = None,
    client_learning_rate: LearningRate | None = None,
    passes: int = 1,
    personal: Which | None = None,
    seed: int = 0,
) -> Computation:
    """The evaluation of a model on each client's test data, before and after it is trained on the client's other data.

    It is for models that are made to be adapted, such as those of `build_per_fed_avg`, and for weights that are found
    anew of a client's data, as those of `build_reconstruction`. What training finds is forgotten afterwards.

    Args:
        model_fn: makes the model, or is it: as for `build_federated_averaging_process`. Or a learning process, whose
            clients may have weights of their own to begin with.
        client_optimizer, client_learning_rate: what trains the model, as of `build_federated_averaging_process`.
        passes: how often a client goes over its training data, with one step for each batch.
        personal: the weights that are trained, as of `build_partial_personalization`; by default all.
        seed: the root of all random draws; the client's id is folded into it.

    Returns:
        A computation `(<weights@SERVER,{batches*}@CLIENTS,{batches*}@CLIENTS> ->
        {<client_id=int32,num_examples=int64,metrics=<…>,baseline=<…>>}@CLIENTS)`, of `state.model` of a process, the
        training data and the test data. Of a learning process it takes the whole state instead of weights. `metrics`
        are those of the test data after training, and `baseline` those before; `ClientMetrics` takes the result, for
        the former.

    Raises:
        TypeError, ValueError: if an argument is not what is said above, the model has no metrics, or their aggregation
            has no meaning for one client.

    Examples:
        >>> evaluation = hansa.learning.build_personalization_eval(
        ...     model, client_optimizer="sgd", client_learning_rate=0.1, passes=3
        ... )
        >>> results = evaluation(state.model, data.cohort([0, 1]), data.cohort([0, 1]))
        >>> bool(results[0].metrics.loss < results[0].baseline.loss)
        True
    """
    process = model_fn if isinstance(model_fn, LearningProcess) else None
    model = model_of(model_fn) if process is None else process.model
    evaluate = evaluation_of_client(model, seed)
    reported_metrics(model, ())
    finish = of_one_client(model.metrics, f"the metrics of the model {model.name!r}")
    initial = model.initial_weights
    weights_type = type_of(initial)
    holding = Holding(model, others(names_of("*" if personal is None else personal, initial, "personal"), initial))
    given = Given(StructType([("model", weights_type)]))
    train = training_pass(
        client_optimizer=client_optimizer,
        client_learning_rate=client_learning_rate,
        passes=passes,
        begin=None if personal is None else lambda at: holding.to_held(at.sent.model),
        model=None if personal is None else lambda _: holding.trained_model(),
    )(model, given)
    weights_of = holding.whole if personal is not None else lambda weights: weights
    local = wide_computation if model.wide else narrow_computation
    whole = local(struct_of(train.type_signature.result)["weights"])(lambda weights: weights_of(weights))
    batches = SequenceType(model.batch_type)
    key_of = key_of_client(seed)

    @federated_computation(weights_type, batches, batches, TensorType("int32"))
    def of_client(weights: Any, training: Any, test: Any, client: Any) -> Any:
        found = train(Struct.of(sent={"model": weights}, key=key_of(client)), training)
        before, after = (evaluate(each, test, client) for each in (weights, whole(found.weights)))
        metrics, baseline = finish(after.outputs), finish(before.outputs)
        return Struct.of(client_id=client, num_examples=after.num_examples, metrics=metrics, baseline=baseline)

    def of_each(weights: Any, training: Any, test: Any) -> Any:
        return on.federated_map(of_client, [weights, training, test, on.federated_client_id()])

    at_clients = FederatedType(batches, CLIENTS)
    if process is None:

        @federated_computation(FederatedType(weights_type, SERVER), at_clients, at_clients)
        def evaluate_each(weights: Any, training: Any, test: Any) -> Any:
            return of_each(on.federated_broadcast(weights), training, test)

        return evaluate_each

    @federated_computation(process.state_type, at_clients, at_clients)
    def evaluate_personal(state: Any, training: Any, test: Any) -> Any:
        return of_each(process.weights_of(state), training, test)

    return reading(evaluate_personal, process.state_type)
