"""How the names of struct fields are written: in the notation, in paths to a field, in errors about a name.

Any string can be a name (`dense/kernel`, `a b`, even the empty one); what a name means is not decided here.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Sequence

AMBIGUOUS = '<>,=*@{}()[]"'
"""The characters with a meaning of their own in the notation."""

_LISTED = 12


def quote(name: str) -> str:
    """The name as the notation writes it: plain where that is unambiguous, else as a JSON string."""
    if name and name.isprintable() and not any(character in " " + AMBIGUOUS for character in name):
        return name
    return json.dumps(name, ensure_ascii=not name.isprintable())


def step(name: str | None, index: int) -> str:
    """The step of a path that leads to a field: `.x`, `['dense/kernel']`, or `[2]` where it has no name."""
    if name is None:
        return f"[{index}]"
    return f".{name}" if name.isidentifier() else f"[{name!r}]"


def check(names: Iterable[object]) -> None:
    """Raises a `TypeError` unless all are strings or None, and a `ValueError` if a name occurs twice."""
    seen: set[str] = set()
    for name in names:
        if name is None:
            continue
        if not isinstance(name, str):
            raise TypeError(f"the name of a field is a string, or None where it has none; found {name!r}")
        if name in seen:
            raise ValueError(f"two fields have the name {name!r}; the names of a struct differ from each other")
        seen.add(name)


def suggestion(name: str, known: Iterable[str | None]) -> str:
    """`; did you mean 'loss'?` where one of the known names is close to this one, else nothing."""
    nearest = difflib.get_close_matches(name, [other for other in known if other is not None], n=1)
    return f"; did you mean {nearest[0]!r}?" if nearest else ""


def listing(names: Sequence[str | None]) -> str:
    """The names of a struct in one line, `[2]` standing for a field without one, shortened where there are many."""
    if not names:
        return "none"
    shown = [f"[{index}]" if name is None else quote(name) for index, name in enumerate(names[:_LISTED])]
    return ", ".join(shown) + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")


def unknown(name: str, known: Sequence[str | None]) -> str:
    """The message about a field that is asked for and not there."""
    hint = suggestion(name, known)
    return f"there is no field {name!r}{hint or ';'} the fields are: {listing(known)}"
