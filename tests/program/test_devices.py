"""A run that goes on with other devices or in chunks has the bits of one left alone; no order of clients changes it."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import jax
import pytest

import hansa
from tests.program.digits import assert_same_bits, averaging, population


def train(folder: Path, rounds: int, **options: Any) -> Any:
    """So many rounds, or the rest of them, without a warning."""
    with hansa.runtime(hansa.InProcessRuntime(**options)), warnings.catch_warnings():
        warnings.simplefilter("error")
        return hansa.program.train(averaging(), population(), rounds, cohort_size=5, run_dir=folder)


@pytest.mark.parametrize(
    "options",
    [{"devices": jax.devices()[:1]}, {"clients_per_chunk": 1}, {"clients_per_chunk": 3}],
    ids=["one device", "chunks of 1", "chunks of 3"],
)
def test_it_goes_on_with_the_same_bits(options: dict[str, Any], tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", 4)
    train(tmp_path / "other", 2)
    resumed = train(tmp_path / "other", 4, **options)
    assert_same_bits(resumed.state, whole.state)
    assert [record["loss"] for record in resumed.history] == [record["loss"] for record in whole.history]


def test_the_order_of_a_cohort_changes_nothing() -> None:
    process, clients = averaging(), population()
    state = process.initialize()
    first = process.next(state, clients.cohort([0, 1, 2, 3, 4, 5]))
    second = process.next(state, clients.cohort([3, 5, 0, 4, 1, 2]))
    assert_same_bits(second, first)
