"""Axes of charts: the part of the numbers that is drawn, round numbers in it, and how wide their labels are."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

HEIGHT = 176
"""Pixels of what is drawn in a chart, between its axes, at any width of the page."""
TEXT = 12
"""Pixels of the letters in charts, which `page.css` says, too."""
NARROWEST = 170
"""Pixels of what is drawn between the axes, at least, on the narrowest page: 320 pixels."""

LARGEST = 1e300
"""Values are drawn as if they were no farther from zero, nor closer to each other than its inverse."""
_EMPTY = 1 / 3
"""Of a chart's height may be left empty so that its axis begins at zero."""


@dataclass(frozen=True)
class Axis:
    """An axis from `low` to `high`, with round numbers at `ticks`, all of them inside."""

    low: float
    high: float
    ticks: Sequence[float]

    def share(self, value: float) -> float:
        """Where a value is, from 0 to 1."""
        return float((np.clip(value, -LARGEST, LARGEST) - self.low) / (self.high - self.low))

    @property
    def power(self) -> int:
        """That of ten, three or a multiple, by which large or small ticks are divided."""
        largest = max(map(abs, self.ticks))
        return 0 if not largest or 0.02 <= largest < 1e4 else 3 * math.floor(math.log10(largest) / 3)

    @property
    def labels(self) -> list[str]:
        """What stands at the ticks, without their power of ten."""
        return [f"{tick / 10.0**self.power:,.6g}".replace("-", "−") for tick in self.ticks]

    @property
    def factor(self) -> str:
        """What the labels are multiplied by: `× 10³`, or nothing."""
        return f"× 10{str(self.power).translate(_RAISED)}" if self.power else ""


_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def value_axis(low: float, high: float, whole: bool = False) -> Axis:
    """That of values in a range: a little more than it; from zero where that leaves little of the height empty."""
    low, high = np.clip([low, high], -LARGEST, LARGEST).tolist()
    if 0 < low <= _EMPTY * high:
        low = 0.0
    if high - low < 1 / LARGEST:
        low, high = (0.0, 1.0) if abs(low) < 1 / LARGEST else (low - abs(low) / 2, high + abs(high) / 2)
    margin = 0.05 * (high - low)
    ticks = round_numbers(low, high, 6, whole)
    start = low if low == 0 else 0.0 if low > 0 and low - margin < 0 else low - margin
    end = high + margin
    inside = [tick for tick in ticks if start <= tick <= end]
    return Axis(start, end, inside or [start])


def round_axis(first: int, last: int) -> Axis:
    """That of rounds, all of them, with as many ticks as there is room for."""
    if first == last:
        return Axis(first - 1, first + 1, [first])
    ticks = ticks_across(first, last, True, lambda tick: f"{int(tick):,}")
    if len(ticks) > 2 and ticks[0] - first > 0.8 * (ticks[1] - ticks[0]):
        ticks = [float(first), *ticks]
    return Axis(first, last, ticks)


def ticks_across(low: float, high: float, whole: bool, label: Callable[[float], str]) -> list[float]:
    """Round numbers in a range whose labels have room under the narrowest chart; its ends, if there are not two."""
    for most in range(6, 0, -1):
        inside = [tick for tick in round_numbers(low, high, most, whole) if low <= tick <= high]
        room = sum(width_of(label(tick)) + 12 for tick in inside) * (high - low)
        if len(inside) >= 2 and room <= NARROWEST * (inside[-1] - inside[0] + (high - low) / 6):
            return inside
    return [low, high]


def round_numbers(low: float, high: float, most: int, whole: bool) -> list[float]:
    """Multiples of a round number around a range, in at most so many steps."""
    least = math.floor(math.log10((high - low) / most))
    for power in itertools.count(max(least, 0) if whole else least):
        for factor in (1, 2, 2.5, 5):
            step = factor * 10.0**power
            if whole and step % 1:
                continue
            first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
            last = max(last, first + 1)  # of a range that is hardly one
            if last - first <= most:
                return [float(f"{number * step:.10g}") for number in range(first, last + 1)]
    raise AssertionError("some step is long enough")


def width_of(text: str, size: float = TEXT) -> float:
    """Pixels of a text, at most, in the usual fonts without serifs, of which the widest is DejaVu Sans."""
    return sum(_width(letter) for letter in text) * size


def cut(text: str, most: float) -> str:
    """A text that is at most so many pixels wide; its end is `…` where it is longer."""
    if width_of(text) <= most:
        return text
    kept = list(itertools.takewhile(lambda n: width_of(text[:n] + "…") <= most, range(1, len(text))))
    return text[: kept[-1] if kept else 0] + "…"


def _width(letter: str) -> float:
    if letter in "ijl.,:;|'!I ":
        return 0.41
    if letter.isdigit() and letter.isascii():
        return 0.65
    if letter in "mwMW%@…—":
        return 1.01
    if not letter.isascii():
        return 1.05
    return 0.67 if letter.islower() else 0.85
