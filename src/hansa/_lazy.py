"""Packages whose names are imported when they are used, so that a part of Hansa that needs little starts quickly.

A package says where its names are twice: in imports under `TYPE_CHECKING`, for editors and type checkers, and in the
table that is given to `names_of`, for Python. A test compares the two.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence


def names_of(
    package: str, homes: Mapping[str, Sequence[str]], parts: Sequence[str] = ()
) -> tuple[Callable[[str], object], Callable[[], list[str]], list[str]]:
    """A package's `__getattr__`, `__dir__` and `__all__`.

    Args:
        package: its name.
        homes: the modules that have its names, and the names.
        parts: modules of the package that are among its names.
    """
    modules = {name: module for module, names in homes.items() for name in names}
    public = sorted([*modules, *parts])

    def find(name: str) -> object:
        if name in modules:
            value = getattr(importlib.import_module(modules[name]), name)
        elif name in parts:
            value = importlib.import_module(f"{package}.{name}")
        else:
            raise AttributeError(f"module {package!r} has no attribute {name!r}", name=name, obj=sys.modules[package])
        setattr(sys.modules[package], name, value)
        return value

    return find, lambda: public, public
