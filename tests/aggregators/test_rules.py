"""Each rule against NumPy in float64, over rounds with other numbers of clients, one left out, and an outlier."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import hansa
from hansa import aggregators

KIND = "<kernel=float32[3,2],bias=float32>"
COUNTED = (6, 7, 5, 0)
"""How many clients count in each round; one more is left out in each."""


def rounds() -> list[tuple[list[dict[str, Any]], list[float]]]:
    rng = np.random.default_rng(7)
    made = []
    for number in COUNTED:
        rows = rng.normal(size=(number + 1, 7)).astype("float32")
        weights = rng.integers(1, 30, number + 1).astype("float32")
        rows[-1] *= 50  # an outlier
        rows[1 if number else 0], weights[1 if number else 0] = np.nan, 0  # who is left out, whatever it sends
        made.append(([{"kernel": row[:6].reshape(3, 2), "bias": row[6]} for row in rows], list(map(float, weights))))
    return made


def matrix(values: list[dict[str, Any]], weights: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """The rows and weights that count, in float64."""
    rows = np.array([[*value["kernel"].ravel(), value["bias"]] for value in values], np.float64)
    there = np.array(weights) > 0
    return rows[there], np.array(weights)[there]


def mean(rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return weights @ rows / weights.sum()


def trimmed(rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    cut = int(0.2 * len(rows))
    return np.sort(rows, 0)[cut : len(rows) - cut].mean(0)


def krum(keep: int) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    def rule(rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
        scores = []
        for i, row in enumerate(rows):
            apart = sorted(((other - row) ** 2).sum() for j, other in enumerate(rows) if j != i)
            scores.append(sum(apart[: max(len(rows) - 1 - 2, 1)]))
        return rows[np.argsort(scores, kind="stable")[:keep]].mean(0)

    return rule


def bulyan(rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    left, chosen = list(range(len(rows))), []
    while len(chosen) < max(len(rows) - 2, 1):
        scores = []
        for i in left:
            apart = sorted(((rows[j] - rows[i]) ** 2).sum() for j in left if j != i)
            scores.append(sum(apart[: max(len(left) - 1 - 2, 1)]))
        chosen.append(left.pop(int(np.argmin(scores))))
    values, keep = rows[chosen], max(len(chosen) - 2, 1)
    nearest = np.argsort(np.abs(values - np.median(values, 0)), 0, kind="stable")[:keep]
    return np.take_along_axis(values, nearest, 0).mean(0)


def kept_by_norm(rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    kept = np.linalg.norm(rows, axis=1) <= 3
    return mean(rows[kept], weights[kept])


def weiszfeld(rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    center = mean(rows, weights)
    for _ in range(4):
        center = mean(rows, weights / np.maximum(1e-6, np.linalg.norm(rows - center, axis=1)))
    return center


RULES = {
    "mean": (aggregators.mean(), mean, "sums"),
    "uniform mean": (aggregators.mean(weighted=False), lambda rows, weights: rows.mean(0), "sums"),
    "mean over 10": (aggregators.mean(denominator=10), lambda rows, weights: weights @ rows / 10, "sums"),
    "weighted sum": (aggregators.sum(weighted=True), lambda rows, weights: weights @ rows, "sums"),
    "bulyan": (aggregators.bulyan(1), bulyan, "each"),
    "excluding": (aggregators.excluding(bound=3.0), kept_by_norm, "sums"),
    "sum": (aggregators.sum(), lambda rows, weights: rows.sum(0), "sums"),
    "median": (aggregators.median(), lambda rows, weights: np.median(rows, 0), "each"),
    "trimmed_mean": (aggregators.trimmed_mean(0.2), trimmed, "each"),
    "krum": (aggregators.krum(1), krum(1), "each"),
    "multi_krum": (aggregators.multi_krum(1, 3), krum(3), "each"),
    "geometric_median": (aggregators.geometric_median(), weiszfeld, "sums"),
}


SLOW = ("uniform mean", "weighted sum", "mean over 10", "excluding", "multi_krum", "sum")


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in RULES])
def test_a_rule_is_that_of_numpy(name: str) -> None:
    rule, expected, needs = RULES[name]
    aggregation = rule(KIND)
    assert aggregation.needs == needs
    state = aggregation.initialize()
    for values, weights in rounds():
        output = aggregation.next(state, values, weights)
        found = np.array([*np.asarray(output.result.kernel).ravel(), output.result.bias])
        rows, counted = matrix(values, weights)
        np.testing.assert_allclose(found, expected(rows, counted) if len(rows) else np.zeros(7), rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("quantile", [None, 0.6])
def test_bounds_nest_and_move_as_in_numpy(quantile: float | None) -> None:
    """Andrew et al. 2021, Algorithm 1 without noise, in both rules."""
    clipped = aggregators.clipping(aggregators.mean(weighted=False), bound=2.0, quantile=quantile, rate=0.3)
    aggregation = aggregators.zeroing(clipped, bound=3.0, quantile=quantile, rate=0.5)(KIND)
    assert aggregation.needs == "sums"
    moving = "<bound=float32,clipping=<bound=float32>>@SERVER"
    assert aggregation.state_type.compact() == (moving if quantile is not None else "<>@SERVER")
    state, outer, inner = aggregation.initialize(), 3.0, 2.0
    for values, weights in rounds():
        output = aggregation.next(state, values, weights)
        state = output.state
        rows, _ = matrix(values, weights)
        fits = np.abs(rows).max(1, initial=0) <= outer
        rows = np.where(fits[:, None], rows, 0)
        norms = np.linalg.norm(rows, axis=1)
        short = norms <= inner
        expected = (rows * np.minimum(1, inner / np.maximum(norms, 1e-30))[:, None]).sum(0) / max(len(rows), 1)
        found = np.array([*np.asarray(output.result.kernel).ravel(), output.result.bias])
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
        told = output.measurements
        assert (int(told.num_zeroed), int(told.clipping.num_clipped)) == ((~fits).sum(), (~short).sum())
        np.testing.assert_allclose([told.bound, told.clipping.bound], [outer, inner], rtol=1e-6)
        if quantile is not None and len(rows):
            outer *= np.exp(-0.5 * (fits.mean() - quantile))
            inner *= np.exp(-0.3 * (short.mean() - quantile))
        if quantile is not None:
            np.testing.assert_allclose([state.bound, state.clipping.bound], [outer, inner], rtol=1e-6)


def test_what_is_not_a_number_is_the_largest_to_rules_that_order_and_the_farthest_to_those_that_choose() -> None:
    values = [1.0, np.nan, 2.0, 3.0, 4.0]
    for rule, expected in ((aggregators.median(), 3), (aggregators.trimmed_mean(0.2), 3), (aggregators.krum(1), 2)):
        aggregation = rule("float32")
        assert aggregation.next(aggregation.initialize(), values, [1.0] * 5).result == expected


def test_what_fits_nothing_is_refused_where_it_is_made() -> None:
    with pytest.raises(ValueError, match="bound of clipping must be a number above 0, found 0"):
        aggregators.clipping(bound=0)
    with pytest.raises(ValueError, match="quantile of zeroing must be a number above 0 and below 1, found 98"):
        aggregators.zeroing(quantile=98)
    with pytest.raises(TypeError, match=r"clipping takes in another rule, such as hansa.aggregators.mean\(\), found 2"):
        aggregators.clipping(2.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"share of trimmed_mean must be a number from 0 to below 0.5, found 0.5"):
        aggregators.trimmed_mean(0.5)
    with pytest.raises(ValueError, match="keep of multi_krum must be an integer of at least 1, found 0"):
        aggregators.multi_krum(1, keep=0)
    with pytest.raises(TypeError, match=r"median takes tensors of float dtypes, found int32\[2\]"):
        aggregators.median()("int32[2]")


def test_an_aggregation_has_weights() -> None:
    none = hansa.federated_computation(lambda: hansa.federated_value([], hansa.SERVER))

    @hansa.federated_computation("<>@SERVER", "{float32}@CLIENTS")
    def next_sum(state, value):
        return hansa.templates.MeasuredOutput(state, hansa.federated_sum(value), state)

    with pytest.raises(TypeError, match="must take the weight of each client"):
        aggregators.Aggregation(none, next_sum)


def test_a_value_whose_squares_overflow_is_shortened_to_the_bound():
    aggregation = aggregators.clipping(aggregators.sum(), bound=2.0)("float32[2]")
    for value in ([3e30, -4e30], [3e-30, 4e-30], [0.0, 0.0]):
        output = aggregation.next(aggregation.initialize(), [np.float32(value)], [1.0])
        expected = np.array(value) * min(1.0, 2.0 / max(np.linalg.norm(np.array(value)), 1e-300))
        np.testing.assert_allclose(np.asarray(output.result), expected, rtol=1e-6)
        assert output.measurements.num_clipped == (abs(value[0]) > 1)


def test_bounds_move_as_in_tff() -> None:
    """Two published trajectories: of `PrivateQuantileEstimationProcess.no_noise`, and of TFF's default zeroing."""
    ones = [1.0] * 4
    aggregation = aggregators.zeroing(bound=10.0, quantile=0.98, multiplier=2.0, increment=1.0)("float32")
    state, bound = aggregation.initialize(), 10.0
    for values in ([1.0, 2.0, 15.0, 22.0], [3.0, 2.0, 1.0, 0.0], [1e6, np.inf, 1.0, np.nan]):
        state, result, told = aggregation.next(state, values, ones)
        limit = 2 * bound + 1
        kept = np.abs(values) <= limit
        np.testing.assert_allclose(result, np.where(kept, values, 0).mean(), rtol=1e-6)
        np.testing.assert_allclose(told.bound, limit, rtol=1e-6)
        assert told.num_zeroed == (~kept).sum()
        bound *= np.exp(-np.log(10) * ((np.abs(values) <= bound).mean() - 0.98))
        np.testing.assert_allclose(state.bound, bound, rtol=1e-5)
    excluding = aggregators.excluding(aggregators.median(), bound=1.0, quantile=0.5, rate=0.5)("float32")
    output = excluding.next(excluding.initialize(), [0.5, 0.75, 3.0, np.inf], ones)
    np.testing.assert_allclose([output.result, output.state.bound], [0.625, np.exp(-0.5 * (2 / 3 - 0.5))], rtol=1e-6)
    assert output.measurements.num_excluded == 1


