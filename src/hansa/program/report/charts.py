"""Charts as SVG in the page, drawn in its colours: what all of them have, and lines over rounds.

A chart is as wide as it is given room, and always as high: letters and lines stay as large as they are. Places from
left to right are therefore shares of the width, and places from top to bottom are pixels.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hansa.program.report.axes import HEIGHT, Axis, round_axis, value_axis, width_of
from hansa.program.report.elements import Element, element, shown

_MOST_POINTS = 400
_WIDE = 1000
"""Units of the width of a drawing that is stretched to its chart's."""


@dataclass(frozen=True)
class Series:
    """A line: its label, and a value for each of some rounds, in order; None and NaN where there is none."""

    label: str
    rounds: Sequence[int]
    values: Sequence[float]
    main: bool


def line_chart(title: str, series: Sequence[Series], unit: str = "", note: str = "") -> Element:
    """Lines over rounds, with the last value of each in the legend.

    Args:
        title: what is measured.
        series: at least one. Those that are not the main ones are dashed, so that they are told apart without colours.
        unit: what stands after a value.
        note: what else is to be known of it, under the title.
    """
    finite = [value for line in series for value in line.values if math.isfinite(value)]
    first = min(line.rounds[0] for line in series)
    last = max(line.rounds[-1] for line in series)
    lost = sum(not math.isfinite(value) for line in series for value in line.values)
    figure = captioned(title, note, _legend(series, unit))
    if lost:
        figure[0].append(element("p", f"{lost:,} not finite, not drawn", class_="note warn"))
    if not finite:
        figure.append(element("p", "No finite value to draw.", class_="empty"))
        return figure
    across, up = (
        round_axis(first, last),
        value_axis(min(finite), max(finite), all(map(float.is_integer, map(float, finite)))),
    )
    data, lines, alone = [], stretched(), []
    for line in series:
        points = _thinned(line)
        places = [
            (_WIDE * across.share(number), top(up, value) if math.isfinite(value) else None) for number, value in points
        ]
        path, single = _path(places)
        kind = "main" if line.main else "side"
        lines.append(element("path", d=path, class_=f"line {kind}"))
        alone += [element("circle", cx=f"{100 * x / _WIDE:.2f}%", cy=f"{y:.1f}", r=4, class_=kind) for x, y in single]
        exact = [[number, f"{value:.6g}" if math.isfinite(value) else shown(value)] for number, value in points]
        data.append({"label": line.label or title, "main": line.main, "points": exact})
    rounds = f"round {first:,}" if first == last else f"rounds {first:,} to {last:,}"
    chart = svg(
        f"{title}, {rounds}: lowest {shown(min(finite))}{unit}, highest {shown(max(finite))}{unit}",
        tabindex=0, class_="rounds", data_series=json.dumps(data, separators=(",", ":")), data_unit=unit,
        data_frame=json.dumps([across.low, across.high, up.low, up.high, HEIGHT]),
    )  # fmt: skip
    draw_axes(chart, up, [(across.share(tick), f"{int(tick):,}") for tick in across.ticks])
    chart.append(lines)
    chart.extend(alone)
    figure.append(plot(chart, up, [f"{last:,}"]))
    figure.append(element("p", "Round", class_="axis"))
    return figure


def _legend(series: Sequence[Series], unit: str) -> Element:
    legend = element("p", class_="legend")
    for line in series:
        value = element("b", f"{shown(line.values[-1])}{unit}")
        label = f" {line.label} " if line.label else " last "
        legend.append(element("span", element("i", class_="main" if line.main else "side"), label, value))
    return legend


def captioned(title: str, note: str, *more: Element) -> Element:
    """A figure with a title, and under it a note."""
    caption = element("figcaption", element("h3", title))
    if note:
        caption.append(element("p", note, class_="note"))
    caption.extend(more)
    return element("figure", caption)


def svg(name: str, **attributes: Any) -> Element:
    """A chart that says what it shows to who does not see it."""
    return element("svg", element("title", name), width="100%", height=HEIGHT, role="img", **attributes)


def stretched() -> Element:
    """A drawing in a chart that is as wide as it, of `_WIDE` units, in which lines are as thick as anywhere."""
    return element(
        "svg", viewBox=f"0 0 {_WIDE} {HEIGHT}", preserveAspectRatio="none", width="100%", height=HEIGHT,
        class_="stretched", aria_hidden="true",
    )  # fmt: skip


def top(axis: Axis, value: float) -> float:
    """Where a value is in a chart, in pixels from its top."""
    return HEIGHT * (1 - axis.share(value))


def draw_axes(chart: Element, up: Axis, across: Sequence[tuple[float, str]]) -> None:
    """Lines and labels of an axis of values, and labels at shares of the width under the chart."""
    for tick, label in zip(up.ticks, up.labels, strict=True):
        at = f"{top(up, tick):.1f}"
        chart.append(element("line", x1=0, x2="100%", y1=at, y2=at, class_="grid"))
        chart.append(element("text", label, x=-8, y=f"{top(up, tick) + 4:.1f}", text_anchor="end"))
    if up.factor:
        chart.append(element("text", up.factor, x=0, y=-8, text_anchor="start"))
    for share, label in across:
        chart.append(element("text", label, x=f"{100 * share:.2f}%", y=HEIGHT + 18, text_anchor="middle"))


def plot(chart: Element, up: Axis | Sequence[str], across: Sequence[str]) -> Element:
    """A chart with room around it for its labels: those at its left, and the last ones under it."""
    labels = up.labels if isinstance(up, Axis) else up
    left = max([*(width_of(label) + 8 for label in labels), *(width_of(label) / 2 for label in across)])
    right = max([4.0, *(width_of(label) / 2 for label in across)])
    return element("div", chart, class_="plot", style=f"margin-left:{left:.0f}px;margin-right:{right:.0f}px")


def even(size: int, most: int) -> Any:
    """At most so many positions, evenly chosen."""
    return np.arange(size) if size <= most else np.linspace(0, size - 1, most).round().astype(int)


def _thinned(line: Series) -> list[tuple[int, float]]:
    """At most some 400 points, the lowest and highest of each stretch, so that peaks are kept; and the last."""
    points = list(zip(line.rounds, line.values, strict=True))
    if len(points) <= _MOST_POINTS:
        return points
    kept = {0, len(points) - 1}
    for stretch in np.array_split(np.arange(len(points)), _MOST_POINTS // 2):
        values = [line.values[index] for index in stretch]
        finite = [(value, int(index)) for value, index in zip(values, stretch, strict=True) if math.isfinite(value)]
        kept |= {min(finite)[1], max(finite)[1]} if finite else {int(stretch[0])}
    return [points[index] for index in sorted(kept)]


def _path(points: Sequence[tuple[float, float | None]]) -> tuple[str, list[tuple[float, float]]]:
    """Strokes through points that follow each other, and the points that have no neighbour."""
    parts, alone = [], []
    for index, (x, y) in enumerate(points):
        if y is None:
            continue
        after = index + 1 < len(points) and points[index + 1][1] is not None
        before = index > 0 and points[index - 1][1] is not None
        if not before and not after:
            alone.append((x, y))
        parts.append(f"{'L' if before else 'M'}{x:.1f} {y:.1f}")
    return "".join(parts), alone
