"""How a run evaluates: a function of the state, or the state's model by a federated evaluation, by Keras, or by a
function, on data that is given with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from hansa.language.elsewhere import check_reached
from hansa.program._adapting import check_call, check_no_class
from hansa.program.clients import is_examples, to_population
from hansa.program.cohorts import described
from hansa.program.metrics import names_of
from hansa.simulation import ClientData
from hansa.templates.keeping import model_type
from hansa.types import CLIENTS, SERVER, FederatedType, Struct, StructType, Type
from hansa.types.batches import Batches
from hansa.types.mismatch import describe

_BATCH_SIZE = 250
"""Examples per batch, which nothing but the time depends on."""

_KERAS_NAMES = {"x", "y", "sample_weight"}

_FORMS = (
    "a federated evaluation with clients, evaluate=(evaluation, held_out); a compiled Keras model with data, "
    "evaluate=(keras_model, (x, y)); a function of the model and its data, evaluate=(function, data); or a function of "
    "the state, evaluate=function"
)


class FederatedEvaluation:
    """From a state to the metrics of its model on all clients of a population together.

    Args:
        evaluation: what `hansa.learning.build_federated_evaluation` gives.
        clients: a population.
    """

    def __init__(self, evaluation: Any, clients: Any) -> None:
        self._evaluation, self._population = evaluation, clients

    @property
    def computation(self) -> Any:
        """The evaluation itself, of a model and clients."""
        return self._evaluation

    @property
    def metric_names(self) -> list[str] | None:
        """The names of the metrics; None if their type does not say them all."""
        return names_of(self._evaluation.type_signature.result)

    @property
    def client_ids(self) -> Sequence[Any]:
        """Whose data it is of, where that is known."""
        return getattr(self._population, "client_ids", ())

    def __call__(self, state: Any) -> Any:
        """The metrics."""
        return self._evaluation(state.model, self._clients)

    def __repr__(self) -> str:
        return f"FederatedEvaluation({len(self._population)} clients)"

    @cached_property
    def _clients(self) -> Any:
        # Read once, where they are read at all.
        return self._population.cohort(np.arange(len(self._population)))


class KerasEvaluation:
    """From a state to what `evaluate` of a Keras model says with the weights of the state's model.

    Args:
        keras_model: a compiled Keras model, which has these weights afterwards.
        data: `(x, y)` or `(x, y, sample_weight)`, a dict of `x` and `y`, a `hansa.Batches`, a
            `hansa.simulation.ClientData`, of which all examples are taken, or what else `evaluate` of Keras takes as
            `x`, such as a `tf.data.Dataset`.
    """

    def __init__(self, keras_model: Any, data: Any) -> None:
        if not keras_model.compiled:
            raise ValueError(
                f"evaluate: the Keras model {keras_model.name!r} is not compiled, so it has no loss and no metrics; "
                "call compile first"
            )
        if _is_of_clients(data, len(getattr(keras_model, "outputs", None) or ())):
            raise TypeError(
                f"evaluate=(keras_model, data) takes all examples together, (x, y); found {describe(data)}, each a "
                "client's; of clients write evaluate=(hansa.learning.build_federated_evaluation(model), clients)"
            )
        self._model, self._data = keras_model, _for_keras(data)

    def __call__(self, state: Any) -> Any:
        """The metrics."""
        state.model.assign_weights_to(self._model)
        return self._model.evaluate(**self._data, verbose=0, return_dict=True)

    def __repr__(self) -> str:
        return f"KerasEvaluation({type(self._model).__name__})"


class ModelEvaluation:
    """From a state to what a function says of its model and of data.

    Args:
        function: from the weights, `state.model` as they are, and the data, to metrics.
        data: whatever the function takes.
    """

    def __init__(self, function: Callable[[Any, Any], Any], data: Any) -> None:
        self._function, self._data = function, data

    def __call__(self, state: Any) -> Any:
        """The metrics."""
        return self._function(state.model, self._data)

    def __repr__(self) -> str:
        return f"ModelEvaluation({described(self._function)})"


def to_evaluation(evaluate: Any, state_type: Type) -> Any:
    """What evaluates a state, a function of it, or None if there is nothing.

    Args:
        evaluate: in one of the forms that `hansa.program.train` takes.
        state_type: the type of the states.

    Raises:
        TypeError, ValueError: if it is in none of the forms, or is of another model than the state's.
    """
    if evaluate is None:
        return None
    if isinstance(evaluate, tuple | list):
        return _of_pair(evaluate, state_type)
    if _is_federated(evaluate):
        raise TypeError(
            "evaluate is a federated evaluation, and needs the clients whose data it is of: write "
            "evaluate=(evaluation, held_out)"
        )
    check_no_class("evaluate", evaluate)
    if hasattr(evaluate, "stateless_call"):
        raise TypeError(
            f"evaluate is the Keras model {evaluate.name!r}, and needs data: write evaluate=(keras_model, (x, y))"
        )
    if not callable(evaluate):
        raise TypeError(f"evaluate must be {_FORMS}; found {describe(evaluate)}")
    check_call("evaluate", evaluate, ("state",))
    return evaluate


def _of_pair(pair: Any, state_type: Type) -> Any:
    if len(pair) != 2:
        raise TypeError(f"evaluate must be {_FORMS}; found {len(pair)} values")
    what, data = pair
    check_no_class("evaluate", what)
    model = model_type(state_type)
    if model is None:
        state = state_type.member if isinstance(state_type, FederatedType) else state_type
        raise TypeError(
            f"evaluate=(…, data) evaluates the field `model` of a state, and the states of this process have none: "
            f"{state}; pass a function of the state, evaluate=function"
        )
    if hasattr(what, "stateless_call"):
        _check_same_model(what, model)
        return KerasEvaluation(what, data)
    if _is_federated(what):
        expected = what.type_signature.parameter[0]
        expected.check_assignable_from(FederatedType(model, SERVER), what="the model that the evaluation is of")
        check_reached("the data of evaluate", data)
        clients = to_population(data, what="the data of evaluate", default_batch_size=_BATCH_SIZE)
        if not hasattr(clients, "cohort"):
            raise TypeError(f"evaluate=(evaluation, held_out) takes clients, and not the function {described(data)}")
        return FederatedEvaluation(what, clients)
    if not callable(what):
        raise TypeError(f"evaluate must be {_FORMS}; found ({describe(what)}, …)")
    check_call("evaluate", what, ("model", "data"))
    return ModelEvaluation(what, data)


def _is_federated(value: Any) -> bool:
    """Whether a value is a computation of a model at the server and of clients' data."""
    parameter = getattr(getattr(value, "type_signature", None), "parameter", None)
    if not isinstance(parameter, StructType) or len(parameter) != 2:
        return False
    data = parameter[1]
    return isinstance(data, FederatedType) and data.placement == CLIENTS


