"""Which parameter of a Python function gets which type, or which field of a struct type.

A named field of a struct type goes to the parameter of that name, wherever either stands; a field without a name goes
to the parameter at its place. Where two fields come to one parameter that way, or none does, the type is refused.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from hansa.types import StructType
from hansa.types import names as _names


def parameter_names(function: Callable[..., Any], name: str) -> tuple[str, ...]:
    """The names of a function's parameters, of which there is a fixed number.

    Keyword-only ones that have a default keep it, and are none of these.

    Raises:
        TypeError: if it has other ones: `*args`, `**kwargs`, keyword-only, with a default.
    """
    wrapped = f"lambda a, b: {name if name.isidentifier() else 'f'}(a, b)"
    try:
        signature = inspect.signature(function)
    except ValueError:
        raise TypeError(f"Python does not know the parameters of {name!r}; wrap it: {wrapped}") from None
    fixed = function.keywords if isinstance(function, partial) else {}
    names = []
    for parameter in signature.parameters.values():
        has_default = parameter.default is not parameter.empty and parameter.name not in fixed
        if parameter.kind is parameter.KEYWORD_ONLY and has_default:
            continue
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise TypeError(
                f"{name!r} takes {parameter}: a computation has a fixed number of typed parameters; name them one by "
                f"one, or wrap it: {wrapped}"
            )
        if parameter.name in fixed:
            raise TypeError(
                f"functools.partial gives {name!r} its {parameter.name!r} as a default, and a computation has none; "
                f"fix it in a lambda instead: lambda a: {name if name.isidentifier() else 'f'}(a, {parameter.name}=…)"
            )
        if parameter.default is not parameter.empty:
            raise TypeError(
                f"the parameter {parameter.name!r} of {name!r} has a default: a computation has none; close over the "
                "value instead, or pass it"
            )
        if parameter.kind is parameter.KEYWORD_ONLY:
            raise TypeError(f"the parameter {parameter.name!r} of {name!r} is keyword-only; make it positional")
        names.append(parameter.name)
    return tuple(names)


def fields_of_parameters(name: str, parameters: Sequence[str], kind: StructType) -> tuple[int, ...]:
    """For each of a function's parameters, the index of the field of a struct type that it gets.

    Args:
        name: the function's, for messages.
        parameters: their names.
        kind: the type.

    Raises:
        TypeError: if a field has no parameter, or a parameter has no field or two.
    """
    if len(kind) != len(parameters) and not any(kind.names):
        raise TypeError(
            f"{name!r} has {len(parameters)} parameters ({', '.join(parameters)}), but the type {kind} has {len(kind)} "
            f"fields; give it one for each, {_OR_WHOLE}"
        )
    found: dict[str, int] = {}
    problems = []
    for i, field in enumerate(kind.names):
        shown = f"the field {field!r}" if field is not None else f"the field [{i}], which has no name,"
        target = field if field is not None else parameters[i] if i < len(parameters) else None
        if target is None or target not in parameters:
            problems.append(f"{shown} has no parameter{_names.suggestion(field, parameters) if field else ''}")
        elif target in found:
            problems.append(f"{shown} goes to the parameter {target!r}, and so does the field [{found[target]}]")
        else:
            found[target] = i
    problems += [f"the parameter {parameter!r} has no field" for parameter in parameters if parameter not in found]
    if problems:
        raise TypeError(
            f"{name!r} has the parameters {', '.join(parameters)}, which are not those of the type {kind}: "
            f"{'; '.join(problems)}. Named fields go to the parameters of their names: rename them, {_OR_WHOLE}"
        )
    return tuple(found[parameter] for parameter in parameters)


def signature_by_fields(function: Callable[..., Any], spread: tuple[int, ...]) -> inspect.Signature:
    """The signature of a function whose parameters stand in the order of a struct's fields, as calls pass them.

    Args:
        function: the function.
        spread: for each of its parameters, the index of the field that it gets.
    """
    signature = inspect.signature(function)
    parameters = list(signature.parameters.values())
    ordered = [
        parameters[spread.index(i)].replace(kind=inspect.Parameter.POSITIONAL_OR_KEYWORD) for i in sorted(spread)
    ]
    return signature.replace(parameters=ordered)


_OR_WHOLE = "or take the whole struct as the one parameter of the function"
