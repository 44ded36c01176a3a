"""Curves over rounds as a picture: a panel per metric, each line labelled where it ends."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hansa._figure_style import BLUE, GREY, INK, QUIET, Picture, style
from hansa._printing import in_a_picture

# Labels closer than this, in shares of the panel's height, would overlap.
_LABEL_HEIGHT = 0.09
# Inches, of a panel with its label, and of the picture's parts above and below.
_WIDTH, _HEIGHT = 6.0, 4.9
# Letters of a title beside another panel's.
_LETTERS = 44
_LARGEST = 1e300
"""Values from here on are not drawn, as Matplotlib's axes would end in infinity."""


@dataclass(frozen=True)
class Line:
    """One curve.

    Attributes:
        label: what stands at its end, after its last value.
        rounds: where it has values.
        values: as many.
        main: whether it is the one to look at first.
    """

    label: str
    rounds: Sequence[int]
    values: Sequence[float]
    main: bool


@dataclass(frozen=True)
class Panel:
    """Curves that share an axis.

    Attributes:
        name: what is measured.
        lines: one or two curves.
        top: the end of the axis; by default a little above the highest value.
    """

    name: str
    lines: Sequence[Line]
    top: float | None = None


def draw(panels: Sequence[Panel], title: str, subtitle: str) -> Figure:
    """A picture of panels beside each other.

    Args:
        panels: at least one, each with at least one value.
        title: what was run, in a few words.
        subtitle: the setting and the result, in a line.
    """
    width = _WIDTH * max(len(panels), 1.3)
    figure = Picture((width, _HEIGHT))
    margin = 0.576 / width
    label = 1.584 / width
    figure.subplots_adjust(left=margin, right=1 - label, top=0.73, bottom=0.125, wspace=0.5)
    figure.text(margin / 2, 0.925, in_a_picture(title), fontsize=15, fontweight="bold", color=INK)
    figure.text(margin / 2, 0.862, in_a_picture(subtitle), fontsize=10.5, color=QUIET)
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        values = [_finite(value) for line in panel.lines for value in line.values]
        low = min(0.0, 1.05 * min(values))
        axes.set_ylim(low, panel.top or 1.05 * max(values) or 1)
        first = min(1, *(line.rounds[0] for line in panel.lines))
        _style(axes, panel.name, first, max(line.rounds[-1] for line in panel.lines))
        _draw_lines(axes, panel.lines)
    return figure


def _style(axes: Axes, name: str, first: int, last: int) -> None:
    style(axes, _wrapped(name), "Round")
    axes.set_xlim(first, max(last, first + 1))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))


def _draw_lines(axes: Axes, lines: Sequence[Line]) -> None:
    for line in lines:
        axes.plot(
            line.rounds,
            [value if abs(value) < _LARGEST else float("nan") for value in line.values],
            color=BLUE if line.main else GREY,
            linewidth=2.4 if line.main else 1.6,
            marker="o" if len(line.rounds) == 1 else None,
            markersize=5 if line.main else 4,
            solid_capstyle="round" if line.main else "projecting",
        )
    low, high = axes.get_ylim()
    places = _apart([_finite(line.values[-1]) for line in lines], low, high - low)
    for line, place in zip(lines, places, strict=True):
        axes.annotate(
            f"{_shown(line)}  {in_a_picture(line.label)}",
            xy=(1, place),
            xycoords=axes.get_yaxis_transform(),
            xytext=(9, 0),
            textcoords="offset points",
            va="center",
            fontsize=10,
            fontweight="bold" if line.main else "normal",
            color=BLUE if line.main else QUIET,
            annotation_clip=False,
        )


def _shown(line: Line) -> str:
    """A line's last value: `0.942`, `1.2e-05`; `12` where all of them are whole."""
    value = float(line.values[-1])
    if all(float(each).is_integer() for each in line.values) and abs(value) < 1e6:
        return f"{value:,.0f}"
    return f"{value:.3f}" if value == 0 or 0.01 <= abs(value) < 1000 else f"{value:.3g}"


def _wrapped(name: str) -> str:
    """A title in two lines at most, as wide as a panel."""
    lines = textwrap.wrap(name, _LETTERS)
    return "\n".join(
        lines if len(lines) < 3 else [lines[0], textwrap.shorten(" ".join(lines[1:]), _LETTERS, placeholder=" …")]
    )


def _apart(places: list[float], low: float, height: float) -> list[float]:
    """Where labels go: those of two lines that would overlap are pushed apart, each its own way, into the panel."""
    if len(places) == 2 and abs(places[0] - places[1]) < _LABEL_HEIGHT * height:
        push = (_LABEL_HEIGHT * height - abs(places[0] - places[1])) / 2
        above = 1 if places[0] >= places[1] else -1
        places = [places[0] + above * push, places[1] - above * push]
    lift = max(0.0, low + 0.02 * height - min(places))
    return [place + lift for place in places]


def _finite(value: float) -> float:
    """The value, or zero for what cannot be drawn: NaN, infinity, and what an axis that goes beyond it would reach."""
    return value if abs(value) < _LARGEST else 0.0
