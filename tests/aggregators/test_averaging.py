"""Federated averaging with a rule of aggregation: bits wherever clients are, and after a resumption."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import hansa
from hansa import aggregators
from hansa.aggregators import Factory
from tests.learning.test_averaging import logistic, make_clients
from tests.program.digits import assert_same_bits

model = cache(logistic)
build = hansa.learning.build_federated_averaging_process
SIZES = [12, 3, 0, 7, 5]
"""Ragged clients, one of which has no examples, so that it is left out."""


def updates(clients: list[Any], weights: Any) -> list[Any]:
    """What each client's training changes, by rounds of one client with plain averaging."""
    plain = build(model(), seed=3)
    start = plain.initialize()._replace(model=weights)
    after = [plain.next(start, [client])[0].model.trainable for client in clients if client]
    return [jax.tree.map(lambda a, b: np.float64(a) - np.float64(b), each, weights.trainable) for each in after]


@pytest.mark.parametrize("name", [pytest.param("median", marks=pytest.mark.slow), "clipping"])
def test_a_round_is_that_of_numpy_with_the_same_bits_on_one_device_and_two(name: str) -> None:
    rule: Factory = aggregators.median() if name == "median" else aggregators.clipping(bound=0.5, quantile=0.5)
    process, clients = build(model(), aggregator=rule, seed=3), make_clients(SIZES)
    results = []
    for devices in (jax.devices()[:1], jax.devices()[:2]):
        with hansa.runtime(hansa.InProcessRuntime(devices)):
            results.append(process.next(process.initialize(), clients))
    assert_same_bits(*results)
    before, (state, metrics) = process.initialize(), results[0]
    changed = updates(clients, before.model)
    rows = np.array([np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(update)]) for update in changed])
    if name == "median":
        expected = np.median(rows, 0)
        assert state._fields == ("model", "optimizer_state") and "aggregator" not in metrics._fields
    else:
        norms, weights = np.linalg.norm(rows, axis=1), np.array([12, 3, 7, 5])
        expected = weights @ (rows * np.minimum(1, 0.5 / norms)[:, None]) / weights.sum()
        assert int(metrics.aggregator.num_clipped) == (norms > 0.5).sum()
        moved = 0.5 * np.exp(-0.2 * ((norms <= 0.5).mean() - 0.5))
        np.testing.assert_allclose(state.aggregator.bound, moved, rtol=1e-6)
    pairs = zip(jax.tree.leaves(state.model.trainable), jax.tree.leaves(before.model.trainable), strict=True)
    found = np.concatenate([np.ravel(np.float64(a) - np.float64(b)) for a, b in pairs])
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_a_mean_by_name_has_the_bits_of_averaging_without_an_aggregator() -> None:
    clients = make_clients(SIZES)
    results = []
    for aggregator in (None, aggregators.mean()):
        process = build(model(), aggregator=aggregator)
        results.append(process.next(process.initialize(), clients))
        assert process.state_type.member.names == ("model", "optimizer_state")  # type: ignore[attr-defined]
    assert_same_bits(*results)


def test_a_run_goes_on_with_the_same_bits_and_records_the_bound(tmp_path: Path) -> None:
    rule = aggregators.zeroing(aggregators.clipping(quantile=0.8), quantile=0.98)
    process = build(model(), aggregator=rule)
    rng = np.random.default_rng(1)
    data = {"x": rng.normal(size=(40, 6)).astype("float32"), "y": rng.integers(0, 3, (40, 1)).astype("int32")}
    population = hansa.simulation.ClientData.from_arrays(data, np.arange(40) % 8).batch(5)

    def train(folder: str, rounds: int) -> Any:
        return hansa.program.train(process, population, rounds, cohort_size=4, run_dir=tmp_path / folder)

    whole = train("whole", 3)
    train("other", 1)
    resumed = train("other", 3)
    assert_same_bits(resumed.state, whole.state)
    assert next(iter(resumed.history))["aggregator/clipping/bound"] == 1.0
    assert whole.state.aggregator.clipping.bound != 1.0


def test_what_is_no_rule_or_makes_no_update_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match=r"aggregator must be a rule of hansa.aggregators, .* found 'median'"):
        build(model(), aggregator="median")  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_run_with_error_feedback_goes_on_with_the_same_bits_whoever_comes_first(tmp_path: Path) -> None:
    rule = aggregators.clipping(aggregators.eden(bits=2, error_feedback=True), bound=1.0)
    process = build(model(), aggregator=rule)
    rng = np.random.default_rng(1)
    data = {"x": rng.normal(size=(40, 6)).astype("float32"), "y": rng.integers(0, 3, (40, 1)).astype("int32")}
    population = hansa.simulation.ClientData.from_arrays(data, np.arange(40) % 8).batch(5)

    def train(folder: str, rounds: int) -> Any:
        return hansa.program.train(process, population, rounds, cohort_size=4, run_dir=tmp_path / folder)

    whole = train("whole", 3)
    train("other", 1)
    resumed = train("other", 3)
    for one, other in zip(resumed.state, whole.state, strict=True):
        if isinstance(one, hansa.ClientStates):
            assert one == other and len(one) > 4
        else:
            assert_same_bits(one, other)
    state = process.initialize()
    one, other = (process.next(state, population.cohort(ids))[0] for ids in ([0, 3, 5], [5, 0, 3]))
    for a, b in zip(jax.tree.leaves(one.model), jax.tree.leaves(other.model), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)  # folded in another order, of the same draws
