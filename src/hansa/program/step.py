"""One round of any process: a state and data to the next state and a flat record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hansa.language.computation import Computation
from hansa.models.model import FunctionalModel
from hansa.program.metrics import check_type, flatten, names_of
from hansa.program.records import Scalar
from hansa.templates import IterativeProcess, MeasuredProcess
from hansa.types import FederatedType, Struct, StructType, Type
from hansa.types.mismatch import describe


class Step:
    """Calls `next` of a process.

    What `next` returns beside the state are its metrics: if it is one struct, its fields are; of a `MeasuredProcess`
    the measurements are, and the result is not.

    Attributes:
        process: the process.
        state_type: the type of its state.
        metric_names: the names of its metrics; None where the types do not say them all.
        arguments: the types of what it takes beside the state and a round's data, by name.

    Raises:
        TypeError: if `next` does not take a state and data.
        ValueError: if an array among the metrics is too large to be recorded.
    """

    def __init__(self, process: IterativeProcess) -> None:
        if not isinstance(process, IterativeProcess):
            raise TypeError(f"process must be a process of hansa.templates, found {_found(process)}")
        signature = process.next.type_signature
        parameter = signature.parameter
        if parameter == process.state_type or not isinstance(parameter, StructType) or len(parameter) < 2:
            raise TypeError(
                f"next of the process must take the state and a round's data; found the parameter {parameter}"
            )
        self.arguments: dict[str, Type] = {}
        for name, kind in parameter.fields[2:]:
            if name is None:
                raise TypeError(
                    "what next of the process takes beside the state and a round's data must have names; found the "
                    f"parameter {parameter}"
                )
            self.arguments[name] = kind
        self.process, self.state_type = process, process.state_type
        self._is_alone = process.state_type.is_assignable_from(signature.result)
        self._fields: tuple[int, ...] = ()
        self.metric_names: list[str] | None = []
        if self._is_alone:
            return
        result = signature.result
        assert isinstance(result, StructType)  # which begins with the state
        self._fields = (2,) if isinstance(process, MeasuredProcess) else tuple(range(1, len(result)))
        self._is_one = len(self._fields) == 1 and _is_struct(result[self._fields[0]])
        for index in self._fields:
            check_type(result[index])
        if self._is_one:
            self.metric_names = names_of(result[self._fields[0]])
        elif self._fields:
            self.metric_names = names_of(StructType([result.fields[index] for index in self._fields]))

    def __call__(self, state: Any, data: Any, arguments: Mapping[str, Any]) -> tuple[Any, dict[str, Scalar]]:
        """The state after a round, and its metrics, of the round's data and of what else `next` takes."""
        output = self.process.next(state, data, *(arguments[name] for name in self.arguments))
        if self._is_alone:
            return output, {}
        if self._is_one:
            return output[0], flatten(output[self._fields[0]])
        return output[0], flatten(Struct((output._fields[index], output[index]) for index in self._fields))


def _is_struct(kind: Type) -> bool:
    return isinstance(kind.member if isinstance(kind, FederatedType) else kind, StructType)


def _found(value: Any) -> str:
    """What is given for a process, and what to write in its place."""
    if isinstance(value, Computation):
        return f"the computation {value.name!r}; pass the process itself, or hansa.templates.IterativeProcess(…)"
    name = getattr(value, "__name__", None)
    if isinstance(value, FunctionalModel) or hasattr(value, "stateless_call"):
        name, what = "model_fn", "a model"
    elif callable(value) and name is not None:
        what = f"{name}, a function"
    else:
        return describe(value)
    return f"{what}; write hansa.learning.build_federated_averaging_process({name})"
