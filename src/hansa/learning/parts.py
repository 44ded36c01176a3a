"""The parts of a learning process, checked against one another, and the computations that they make.

The graph of a round is here; what it is made of is in the parts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np

from hansa.language import intrinsics as on
from hansa.language.computation import Computation
from hansa.language.computations import LocalComputation
from hansa.language.operands import require_trace
from hansa.language.runtime_values import client_noise
from hansa.language.tracing import federated_computation, narrow_computation, wide_computation
from hansa.language.values import Value
from hansa.learning.aggregating import Aggregating, unless_unchanged
from hansa.learning.client_work import ClientWork, Given, alike, batches_of, first_kept, type_of_own, whole
from hansa.learning.distributing import Distributing, checked_codec
from hansa.learning.finalizers import AnyFinalizer, apply_optimizer, finalizer_of
from hansa.learning.fixed import together
from hansa.learning.hparams import Hparam, checked_hparams
from hansa.learning.keys import client_keys, key_of_server, round_key
from hansa.learning.measuring import build_measuring
from hansa.learning.noised_metrics import build_noised_metrics
from hansa.learning.private import check_example_level, with_noise_of
from hansa.learning.reporting import private_metrics, round_metrics
from hansa.learning.schedules import schedule_of
from hansa.learning.screening import struct_of
from hansa.learning.server_data import Comparing
from hansa.learning.server_step import server_update_of
from hansa.learning.states import FirstState, LearningState, at_clients, computed
from hansa.learning.surveys import Survey
from hansa.models.model import FunctionalModel
from hansa.privacy.metric_ranges import NoisedMetrics
from hansa.privacy.rules import PrivateFactory
from hansa.types import CLIENTS, SERVER, FederatedType, Struct, StructType, Type
from hansa.types.mismatch import describe

_EMPTY = StructType([])


class Parts:
    """The parts of a process, as `build_process` is given them.

    Attributes:
        model: the model.
        work: what clients do.
        aggregating: how their updates become one.
        finalizer: how the server goes on.
        hparams: the hyper-parameters.
        private: the aggregator, if it adds noise.
        rule: how clients add noise for each of their examples, if they do.

    Raises:
        TypeError, ValueError: if one is not what it must be, or two do not fit; the message names both.
    """

    def __init__(
        self,
        model: FunctionalModel,
        client_work: ClientWork,
        aggregator: object,
        finalizer: AnyFinalizer | None,
        seed: int,
        server_data: object = None,
        distributor: object = None,
    ) -> None:
        if not isinstance(client_work, ClientWork):
            raise TypeError(
                "client_work must be a hansa.learning.ClientWork, such as hansa.learning.local_training(…), found "
                f"{describe(client_work)}"
            )
        self.model, self._codec = model, checked_codec(distributor)
        self.finalizer = finalizer_of(apply_optimizer() if finalizer is None else finalizer, model)
        self.hparams = _together(*map(checked_hparams, (client_work.hparams, self.finalizer.hparams)))
        self._first = FirstState(model, self.finalizer, self.hparams)
        self._client_work = client_work
        self._schedule = None if client_work.schedule is None else schedule_of(client_work.schedule)
        self._own = first_kept(client_work.own, model.initial_weights, "own, what a client keeps at first")
        kind = self._first.type
        hparams = kind["hparams"] if "hparams" in kind.names else _EMPTY
        self._survey = None if client_work.survey is None else Survey(client_work, model, kind, hparams)
        self._send = computed(client_work.sent, kind if self._survey is None else self._survey.state, "sent")
        sent = self._send.type_signature.result
        self.rule = client_work.privacy
        self.private = aggregator if isinstance(aggregator, PrivateFactory) else None
        check_example_level(self.rule, survey=self._survey, server_data=server_data, aggregator=self.private)
        scheduled, noised = self._schedule is not None, self.rule is not None
        self._given = Given(sent, type_of_own(self._own), hparams, scheduled, noised, client_work.numbered)
        self.work = client_work.create(model, self._given)
        self._report = struct_of(self.work.run.type_signature.result)
        _check_own(self._report, self._given.own)
        self._comparing = None if server_data is None else Comparing(server_data, self._report, self.work.model.wide)
        if self.private is not None:
            aggregator = self.private.weighing(client_work.weighting)
        reported = [self._report[name] for name in ("update", "weight")]
        if self._comparing is not None:
            reported = [self._comparing.update, self._comparing.weight]
        self.aggregating = Aggregating(aggregator, *reported)
        finalize, total = self.finalizer, self.aggregating.result
        if self._survey is not None:
            finalize, total = self._survey.finalizer(finalize), self._survey.total(total)
        self._update_server = server_update_of(finalize, kind, total)
        after = struct_of(struct_of(self._update_server.type_signature.result)["state"])
        self._new_weights = struct_of(after["model"])
        self._changing = {str(name): set(struct_of(part).names) for name, part in self._new_weights.fields}
        self._round_key = round_key(seed)
        own_state = [("aggregator", self.aggregating.state)] if self.aggregating.has_state else []
        self._server = StructType([*kind.fields, *own_state])
        at_clients = [("work", self._given.own), ("aggregator", self.aggregating.own)]
        self._clients = StructType([(name, part) for name, part in at_clients if part != _EMPTY])

    def initialize(self) -> Computation:
        """Makes the first state."""
        begin = self._first.initialize(self._first.changing(self._report["update"], self._new_weights))

        @federated_computation
        def initialize() -> Any:
            server, (own_state, at_each) = begin(), self.aggregating.initialize()
            if own_state is not None:
                server = on.federated_zip(_fields(server, self._first.type, aggregator=own_state))
            mine = at_clients(self._own) if len(self._own) else None
            return self._state(server, mine, at_each)

        return cast(Computation, initialize)

    def next(self) -> Computation:
        """A round."""
        more = {"aggregator": self.aggregating.measured} if self.aggregating.measured is not None else {}
        if self._comparing is not None:
            more["server_data"] = self._comparing.measured
        tell = self._telling(more)

        def one_round(state: Any, data: Any, server_data: Any = None) -> Any:
            server, own = self._split(state)
            before = on.federated_zip(_fields(server, self._first.type)) if self.aggregating.has_state else server
            key = on.federated_map(self._round_key, before.optimizer_state[0])
            keys, given, beside, down = client_keys(key), before, None, on.federated_broadcast
            if self._survey is not None:
                survey = self._survey
                sent = self._distributing(survey.send).sent(before, key, down)
                given, beside = survey.next(before, self._at(survey.work.given, sent, before, None, keys, down), data)
            distributing = self._distributing(self._send)
            sent = distributing.sent(given, key, down)
            at = self._at(self._given, sent, given, own.get("work"), keys, down)
            trained = self._trained(at, data)
            update, weight, used, told = trained.update, trained.weight, trained.used, {}
            if self._comparing is not None:
                first = on.federated_value(self._own, SERVER) if len(self._own) else None
                mine, stays = on.federated_map(key_of_server, key), lambda value: value
                at = self._at(self._given, distributing.sent(given, key, stays), given, first, mine, stays)
                of_server = on.federated_map(self.work.run, [at, server_data])
                update, weight, used, told["server_data"] = self._comparing.compared(trained, of_server)
            held = server.aggregator if self.aggregating.has_state else None
            total = self.aggregating.next(held, own.get("aggregator"), update, weight)
            told["aggregator"] = total.measurements
            result = total.result if beside is None else beside(total.result)
            after = on.federated_map(self._update_server, [before, result, self._number(used)])
            metrics = tell(trained, after.changed, told)
            made = self._server_after(server, after, total.state)
            kept = trained.own if "work" in self._clients.names else None
            return Struct([("state", self._state(made, kept, total.own)), ("metrics", metrics)])

        kinds = [FederatedType(batches_of(self.work.model), place) for place in (CLIENTS, SERVER)]
        if self._comparing is None:

            @federated_computation(self.state_type, kinds[0])
            def next(state: Any, data: Any) -> Any:
                return one_round(state, data)

            return next

        @federated_computation(self.state_type, *kinds)
        def next_with_server_data(state: Any, data: Any, server_data: Any) -> Any:
            return one_round(state, data, server_data)

        return next_with_server_data

    def _trained(self, at: Any, data: Any) -> Any:
        """What clients report; where they add noise for each of their examples, that is said of all but what they have
        measured."""
        found = on.federated_map(self.work.run, [at, data])
        if self.rule is None or not self.rule.noise_multiplier:
            return found
        outputs = {"outputs": found.outputs}
        names = [name for name in _named(found) if name not in outputs]
        told = with_noise_of(on.federated_zip(Struct([(name, found[name]) for name in names])), self.rule)
        return Struct([*((name, told[name]) for name in names), *outputs.items()])

    def _distributing(self, send: LocalComputation) -> Distributing:
        return Distributing(self._codec, send, self._first.type, self._changing)

    def _number(self, used: Any) -> Any:
        """How many clients have a part in a round; in a private process, in which that is a secret, how many are
        expected: the round counts whoever comes."""
        if self.private is None:
            return on.federated_sum(used)
        return on.federated_value(np.int64(max(1, round(self.private.cohort))), SERVER)

    def _telling(self, more: Mapping[str, StructType]) -> Callable[[Any, Any, Mapping[str, Any]], Any]:
        """What makes a round's metrics, of what clients report, whether the model changed, and what parts measure."""
        adds_noise = self.rule or self.private
        if adds_noise is not None and adds_noise.metrics == "none":
            measured = self.aggregating.measured
            only = private_metrics(measured)
            return lambda trained, changed, told: on.federated_map(
                only, changed if measured is None else [changed, told["aggregator"]]
            )
        if self.private is not None and isinstance(self.private.metrics, NoisedMetrics):
            assert self.aggregating.measured is not None
            counts, aggregator = struct_of(self._report["counts"]), self.aggregating.measured
            noised = build_noised_metrics(self.work.model, self.private, self.private.metrics, counts, aggregator)
            return lambda trained, changed, told: noised(trained.outputs, trained.counts, changed, told["aggregator"])
        measure = build_measuring(self.work.model.metrics, struct_of(self._report["counts"]))
        counters = struct_of(struct_of(measure.type_signature.result)["counters"])
        combine = round_metrics(self.work.model, counters, more)

        def tell(trained: Any, changed: Any, told: Mapping[str, Any]) -> Any:
            found = measure(trained.outputs, trained.counts)
            measured = [Struct([(name, told[name]) for name in more])] if more else []
            return on.federated_map(combine, [found.metrics, found.counters, changed, *measured])

        return tell

    @property
    def state_type(self) -> Type:
        """The type of the whole state."""
        server = FederatedType(self._server, SERVER)
        if not len(self._clients):
            return server
        return StructType([("server", server), ("clients", FederatedType(self._clients, CLIENTS))], LearningState)

    def weights_of(self, state: Any) -> Any:
        """The weights that each client is evaluated with, at the clients, of the whole state."""
        server, own = self._split(state)
        personal = self._client_work.personal
        if personal is None:
            return on.federated_broadcast(server.model)
        sent = Distributing(None, self._send, self._first.type, {}).sent(server, server, on.federated_broadcast)
        at: dict[str, Any] = {"sent": sent, "own": own.get("work")}
        if self._given.hparams != _EMPTY:
            at["hparams"] = on.federated_broadcast(server.hparams)
        names = [name for name in self._given.type.names if name in at]
        kind = StructType([(name, self._given.type[str(name)]) for name in names])
        local = wide_computation if self.model.wide else narrow_computation
        found = local(kind)(
            lambda at: alike(
                personal(whole(at)), self.model.initial_weights, "`personal` must give weights of the model"
            )
        )
        return on.federated_map(found, on.federated_zip(Struct([(name, at[str(name)]) for name in names])))

    def _split(self, state: Any) -> tuple[Any, dict[str, Any]]:
        """The state at the server, and by name what clients keep."""
        return (state.server, _named(state.clients)) if len(self._clients) else (state, {})

    def _at(self, given: Given, sent: Struct, server: Any, own: Any, key: Any, place: Callable[[Any], Any]) -> Any:
        """What is given for some work to each client, or to the server itself: `place` puts there what is at the
        server."""
        at_clients = place is on.federated_broadcast
        at = {"sent": sent, "own": own, "key": key}
        if given.hparams != _EMPTY:
            at["hparams"] = place(server.hparams)
        if given.scheduled and self._schedule is not None:
            at["factor"] = place(on.federated_map(self._schedule, server.optimizer_state[0]))
        if given.noised:
            at["noise"] = Value(client_noise(), require_trace("dpsgd"))
        if given.numbered:
            at["client"] = on.federated_client_id() if at_clients else on.federated_value(np.int32(-1), SERVER)
        return on.federated_zip(Struct([(name, at[str(name)]) for name in given.type.names]))

    def _server_after(self, server: Any, after: Any, aggregator: Any) -> Any:
        """The next state at the server: what its step gives, and all else as it was."""
        made = after.state
        if made.type_signature.member == self._server:
            return made
        new = _named(made)
        new["model"] = together(self.model.initial_weights, made.model, self._changing, server.model)
        if self.aggregating.has_state:
            new["aggregator"] = unless_unchanged(after.changed, aggregator, server.aggregator)
        return on.federated_zip(_fields(server, self._server, **new))

    def _state(self, server: Any, work: Any, aggregator: Any) -> Any:
        """The whole state, of that of the server, and what clients keep for their work and for the aggregator."""
        if not len(self._clients):
            return server
        own = {"work": work, "aggregator": aggregator}
        clients = on.federated_zip(Struct([(name, own[str(name)]) for name in self._clients.names]))
        return LearningState([("server", server), ("clients", clients)])


def _named(value: Any) -> dict[str, Any]:
    """The fields of a placed struct, by name."""
    return {str(name): value[name] for name in value.type_signature.member.names}


def _fields(value: Any, kind: StructType, **new: Any) -> Struct:
    """The fields of a type, of a placed struct or new ones; those that the type has not come after them."""
    names = [*map(str, kind.names), *(name for name in new if name not in kind.names)]
    return Struct([(name, new[name] if name in new else value[name]) for name in names])


def _together(of_work: Mapping[str, Hparam], of_server: Mapping[str, Hparam]) -> Mapping[str, Hparam]:
    for name in of_work.keys() & of_server.keys():
        one, other = of_work[name].value, of_server[name].value
        if one != other:
            raise ValueError(
                f"the hyper-parameter {name!r} is {one!r} in client_work and {other!r} in "
                "finalizer; give both the same value, or one of them another name"
            )
    return {**of_work, **of_server}


def _check_own(report: StructType, own: Type) -> None:
    if own == _EMPTY:
        return
    found = report["own"] if "own" in report.names else _EMPTY
    if not own.is_assignable_from(found):
        raise TypeError(
            f"the client work must give in `own` what clients keep, of type {own.compact()}; it gives {found.compact()}"
        )
