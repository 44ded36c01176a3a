"""FLTrust beside NumPy with 64 bits; data at the server in runs; comparisons that are none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import hansa
from hansa.program import train
from tests.learning.algorithms import plain

BAD, SERVER_RATE = 1, 0.8


TRUE = np.random.default_rng(3).normal(size=(plain.FEATURES, plain.CLASSES))


def root() -> list[dict[str, Any]]:
    """The batches of the root data set."""
    x = np.random.default_rng(2).normal(size=(25, plain.FEATURES)).astype(np.float32)
    y = (x @ TRUE).argmax(1).astype(np.int32)
    return [{"x": x[cut], "y": y[cut]} for cut in (slice(0, 20), slice(20, 25))]


def population() -> hansa.ClientBatches:
    """The data of all clients; `BAD` has learned the contrary."""
    x, _ = plain.examples()
    y = (x @ TRUE).argmax(1).astype(np.int32)
    first, last = np.cumsum([0, *plain.SIZES])[BAD : BAD + 2]
    y[first:last] = (x[first:last] @ -TRUE).argmax(1)
    return hansa.ClientBatches({"x": x, "y": y}, np.cumsum([0, *plain.SIZES]), plain.BATCH, plain.IDS)


def batches(client: int) -> list[tuple[Any, Any]]:
    """The batches of one client, in 64 bits."""
    parts = [hansa.Struct.of(**dict(batch._items())) for batch in population().select([client])[0]]
    return [(np.float64(batch.x), np.asarray(batch.y)) for batch in parts]


def change(start: plain.Weights, given: list[tuple[Any, Any]]) -> plain.Weights:
    w = start
    for batch in given:
        w = plain.combine(lambda w, g: w - plain.RATE * g, w, plain.gradient(w, batch))
    return plain.combine(np.subtract, w, start)


def flat(weights: plain.Weights) -> Any:
    return np.concatenate([part.ravel() for part in weights])


def by_hand() -> tuple[plain.Weights, list[list[float]]]:
    """The model after all rounds, and the trust scores of each (Algorithm 2)."""
    model, scores = plain.initial(), []
    for cohort in plain.COHORTS:
        g_0, updates, scored = change(model, [(np.float64(b["x"]), b["y"]) for b in root()]), [], []
        for client in cohort:
            if plain.left_out(client):
                continue
            g_i = change(model, batches(client))
            lengths = np.linalg.norm(flat(g_i)), np.linalg.norm(flat(g_0))
            scored.append(max(0.0, float(flat(g_i) @ flat(g_0)) / lengths[0] / lengths[1]))
            updates.append(plain.combine(lambda g, k=lengths[1] / lengths[0]: k * g, g_i))
        factors = SERVER_RATE * np.array(scored) / max(sum(scored), 1e-300)
        model = plain.combine(
            lambda w, *each, f=factors: w + sum(a * g for a, g in zip(f, each, strict=True)), model, *updates
        )
        scores.append(scored)
    return model, scores


@pytest.fixture(scope="module")
def process() -> Any:
    return hansa.learning.build_fl_trust(plain.model(), server_learning_rate=SERVER_RATE)


SLOW = pytest.param(hansa.ReferenceRuntime, marks=pytest.mark.slow)


@pytest.mark.parametrize("runtime", [hansa.InProcessRuntime, SLOW])
def test_rounds_are_those_of_the_paper(process: Any, runtime: Any) -> None:
    expected, scores = by_hand()
    assert 0 in scores[0] and min(scores[2]) > 0
    with hansa.runtime(runtime()):
        state = process.initialize()
        for cohort, scored in zip(plain.COHORTS, scores, strict=True):
            state, metrics = process.next(state, population().select(cohort), root())
            np.testing.assert_allclose(metrics.server_data.mean_weight, np.mean(scored), rtol=1e-5)
            np.testing.assert_allclose(metrics.server_data.min_weight, np.min(scored), rtol=1e-5)
    plain.assert_close(state.model.trainable, expected)


def test_where_nobody_is_trusted_the_model_stays(process: Any) -> None:
    before = process.initialize()
    for cohort, given in (([BAD, 2], root()), ([0, 3], []), ([2, 4], root())):
        after, metrics = process.next(before, population().select(cohort), given)
        assert metrics.model_unchanged and metrics.server_data.mean_weight == 0 == metrics.server_data.min_weight
        assert after == before


@pytest.mark.slow
def test_a_run_that_is_resumed_has_the_same_bits(process: Any, tmp_path: Path) -> None:
    def run(rounds: int, folder: Path) -> Any:
        clients = lambda number: population().select(plain.COHORTS[number - 1])  # noqa: E731
        given = {"server_data": root()}
        return train(process, clients, rounds, arguments=given, progress=False, run_dir=folder).state

    whole = run(3, tmp_path / "whole")
    run(1, tmp_path / "parts")
    resumed = run(3, tmp_path / "parts")
    assert all(map(np.array_equal, jax.tree.leaves(whole), jax.tree.leaves(resumed)))
    plain.assert_close(whole.model.trainable, by_hand()[0])
    hansa.save(process, tmp_path / "process")
    loaded, first = hansa.load(tmp_path / "process"), population().select(plain.COHORTS[0])
    found, _ = loaded.next(loaded.initialize(), first, root())
    expected, _ = process.next(process.initialize(), first, root())
    plain.assert_close(found.model.trainable, plain.as_numpy(expected.model.trainable))


def test_a_rule_that_clients_keep_something_for_works_beside_data_at_the_server() -> None:
    work = hansa.learning.local_training(
        own={"turns": np.int32(0)},
        finish=lambda at, w, steps, n: (
            hansa.learning.arithmetic.difference(w, at.sent.model),
            None,
            {"turns": at.own.turns + 1},
        ),
    )
    server = hansa.learning.ServerData(lambda update, of_server: (of_server, 1.0))
    process = hansa.learning.build_process(plain.model(), client_work=work, server_data=server)
    state, _ = process.next(process.initialize(), population().select([0, 1]), root())
    of_root = change(plain.initial(), [(np.float64(b["x"]), b["y"]) for b in root()])
    plain.assert_close(state.model.trainable, plain.combine(np.add, plain.initial(), of_root))
    assert [int(state.clients[name].work.turns) for name in plain.IDS] == [1, 1, 0, 0, 0]


def test_comparisons_that_are_none_are_refused() -> None:
    work = hansa.learning.local_training()
    for given, message in (
        ([1, 2], "server_data must be a hansa.learning.ServerData"),
        (hansa.learning.ServerData(lambda update, of_server: update), "`compare` must give a pair"),
        (hansa.learning.ServerData(lambda update, of_server: (update, update)), "one number as the weight"),
    ):
        with pytest.raises(TypeError, match=message):
            hansa.learning.build_process(plain.model(), client_work=work, server_data=given)  # type: ignore[arg-type]
