"""What is other in a run than it was when it began: each key with what it was, and what it is now."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeAlias

from hansa.program.run_file import RunError

Changes: TypeAlias = Mapping[str, tuple[Any, Any]]
"""By the path to a key, such as `config.learning_rate`: what it was, and what it is; None where it is not there."""


class ChangedRunError(RunError):
    """A run's folder has another run than is asked for.

    Attributes:
        changes: what is other.

    Args:
        message: what is told.
        changes: what is other.
    """

    def __init__(self, message: str, changes: Changes) -> None:
        super().__init__(message)
        self.changes = changes

    def __reduce__(self) -> tuple[type[ChangedRunError], tuple[str, Changes]]:
        return type(self), (str(self), self.changes)


def changes_of(before: Mapping[str, Any], now: Mapping[str, Any], path: str = "") -> dict[str, tuple[Any, Any]]:
    """What is other in values that JSON has; objects within objects are compared key by key."""
    found: dict[str, tuple[Any, Any]] = {}
    for name in [*before, *(name for name in now if name not in before)]:
        where, old, new = f"{path}.{name}" if path else name, before.get(name), now.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found |= changes_of(old, new, where)
        elif old != new:
            found[where] = (old, new)
    return found


def told(changes: Changes) -> list[str]:
    """The changes in lines."""
    return [f"{name} was {_shown(old)}, and is now {_shown(new)}" for name, (old, new) in changes.items()]


def noted(changes: Changes, after_round: int) -> dict[str, Any]:
    """The changes as a run's folder keeps them: after which round they came, and what was and is."""
    return {
        "after_round": after_round,
        "changed": {name: {"was": old, "is": new} for name, (old, new) in changes.items()},
    }


def _shown(value: Any) -> str:
    if value is None:
        return "not set"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
