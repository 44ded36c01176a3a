"""A picture of a population shows its counts; what it looks like is for people to judge."""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from hansa.simulation import ClientData, count_labels, partition_dirichlet, plot_clients

LABELS = np.random.default_rng(0).integers(2, 8, 3000)


def population(clients: int) -> tuple[ClientData, np.ndarray]:
    client_of = partition_dirichlet(LABELS, clients, 0.5, min_examples=0)
    return ClientData.from_arrays({"y": LABELS[:, None]}, client_of, client_ids=range(clients)), client_of


def test_labels_are_counted_by_client() -> None:
    data, client_of = population(30)
    labels, counts = count_labels(data.repeat(3).batch(2))
    assert labels.tolist() == [2, 3, 4, 5, 6, 7]
    assert counts.tolist() == [
        [int(((client_of == client) & (label == LABELS)).sum()) for label in range(2, 8)] for client in range(30)
    ]


def test_few_clients_are_shown_one_by_one() -> None:
    data, client_of = population(30)
    figure = plot_clients(data)
    bubbles, bars = figure.axes
    (scatter,) = bubbles.collections
    _, counts = count_labels(data)
    places, areas = scatter.get_offsets(), scatter.get_sizes()
    assert {(int(x), int(y)) for x, y in places} == set(zip(*np.nonzero(counts), strict=True))
    largest = np.argmax(areas)
    share = areas / areas[largest] * counts.max()
    for (x, y), size in zip(places.astype(int), share, strict=True):
        if counts[x, y] > 10:  # smaller ones are drawn large enough to be seen
            assert size == pytest.approx(counts[x, y], rel=1e-3)
    assert [bar.get_height() for bar in bars.patches] == np.bincount(client_of, minlength=30).tolist()
    assert [label.get_text() for label in bubbles.get_yticklabels()] == list("234567")


def test_many_clients_are_a_map_of_shares_and_a_curve_of_sizes(tmp_path: Path) -> None:
    data, _ = population(300)
    figure = plot_clients(data, title="Three hundred")
    (image,) = figure.axes[0].images
    shares = np.asarray(image.get_array())
    _, counts = count_labels(data)
    assert shares.shape == (6, 300)
    totals = counts.sum(1, keepdims=True)
    expected = counts / np.maximum(totals, 1)
    assert sorted(map(tuple, shares.T.round(9))) == sorted(map(tuple, expected.round(9)))
    assert (np.diff(shares.argmax(0)) >= 0).all()
    assert figure.texts[0].get_text() == "Three hundred"
    figure.savefig(tmp_path / "clients.png")
    assert matplotlib.image.imread(tmp_path / "clients.png").shape == (864, 1920, 4)


def test_mistakes_are_told() -> None:
    data = ClientData.from_arrays({"x": np.zeros((4, 2)), "id": np.arange(4)}, [0, 0, 1, 1])
    with pytest.raises(KeyError, match="'y'; the arrays are 'x', 'id'"):
        plot_clients(data)
    with pytest.raises(TypeError, match=r"'x' of client 0 is float64\[2,2\]"):
        plot_clients(data, "x")
    many = ClientData.from_arrays({"y": np.arange(300)}, np.arange(300) % 3)
    with pytest.raises(ValueError, match="'y' has 300 different values; a picture has room for 1 to 200"):
        plot_clients(many)


def test_a_missing_matplotlib_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ModuleNotFoundError, match=r"plot_clients needs matplotlib.*pip install 'hansa\[plots\]'"):
        plot_clients(population(30)[0])
