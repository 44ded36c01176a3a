"""Measured processes made of others: one after another, or side by side."""

from __future__ import annotations

from typing import Any, cast

from hansa.language.computation import Computation
from hansa.language.intrinsics import federated_zip
from hansa.language.tracing import federated_computation
from hansa.templates.iterative import check_places
from hansa.templates.measured import MeasuredOutput, MeasuredProcess, at_server
from hansa.types import SERVER, FederatedType, Placement, Struct, StructType, Type


def chain_measured_processes(**processes: MeasuredProcess) -> MeasuredProcess:
    """One process of several, where the result of each is the value of the next.

    Args:
        **processes: in the order in which they are applied. `next` of each takes the state and a value, and perhaps
            more; what it takes beyond these, such as a weight, is a parameter of the chain's, shared by all that have
            one of this name.

    Returns:
        A process whose state and measurements are structs of those of the processes, by name, and whose result is that
        of the last one. `AggregationProcess(chain.initialize, chain.next)` makes an aggregation of it, if it is one.

    Raises:
        TypeError: if a result does not fit the process after it; the message names both.

    Examples:
        >>> none = hansa.federated_computation(lambda: hansa.federated_value([], hansa.SERVER))
        >>> clip = hansa.jax_computation(lambda x: jnp.clip(x, -1.0, 1.0))
        >>> @hansa.federated_computation("<>@SERVER", "{float32}@CLIENTS")
        ... def next_clipped(state, value):
        ...     nothing = hansa.federated_value([], hansa.SERVER)
        ...     return hansa.templates.MeasuredOutput(state, hansa.federated_map(clip, value), nothing)
        >>> @hansa.federated_computation("<>@SERVER", "{float32}@CLIENTS")
        ... def next_sum(state, value):
        ...     nothing = hansa.federated_value([], hansa.SERVER)
        ...     return hansa.templates.MeasuredOutput(state, hansa.federated_sum(value), nothing)
        >>> both = hansa.templates.chain_measured_processes(
        ...     clip=hansa.templates.MeasuredProcess(none, next_clipped),
        ...     sum=hansa.templates.MeasuredProcess(none, next_sum),
        ... )
        >>> both.next(both.initialize(), [0.5, 7.0]).result
        np.float32(1.5)
    """
    _check("chain_measured_processes", processes)
    value, *rest = list(processes)
    kinds = {name: _fields(name, process) for name, process in processes.items()}
    before = value
    for name in rest:
        result = _result(processes[before])
        kinds[name][1][1].check_assignable_from(
            result, what=f"the value of the process {name!r}, which is the result of the process {before!r}"
        )
        before = name
    shared = _shared({name: fields[2:] for name, fields in kinds.items()})
    state = _state(processes)
    parameter = StructType([("state", state), ("value", kinds[value][1][1]), *shared.items()])

    @federated_computation(parameter)
    def next(argument: Any) -> Any:
        outputs, value = {}, argument[1]
        for name, process in processes.items():
            more = [argument[field] for field, _ in kinds[name][2:]]
            outputs[name] = process.next(argument[0][name], value, *more)
            value = outputs[name].result
        return _output(outputs, value)

    return MeasuredProcess(_initialize(processes), next)


