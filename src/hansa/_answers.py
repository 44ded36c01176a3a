"""What to say of a name that is asked for and not there: what is written in its place, or which name is close to it."""

from __future__ import annotations

import difflib
import functools
import importlib
import importlib.util
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

_PUBLIC = ("hansa", "hansa.learning", "hansa.program", "hansa.simulation", "hansa.templates", "hansa.types")
_LONGEST = 60
"""Characters of a name that is looked for; what is longer is none."""


def about_a_name(package: str, name: str, public: Sequence[str]) -> str:
    """The end of a message about a name that a package has not.

    Args:
        package: such as `hansa.learning`.
        name: what is asked for.
        public: the names that the package has.

    Returns:
        A text that begins with a colon or semicolon, or nothing where there is nothing to say.
    """
    if name.startswith("_") or len(name) > _LONGEST:
        return ""
    elsewhere = _places().get(name)
    if elsewhere is not None:
        return f": it is {elsewhere}"
    known = _instead().get(_bare(name))
    if known is not None:
        return f": {known}"
    close = _close(name, public)
    if close is not None:
        return f"; did you mean {package}.{close}?"
    close = _close(name, _places())
    return "" if close is None else f"; did you mean {_places()[close]}?"


class Answering:
    """A base of classes whose objects answer to the names that other frameworks have."""

    __slots__ = ()

    if not TYPE_CHECKING:  # for which any name would be one

        def __getattr__(self, name: str) -> Any:
            kind = type(self)
            if hasattr(kind, name):  # of a property that raises an AttributeError of its own
                return object.__getattribute__(self, name)
            try:
                raise AttributeError(_about_a_member(kind, name), name=name)
            except AttributeError as error:
                error.__traceback__ = None  # of which the user's line is the first, then
                raise


def written_for(kind: type, name: str) -> str:
    """What is written in place of an attribute that objects of a class do not have; empty where that is not known."""
    from hansa import _elsewhere

    for base in kind.__mro__:
        write = _elsewhere.MEMBERS.get(base.__name__, {}).get(name)
        if write is not None:
            return f"write {write}"
    return ""


def _about_a_member(kind: type, name: str) -> str:
    """The message about an attribute that an object has not.

    Args:
        kind: the object's class.
        name: what is asked for.
    """
    message = f"{kind.__name__!r} object has no attribute {name!r}"
    if name.startswith("_") or len(name) > _LONGEST:
        return message
    write = written_for(kind, name)
    if write:
        return f"{message}: {write}"
    close = _close(name, [own for own in dir(kind) if not own.startswith("_")])
    return message if close is None else f"{message}; did you mean {close!r}?"


@functools.cache
def _places() -> dict[str, str]:
    """Where each public name is, of those that are in the first package that has it."""
    places: dict[str, str] = {}
    for package in _PUBLIC:
        if importlib.util.find_spec(package) is None:  # where a device is installed and no more
            continue
        for name in importlib.import_module(package).__all__:
            places.setdefault(name, f"{package}.{name}")
    return places


@functools.cache
def _instead() -> dict[str, str]:
    """What is said of the names of other frameworks, which are without case and underscores."""
    from hansa import _elsewhere

    said = {}
    for row in _elsewhere.ROWS:
        verb = "write " if row.write.startswith("hansa.") else ""
        for name in row.names.split():
            said[_bare(name)] = f"{verb}{row.write} (documentation: docs/{row.page})"
    return said


def _bare(name: str) -> str:
    return name.replace("_", "").lower()


def _close(name: str, known: Iterable[str]) -> str | None:
    """The one of the known names that is closest, if one is close. Case makes no difference."""
    by_case = {other.lower(): other for other in known}
    nearest = difflib.get_close_matches(name.lower(), by_case, n=1, cutoff=0.75)
    return by_case[nearest[0]] if nearest else None
