"""The example of cohort sizes, on the small digits: the parts of which the long run is made."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hansa.simulation import UniformSampler, load_digits

SCRIPT = Path(__file__).resolve().parents[2] / "docs" / "examples" / "cohort_size.py"


@pytest.fixture(scope="module")
def example() -> Any:
    spec = importlib.util.spec_from_file_location("cohort_size", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_rounds_and_examples_until_the_target(example: Any) -> None:
    digits = load_digits()
    images = digits.train_images * 255  # as those of MNIST are
    data = example.population(images, digits.train_labels, clients=8)
    process = example.averaging(data)
    test = images, digits.train_labels
    rounds, examples = example.rounds_to_target(process, data, 4, *test, target=0.5, most_rounds=60)
    sizes = np.array([len(data.client(client)["y"]) for client in data.client_ids])
    sampler = UniformSampler(8, 4, seed=1)
    assert 1 < rounds <= 60
    assert examples == sum(sizes[sampler(number)].sum() for number in range(1, rounds + 1))
    assert example.rounds_to_target(process, data, 4, *test, target=1.1, most_rounds=2)[0] is None
    assert example.seconds_per_round(process, data, 4, rounds=2) > 0


def test_the_picture_is_of_what_was_measured(example: Any) -> None:
    rows = [
        {"cohort_size": 1, "rounds": None, "examples": 300, "seconds": 0.125},
        {"cohort_size": 10, "rounds": 37, "examples": 2_500_000, "seconds": 0.75},
    ]
    axes = example.draw(rows).axes
    texts = [[text.get_text() for text in each.texts] for each in axes]
    assert texts == [["0.12", "0.75"], ["37", "not in 500\nrounds"], ["2.5", "not in 500\nrounds"]]
