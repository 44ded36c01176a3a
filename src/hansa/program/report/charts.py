"""Charts as SVG in the page, drawn in its colours: lines over rounds, bars, and a map of labels."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hansa.program.report.elements import Element, element, shown

_WIDTH, _HEIGHT = 400, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 22, 18, 26
_MOST_POINTS = 400
_MOST_BARS = 200
_MOST_COLUMNS = 60
_LARGEST = 1e300
"""Ticks are not farther from zero, and not closer together than its inverse."""


@dataclass(frozen=True)
class Series:
    """A line: its label, and a value for each of some rounds, in order; None and NaN where there is none."""

    label: str
    rounds: Sequence[int]
    values: Sequence[float]
    main: bool


def line_chart(title: str, series: Sequence[Series], unit: str = "") -> Element:
    """Lines over rounds, with the last value of each in the legend.

    Args:
        title: what is measured.
        series: at least one.
        unit: what stands after a value.
    """
    finite = [value for line in series for value in line.values if math.isfinite(value)]
    first = min(line.rounds[0] for line in series)
    last = max(line.rounds[-1] for line in series)
    legend = element("p", class_="legend")
    for line in series:
        text = f" {line.label} " if len(series) > 1 or line.label else " "
        bold = element("b", shown(line.values[-1]) + unit)
        legend.append(element("span", element("i", class_="main" if line.main else "side"), text, bold))
    lost = sum(not math.isfinite(value) for line in series for value in line.values)
    if lost:
        legend.append(
            element("span", f"{lost:,} {'value is' if lost == 1 else 'values are'} not finite", class_="warn")
        )
    figure = element("figure", element("figcaption", element("h3", title), legend))
    if not finite:
        figure.append(element("p", "There is no finite value to draw.", class_="note"))
        return figure
    ticks = _ticks(min(finite), max(finite))
    low, high = min(ticks[0], min(finite)), max(ticks[-1], max(finite))
    span = max(last - first, 1)

    def x(number: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * ((number - first) / span if last > first else 0.5)

    def y(value: float) -> float:
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * ((value - low) / (high - low))

    data, drawn = [], []
    for line in series:
        points = _thinned(line)
        path, alone = _path([(x(number), y(value) if math.isfinite(value) else None) for number, value in points])
        kind = "main" if line.main else "side"
        drawn.append(element("path", d=path, class_=f"line {kind}"))
        drawn += [element("circle", cx=f"{a:.1f}", cy=f"{b:.1f}", r=3, class_=kind) for a, b in alone]
        exact = [[number, f"{value:.6g}" if math.isfinite(value) else shown(value)] for number, value in points]
        data.append({"label": line.label or title, "main": line.main, "points": exact})
    name = f"{title} from round {first} to {last}; lowest {shown(min(finite))}, highest {shown(max(finite))}{unit}"
    chart = _svg(
        name, tabindex=0, class_="rounds", data_series=json.dumps(data, separators=(",", ":")), data_unit=unit,
        data_frame=json.dumps([x(first), x(last), first, last, low, high, _TOP, _HEIGHT - _BOTTOM]),
    )  # fmt: skip
    _draw_ticks(chart, ticks, y)
    numbers = [first] if first == last else round_numbers(first, last, 5, whole=True)
    for number in (int(number) for number in numbers if first <= number <= last):
        _text(chart, f"{number:,}", x(number), _HEIGHT - 9, "middle")
    chart.extend(drawn)
    figure.append(chart)
    return figure


def bar_chart(title: str, note: str, values: Sequence[float], axis: str, labels: Sequence[str] = ()) -> Element:
    """Bars beside each other.

    Args:
        title: what is counted.
        note: the main numbers in words.
        values: none negative; of more than 200, evenly chosen ones are drawn.
        axis: what the bars are, under them.
        labels: of the first and the last bar.
    """
    figure = element("figure", element("figcaption", element("h3", title), element("p", note, class_="legend")))
    kept = [values[index] for index in _even(len(values), _MOST_BARS)]
    ticks = _ticks(0, max(*kept, 1), whole=True)
    chart = _svg(f"{title}: {note}")
    top = float(max(ticks[-1], *kept))

    def y(value: float) -> float:
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * value / top

    _draw_ticks(chart, ticks, y)
    step = (_WIDTH - _LEFT - _RIGHT) / len(kept)
    gap = 0.25 * step if len(kept) <= 60 else 0
    parts = [
        f"M{_LEFT + index * step + gap / 2:.1f} {y(0):.1f}V{y(value):.1f}h{step - gap:.2f}V{y(0):.1f}z"
        for index, value in enumerate(kept)
    ]
    chart.append(element("path", d="".join(parts), class_="bars"))
    _text(chart, axis, (_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 8, "middle")
    for label, place, anchor in zip(labels, (_LEFT, _WIDTH - _RIGHT), ("start", "end"), strict=False):
        _text(chart, label, place, _HEIGHT - 8, anchor)
    figure.append(chart)
    return figure


def histogram(title: str, note: str, values: Sequence[float], axis: str) -> Element:
    """How many clients have which value; those that are not finite are left out."""
    finite = np.array([value for value in values if math.isfinite(value)])
    if not len(finite):
        return element("figure", element("h3", title), element("p", "No client has a finite value.", class_="note"))
    low, high = float(finite.min()), float(finite.max())
    whole = bool((finite == finite.round()).all()) and high - low < 30
    edges: Any = np.arange(low - 0.5, high + 1) if whole else 20
    counts, edges = np.histogram(finite, edges) if high > low or whole else (np.array([len(finite)]), [low, high])
    return bar_chart(title, note, counts.tolist(), axis, (shown(low), shown(high)) if high > low else (shown(low),))


def label_map(counts: Any, labels: Sequence[Any]) -> Element:
    """The share of each label at a client, in a stronger colour where it is larger, with clients beside each other.

    Args:
        counts: [clients, labels].
        labels: their names.
    """
    table = np.asarray(counts, float)
    shares = table / np.maximum(table.sum(1, keepdims=True), 1)
    order = np.lexsort((-shares.max(1), shares.argmax(1)))
    order = order[_even(len(order), _MOST_COLUMNS)]
    note = (
        f"the stronger the colour, the larger the share of a client's examples; {len(order)} of {len(table):,} clients"
    )
    figure = element(
        "figure",
        element("figcaption", element("h3", "Labels of each client"), element("p", note, class_="legend")),
        class_="map",
    )
    chart = _svg("Share of each label at a client")
    width, height = (_WIDTH - _LEFT - _RIGHT) / len(order), (_HEIGHT - _TOP - _BOTTOM) / len(labels)
    for row, label in enumerate(labels):
        at = _HEIGHT - _BOTTOM - (row + 1) * height
        if row % -(-len(labels) // 16) == 0:
            _text(chart, str(label), _LEFT - 6, at + height / 2 + 3.5, "end")
        for column, client in enumerate(order):
            if table[client, row]:
                cell = element(
                    "rect", x=f"{_LEFT + column * width:.1f}", y=f"{at:.1f}", width=f"{0.94 * width:.1f}",
                    height=f"{0.92 * height:.1f}", class_="cell",
                    fill_opacity=f"{0.08 + 0.92 * shares[client, row]:.2f}",
                )  # fmt: skip
                chart.append(cell)
    _text(chart, "clients, by the label that they have most of", (_LEFT + _WIDTH) / 2, _HEIGHT - 8, "middle")
    figure.append(chart)
    return figure


def _svg(name: str, **attributes: Any) -> Element:
    return element("svg", viewBox=f"0 0 {_WIDTH} {_HEIGHT}", role="img", aria_label=name, **attributes)


def _text(chart: Element, text: str, x: float, y: float, anchor: str) -> None:
    chart.append(element("text", text, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor))


def _draw_ticks(chart: Element, ticks: Sequence[float], y: Any) -> None:
    power = _power(ticks)
    for tick in ticks:
        at = f"{y(tick):.1f}"
        chart.append(element("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=at, y2=at, class_="grid"))
        _text(chart, f"{tick / 10.0**power:.6g}", _LEFT - 6, y(tick) + 3.5, "end")
    if power:
        _text(chart, f"× 10{str(power).translate(_RAISED)}", _LEFT, 9, "start")


_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def _power(ticks: Sequence[float]) -> int:
    """That of ten, three or a multiple, by which large or small ticks are divided."""
    largest = max(map(abs, ticks))
    return 0 if not largest or 0.02 <= largest < 1e4 else 3 * math.floor(math.log10(largest) / 3)


def _ticks(low: float, high: float, whole: bool = False) -> list[float]:
    """A few round numbers around a range; from zero where that leaves the curve at least half of the height."""
    low, high = np.clip([low, high], -_LARGEST, _LARGEST).tolist()
    if 0 < low <= 0.5 * high:
        low = 0.0
    if high - low < 1 / _LARGEST:
        low, high = (0.0, 1.0) if abs(low) < 1 / _LARGEST else (low - abs(low) / 2, high + abs(high) / 2)
    return round_numbers(low, high, 4, whole)


def round_numbers(low: float, high: float, most: int, whole: bool) -> list[float]:
    """Multiples of a round number around a range, in at most so many steps."""
    least = math.floor(math.log10((high - low) / most))
    for power in itertools.count(max(least, 0) if whole else least):
        for factor in (1, 2, 2.5, 5):
            step = factor * 10.0**power
            if whole and step % 1:
                continue
            first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
            if last - first <= most:
                return [float(f"{number * step:.10g}") for number in range(first, last + 1)]
    raise AssertionError("some step is long enough")


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


def _even(size: int, most: int) -> Any:
    return np.arange(size) if size <= most else np.linspace(0, size - 1, most).round().astype(int)