@pytest.mark.slow
def test_norms_are_measured_of_clients_that_are_counted() -> None:
    aggregation = aggregators.measured(aggregators.clipping(bound=5.0))("float32[2]")
    assert aggregation.needs == "extremes"
    values, weights = [[3.0, 4.0], [6.0, 8.0], [np.inf, 0.0], [9.0, 9.0]], [1.0, 3.0, 1.0, 0.0]
    told = aggregation.next(aggregation.initialize(), values, weights).measurements
    assert [told.min_norm, told.mean_norm, told.max_norm, told.result_norm] == [5, 7.5, 10, 5]
    assert (told.num_clients, told.num_non_finite, told.clipping.num_clipped) == (2, 1, 1)
    nobody = aggregation.next(aggregation.initialize(), values, [0.0] * 4).measurements
    assert [*nobody][:6] == [0] * 6


def test_fixed_denominators_and_bounds_that_fit_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="denominator of mean must be a number above 0, found 0"):
        aggregators.mean(denominator=0)
    with pytest.raises(ValueError, match="multiplier and increment of zeroing are of a bound that moves: give a quan"):
        aggregators.zeroing(multiplier=2.0)
    with pytest.raises(TypeError, match="mean takes tensors of float dtypes, found int32"):
        aggregators.mean(denominator=2)("int32")
