"""A picture of a population: which client has how many examples of which label, and how many in all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hansa._extras import require
from hansa._printing import in_a_picture
from hansa.simulation.client_data import ClientData
from hansa.types.mismatch import describe

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INK, _QUIET, _BLUE, _GREY = "#1f2933", "#616e7c", "#0b6e99", "#8a94a6"
_EACH_CLIENT = 60
"""Up to so many clients, each has a column of bubbles and a bar of its own."""
_MOST_LABELS = 200
_NAMED_LABELS = 24


def count_labels(data: ClientData, label: str = "y") -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
    """How many examples of each label each client has, in one epoch. Reads every client.

    Args:
        data: the population.
        label: the name of the array of labels, integers, [examples] or [examples, 1].

    Returns:
        The labels in ascending order, [labels], and their numbers, int64 [clients, labels].

    Raises:
        KeyError: if there is no such array.
        TypeError: if its elements are no labels.

    Examples:
        >>> labels, numbers = hansa.simulation.count_labels(data)
        >>> labels, numbers.shape, numbers.sum()
        (array([0, 1, 2, 3, 4, 5, 6, 7, 8, 9], dtype=int32), (10, 10), np.int64(1797))
    """
    everyone = []
    for position, client_id in enumerate(data.client_ids):
        arrays = data._source.read(position)
        if label not in arrays:
            raise KeyError(f"label names no array, {label!r}; the arrays are {', '.join(map(repr, arrays))}")
        found = arrays[label]
        if found.dtype.kind not in "biu" or found.size != len(found):
            raise TypeError(
                f"the labels must be integers, one for each example; {label!r} of client {client_id!r} is "
                f"{describe(found)}; name another array, or make one with map"
            )
        everyone.append(found.reshape(-1))
    labels, index = np.unique(np.concatenate(everyone), return_inverse=True)
    client = np.repeat(np.arange(len(everyone)), [len(found) for found in everyone])
    flat = np.bincount(client * len(labels) + index, minlength=len(everyone) * len(labels))
    return labels, flat.reshape(len(everyone), len(labels)).astype(np.int64)


def plot_clients(data: ClientData, label: str = "y", title: str = "Who has what") -> Figure:
    """Draws which labels clients have, and how many examples. Reads every client.

    Up to 60 clients are shown one by one: a bubble for each label that a client has, whose area is the number of
    examples, above a bar for all of them. More are shown as a map of the shares of labels, where clients stand in the
    order of the label that they have most of, beside the sizes of all clients in their order.

    Args:
        data: the population.
        label: the name of the array of labels, integers, [examples] or [examples, 1].
        title: what the picture is of.

    Returns:
        A Matplotlib figure; `.savefig("clients.png")` writes it.

    Raises:
        KeyError, TypeError, ValueError: if there is no such array, or it holds no labels, or too many or no different
            ones.
        ModuleNotFoundError: without Matplotlib: `pip install 'hansa[plots]'`.

    Examples:
        >>> figure = hansa.simulation.plot_clients(data, title="Ten clients")
        >>> figure.savefig("clients.png")
    """
    require("matplotlib", "plots", "plot_clients")
    from hansa._figure_style import Picture

    labels, counts = count_labels(data, label)
    if not 0 < len(labels) <= _MOST_LABELS:
        raise ValueError(f"{label!r} has {len(labels)} different values; a picture has room for 1 to {_MOST_LABELS}")
    sizes = counts.sum(1)
    few = len(counts) <= _EACH_CLIENT
    figure = Picture((10, 6) if few else (12, 5.4))
    height = figure.get_figheight()
    figure.text(0.03, 1 - 0.42 / height, in_a_picture(title), fontsize=15, fontweight="bold", color=_INK)
    figure.text(0.03, 1 - 0.74 / height, _summary(sizes, len(labels)), fontsize=10.5, color=_QUIET)
    top, bottom = 1 - 1.3 / height, 0.6 / height
    if few:
        grid = figure.add_gridspec(
            2, 1, height_ratios=[2.8, 1], left=0.085, right=0.97, top=top, bottom=bottom, hspace=0.3
        )
        bubbles, bars = figure.add_subplot(grid[0]), figure.add_subplot(grid[1])
        _bubbles(bubbles, counts)
        _bars(bars, sizes, [str(client_id) for client_id in data.client_ids])
        _name_labels(bubbles, labels, label)
    else:
        grid = figure.add_gridspec(
            1, 2, width_ratios=[2.1, 1], left=0.07, right=0.975, top=top, bottom=bottom, wspace=0.2
        )
        shares, curve = figure.add_subplot(grid[0]), figure.add_subplot(grid[1])
        _shares(shares, counts)
        _curve(curve, sizes)
        _name_labels(shares, labels, label)
    return figure


def _summary(sizes: npt.NDArray[np.int64], labels: int) -> str:
    each = f"{sizes.min():,}" if sizes.min() == sizes.max() else f"{sizes.min():,} to {sizes.max():,}"
    middle = "" if sizes.max() - sizes.min() <= 1 else f", {np.median(sizes):,.0f} at the median"
    return f"{len(sizes):,} clients with {sizes.sum():,} examples of {labels} labels: {each} each{middle}"


def _style(axes: Axes, name: str) -> None:
    axes.set_title(name, loc="left", fontsize=11.5, fontweight="bold", color=_INK, pad=9)
    axes.tick_params(length=0, labelsize=9.5, labelcolor=_QUIET, pad=5)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color("#cbd2d9")


def _name_labels(axes: Axes, labels: npt.NDArray[Any], name: str) -> None:
    step = -(-len(labels) // _NAMED_LABELS)
    places = np.arange(0, len(labels), step)
    axes.set_yticks(places, [str(labels[place]) for place in places])
    axes.set_ylabel(f"Label, {in_a_picture(name)}", fontsize=10, color=_QUIET)


def _bubbles(axes: Axes, counts: npt.NDArray[np.int64]) -> None:
    clients, labels = counts.shape
    client, label = np.nonzero(counts)
    _style(axes, "Examples of each label, by area")
    axes.set_xlim(-0.6, clients - 0.4)
    axes.set_ylim(-0.6, labels - 0.4)
    axes.grid(axis="y", color="#eef1f4", linewidth=0.8)
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    box = axes.get_window_extent()
    cell = min(box.width / clients, box.height / labels) * 72 / axes.figure.dpi  # in points
    # The largest bubbles touch the cells beside them, so that small ones can still be seen.
    area = (1.1 * cell) ** 2 * counts[client, label] / counts.max()
    axes.scatter(client, label, s=np.maximum(area, 1.5), color=_BLUE, alpha=0.85, linewidth=0, clip_on=False)


def _bars(axes: Axes, sizes: npt.NDArray[np.int64], names: list[str]) -> None:
    _style(axes, "Examples in all")
    axes.set_xlim(-0.6, len(sizes) - 0.4)
    axes.grid(axis="y", color="#e4e7eb", linewidth=0.8)
    axes.bar(np.arange(len(sizes)), sizes, width=min(0.62, len(sizes) / 16), color=_GREY)
    axes.set_ylim(0, 1.05 * max(int(sizes.max()), 1))
    axes.locator_params(axis="y", nbins=4, integer=True)
    longest = max(map(len, names))
    # As many names as there is room for, at some 0.085 inches a character.
    step = max(1, -(-len(names) * (longest + 2) // 105))
    places = np.arange(0, len(names), step)
    axes.set_xticks(places, [in_a_picture(names[place]) for place in places])
    axes.set_xlabel("Client", fontsize=10, color=_QUIET)


def _shares(axes: Axes, counts: npt.NDArray[np.int64]) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    main = shares.argmax(1)
    order = np.lexsort((-shares.max(1), main))
    _style(axes, "Share of each label at a client")
    colours = LinearSegmentedColormap.from_list("shares", ["#ffffff", "#9cc9dc", _BLUE, "#08384f"])
    image = axes.imshow(
        shares[order].T, aspect="auto", origin="lower", cmap=colours, vmin=0, vmax=1, interpolation="nearest"
    )
    axes.locator_params(axis="x", nbins=6, integer=True)
    axes.set_xlabel("Clients, in the order of the label that they have most of", fontsize=10, color=_QUIET)
    bar = axes.figure.colorbar(image, ax=axes, fraction=0.03, pad=0.02, format=lambda share, _: f"{share:.0%}")
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0, labelsize=9.5, labelcolor=_QUIET)


def _curve(axes: Axes, sizes: npt.NDArray[np.int64]) -> None:
    ordered = np.sort(sizes)[::-1]
    _style(axes, "Examples of each client")
    axes.grid(axis="y", color="#e4e7eb", linewidth=0.8)
    axes.fill_between(
        np.arange(len(ordered) + 1), np.append(ordered, ordered[-1]), step="post", color=_GREY, linewidth=0
    )
    axes.set_xlim(0, len(ordered))
    axes.set_ylim(0, 1.05 * max(int(ordered[0]), 1))
    axes.locator_params(axis="both", nbins=5, integer=True)
    axes.set_xlabel("Clients, the largest first", fontsize=10, color=_QUIET)
