"""How fast a run goes: what is left of it, and when something is to be said about it."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable

_ROUNDS = 64
_SHORTEST, _LONGEST = 1.0, 10.0
"""Seconds between two lines in the first ten seconds, and after two minutes."""
_FEW, _MANY = 10.0, 60.0


class Pace:
    """When rounds were finished, in this process.

    Args:
        done: how many rounds were before.
        rounds: how many there are to be.
        clock: the time in seconds.
    """

    def __init__(self, done: int, rounds: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rounds, self._clock = rounds, clock
        self._begin = self._said = self._last = clock()
        self._ends: deque[float] = deque(maxlen=_ROUNDS)
        self.number = done + 1
        """Of the round that runs."""
        self.first = True
        """Whether none is finished, as it is compiled."""

    def add(self, number: int) -> None:
        """A round is finished; 0 for the evaluation before the first."""
        self._last = self._clock()
        self.number = number + 1
        if number:
            self.first = False
            self._ends.append(self._last)

    @property
    def running(self) -> float:
        """For how many seconds the running round has been."""
        return self._clock() - self._last

    @property
    def left(self) -> float | None:
        """The seconds until the last round is finished; None where that cannot be known yet.

        The first round says nothing of the others, as it is compiled; nor does the longest of the others, which may
        have been the first with an evaluation.
        """
        each = sorted(after - before for before, after in itertools.pairwise(self._ends))
        if not each:
            return None
        usual = each[:-1] if len(each) > 2 else each
        expected = (self._rounds - self.number + 1) * sum(usual) / len(usual)
        return max(expected - (self._clock() - self._ends[-1]), 0.0)

    def is_due(self, often: bool = False) -> bool:
        """Whether to say something: after a second at first, then as the run lasts longer, more rarely.

        Args:
            often: half the time will do.
        """
        now = self._clock()
        lasted = now - self._begin
        wait = max(min(max(lasted / _FEW, _SHORTEST), _LONGEST), lasted / _MANY)
        return now - self._said >= (wait / 2 if often else wait)

    def said(self) -> None:
        """Something has been said."""
        self._said = self._clock()

    @property
    def silent(self) -> float:
        """For how many seconds nothing has been said."""
        return self._clock() - self._said


def about(seconds: float) -> str:
    """`8 s`, `45 s`, `3 min`, `2 h 10 min`, `3 days 4 h`: as exact as an estimate is."""
    if seconds < 57.5:
        return f"{round(seconds) if seconds < 20 else 5 * round(seconds / 5)} s"
    minutes = max(round(seconds / 60), 1)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 60 * 24:
        return f"{minutes // 60} h {minutes % 60} min"
    hours = round(minutes / 60)
    return f"{hours // 24} days {hours % 24} h" if hours >= 48 else f"1 day {hours - 24} h"
