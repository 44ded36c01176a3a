"""Exit codes, and which errors have which."""

from __future__ import annotations

from hansa._errors import UserError

FAILED, MISUSED, INTERRUPTED = 1, 2, 130
"""An error in the run, in what was asked for, and Ctrl-C."""


class Misuse(Exception):
    """A mistake in what was asked for."""


def exit_code(error: Exception) -> int | None:
    """That of an error which a user can cause; None of others."""
    if isinstance(error, Misuse):
        return MISUSED
    return FAILED if isinstance(error, UserError | ImportError | OSError) else None
