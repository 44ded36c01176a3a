"""The experiments of papers: that each runs to its table and picture, and what they share."""

from __future__ import annotations

import csv
import importlib
import json
import math
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks.papers.data import partition_by_similarity, rotated
from benchmarks.papers.experiment import Results, markdown
from benchmarks.papers.training import mean_and_worst, rounds_to

EXPERIMENTS = {
    "attacks": 2,
    "fed_prox": 9,
    "ifca": 4,
    "matrix_noise": 2,
    "niid_bench": 5,
    "personal": 10,
    "pfl_private": 3,
    "scaffold": 12,
}
DEAR = ("attacks", "personal")
SHOWN = {
    "attacks": ("median", "sign flip", "Dir(0.3)"),
    "fed_prox": ("90% stragglers", "FedProx, mu = 1"),
    "ifca": ("25", "IFCA, spread starts"),
    "matrix_noise": ("epsilon 8", "correlated"),
    "niid_bench": ("2 labels", "SCAFFOLD"),
    "personal": ("Ditto", "worst tenth of clients"),
    "pfl_private": ("with noise", "test accuracy"),
    "scaffold": ("similarity of clients", "FedProx"),
}


def numbers(value: Any) -> list[float]:
    """All numbers in a value of JSON."""
    if isinstance(value, dict | list):
        return [number for each in (value.values() if isinstance(value, dict) else value) for number in numbers(each)]
    return [float(value)] if isinstance(value, int | float) else []


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=getattr(pytest.mark, "whole" if name in DEAR else "slow")) for name in EXPERIMENTS],
)
def test_an_experiment_runs_to_its_table_and_picture_and_computes_nothing_twice(
    name: str, tmp_path: Path, mnist: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = importlib.import_module(f"benchmarks.papers.{name}").EXPERIMENT
    rows = experiment.run(["--quick", "--out", str(tmp_path)])
    assert len(rows) == EXPERIMENTS[name]
    assert all(math.isfinite(number) for number in numbers(rows))
    accuracies = [value for row in rows for key, value in row.items() if "accuracy" in key or key == "mean"]
    assert all(0 <= value <= 1 for value in accuracies)
    assert json.loads((tmp_path / "table.json").read_text()) == json.loads(json.dumps(rows))
    with (tmp_path / "table.csv").open() as file:
        written = list(csv.DictReader(file))
    assert [list(row) for row in written] == [[key for key in row if key in written[0]] for row in rows]
    picture = "".join(ElementTree.parse(tmp_path / f"{name}.svg").getroot().itertext())
    assert all(part in picture for part in SHOWN[name])
    assert "s of CPU" in capsys.readouterr().out
    assert experiment.run(["--quick", "--out", str(tmp_path)]) == rows
    assert "s of CPU" not in capsys.readouterr().out


def test_results_are_kept_and_those_of_other_settings_refused(tmp_path: Path) -> None:
    file = tmp_path / "some" / "results.json"
    assert Results(file, {"rates": (0.1, 0.3)}).once("a", lambda: [1.0]) == [1.0]
    assert Results(file, {"rates": (0.1, 0.3)}).once("a", lambda: pytest.fail("computed again")) == [1.0]
    with pytest.raises(SystemExit, match="other settings"):
        Results(file, {"rates": (0.1,)})


def test_a_table_leaves_out_what_is_for_the_picture() -> None:
    rows = [{"name": "a", "rounds": None, "accuracy": 0.98765, "curve": [1.0]}]
    assert markdown(rows) == "| name | rounds | accuracy |\n| --- | --- | --- |\n| a |  | 0.988 |"


def test_rounds_are_read_off_the_best_accuracy_so_far() -> None:
    assert rounds_to(0.5, [0.6]) == 1
    assert rounds_to(0.5, [0.1, 0.4, 0.2, 0.6]) == pytest.approx(3.5)
    assert rounds_to(0.7, [0.1, 0.4, 0.2, 0.6]) is None


def test_the_worst_tenth_is_that_of_clients() -> None:
    mean, worst = mean_and_worst([1.0] * 18 + [0.2, 0.4])
    assert (mean, worst) == (pytest.approx(18.6 / 20), pytest.approx(0.3))
    assert mean_and_worst([0.5, 1.0]) == (0.75, 0.5)


@pytest.mark.parametrize("similarity", [0.0, 0.1, 1.0])
def test_a_share_of_the_examples_is_dealt_out_at_random_and_the_rest_by_label(similarity: float) -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 100)).astype(np.int32)
    client_of = partition_by_similarity(labels, 20, similarity)
    assert (np.bincount(client_of, minlength=20) == 50).all()
    kinds = [len(np.unique(labels[client_of == client])) for client in range(20)]
    assert kinds == [1] * 20 if similarity == 0 else min(kinds) > (1 if similarity == 0.1 else 8)
    most = [np.bincount(labels[client_of == client]).max() / 50 for client in range(20)]
    assert np.mean(most) == pytest.approx({0.0: 1.0, 0.1: 0.91, 1.0: 0.2}[similarity], abs=0.06)


def test_images_are_turned_by_quarters() -> None:
    images = np.random.default_rng(0).random((3, 784), np.float32)
    turned = rotated(images, 1)
    assert turned.reshape(3, 28, 28)[2, 27 - 5, 20] == images.reshape(3, 28, 28)[2, 20, 5]
    assert np.array_equal(rotated(rotated(turned, 1), 2), images)
