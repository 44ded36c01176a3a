"""`build_process`: a client's work, an aggregator and a finalizer make a learning process.

A round: what `sent` takes of the state goes to the clients. Each does its work on its batches. The aggregator makes one
value of their updates, whatever these mean. The finalizer takes state and value to the next state.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

from hansa._tracebacks import boundaries
from hansa.aggregators import Aggregation, Factory
from hansa.aggregators.codecs import Codec
from hansa.language.computation import Computation
from hansa.language.values import Value
from hansa.learning.client_work import ClientWork, LocalWork
from hansa.learning.finalizers import AnyFinalizer, Finalizer
from hansa.learning.hparams import Hparam, changed_hparams
from hansa.learning.model_fn import model_of
from hansa.learning.parts import Parts
from hansa.learning.private import check_process
from hansa.learning.server_data import ServerData
from hansa.learning.states import LearningState
from hansa.models.model import FunctionalModel
from hansa.models.tensorflow.models import Model
from hansa.templates import IterativeProcess
from hansa.types import Struct

S = TypeVar("S", bound=Struct)


@boundaries
class LearningProcess(IterativeProcess):
    """An iterative process that trains a model, and knows the parts that it is made of.

    Attributes:
        model: the model of the state.
        client_work: what clients do; `client_work.run` is a computation without placements.
        aggregation: the aggregation of their updates; None for their weighted mean.
        finalizer: how the server goes on.
        hparams: the hyper-parameters, by name, with their first values and their bounds.

    Examples:
        >>> process = hansa.learning.build_process(model, client_work=hansa.learning.local_training())
        >>> print(process.client_work.run.type_signature.parameter["at"].names)
        ('sent', 'key')
        >>> prox = hansa.learning.build_fed_prox(model, proximal_strength=0.1)
        >>> state = prox.with_hparams(prox.initialize(), proximal_strength=0.5)
        >>> state.hparams
        <proximal_strength=0.5>
    """

    def __init__(
        self,
        initialize: Computation,
        next: Computation,
        *,
        model: FunctionalModel,
        client_work: LocalWork,
        aggregation: Aggregation | None,
        finalizer: Finalizer,
        hparams: Mapping[str, Hparam],
        weights_of: Callable[[Any], Any],
        settings: Mapping[str, str],
    ) -> None:
        known = model.with_weights
        of_state = None if known is None else lambda state: known(state.model)
        super().__init__(initialize, next, model_of=of_state, settings=settings)
        self.model, self.client_work, self.aggregation, self.finalizer = model, client_work, aggregation, finalizer
        self.hparams, self._weights_of = hparams, weights_of

    def weights_of(self, state: Value) -> Value:
        """The weights that each client is evaluated with, `{weights}@CLIENTS`: its own, where an algorithm has such.

        It is called within a federated computation, with the state of this process.

        Examples:
            >>> @hansa.federated_computation(process.state_type)
            ... def weights(state):
            ...     return process.weights_of(state)
            >>> print(weights.type_signature.result.member["trainable"]["dense/bias"])
            float32[10]
        """
        return cast(Value, self._weights_of(state))

    def with_hparams(self, state: S, **hparams: float) -> S:
        """A state with other hyper-parameters, so that a sweep over them runs one compiled program.

        Args:
            state: a state of this process.
            hparams: numbers by the names that `state.hparams` has.

        Raises:
            ValueError: if there is no such hyper-parameter, or the number is not finite, or out of its bounds.
            TypeError: if one is no number, or not an integer where it must be one.
        """
        at_server: Any = state["server"] if isinstance(state, LearningState) else state
        known = at_server["hparams"] if "hparams" in at_server._fields else Struct()
        after = at_server._replace(hparams=changed_hparams(known, self.hparams, hparams)) if hparams else at_server
        return cast(S, state._replace(server=after) if isinstance(state, LearningState) else after)


def build_process(
    model_fn: Callable[[], FunctionalModel | Model] | FunctionalModel,
    *,
    client_work: ClientWork,
    aggregator: Factory | Aggregation | None = None,
    finalizer: AnyFinalizer | None = None,
    distributor: Codec | None = None,
    server_data: ServerData | None = None,
    name: str | None = None,
    seed: int = 0,
) -> LearningProcess:
    """A learning process of its parts.

    Args:
        model_fn: makes the model, or is it: as for `build_federated_averaging_process`.
        client_work: what a client does in a round, such as `local_training(…)`.
        aggregator: how the clients' updates become one value, a rule of `hansa.aggregators`; by default their weighted
            mean. It does not know what the updates mean, and may have a state of its own, at the clients, too.
        finalizer: how the server goes on from this value: `apply_optimizer(…)`, or a `Finalizer`; by default SGD with
            learning rate 1, which adds the mean update.
        distributor: how what the server sends comes to the clients: a codec of `hansa.aggregators.codecs`, such as
            `quantised(bits=8)`, of which clients decode the messages; by default as it is. Each field of what is sent
            is one vector of floats; what is no float, and weights that never change, go as they are. Clients start from
            what they have decoded, and their updates are the differences to that.
        server_data: where the server has batches of its own, what they are for: `next` takes them as its third
            argument, and the metrics have a field `server_data`.
        name: what the algorithm is called, for people: the setting "algorithm" of the process, which reports show.
        seed: the root of all random draws of clients; the round's number and the client's id are folded into it.

    Returns:
        A process like that of `build_federated_averaging_process`. Its state at the server is
        `<model,optimizer_state=<int64,…>>`, with the fields `finalizer`, `hparams` and `aggregator` where there are
        any; the count of rounds is `optimizer_state[0]`. Where clients keep something, the state is
        `<server=<…>@SERVER,clients={<…>}@CLIENTS>`, a `LearningState`, and a client has the fields `work` and
        `aggregator`, where there are any. A client that has no part in a round keeps what it had for its work.

    Raises:
        TypeError, ValueError: if an argument is not what is said above, or two parts do not fit: the message names the
            types of both.

    Examples:
        >>> process = hansa.learning.build_process(
        ...     model,
        ...     client_work=hansa.learning.local_training(client_optimizer="sgd", client_learning_rate=0.1),
        ...     aggregator=hansa.aggregators.median(),
        ...     finalizer=hansa.learning.apply_optimizer("adam", 0.01),
        ... )
        >>> state, metrics = process.next(process.initialize(), data.cohort(range(10)))
    """
    parts = Parts(model_of(model_fn), client_work, aggregator, finalizer, seed, server_data, distributor)
    settings = {
        "algorithm": name,
        "client optimizer": parts.work.optimizer,
        "server optimizer": parts.finalizer.name,
        "aggregator": None if aggregator is None else repr(aggregator),
        "distributor": None if distributor is None else repr(distributor),
    }
    next = parts.next()
    check_process(next, parts.aggregating.aggregation, parts.private, parts.rule)
    return LearningProcess(
        parts.initialize(),
        next,
        model=parts.model,
        client_work=parts.work,
        aggregation=parts.aggregating.aggregation,
        finalizer=parts.finalizer,
        hparams=parts.hparams,
        weights_of=parts.weights_of,
        settings={name: value for name, value in settings.items() if value is not None},
    )
