"""Charts of numbers that are not of rounds: bars, how many have which value, and a map of labels; each with a table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from hansa.program.report.axes import HEIGHT, cut, ticks_across, value_axis
from hansa.program.report.charts import captioned, draw_axes, even, plot, stretched, svg, top
from hansa.program.report.elements import Element, element, folded, shown

_MOST_BARS = 200
_MOST_COLUMNS = 60
_MOST_NAMED = 16
_LONGEST_NAME = 110
"""Pixels of a label's name at the left of the map."""
_BINS = 20


def bar_chart(
    title: str, note: str, values: Sequence[float], axis: str, names: Sequence[str], columns: tuple[str, str]
) -> Element:
    """Bars beside each other.

    Args:
        title: what is counted.
        note: the main numbers in words.
        values: none negative; of more than 200, evenly chosen ones are drawn.
        axis: what the bars are, under them.
        names: of each bar, in the table.
        columns: the names of the table's columns: of what bars are, and of their values.
    """
    kept = even(len(values), _MOST_BARS)
    rows = [[names[index], values[index]] for index in kept]
    return _bars(title, note, [row[1] for row in rows], axis, (), rows, columns)


def histogram(title: str, note: str, values: Sequence[float], axis: str) -> Element:
    """How many clients have which value; those that are not finite are left out."""
    finite = np.array([value for value in values if math.isfinite(value)])
    if not len(finite):
        figure = captioned(title, "")
        figure.append(element("p", "No client has a finite value.", class_="empty"))
        return figure
    low, high = float(finite.min()), float(finite.max())
    whole = bool((finite == finite.round()).all()) and high - low < 30
    if whole:
        edges: Any = np.arange(low - 0.5, high + 1)
    elif high > low:
        edges = np.linspace(low, high, _BINS + 1)
    else:
        edges = np.array([low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2])
    counts, _ = np.histogram(finite, edges)
    start, end = float(edges[0]), float(edges[-1])
    ticks = ticks_across(low, high, whole, shown) if high > low else [low]
    marks = [((tick - start) / (end - start), shown(tick)) for tick in ticks]
    rows = [
        [shown((a + b) / 2) if whole or high == low else f"{shown(a)} to {shown(b)}", int(count)]
        for a, b, count in zip(edges[:-1].tolist(), edges[1:].tolist(), counts, strict=True)
    ]
    return _bars(title, note, counts.tolist(), axis, marks, rows, (axis, "Clients"))


def _bars(
    title: str, note: str, values: Sequence[float], axis: str, marks: Sequence[tuple[float, str]],
    rows: Sequence[Sequence[Any]], columns: Sequence[str],
) -> Element:  # fmt: skip
    figure = captioned(title, note)
    up = value_axis(0, max(*values, 1), whole=True)
    chart = svg(f"{title}: {note}")
    draw_axes(chart, up, marks)
    step = 1000 / len(values)
    gap = 0.25 * step if len(values) <= 60 else 0
    parts = [
        f"M{index * step + gap / 2:.1f} {HEIGHT}V{top(up, value):.1f}h{step - gap:.2f}V{HEIGHT}z"
        for index, value in enumerate(values)
    ]
    bars = stretched()
    bars.append(element("path", d="".join(parts), class_="bars"))
    chart.append(bars)
    figure.append(plot(chart, up, [label for _, label in marks]))
    figure.append(element("p", axis, class_="axis"))
    figure.append(folded("Values", columns, rows))
    return figure


def label_map(counts: Any, labels: Sequence[Any], names: Sequence[str]) -> Element:
    """The share of each label at a client, in a stronger colour where it is larger, with clients beside each other.

    Args:
        counts: [clients, labels].
        labels: their names.
        names: of the clients, or none.
    """
    table = np.asarray(counts, float)
    shares = table / np.maximum(table.sum(1, keepdims=True), 1)
    order = np.lexsort((-shares.max(1), shares.argmax(1)))
    order = order[even(len(order), _MOST_COLUMNS)]
    legend = element("p", class_="legend")
    for share in (0.1, 0.5, 1.0):
        swatch = element("i", class_="swatch", style=f"opacity:{_opacity(share):.2f}")
        legend.append(element("span", swatch, f" {100 * share:.0f} %"))
    some = "" if len(order) == len(table) else f"{len(order)} of {len(table):,} clients. "
    figure = captioned("Labels of each client", f"{some}Share of a client's examples.", legend)
    chart = svg("Share of each label at a client")
    width, height = 1000 / len(order), HEIGHT / len(labels)
    cells, written = stretched(), []
    for row, label in enumerate(labels):
        at = HEIGHT - (row + 1) * height
        if row % -(-len(labels) // _MOST_NAMED) == 0:
            written.append(cut(str(label), _LONGEST_NAME))
            chart.append(element("text", written[-1], x=-8, y=f"{at + height / 2 + 4:.1f}", text_anchor="end"))
        for column, client in enumerate(order):
            if table[client, row]:
                cells.append(
                    element(
                        "rect",
                        x=f"{column * width:.1f}",
                        y=f"{at:.1f}",
                        width=f"{0.94 * width:.1f}",
                        height=f"{0.92 * height:.1f}",
                        class_="cell",
                        fill_opacity=f"{_opacity(shares[client, row]):.2f}",
                    )
                )
    chart.append(cells)
    figure.append(plot(chart, written, []))
    figure.append(element("p", "Clients, by the label that they have most of", class_="axis"))
    rows = [[names[i] if names else str(i), *(int(count) for count in table[i])] for i in order]
    figure.append(folded("Values", ["Client", *map(str, labels)], rows))
    return figure


def _opacity(share: float) -> float:
    return 0.08 + 0.92 * share
