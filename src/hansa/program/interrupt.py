"""Ctrl-C as a request: the first lets the running round finish, the second interrupts at once."""

from __future__ import annotations

from hansa._interrupts import Interrupts

BY_USER = "by Ctrl-C"
"""Why a run is stopped that the user stops."""


class StopRequest(Interrupts):
    """Within `with StopRequest() as stop:`, a Ctrl-C sets `stop.requested`, and the next raises KeyboardInterrupt."""

    def __init__(self) -> None:
        super().__init__(1)

    @property
    def requested(self) -> bool:
        """Whether there was a Ctrl-C."""
        return self.count > 0
