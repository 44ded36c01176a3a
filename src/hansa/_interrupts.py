"""Ctrl-C, counted: so many are borne, the next interrupts, also where Python would not come to it for long.

Python handles a signal when the main thread is back in Python, which may be minutes after it while XLA compiles or
runs a program, and then handles two of them as one. So another thread is told of each as it comes.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any, ClassVar, Self

_STUCK, _LONG = 0.5, 5.0
"""Seconds after which the main thread is not expected back in Python, and after which it should have ended its work."""


class Interrupts:
    """Within `with Interrupts(borne):`, the first so many Ctrl-C are counted, the next raises KeyboardInterrupt.

    Outside the main thread, which alone receives signals, and where the process ignores them, it does nothing.

    Args:
        borne: how many are.

    Attributes:
        count: how many there were.
    """

    give_up: ClassVar[Any] = None
    """A function that ends the process, where it may be ended: it is called, from another thread, if the interruption
    has come to nothing after some seconds, or at one more Ctrl-C."""

    def __init__(self, borne: int) -> None:
        self.count = 0
        self._borne = borne
        self._installed = False
        self._lock = threading.RLock()  # as a handler may interrupt itself
        self._raised, self._left = threading.Event(), threading.Event()

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
            import socket

            self._read, self._write = socket.socketpair()  # not a pipe, for Windows
            self._read.setblocking(False)
            self._write.setblocking(False)
            self._watching = threading.Thread(target=self._watch, name="hansa-interrupts", daemon=True)
            self._watching.start()
            self._outer_fd = signal.set_wakeup_fd(self._write.fileno(), warn_on_full_buffer=False)
            self._outer = signal.signal(signal.SIGINT, self._handle)
            self._installed = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._installed:
            self._installed = False
            signal.signal(signal.SIGINT, self._outer)
            signal.set_wakeup_fd(self._outer_fd, warn_on_full_buffer=False)
            self._left.set()
            self._write.close()

    def interrupt(self, frame: FrameType | None) -> None:
        """What the Ctrl-C does that is not borne.

        Args:
            frame: where the main thread is.
        """
        raise KeyboardInterrupt

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if self._arrived() > self._borne:
            self._raised.set()
            self.interrupt(frame)

    def _arrived(self) -> int:
        """How many Ctrl-C there have been."""
        with self._lock:
            with contextlib.suppress(BlockingIOError, OSError):
                self.count += self._read.recv(256).count(signal.SIGINT)
            return self.count

    def _watch(self) -> None:
        import select

        with self._read:
            while not self._left.is_set():
                select.select([self._read], [], [])
                if self._arrived() > self._borne and self._stays():
                    self.give_up()
                    return

    def _stays(self) -> bool:
        """Whether the process is to be ended, as the main thread does not end what it does."""
        begin = time.monotonic()
        while self.give_up is not None and not self._left.wait(0.05):
            waited = time.monotonic() - begin
            if waited > (_LONG if self._raised.is_set() else _STUCK) or self._arrived() > self._borne + 1:
                return not self._left.is_set()
        return False
