"""The steps that are data: made of names and numbers alone, so that JSON holds them and another process has the same.

`map` and `filter` are not among them: what they call is a function of this process.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from hansa.simulation._column_steps import Choose, FlipLabels, Scale
from hansa.simulation._steps import Filter, GroupByLength, Map, Part, Shuffle, Step, Take, called
from hansa.types import names

_KINDS: Mapping[str, type[Any]] = {
    "features": Choose,
    "scale": Scale,
    "flip_labels": FlipLabels,
    "hold_out": Part,
    "take": Take,
    "shuffle": Shuffle,
    "group_by_length": GroupByLength,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}


class PlanError(ValueError):
    """What a population does with a client's examples cannot be written as data.

    Attributes:
        why: in a few words, such as `map calls 'double'`.

    Args:
        message: what is told.
        why: if it is not the message itself.

    Examples:
        >>> data.map(lambda arrays: {**arrays, "x": arrays["x"] / 255}).batch(20).plan()
        Traceback (most recent call last):
            ...
        hansa.simulation._declared.PlanError: map calls '<lambda>', a function, which stays in the process that made ...
    """

    def __init__(self, message: str, why: str | None = None) -> None:
        super().__init__(message)
        self.why = message if why is None else why


def check_declared(steps: Iterable[Step]) -> None:
    """Checks that steps are data.

    Raises:
        PlanError: if one calls a function; the message names it, and says what to write.
    """
    for step in steps:
        if isinstance(step, Map):
            remedy = "write scale or features in its place, such as scale('x', divide=255), or do this to the"
            raise _calls(f"map calls {called(step.fn)}", remedy)
        if isinstance(step, Filter):
            remedy = "write take in its place if it is the number of examples that matters, or do this to the"
            raise _calls(f"filter calls {called(step.fn)}", remedy)


def _calls(why: str, remedy: str) -> PlanError:
    return PlanError(
        f"{why}, a function, which stays in the process that made it, and a plan goes to others; {remedy} examples "
        "before they are given to ClientData",
        why,
    )


def to_json(step: Step) -> dict[str, Any]:
    """A step as an object of JSON."""
    return {"step": name_of(step), **dataclasses.asdict(step)}  # type: ignore[call-overload]


def name_of(step: Step) -> str:
    """What a step is called in JSON."""
    return _NAMES[type(step)]


def of_json(value: Any) -> Step:
    """The step that `to_json` gave.

    Raises:
        TypeError, ValueError: if it is none.
    """
    if not isinstance(value, Mapping) or not isinstance(value.get("step"), str):
        raise TypeError(f'a step must be an object such as {{"step": "take", "count": 100}}; found {value!r:.100}')
    name = value["step"]
    if name not in _KINDS:
        raise ValueError(f"there is no such step: {names.unknown(name, list(_KINDS))}")
    step: Step = made(_KINDS[name], {key: each for key, each in value.items() if key != "step"}, name)
    return step


def made(kind: type[Any], fields: Mapping[str, Any], name: str) -> Any:
    """An object of a dataclass, of fields that JSON has.

    Raises:
        TypeError, ValueError: if one is missing, unknown, or cannot be.
    """
    known = {field.name: field for field in dataclasses.fields(kind)}
    other = next((key for key in fields if key not in known), None)
    if other is not None:
        raise ValueError(f"{name} has no field of this name: {names.unknown(other, list(known))}")
    missing = [key for key, field in known.items() if key not in fields and _is_needed(field)]
    if missing:
        raise ValueError(f"{name} must say {missing[0]!r}")
    return kind(**fields)


def _is_needed(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
