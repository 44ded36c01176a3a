"""Errors about one place within a nested value or spec, and short descriptions of values for such errors.

The path to the place is put together on the way out, so that nothing is spent on it where all is well.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from hansa.types.dtypes import tensor_notation
from hansa.types.structs import Struct

_LONGEST = 80


class Mismatch(Exception):
    """What is wrong at one place; raised at the place, extended by each level it passes, and turned into `kind`.

    Args:
        message: What is wrong, and the remedy.
        kind: The exception that the user gets to see.
    """

    def __init__(self, message: str, kind: type[Exception] = TypeError) -> None:
        super().__init__(message)
        self.message = message
        self.kind = kind
        self._steps: list[str] = []

    def within(self, step: str) -> Mismatch:
        """The same, seen from one level further out."""
        self._steps.append(step)
        return self

    def error(self, what: str) -> Exception:
        """The exception for the user, who knows the whole as `what`; empty where it needs no name."""
        path = "".join(reversed(self._steps))
        place = what + path if what else f"at {path}" if path else ""
        return self.kind(f"{place}: {self.message}" if place else self.message)


def describe(value: Any) -> str:
    """A value in a few words: `float64[100,784]`, `the int 300`, `a list of length 2`, `a Keras layer <…>`."""
    if isinstance(value, Struct):
        return f"the struct {_shortened(str(value))}"
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return _describe_array(value)
    name = type(value).__name__
    if value is None or isinstance(value, type):
        return _shortened(repr(value))
    if isinstance(value, bool | int | float | complex | str | bytes):
        return f"the {name} {_shortened(repr(value))}"
    if isinstance(value, Mapping):
        return f"a {name} with the keys {_shortened(', '.join(map(repr, value)))}" if value else f"an empty {name}"
    if isinstance(value, list | tuple):
        return f"a {name} of length {len(value)}"
    if callable(value) and hasattr(value, "type_signature"):
        return f"the computation {getattr(value, 'name', value)!r}"
    if dataclasses.is_dataclass(value):
        return f"a {name}"
    return f"{_shortened(repr(value))} of type {name}"


def describe_uncalled(value: Any) -> str:
    """A value in a few words; of a class or a function, which stands where what it makes should, how to call it."""
    name = getattr(value, "__name__", None)
    if isinstance(value, type):
        return f"the class {name}; make one: {name}(…)"
    if callable(value) and isinstance(name, str):
        return f"the function {name}; call it: {name}()"
    return describe(value)


def _describe_array(value: Any) -> str:
    try:
        notation = tensor_notation(value.dtype, tuple(value.shape))
    except (TypeError, ValueError):  # a shape of unknown rank
        notation = f"{value.dtype} of shape {value.shape}"
    # A scalar's type alone would read as if a type had been passed.
    return f"the {notation} {value}" if isinstance(value, np.generic) else notation


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
