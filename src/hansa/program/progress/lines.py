"""Lines about a run, for files, pipes and logs: by time, so that a fast run is short and a slow one not mute."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable
from typing import TextIO

from hansa._printing import in_a_line
from hansa.program.progress.cells import STOPPING, cell, main_metrics
from hansa.program.progress.pace import Pace, about
from hansa.program.records import Record, is_of_evaluation

_TICK = 0.25
"""Seconds, after which Ctrl-C is acknowledged, too."""
_PATIENCE = 10.0
"""Seconds of silence after which the running round is mentioned; then twice as many, and so on."""

log = logging.getLogger("hansa.program")


class LineProgress:
    """Writes a line at the beginning, for the first and last round, and for others as time passes.

    Args:
        write: what is done with a line.
        closing: whether the end has a line, too.
        patience: seconds after which a round that is not finished has a line.
    """

    def __init__(self, write: Callable[[str], object], closing: bool = True, patience: float = _PATIENCE) -> None:
        self._write, self._closing, self._patience = write, closing, patience
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._evaluated = False
        self._untold = ""

    def begin(self, done: int, rounds: int, stopping: Callable[[], bool]) -> None:
        """Say how far the run is."""
        self._rounds, self._stopping, self._pace = rounds, stopping, Pace(done, rounds)
        if done < rounds:
            self._say(f"The run goes on after round {done}." if done else f"Compiling round 1 of {rounds} ...")
            threading.Thread(target=self._watch, name="hansa-progress", daemon=True).start()

    def add(self, record: Record, seconds: float) -> None:
        """Say something about a round, if it is time to."""
        number = int(record["round"])
        evaluated = any(map(is_of_evaluation, record))
        with self._lock:
            first = self._pace.first
            self._pace.add(number)
            rare, self._evaluated = evaluated and not self._evaluated, evaluated
            self._untold = self._told(record, number, seconds)
            if first or number == self._rounds or self._pace.is_due(often=rare):
                self._say(self._untold)
                self._untold = ""

    def end(self, message: str) -> None:
        """Say what came of it."""
        self._ended.set()
        if message:
            with self._lock:
                for line in (self._untold, in_a_line(message) if self._closing else ""):
                    if line:
                        self._say(line)

    def _told(self, record: Record, number: int, seconds: float) -> str:
        values = [f"{in_a_line(name)} {cell(record[name])}" for name in main_metrics(record)]
        left = self._pace.left
        more = [] if left is None or number == self._rounds else [f"about {about(left)} left"]
        width = len(str(self._rounds))
        return "  ".join([f"round {number:>{width}} of {self._rounds}", *values, f"{seconds:.3f} s", *more])

    def _say(self, line: str) -> None:
        self._pace.said()
        self._write(line)

    def _watch(self) -> None:
        """Mention a round that takes long, and that Ctrl-C has been heard."""
        acknowledged, number, patience = False, 0, self._patience
        while not self._ended.wait(min(_TICK, self._patience / 2)):
            with self._lock:
                pace = self._pace
                if pace.number != number:
                    number, patience = pace.number, self._patience
                if self._stopping() and not acknowledged and pace.number <= self._rounds:
                    acknowledged = True
                    self._say(STOPPING)
                elif pace.silent >= patience and pace.number <= self._rounds and not self._ended.is_set():
                    patience *= 2
                    doing = "compiling and running" if pace.first else "running"
                    self._say(f"round {pace.number} of {self._rounds}: {doing}, {about(pace.running)} so far")


def to_log() -> LineProgress:
    """Lines in the log `hansa.program`, at level INFO."""
    return LineProgress(lambda line: log.info("%s", line))


def to_file(file: TextIO | None, closing: bool = True) -> LineProgress:
    """Lines in a text file, such as the standard error; None, as of a process without one, is nowhere."""
    return LineProgress(lambda line: file is not None and print(line, file=file, flush=True), closing)


def to_standard_error() -> LineProgress:
    """Lines on what is the standard error now."""
    return to_file(sys.stderr)


def is_logged() -> bool:
    """Whether the user has said what becomes of the log: it is shown somewhere, or has a level of its own."""
    if any(logging.getLogger(name).level != logging.NOTSET for name in ("hansa", log.name)):
        return True
    return log.isEnabledFor(logging.INFO) and log.hasHandlers()
