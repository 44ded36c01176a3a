"""Where the examples of a round are read: in this process, or where they are used.

Whoever executes calls knows it, and whoever makes cohorts asks; they do not know each other.
"""

from __future__ import annotations

from collections.abc import Callable

_says: list[Callable[[], bool]] = []


def say(elsewhere: Callable[[], bool]) -> None:
    """Say how to know whether it is elsewhere. Called once, where the current runtime is known."""
    _says[:] = [elsewhere]


def is_elsewhere() -> bool:
    """Whether the runtime that executes calls now has examples read by other processes."""
    return any(says() for says in _says)
