"""What all clients of a round do before its work: their mean update is known to what is sent, and to the finalizer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from hansa.language import intrinsics as on
from hansa.learning.client_work import ClientWork, Given
from hansa.learning.finalizers import Finalizer
from hansa.learning.screening import struct_of
from hansa.learning.states import computed
from hansa.models.model import FunctionalModel
from hansa.types import Struct, StructType, Type


class Survey:
    """The survey of a client work.

    Args:
        client_work: the work that has one.
        model: the model.
        state: the type of the server's state.
        hparams: the type of the hyper-parameters.

    Attributes:
        work: what clients do in it.
        send: from the state to what they are sent for it.
        state: the type of the server's state with what the survey found, as `survey`.

    Raises:
        TypeError, ValueError: if it is no client work, or keeps something, or the weights of clients' evaluation would
            need one.
    """

    def __init__(self, client_work: ClientWork, model: FunctionalModel, state: StructType, hparams: Type) -> None:
        survey = client_work.survey
        if not isinstance(survey, ClientWork):
            raise TypeError(f"survey of a ClientWork must be another ClientWork, found {survey!r}")
        if survey.own is not None or survey.schedule is not None or survey.survey is not None:
            raise ValueError(
                "a survey keeps nothing at the clients, and has no schedule and no survey of its own; put these into "
                "the ClientWork that has the survey"
            )
        if client_work.personal is not None:
            raise ValueError(
                "a ClientWork with a survey has no `personal`: who is evaluated has had no survey; leave out one of "
                "the two"
            )
        self.send = computed(survey.sent, state, "sent")
        self.work = survey.create(model, Given(self.send.type_signature.result, hparams=hparams))
        self._known = state
        self._found = struct_of(self.work.run.type_signature.result)["update"]
        self.state = StructType([*state.fields, ("survey", self._found)])

    def total(self, kind: Type) -> StructType:
        """The type of what the finalizer is given, of that of the aggregator's result."""
        return StructType([("total", kind), ("survey", self._found)])

    def finalizer(self, finalizer: Finalizer) -> Finalizer:
        """A finalizer for what the survey found beside the aggregator's result."""

        def apply(state: Struct, both: Any, num_clients: Any) -> Struct:
            seen = Struct([*state._items(), ("survey", both.survey)])
            after = finalizer.apply(seen, both.total, num_clients)
            return Struct([(name, part) for name, part in after._items() if name != "survey"])

        return replace(finalizer, apply=apply)

    def next(self, server: Any, at: Any, data: Any) -> tuple[Any, Callable[[Any], Any]]:
        """The state with what the survey finds, and what puts the aggregator's result beside it."""
        done = on.federated_map(self.work.run, [at, data])
        found = on.federated_mean(done.update, done.weight)
        fields = [(name, server[str(name)]) for name in self._known.names]
        state = on.federated_zip(Struct([*fields, ("survey", found)]))
        return state, lambda total: on.federated_zip(Struct.of(total=total, survey=found))
