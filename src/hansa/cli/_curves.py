"""The curves of a run as a picture: loss on the left, accuracy on the right, each line labelled where it ends."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hansa._figure_style import BLUE, DPI, GREY, INK, QUIET, style
from hansa.cli._history import Round
from hansa.cli._run_folder import replacing

# Labels closer than this, in shares of the panel's height, would overlap.
_LABEL_HEIGHT = 0.09


def draw_curves(rounds: Sequence[Round], title: str, subtitle: str, target: Path) -> None:
    """Draw a run's curves into a PNG.

    Args:
        rounds: at least one round.
        title: what was run, in a few words.
        subtitle: the setting and the result, in a line.
        target: the picture's path, ending in `.png`.
    """
    figure = Figure(figsize=(12, 4.9), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    figure.subplots_adjust(left=0.048, right=0.868, top=0.73, bottom=0.125, wspace=0.5)
    losses, accuracies = figure.subplots(1, 2)
    figure.text(0.024, 0.925, title, fontsize=15, fontweight="bold", color=INK)
    figure.text(0.024, 0.862, subtitle, fontsize=10.5, color=QUIET)
    numbers = [record.round for record in rounds]

    top = max([*(record.loss for record in rounds), *(record.held_out_loss for record in rounds)], key=_finite)
    losses.set_ylim(0, 1.05 * _finite(top) or 1)
    accuracies.set_ylim(0, 1.03)
    for axes, name in ((losses, "Loss"), (accuracies, "Accuracy")):
        _style(axes, name, numbers[-1])
    _lines(losses, numbers, [record.loss for record in rounds], [record.held_out_loss for record in rounds])
    _lines(accuracies, numbers, [record.accuracy for record in rounds], [record.held_out_accuracy for record in rounds])
    with replacing(target) as part:
        figure.savefig(part, dpi=DPI)


def _style(axes: Axes, name: str, last: int) -> None:
    style(axes, name, "Round")
    axes.set_xlim(1, max(last, 2))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))


def _lines(axes: Axes, numbers: list[int], clients: list[float], held_out: list[float]) -> None:
    marker = "o" if len(numbers) == 1 else None
    axes.plot(numbers, clients, color=GREY, linewidth=1.6, marker=marker, markersize=4)
    axes.plot(numbers, held_out, color=BLUE, linewidth=2.4, marker=marker, markersize=5, solid_capstyle="round")
    low, high = axes.get_ylim()
    height = high - low
    at_clients, at_held_out = _finite(clients[-1]), _finite(held_out[-1])
    # Push labels that would overlap apart, each its own way and both back into the panel.
    missing = _LABEL_HEIGHT * height - abs(at_clients - at_held_out)
    if missing > 0:
        above = 1 if at_clients >= at_held_out else -1
        at_clients += above * missing / 2
        at_held_out -= above * missing / 2
    lift = max(0.0, low + 0.02 * height - min(at_clients, at_held_out))
    for name, value, at, color, weight in (
        ("in training", clients[-1], at_clients, GREY, "normal"),
        ("held out", held_out[-1], at_held_out, BLUE, "bold"),
    ):
        axes.annotate(
            f"{value:.3f}  {name}",
            xy=(1, at + lift),
            xycoords=axes.get_yaxis_transform(),
            xytext=(9, 0),
            textcoords="offset points",
            va="center",
            fontsize=10,
            fontweight=weight,
            color=color,
            annotation_clip=False,
        )


def _finite(value: float) -> float:
    """The value, or zero for what cannot be drawn."""
    return value if abs(value) < float("inf") else 0.0
