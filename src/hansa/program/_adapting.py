"""What `train` calls: objects of a protocol, functions in their place, and whether they take what they are given."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def adapted(
    name: str,
    values: Any,
    methods: Mapping[str, Sequence[str]],
    arguments: Sequence[str],
    from_function: Callable[[Any], Any],
    expected: str,
) -> list[Any]:
    """The objects.

    Args:
        name: the argument's name.
        values: what was passed.
        methods: those of the protocol, each with what it is called with, in words.
        arguments: what a function is called with.
        from_function: makes an object of a function.
        expected: what is expected of a value, with `{}` for the methods.

    Raises:
        TypeError: if it is no list, a value is neither an object of the protocol nor a function, or one cannot be
            called with what it will be.
    """
    if not isinstance(values, list | tuple):
        raise TypeError(f"{name} must be a list, found {values!r}; write {name}=[…]")
    result = []
    for value in values:
        check_no_class(name, value)
        if all(callable(getattr(value, method, None)) for method in methods):
            for method, given in methods.items():
                check_call(f"{type(value).__name__}.{method}", getattr(value, method), given)
            result.append(value)
        elif callable(value):
            check_call(f"a function in {name}", value, arguments)
            result.append(from_function(value))
        else:
            raise TypeError(f"{expected.format(_listed(list(methods)))}; found {value!r}")
    return result


def check_no_class(name: str, value: Any) -> None:
    """Checks that a value is no class, which its user may have forgotten to call.

    Raises:
        TypeError: if it is one.
    """
    if isinstance(value, type):
        raise TypeError(f"{name} has the class {value.__name__}; make an object of it: {value.__name__}(…)")


def check_call(what: str, function: Any, arguments: Sequence[str]) -> None:
    """Checks that a function takes so many arguments by position, as far as it says what it takes.

    Args:
        what: what it is, in a message.
        function: the function.
        arguments: what it will be called with, in words.

    Raises:
        TypeError: if it does not.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # of some that are not written in Python
        return
    try:
        signature.bind(*arguments)
    except TypeError as error:
        given = f"the arguments ({', '.join(arguments)})" if arguments else "no arguments"
        name = getattr(function, "__name__", type(function).__name__)
        found = "a lambda" if name == "<lambda>" else name
        raise TypeError(
            f"{what} is called with {given}; found {found} with the parameters {signature}: {error}"
        ) from None


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"
