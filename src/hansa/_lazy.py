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
from types import FrameType, FunctionType, ModuleType

from hansa import _answers
from hansa._tracebacks import boundary, is_boundary

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
            value = _public(importlib.import_module(modules[name]), name)
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


def _public(module: ModuleType, name: str) -> object:
    """A module's function as a boundary of the public interface, which it then is there, too; any other value."""
    value = getattr(module, name)
    if isinstance(value, FunctionType) and not is_boundary(value):
        plain, value = value, boundary(value)
        for alias in [alias for alias, found in vars(module).items() if found is plain]:
            setattr(module, alias, value)
    return value


def _missing(package: str, name: str, public: Sequence[str], caller: FrameType) -> Exception:
    """The error about a name that a package has not."""
    code, place = caller.f_code.co_code, caller.f_lasti
    if code[place] == _IMPORT_FROM:  # which would make an error of its own of an AttributeError, without its message
        message = f"cannot import name {name!r} from {package!r}{_answers.about_a_name(package, name, public)}"
        return ImportError(message, name=package)
    message = f"module {package!r} has no attribute {name!r}{_answers.about_a_name(package, name, public)}"
    # Without `obj`, from which Python would add a suggestion of its own.
    return AttributeError(message, name=name)
