"""How the pictures that Matplotlib draws look, of the command line and of the library."""

from __future__ import annotations

import io
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from hansa._printing import in_a_picture

INK, QUIET = "#1f2933", "#616e7c"
GREY, BLUE, RED = "#8a94a6", "#0b6e99", "#c2410c"
DPI = 160


class Picture(Figure):
    """A Matplotlib figure that a notebook shows as a cell's last value, whether or not `pyplot` is imported.

    Args:
        size: its width and height in inches.
    """

    def __init__(self, size: tuple[float, float]) -> None:
        super().__init__(figsize=size, dpi=DPI, facecolor="white")
        FigureCanvasAgg(self)

    def _repr_png_(self) -> tuple[bytes, dict[str, Any]]:
        target = io.BytesIO()
        self.savefig(target, format="png")
        # Two points of the picture for one of the page, so that it is sharp.
        width, height = (round(inches * DPI / 2) for inches in self.get_size_inches())
        return target.getvalue(), {"width": width, "height": height}


def style(axes: Axes, title: str, x_label: str) -> None:
    """A panel with its title at the left, horizontal lines behind the data, and no frame."""
    lines = [in_a_picture(line) for line in title.split("\n")]
    axes.set_title("\n".join(lines), loc="left", fontsize=11.5, fontweight="bold", color=INK, pad=10)
    axes.set_xlabel(in_a_picture(x_label), fontsize=10, color=QUIET)
    axes.grid(axis="y", color="#e4e7eb", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=9.5, labelcolor=QUIET, pad=6)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color("#cbd2d9")
