"""Attacks around rules beside NumPy: who attacks, what is reported, what rules make of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import hansa
from hansa import aggregators
from hansa.aggregators import attacks

IDS = [3, 8, 11, 40, 77]
VALUES = np.float32([[1, 2], [3, 5], [2, -1], [0.5, 4], [6, 6]])
WEIGHTS = np.float32([1, 2, 1, 0, 3])
SHARE, SEED = 0.5, 5


def process(rule: Any) -> Any:
    """A computation of clients' data, `<value,weight>` in one batch each, in which the rule takes all values in."""
    aggregation = rule("float32[2]")

    @hansa.jax_computation("<value=float32[2],weight=float32>", "<value=float32[?,2],weight=float32[?]>")
    def last(_: Any, batch: Any) -> Any:
        return {"value": batch.value[0], "weight": batch.weight[0]}

    @hansa.federated_computation(aggregation.state_type, "{<value=float32[?,2],weight=float32[?]>*}@CLIENTS")
    def next(state: Any, data: Any) -> Any:
        first = {"value": np.zeros(2, np.float32), "weight": np.float32(0)}
        given = hansa.sequence_reduce(data, hansa.federated_value(first, hansa.CLIENTS), last)
        return aggregation.next(state, given.value, given.weight)

    return aggregation.initialize, next


def data() -> hansa.ClientBatches:
    return hansa.ClientBatches({"value": VALUES, "weight": WEIGHTS}, np.arange(6), 1, IDS)


def attacking() -> Any:
    found = attacks.attackers(IDS, share=SHARE, seed=SEED)
    return np.array([each in found for each in IDS])


def mean(values: Any) -> Any:
    return (WEIGHTS[:, None] * values).sum(0) / WEIGHTS.sum()


@pytest.mark.parametrize("factor", [-1.0, -10.0])
def test_values_of_attackers_are_others(factor: float) -> None:
    rule = attacks.sign_flip if factor == -1 else attacks.scaled
    initialize, next = process(rule(share=SHARE, seed=SEED))
    bad = attacking()
    assert 0 < bad[WEIGHTS > 0].sum() < 4
    for order in ([0, 1, 2, 3, 4], [4, 2, 0, 3, 1]):
        output = next(initialize(), data().select(order))
        np.testing.assert_allclose(output.result, mean(np.where(bad[:, None], factor * VALUES, VALUES)), rtol=1e-6)
        assert output.measurements.num_attackers == bad[WEIGHTS > 0].sum()


def test_noise_is_in_place_of_values_and_others_each_round() -> None:
    initialize, next = process(attacks.gaussian_noise(share=SHARE, stddev=100.0, seed=SEED))
    state, bad, found = initialize(), attacking(), []
    for number in range(2):
        output = next(state, data())
        state = output.state
        assert state.rounds == number + 1
        found.append(np.asarray(output.result) - mean(np.where(bad[:, None], 0, VALUES)))
    assert np.abs(found[0] - found[1]).max() > 1 and 1 < np.abs(found[0]).max() < 500
    np.testing.assert_array_equal(next(initialize(), data()).result, next(initialize(), data()).result)


@pytest.mark.slow
def test_noise_has_the_deviation_that_is_said() -> None:
    aggregation = attacks.gaussian_noise(share=1.0, stddev=3.0)("<a=float32[200,50],b=float32[10000]>")
    value = {"a": np.zeros((200, 50), np.float32), "b": np.zeros(10000, np.float32)}
    noise = aggregation.next(aggregation.initialize(), [value], [1.0]).result
    for part in (noise.a, noise.b):
        np.testing.assert_allclose(np.std(part), 3, rtol=0.05)
        np.testing.assert_allclose(np.mean(part), 0, atol=0.2)
    assert abs(np.corrcoef(np.ravel(noise.a), noise.b)[0, 1]) < 0.05


@pytest.mark.slow
def test_a_robust_rule_withstands_what_the_mean_does_not() -> None:
    rng = np.random.default_rng(0)
    values = list(rng.normal(1, 0.1, (10, 20)).astype(np.float32))
    found = {}
    for name, inner in {"mean": None, "median": aggregators.median(), "krum": aggregators.krum(3)}.items():
        rule = attacks.scaled(aggregators.measured(inner), share=0.25, seed=2)("float32[20]")
        output = rule.next(rule.initialize(), values, [1.0] * 10)
        assert output.measurements.num_attackers == len(attacks.attackers(range(10), share=0.25, seed=2)) in (1, 2, 3)
        found[name] = float(np.abs(np.asarray(output.result) - 1).max())
    assert found["mean"] > 1 and max(found["median"], found["krum"]) < 0.5


def test_who_attacks_is_a_function_of_id_and_seed() -> None:
    every = attacks.attackers(range(1000), share=0.2)
    assert 150 < len(every) < 250
    assert (
        attacks.attackers([7, *every[:3], "ann"], share=0.2)[:3]
        == [each for each in [7, *every[:3]] if each in every][:3]
    )
    assert attacks.attackers(range(1000), share=0.2, seed=1) != every
    assert set(every) <= set(attacks.attackers(range(1000), share=0.4))
    assert attacks.attackers(range(5), share=1) == [0, 1, 2, 3, 4] and attacks.attackers([], share=1) == []


def test_numbers_out_of_their_bounds_are_refused() -> None:
    for make, message in (
        (lambda: attacks.sign_flip(share=0), "share of attackers must be a number above 0, up to 1, found 0"),
        (lambda: attacks.scaled(share=0.1, factor=np.inf), "factor of scaled must be a finite number, found inf"),
        (lambda: attacks.gaussian_noise(share=0.1, stddev=0), "stddev of gaussian_noise must be a number above 0"),
        (lambda: attacks.sign_flip(share=0.1, seed=-1), "seed must be an integer of at least 0, found -1"),
    ):
        with pytest.raises(ValueError, match=message):
            make()
    with pytest.raises(TypeError, match="takes in another rule"):
        attacks.sign_flip("median", share=0.1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="sign_flip takes tensors of float dtypes"):
        attacks.sign_flip(share=0.1)("int32")


def test_labels_of_some_clients_are_flipped_also_by_another_process() -> None:
    clients = {1: {"y": np.int32([0, 1, 9])}, 2: {"y": np.int32([3, 3])}}
    given = hansa.simulation.ClientData.from_clients(clients)
    flipped = given.flip_labels([1], num_classes=10)
    assert [flipped.client(each)["y"].tolist() for each in (1, 2)] == [[9, 8, 0], [3, 3]]
    plan = flipped.batch(2).plan()
    again = hansa.simulation.DataPlan.from_json(plan.to_json())
    assert again == plan
    for wrong, kind, message in (
        ({"num_classes": 9}, ValueError, "labels must be from 0 to 8"),
        ({"num_classes": 10, "label": "z"}, ValueError, "flip_labels names an array that client 1 does not have"),
        ({"num_classes": 1}, ValueError, "num_classes"),
    ):
        with pytest.raises(kind, match=message):
            given.flip_labels([1], **wrong).client(1)
