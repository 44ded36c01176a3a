"""The distribution of a metric over clients as a picture: a histogram on the left, cumulative shares on the right."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from hansa._figure_style import BLUE, GREY, INK, QUIET, RED, Picture, style
from hansa._printing import in_a_picture
from hansa._wording import titled
from hansa.learning.distributions import ClientMetric, Distribution, Numbers

_MOST_BINS = 40


def draw_distribution(found: Distribution, values: Numbers, worst: list[ClientMetric], lower_is_better: bool) -> Figure:
    """See `ClientMetrics.plot`.

    Args:
        found: the distribution in numbers.
        values: the clients' values that it is of.
        worst: the clients that are marked.
        lower_is_better: which end they are at.
    """
    name = found.name
    figure = Picture((12, 4.9))
    figure.subplots_adjust(left=0.05, right=0.82, top=0.73, bottom=0.135, wspace=0.16)
    counts, shares = figure.subplots(1, 2)
    figure.text(0.024, 0.925, f"{in_a_picture(titled(name))} of each client", fontsize=15, fontweight="bold", color=INK)
    figure.text(0.024, 0.862, _subtitle(found, len(values)), fontsize=10.5, color=QUIET)

    low, high = float(values.min()), float(values.max())
    margin = 0.04 * (high - low) or 0.05 * abs(high) or 0.05
    for axes, title in ((counts, "Clients"), (shares, "Share of clients with at most this")):
        style(axes, title, titled(name))
        axes.set_xlim(low - margin, high + margin)
    _histogram(
        counts,
        values,
        (low, high) if low < high else (low - margin, high + margin),
        [one.value for one in worst],
        found,
    )
    _cumulative(shares, values, worst, lower_is_better)
    return figure


def _subtitle(found: Distribution, used: int) -> str:
    left_out = found.num_clients - used
    return (
        f"{used} client{'s' * (used != 1)}{f', {left_out} left out' if left_out else ''}   ·   mean {found.mean:.3f}, "
        f"by examples {found.weighted_mean:.3f}   ·   standard deviation {found.standard_deviation:.3f}"
        + ("" if found.lower_is_better is None else f"   ·   worst tenth {found.worst_tenth:.3f}")
    )


def _histogram(
    axes: Axes, values: Numbers, limits: tuple[float, float], worst: list[float], found: Distribution
) -> None:
    bins = min(max(5, int(np.sqrt(len(values)) * 1.5)), _MOST_BINS)
    edges = np.histogram_bin_edges(values, bins, limits)
    axes.hist(values, edges.tolist(), color=GREY, rwidth=0.92)
    if worst:
        axes.hist(worst, edges.tolist(), color=RED, rwidth=0.92)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
    axes.set_ylim(0, 1.14 * axes.get_ylim()[1])
    axes.axvline(found.weighted_mean, color=BLUE, linewidth=2)
    on_the_left = found.weighted_mean > np.mean(axes.get_xlim())
    axes.annotate(
        f"{found.weighted_mean:.3f} by examples",
        xy=(found.weighted_mean, 1),
        xycoords=axes.get_xaxis_transform(),
        xytext=(-6 if on_the_left else 6, -4),
        textcoords="offset points",
        ha="right" if on_the_left else "left",
        va="top",
        fontsize=9.5,
        fontweight="bold",
        color=BLUE,
    )


def _cumulative(axes: Axes, values: Numbers, worst: list[ClientMetric], lower_is_better: bool) -> None:
    ordered = np.sort(values)
    axes.step(
        np.concatenate([ordered[:1], ordered]), np.arange(len(ordered) + 1) / len(ordered), where="post",
        color=BLUE, linewidth=2.4, solid_capstyle="round",
    )  # fmt: skip
    axes.set_ylim(0, 1.03)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    places = [(rank + 1) / len(values) for rank in range(len(worst))]
    heights = [1 - place + 1 / len(values) for place in places] if lower_is_better else places
    axes.plot([one.value for one in worst], heights, "o", color=RED, markersize=5, clip_on=False, zorder=3)
    lines = [f"{_short(one.client_id)}   {one.value:.3f}, {one.num_examples} ex." for one in worst]
    if lines:
        axes.text(1.03, 1.0, "Worst clients", transform=axes.transAxes, fontsize=10, fontweight="bold", color=RED,
                  va="top")  # fmt: skip
        axes.text(1.03, 0.93, "\n".join(lines), transform=axes.transAxes, fontsize=9.5, color=QUIET, va="top",
                  linespacing=1.7)  # fmt: skip


def _short(client_id: object) -> str:
    text = str(client_id)
    return in_a_picture(text if len(text) <= 14 else f"{text[:13]}…")
