"""Curves are drawn of whatever names and numbers there are."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from hansa.program import History


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