def concatenate_measured_processes(**processes: MeasuredProcess) -> MeasuredProcess:
    """One process of several, each for one field of a struct.

    Args:
        **processes: by the name of the field. `next` of each takes the state and a value, all at one placement.

    Returns:
        A process whose value, state and measurements are structs of those of the processes, by name, each one federated
        value; so is the result, where the results are all at one placement, and else a struct of them.

    Raises:
        TypeError: if a process takes more than a state and a value, or the values are at different placements.

    Examples:
        >>> none = hansa.federated_computation(lambda: hansa.federated_value([], hansa.SERVER))
        >>> @hansa.federated_computation("<>@SERVER", "{float32}@CLIENTS")
        ... def next_sum(state, value):
        ...     nothing = hansa.federated_value([], hansa.SERVER)
        ...     return hansa.templates.MeasuredOutput(state, hansa.federated_sum(value), nothing)
        >>> each = hansa.templates.MeasuredProcess(none, next_sum)
        >>> both = hansa.templates.concatenate_measured_processes(a=each, b=each)
        >>> both.next(both.initialize(), [{"a": 1.0, "b": 10.0}, {"a": 2.0, "b": 20.0}]).result
        <a=3.0,b=30.0>
    """
    _check("concatenate_measured_processes", processes)
    members: list[tuple[str | None, Type]] = []
    places: dict[str, Placement] = {}
    all_equal = True
    for name, process in processes.items():
        fields = _fields(name, process)
        kind = fields[1][1]
        if len(fields) != 2:
            raise TypeError(
                f"next of the process {name!r} must take a state and a value only, found "
                f"{process.next.type_signature.parameter}"
            )
        if not isinstance(kind, FederatedType):
            raise TypeError(f"the value of the process {name!r} must be federated, found {kind}")
        members.append((name, kind.member))
        places[name] = kind.placement
        all_equal = all_equal and kind.all_equal
    if len(set(places.values())) > 1:
        shown = ", ".join(f"that of {name!r} is at {place}" for name, place in places.items())
        raise TypeError(f"the values of concatenated processes must be at one placement, but {shown}")
    value_type = FederatedType(StructType(members), next(iter(places.values())), all_equal)

    @federated_computation(_state(processes), value_type)
    def step(state: Any, value: Any) -> Any:
        outputs = {name: process.next(state[name], value[name]) for name, process in processes.items()}
        results = Struct([(name, output.result) for name, output in outputs.items()])
        kinds = [output.result.type_signature for output in outputs.values()]
        together = len({kind.placement if isinstance(kind, FederatedType) else None for kind in kinds}) == 1
        placed = together and isinstance(kinds[0], FederatedType)
        return _output(outputs, federated_zip(results) if placed else results)

    return MeasuredProcess(_initialize(processes), step)


def _check(what: str, processes: dict[str, Any]) -> None:
    if not processes:
        raise TypeError(f"{what} needs at least one process, by name: {what}(clip=…, mean=…)")
    for name, process in processes.items():
        if not isinstance(process, MeasuredProcess):
            raise TypeError(f"{name} must be a MeasuredProcess, found {process!r}")
        at_server(process.state_type, f"the state of the process {name!r}")


def _fields(name: str, process: MeasuredProcess) -> list[tuple[str | None, Type]]:
    """The parameters of `next`: the state, the value, and what else it takes."""
    parameter = process.next.type_signature.parameter
    if not isinstance(parameter, StructType) or len(parameter) < 2:
        raise TypeError(f"next of the process {name!r} must take a state and a value, found {parameter}")
    check_places(parameter, ("state", "value"), f"next of the process {name!r} takes")
    return list(parameter.fields)


def _shared(more: dict[str, list[tuple[str | None, Type]]]) -> dict[str, Type]:
    """The parameters beyond state and value, by name."""
    shared: dict[str, Type] = {}
    owner: dict[str, str] = {}
    for process, fields in more.items():
        for name, kind in fields:
            if name is None or name in ("state", "value"):
                raise TypeError(
                    f"what `next` of the process {process!r} takes beside state and value must have a name of its own, "
                    f"found {name!r}"
                )
            if shared.setdefault(name, kind) != kind:
                raise TypeError(
                    f"the processes {owner[name]!r} and {process!r} both take a parameter {name!r}, which is "
                    f"{shared[name]} for one and {kind} for the other; give them one type, or two names"
                )
            owner.setdefault(name, process)
    return shared


def _result(process: MeasuredProcess) -> Type:
    result = process.next.type_signature.result
    assert isinstance(result, StructType)
    return result["result"]


def _state(processes: dict[str, MeasuredProcess]) -> Type:
    states = []
    for name, process in processes.items():
        assert isinstance(process.state_type, FederatedType)
        states.append((name, process.state_type.member))
    return FederatedType(StructType(states), SERVER)


def _initialize(processes: dict[str, MeasuredProcess]) -> Computation:
    @federated_computation
    def initialize() -> Any:
        return federated_zip({name: process.initialize() for name, process in processes.items()})

    return cast(Computation, initialize)


def _output(outputs: dict[str, Any], result: Any) -> MeasuredOutput:
    state = federated_zip({name: output.state for name, output in outputs.items()})
    measurements = federated_zip({name: output.measurements for name, output in outputs.items()})
    return MeasuredOutput(state, result, measurements)
