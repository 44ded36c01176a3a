"""The pictures of the documentation are those that the library draws now."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"


def masked(picture: str) -> str:
    """A picture without the numbers of operations, in which another version of JAX or Keras may differ a little."""
    return re.sub(r"[\d.,]+ [kMGT]?FLOP", "FLOP", picture)


def script(name: str) -> Any:
    """The module that draws a picture."""
    spec = importlib.util.spec_from_file_location(name, IMAGES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_picture_of_federated_averaging_is_up_to_date() -> None:
    text = script("averaging").explanation()
    drawn = (IMAGES / "averaging.svg").read_text("utf-8")
    assert masked(text.svg()) == masked(drawn), "draw it anew: python docs/images/averaging.py"
    products = 2 * 2 * 784 * 512 + 3 * 2 * 512 * 10
    (per_example,) = (float(number) for number in re.findall(r"([\d.]+) MFLOP per example</text>", drawn)[:1])
    assert products < per_example * 1e6 < 1.02 * products


def test_the_picture_of_the_accuracy_of_clients_is_up_to_date(tmp_path: Path) -> None:
    script("client_accuracy").client_metrics().plot("accuracy", tmp_path / "now.png")
    drawn, now = (matplotlib.image.imread(path) for path in (IMAGES / "client_accuracy.png", tmp_path / "now.png"))
    assert drawn.shape == now.shape
    # Letters are drawn a little differently by other versions of Matplotlib.
    assert abs(drawn - now).mean() < 0.01, "draw it anew: python docs/images/client_accuracy.py"


def test_the_picture_of_who_has_what_is_up_to_date(tmp_path: Path) -> None:
    script("clients").figure().savefig(tmp_path / "now.png")
    drawn, now = (matplotlib.image.imread(path) for path in (IMAGES / "clients.png", tmp_path / "now.png"))
    assert drawn.shape == now.shape
    assert abs(drawn - now).mean() < 0.01, "draw it anew: python docs/images/clients.py"


@pytest.mark.whole
def test_the_picture_shows_what_the_page_says_of_it():
    drawing = script("algorithms")
    curves = drawing.curves()
    reached = {name: int(np.argmax(curve >= 0.9)) + 1 for name, curve in curves.items()}
    assert reached["SCAFFOLD"] <= 20 and 30 <= reached["averaging"] <= 50 and reached["FedProx"] >= 30
    least = {name: found[0] for name, found in drawing.at_clients().items()}
    assert least["averaging"] == 0 and least["FedPer"] > 0.8 and least["Ditto"] > 0.8