def _check_same_model(keras_model: Any, weights: Type) -> None:
    """Refuses a Keras model that has other weights than those of this type."""
    from hansa.models.keras.weights import read

    if isinstance(weights, StructType) and weights.names == ("trainable", "non_trainable"):
        parts = [
            Struct((name, np.broadcast_to(np.float32(0), getattr(leaf, "shape", ()))) for name, leaf in part.fields)
            for _, part in weights.fields
            if isinstance(part, StructType)
        ]
        try:
            read(keras_model, (parts[0], parts[1]))
        except ValueError as error:
            raise ValueError(f"evaluate: {error}") from None


def _is_of_clients(data: Any, outputs: int) -> bool:
    """Whether data is examples for each of some clients; a model of many outputs takes pairs of pairs, too."""
    if isinstance(data, Mapping):
        clients, unclear = list(data.values()), data.keys() <= _KERAS_NAMES
    else:
        clients, unclear = data, False
    if unclear or not isinstance(clients, list | tuple) or not clients or not all(map(is_examples, clients)):
        return False
    keys = [set(client) for client in clients if isinstance(client, Mapping)]
    if any(each != keys[0] for each in keys):
        return False  # inputs and outputs of one model, by name
    return isinstance(data, Mapping) or len(clients) not in (2, 3) or outputs == 1


def _for_keras(data: Any) -> dict[str, Any]:
    """Data as the arguments of `evaluate` of a Keras model."""
    if isinstance(data, ClientData):
        data = data.centralized()
    elif isinstance(data, Batches):
        data = data.examples.batch(data.start, data.start + data.size)
    if isinstance(data, Struct):
        data = dict(data._items()) if None not in data._fields else tuple(data)
    if isinstance(data, Mapping) and {"x", "y"} <= data.keys() <= _KERAS_NAMES:
        return {**data, "batch_size": _BATCH_SIZE}
    if isinstance(data, tuple | list) and len(data) in (2, 3):
        return {**dict(zip(("x", "y", "sample_weight"), data, strict=False)), "batch_size": _BATCH_SIZE}
    if hasattr(data, "__next__"):
        raise TypeError(f"evaluate: {describe(data)} can be gone through once only, and there are many evaluations")
    if hasattr(data, "__iter__") or hasattr(data, "__getitem__"):
        return {"x": data}
    raise TypeError(f"evaluate=(keras_model, data) takes (x, y), or what Keras evaluates on; found {describe(data)}")
