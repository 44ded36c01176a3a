"""How `[algorithm]`, `[aggregator]` and `[distributor]` go with `[training]`: what a builder is given, and what not."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from hansa.cli.config.choices import OF_TABLES, OF_TRAINING, Algorithm, Made, parameters
from hansa.cli.config.schema import RunConfig, TrainingTable

AVERAGING = Algorithm("federated_averaging", {})
"""What trains where a file names no algorithm."""


def algorithm_of(config: RunConfig) -> Algorithm:
    """The algorithm of a run."""
    return AVERAGING if config.algorithm is None else config.algorithm


def told(config: RunConfig) -> list[str]:
    """How a run trains, in lines for people."""
    lines = [f"Algorithm {algorithm_of(config)}"]
    named = (("Rule", config.aggregator), ("Sent by", config.distributor))
    return [*lines, *(f"{name:10}{choice}" for name, choice in named if choice is not None)]


def algorithm_rules(config: RunConfig) -> list[str]:
    """What is wrong with the algorithm and the rule beside the keys of training, a sentence for each thing."""
    tables = _tables(config)
    problems = [problem for name, table in tables.items() for problem in _made(name, table.make)]
    if config.algorithm is None:
        return problems
    name, known = config.algorithm.name, parameters(config.algorithm.function)
    for parameter, key in OF_TRAINING.items():
        said = _said(config.training, parameter)
        if parameter not in known and said:
            problems.append(f"{key}: {name} has no such thing; leave it out")
        elif parameter in known and known[parameter].required and not said:
            problems.append(f"{key} is missing: {name} needs it")
    problems += [f"{each}: {name} takes no {_TAKEN[each]}; leave it out" for each in tables if each not in known]
    return problems or _made("algorithm", lambda: _probed(config))


def takes(config: RunConfig, parameter: str) -> bool:
    """Whether the algorithm of a run takes an argument."""
    return parameter in parameters(algorithm_of(config).function) if config.algorithm else True


def arguments(config: RunConfig, training: Mapping[str, Any], population: int) -> dict[str, Any]:
    """What the builder of a run's algorithm is given besides the model.

    Args:
        config: the run.
        training: what the keys of training say, by the builder's parameters; those are taken that it has.
        population: how many clients there are.
    """
    algorithm = algorithm_of(config)
    known = parameters(algorithm.function)
    result = {name: value for name, value in training.items() if name in known and value is not None}
    if "population" in known:
        result["population"] = population
    result.update(algorithm.arguments)
    result.update({name: table.make() for name, table in _tables(config).items()})
    return result


_TAKEN = {"aggregator": "rule of aggregation", "distributor": "codec for what it sends"}


def _tables(config: RunConfig) -> dict[str, Made]:
    """The tables that are arguments of the builder, by its parameters."""
    found = {name: getattr(config, name) for name in OF_TABLES}
    return {name: table for name, table in found.items() if table is not None}


class _Reached(Exception):
    """The builder has asked for the model."""


def _probed(config: RunConfig) -> None:
    """Calls the builder up to where it asks for the model, which it does when it has looked at its numbers."""
    assert config.algorithm is not None
    if any(not isinstance(part, Algorithm | Made) for part in config.algorithm.parts()):
        return  # a function of the user's, which is run when the model is

    def model_fn() -> Any:
        raise _Reached

    needed = {
        name: getattr(config.training, name)
        for name, parameter in parameters(config.algorithm.function).items()
        if name in ("client_learning_rate", "server_learning_rate") and parameter.required
    }
    with contextlib.suppress(_Reached):
        config.algorithm.function(model_fn, **arguments(config, needed, 1))


def _made(where: str, make: Callable[[], Any]) -> list[str]:
    try:
        make()
    except (TypeError, ValueError) as error:
        return [f"{where}: {error}"]
    return []


def _said(training: TrainingTable, parameter: str) -> bool:
    """Whether a file says what a builder's parameter is, and not what it is by default."""
    name = OF_TRAINING[parameter].removeprefix("training.")
    if name == "seed":  # which is of all draws of a run
        return False
    if name.endswith("_learning_rate"):
        optimizer = getattr(training, name.replace("learning_rate", "optimizer"))
        return getattr(training, name) is not None or getattr(optimizer, "learning_rate", None) is not None
    return bool(getattr(training, name) != getattr(TrainingTable(1), name))
