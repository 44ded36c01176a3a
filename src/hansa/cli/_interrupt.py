"""Ctrl-C in a command: a line that says so and exit code 130, whatever the process is doing."""

from __future__ import annotations

import contextlib
import os
import sys
from types import FrameType
from typing import NoReturn

from hansa._interrupts import Interrupts
from hansa.cli._errors import INTERRUPTED

_IMPORTS = "<frozen importlib._bootstrap>"


class Ending(Interrupts):
    """Within `with Ending(command):`, Ctrl-C raises KeyboardInterrupt, or ends the process where that would not do.

    An import is such a place: what a package does with an exception of its own imports is not known.

    Args:
        command: what ends, such as `hansa train`.
    """

    command: str = "hansa"

    def __init__(self, command: str) -> None:
        super().__init__(0)
        Ending.command = command

    def interrupt(self, frame: FrameType | None) -> None:
        """Raise, or end the process."""
        while frame is not None:
            if frame.f_code.co_filename == _IMPORTS:
                end()
            frame = frame.f_back
        raise KeyboardInterrupt


def end() -> NoReturn:
    """End the process at once, from whatever thread."""
    with contextlib.suppress(OSError, ValueError):
        if sys.stdout.isatty():
            os.write(sys.stdout.fileno(), b"\x1b[?25h\n")  # A table that is kept up to date hides the cursor.
    with contextlib.suppress(OSError, ValueError):
        os.write(sys.stderr.fileno(), f"{Ending.command}: interrupted\n".encode())
    os._exit(INTERRUPTED)


def _unraisable(error: sys.UnraisableHookArgs) -> None:
    if error.exc_type is KeyboardInterrupt:  # raised in a finaliser, say, and lost
        end()
    sys.__unraisablehook__(error)


def install() -> None:
    """End the process at Ctrl-C from now on, and, within `Ending`, where the interruption comes to nothing."""
    import signal

    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, lambda signum, frame: end())
        Interrupts.give_up = staticmethod(end)
        sys.unraisablehook = _unraisable
