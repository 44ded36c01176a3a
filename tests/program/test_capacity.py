"""A run notes with how many rows its batches are computed, and goes on with the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hansa
from hansa.simulation import ClientData

SIZES = (4, 9, 2)


def totals() -> hansa.templates.IterativeProcess:
    """From a number to the number with how many examples the round's clients have."""

    @hansa.jax_computation
    def start():
        return np.float32(0)

    @hansa.jax_computation("float32", "<x=float32[?]>")
    def count(so_far, batch):
        return so_far + batch.x.sum()

    @hansa.jax_computation
    def add(state, more):
        return state + more

    @hansa.federated_computation
    def initialize():
        return hansa.federated_value(start(), hansa.SERVER)

    @hansa.federated_computation("<x=float32[?]>*")
    def work(batches):
        return hansa.sequence_reduce(batches, start(), count)

    @hansa.federated_computation("float32@SERVER", "{<x=float32[?]>*}@CLIENTS")
    def step(state, data):
        return hansa.federated_map(add, (state, hansa.federated_sum(hansa.federated_map(work, data))))

    return hansa.templates.IterativeProcess(initialize, step)


def population(sizes: tuple[int, ...], size: int = 50) -> ClientData:
    rows = {"x": np.ones(sum(sizes), np.float32)}
    return ClientData.from_arrays(rows, np.repeat(np.arange(len(sizes)), sizes)).batch(size)


def run(data: Any, folder: Path, rounds: int = 1) -> Any:
    return hansa.program.train(totals(), data, rounds, run_dir=folder, progress=False)


def asked(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "run.json").read_text())["asked"]
    return found


def test_a_run_notes_the_rows_of_a_batch_and_refuses_others(tmp_path) -> None:
    run(population(SIZES), tmp_path)
    assert asked(tmp_path)["batch_capacity"] == 9
    assert run(population(SIZES), tmp_path, 2).rounds == 2
    with pytest.raises(hansa.program.RunError, match="batch_capacity was 9, and is now 10"):
        run(population((4, 10, 2)), tmp_path, 3)


def test_a_run_that_did_not_note_them_goes_on_and_notes_them(tmp_path) -> None:
    run(population(SIZES), tmp_path)
    known = json.loads((tmp_path / "run.json").read_text())
    del known["asked"]["batch_capacity"]
    (tmp_path / "run.json").write_text(json.dumps(known))
    assert run(population(SIZES), tmp_path, 2).rounds == 2
    assert asked(tmp_path)["batch_capacity"] == 9


def test_given_clients_have_the_rows_of_the_largest(tmp_path) -> None:
    clients = [hansa.Batches({"x": np.ones(n, np.float32)}, 500) for n in (3, 70, 5)]
    result = hansa.fit(totals(), clients, rounds=1, cohort_size=1, run_dir=tmp_path, progress=False)
    assert asked(tmp_path)["batch_capacity"] == 70
    assert result.state in (3, 70, 5)
    assert hansa.program.clients.GivenClients(clients).cohort([0])[0].capacity == 70
