"""Data at the server by name, used for what it is for: FLTrust, of which some clients work against the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import hansa
from hansa.program import train
from tests.learning.fltrust import fltrust
from tests.learning.test_scaffold_by_hand import RUNTIMES, gradient, loss

SIZES, BATCH, RATE, SERVER_RATE, ROUNDS = [30, 50, 20, 40, 30], 20, 0.1, 0.8, 3
BAD = 4
RNG = np.random.default_rng(3)
TRUE = RNG.normal(size=(6, 3))
X = RNG.normal(size=(sum(SIZES), 6)).astype(np.float32)
Y = (X @ TRUE).argmax(1).astype(np.int32)
Y[sum(SIZES[:BAD]) :] = (X @ -TRUE).argmax(1)[sum(SIZES[:BAD]) :]  # who has learned the contrary
ROOT_X = RNG.normal(size=(25, 6)).astype(np.float32)
ROOT = [
    {"x": ROOT_X[i : i + BATCH], "y": (ROOT_X @ TRUE).argmax(1).astype(np.int32)[i : i + BATCH]} for i in (0, BATCH)
]
DATA = hansa.ClientBatches({"x": X, "y": Y}, np.cumsum([0, *SIZES]), BATCH)
WEIGHTS = hansa.Struct.of(w=np.zeros((6, 3), np.float32), b=np.zeros(3, np.float32))
PROCESS = fltrust(WEIGHTS, loss, hansa.to_type("<x=float32[?,6],y=int32[?]>"), RATE, SERVER_RATE)


def cohort(round_number: int) -> np.ndarray:
    return np.array([[0, 2, BAD], [1, 2, 3], [3, BAD, 0, 1]][round_number - 1])


def by_hand() -> tuple[list[Any], list[list[float]]]:
    """The model after the rounds, and the clients' scores, in NumPy and 64 bits."""
    offsets, model, scores = np.cumsum([0, *SIZES]), [np.zeros((6, 3)), np.zeros(3)], []

    def change(batches: Any) -> np.ndarray:
        local = [part.copy() for part in model]
        for x, y in batches:
            local = [v - RATE * g for v, g in zip(local, gradient(*local, x.astype(float), y), strict=True)]
        return np.concatenate([(v - at).ravel() for v, at in zip(local, model, strict=True)])

    for number in range(1, ROUNDS + 1):
        root, total, scored = change([(batch["x"], batch["y"]) for batch in ROOT]), np.zeros(21), []
        for i in cohort(number):
            rows = [slice(at, min(at + BATCH, offsets[i + 1])) for at in range(offsets[i], offsets[i + 1], BATCH)]
            own = change([(X[each], Y[each]) for each in rows])
            score = max(0.0, own @ root / np.linalg.norm(own) / np.linalg.norm(root))
            total += score * own * np.linalg.norm(root) / np.linalg.norm(own)
            scored.append(score)
        total *= SERVER_RATE / sum(scored)
        model = [model[0] + total[:18].reshape(6, 3), model[1] + total[18:]]
        scores.append(scored)
    return model, scores


@pytest.mark.parametrize("runtime", ["in chunks", "reference"])
def test_fltrust_is_that_of_the_paper(runtime: str) -> None:
    model, scores = by_hand()
    with hansa.runtime(RUNTIMES[runtime]()):
        state = PROCESS.initialize()
        for number in range(1, ROUNDS + 1):
            state, metrics = PROCESS.next(state, DATA.select(cohort(number)), ROOT)
            np.testing.assert_allclose(metrics.mean_score, np.mean(scores[number - 1]), rtol=1e-5)
            np.testing.assert_allclose(metrics.least_score, np.min(scores[number - 1]), rtol=1e-5)
    assert [BAD in cohort(number) for number in (1, 2, 3)] == [min(each) == 0 for each in scores]
    np.testing.assert_allclose(state.w, model[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(state.b, model[1], rtol=1e-5, atol=1e-6)


def test_a_run_that_is_resumed_has_the_same_bits(tmp_path: Path) -> None:
    def run(rounds: int, folder: Path | None = None) -> Any:
        given = {"root": ROOT}
        clients = lambda number: DATA.select(cohort(number))  # noqa: E731
        return train(PROCESS, clients, rounds, arguments=given, progress=False, run_dir=folder).state

    whole = run(ROUNDS)
    run(1, tmp_path)
    resumed = run(ROUNDS, tmp_path)
    assert all(map(np.array_equal, jax.tree.leaves(whole), jax.tree.leaves(resumed)))
    np.testing.assert_allclose(whole.w, by_hand()[0][0], rtol=1e-5, atol=1e-6)


def test_where_nobody_is_trusted_the_model_stays() -> None:
    state, metrics = PROCESS.next(PROCESS.initialize(), DATA.select([BAD]), ROOT)
    assert float(metrics.mean_score) == 0
    np.testing.assert_array_equal(state.w, WEIGHTS.w)
