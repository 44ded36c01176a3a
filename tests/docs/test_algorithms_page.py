"""The page on algorithms has all of them, with the paper that their files name and the bytes that they send."""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest

import hansa
from hansa import learning

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "algorithms.md").read_text("utf-8")
ROW = re.compile(
    r"^\| [^|]+ \| `(build_(\w+)\(.*?\))` \| (\d) \| (\d) \| [^|]+ \| \[[^]]+\]\(https://arxiv.org/abs/([\d.]+)\) \|$"
)


class Line(NamedTuple):
    """A line that makes an algorithm, what is sent down and up in sizes of the model, and its paper."""

    code: str
    builder: str
    down: int
    up: int
    paper: str


LINES = [
    Line(found[1], f"build_{found[2]}", int(found[3]), int(found[4]), found[5])
    for found in map(ROW.match, PAGE.splitlines())
    if found is not None
]


def test_every_algorithm_is_on_the_page():
    builders = {name for name in dir(learning.algorithms) if name.startswith("build_")}
    assert builders - {line.builder for line in LINES} <= {"build_agnostic"}
    assert "`build_agnostic`" in PAGE
    assert len(LINES) == sum("https://arxiv.org" in line and line.startswith("|") for line in PAGE.splitlines())


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.builder)
def test_the_paper_is_the_one_that_the_file_names(line: Line):
    assert f"arXiv:{line.paper}" in inspect.getsource(sys.modules[getattr(learning, line.builder).__module__])


@pytest.fixture(scope="module")
def model() -> Any:
    network = keras.Sequential([keras.Input((64,)), keras.layers.Dense(10, name="dense")])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile(optimizer=keras.optimizers.SGD(0.1), loss=loss)
    batch = {"x": np.zeros((1, 64), np.float32), "y": np.zeros(1, np.int64)}
    return learning.from_compiled_keras_model(network, batch)


@pytest.fixture(scope="module")
def adapted() -> Any:
    """The model with an adapter of rank 2, which is a fifth of its size."""
    network = keras.Sequential([keras.Input((64,)), keras.layers.Dense(10, name="dense")])
    network.layers[0].enable_lora(2)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile(optimizer=keras.optimizers.SGD(0.1), loss=loss)
    return learning.from_compiled_keras_model(network, {"x": np.zeros((1, 64), np.float32), "y": np.zeros(1, np.int64)})


@pytest.mark.slow
@pytest.mark.parametrize("line", LINES, ids=lambda line: line.builder)
def test_the_line_makes_the_algorithm_and_sends_as_much_as_the_page_says(line: Line, model: Any, adapted: Any):
    process = eval(f"learning.{line.code}", {"learning": learning, "model": model, "adapted": adapted})
    size, told = 4 * 650, hansa.explain(process)
    assert round(int(told.bytes_down) / size) == line.down
    assert round(int(told.bytes_up) / size) == line.up
    assert process.settings["algorithm"]
