"""How Python's containers are read as structs, whether they hold values or types.

Dicts, named tuples, dataclasses and `Struct`s have names, lists and tuples do not. Arrays are no containers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

from hansa.types.listed import Listed
from hansa.types.mismatch import Mismatch
from hansa.types.structs import Struct


class Members(NamedTuple):
    """The names, None where there is none, and the values of a container."""

    names: tuple[str | None, ...]
    values: tuple[Any, ...]


def members(container: Any) -> Members | None:
    """What the container holds, in its own order; None for anything that is no container.

    Raises:
        Mismatch: for a dict with keys that are not strings.
    """
    if isinstance(container, Struct):
        return Members(container._names, container._values)
    if isinstance(container, dict | Mapping):
        for key in container:
            if not isinstance(key, str):
                raise Mismatch(f"the fields of a struct are named by strings, but a dict has the key {key!r}")
        return Members(tuple(container.keys()), tuple(container.values()))
    if isinstance(container, tuple) and hasattr(container, "_fields"):
        return Members(tuple(container._fields), tuple(container))
    if isinstance(container, list | tuple | Listed):
        return Members((None,) * len(container), tuple(container))
    if dataclasses.is_dataclass(container) and not isinstance(container, type):
        names = tuple(field.name for field in dataclasses.fields(container))
        return Members(names, tuple(getattr(container, name) for name in names))
    return None
