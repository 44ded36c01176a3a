"""Objects of a protocol, from a list in which plain functions may stand for some."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any


def adapted(
    name: str, values: Any, methods: Sequence[str], from_function: Callable[[Any], Any], expected: str
) -> list[Any]:
    """The objects.

    Args:
        name: the argument's name.
        values: what was passed.
        methods: those of the protocol.
        from_function: makes an object of a function.
        expected: what is expected of a value, with `{}` for the methods.

    Raises:
        TypeError: if it is no list, or a value is neither an object of the protocol nor a function.
    """
    if not isinstance(values, list | tuple):
        raise TypeError(f"{name} must be a list, found {values!r}; write {name}=[…]")
    result = []
    for value in values:
        if isinstance(value, type):
            raise TypeError(f"{name} has the class {value.__name__}; make an object of it: {value.__name__}(…)")
        if all(callable(getattr(value, method, None)) for method in methods):
            result.append(value)
        elif callable(value):
            result.append(from_function(value))
        else:
            listed = f"{', '.join(methods[:-1])} and {methods[-1]}"
            raise TypeError(f"{expected.format(listed)}; found {value!r}")
    return result
