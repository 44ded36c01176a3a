"""How the pictures of the experiments look: curves over rounds, bars, and tables in colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes

from hansa._figure_style import BLUE, GREY, INK, QUIET, RED, Picture, style

COLOURS = (GREY, RED, BLUE, "#7a5195", "#2f855a", "#b7791f", "#4a5568")


def save(picture: Picture, file: Path) -> None:
    """Writes a picture; as SVG the same one has the same bytes each time."""
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "hansa"}):
        picture.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None)


def panels(count: int, size: tuple[float, float] = (10.5, 3.8), **options: Any) -> tuple[Picture, list[Axes]]:
    """A picture with so many panels side by side, whose scale from bottom to top is the same."""
    picture = Picture(size)
    picture.set_layout_engine("constrained")
    axes = picture.subplots(1, count, sharey=True, squeeze=False, **options)
    return picture, list(axes[0])


def curves(
    axes: Axes, title: str, lines: Mapping[str, Sequence[float]], *, every: int = 1, x_label: str = "round"
) -> None:
    """Curves over rounds, one by name in each colour."""
    for colour, (name, values) in zip(COLOURS, lines.items(), strict=False):
        axes.plot(every * np.arange(1, len(values) + 1), values, color=colour, linewidth=1.6, label=name)
    style(axes, title, x_label)


def bars(
    axes: Axes,
    title: str,
    groups: Sequence[str],
    values: Mapping[str, Sequence[float]],
    *,
    colours: Sequence[str] = COLOURS,
    number: str = ".0%",
    x_label: str = "",
) -> None:
    """Bars side by side in each group, one by name in each colour, with their numbers above them.

    Args:
        axes: the panel.
        title: above it.
        groups: what is written below each group.
        values: a number for each group, by name.
        colours: of the names.
        number: how the numbers are written.
        x_label: what groups are.
    """
    width = 0.84 / len(values)
    for place, (colour, (name, found)) in enumerate(zip(colours, values.items(), strict=False)):
        at = np.arange(len(groups)) + width * (place - (len(values) - 1) / 2)
        drawn = axes.bar(at, found, width=0.92 * width, color=colour, label=name)
        axes.bar_label(drawn, [format(value, number) for value in found], padding=2, fontsize=8.5, color=INK)
    style(axes, title, x_label)
    axes.set_xticks(range(len(groups)), groups)


def percent(axes: Axes) -> None:
    """The scale from bottom to top in percent."""
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")


def legend(axes: Axes, **options: Any) -> None:
    """The names of what a panel shows."""
    axes.legend(frameon=False, fontsize=9, labelcolor=QUIET, **options)


def coloured_table(axes: Axes, title: str, rows: Sequence[str], names: Sequence[str], values: Any) -> None:
    """Accuracies, [rows, names], each in a field that is the bluer the higher it is."""
    found = np.asarray(values, float)
    axes.imshow(found, cmap="Blues", vmin=0, vmax=1.25, aspect="auto")
    for (row, column), value in np.ndenumerate(found):
        axes.text(column, row, f"{value:.0%}", ha="center", va="center", fontsize=9, color=INK)
    style(axes, title, "")
    axes.grid(visible=False)
    axes.spines["bottom"].set_visible(False)
    axes.set_xticks(range(len(names)), names, fontsize=9)
    axes.set_yticks(range(len(rows)), rows, fontsize=9)
