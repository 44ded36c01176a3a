"""Packages whose names are imported when they are used, so that a part of Hansa that needs little starts quickly.

A package says where its names are twice: in imports under `TYPE_CHECKING`, for editors and type checkers, and in the
table that is given to `names_of`, for Python. A test compares the two. What a package has not is answered with what to
write instead, where that is known (`_answers`).
"""

from __future__ import annotations

import importlib
import opcode
import sys
from collections.abc import Callable, Mapping, Sequence
from types import FrameType

from hansa import _answers

_IMPORT_FROM = opcode.opmap["IMPORT_FROM"]


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
            try:
                raise _missing(package, name, public, sys._getframe(1))
            except (AttributeError, ImportError) as error:
                error.__traceback__ = None  # of which the user's line is the first, then
                raise
        setattr(sys.modules[package], name, value)
        return value

    return find, lambda: public, public


def _missing(package: str, name: str, public: Sequence[str], caller: FrameType) -> Exception:
    """The error about a name that a package has not."""
    code, place = caller.f_code.co_code, caller.f_lasti
    if code[place] == _IMPORT_FROM:  # which would make an error of its own of an AttributeError, without its message
        message = f"cannot import name {name!r} from {package!r}{_answers.about_a_name(package, name, public)}"
        return ImportError(message, name=package)
    message = f"module {package!r} has no attribute {name!r}{_answers.about_a_name(package, name, public)}"
    # Without `obj`, from which Python would add a suggestion of its own.
    return AttributeError(message, name=name)
