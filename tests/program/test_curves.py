"""Curves are drawn of whatever names and numbers there are."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from hansa.program import History, TrainingResult
from tests.program.counting import ADDING


@pytest.mark.parametrize("name", [r"a$\foo$", "a\ud800b", "\x1b[31m\n\0"])
def test_names_are_drawn_as_they_are_and_not_as_mathematics(name: str, tmp_path: Path) -> None:
    history = History([{"round": n, name: n / 2, f"evaluation/{name}": n / 3} for n in (1, 2)])
    history.plot(path=tmp_path / "curves.png", title=name)
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "values",
    [
        [1.7e308, -1.7e308], [math.inf, math.nan], [5e-324, 0.0], [2**1000, 1], [-1e308, -1e308], [True, False],
    ],
)  # fmt: skip
def test_any_numbers_have_curves(values: list[float], tmp_path: Path) -> None:
    history = History([{"round": n, "loss": value} for n, value in enumerate(values)])
    history.plot("loss", path=tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_a_history_shows_itself_in_a_notebook_and_its_picture_too() -> None:
    name = "<b>" + "average_of_a_long_name_" * 6
    history = History([{"round": n, "loss": 1e-7 * n, name: n} for n in range(1, 31)])
    assert repr(history).startswith("History(30 rounds: loss, <b>average")
    table = history._repr_html_()
    assert table.count("<tr>") == 12  # the head, the first and the last five, and what is between
    assert "&lt;b&gt;average" in table and "<b>" not in table
    figure = history.plot("loss", name)
    picture, size = figure._repr_png_()  # type: ignore[attr-defined]
    assert picture.startswith(b"\x89PNG")
    assert size["width"] < 1000
    shown = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert shown == ["3e-06  in training", "30  in training"]
    title = figure.axes[1].get_title(loc="left")
    assert title.count("\n") == 1 and title.endswith("…")


def test_a_result_prints_in_a_line_what_came_of_it(tmp_path: Path) -> None:
    history = History([{"round": 1, "loss": 2.0}, {"round": 2, "loss": 0.25, "num_examples": 3}])
    result = TrainingResult(None, history, 2, "by the user (Ctrl-C)", tmp_path, ADDING)
    assert repr(result) == f"TrainingResult(2 rounds, loss 0.25, stopped: by the user (Ctrl-C), in {tmp_path})"
