"""Values that are to spoil a round: infinite numbers, NaN, ones that overflow; and rounds of one client or nobody."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hansa import aggregators

GOOD = [np.float32([1.0, 2.0]), np.float32([1.5, 2.5]), np.float32([2.0, 1.5]), np.float32([1.0, 1.0])]
BAD = {
    "infinite": np.float32([np.inf, 0.0]),
    "nan": np.float32([np.nan, np.nan]),
    "overflowing": np.float32([3e38, -3e38]),
}
RULES = {
    "clipping": aggregators.clipping(bound=2.0, quantile=0.5),
    "zeroing": aggregators.zeroing(aggregators.clipping(bound=2.0), quantile=0.9),
    "geometric_median": aggregators.geometric_median(),
    "median": aggregators.median(),
    "trimmed_mean": aggregators.trimmed_mean(0.2),
    "krum": aggregators.krum(1),
    "multi_krum": aggregators.multi_krum(1, 3),
    "bulyan": aggregators.bulyan(1),
    "excluding": aggregators.excluding(bound=4.0, quantile=0.9),
}


def of_round(aggregation: Any, values: list[Any], weights: list[float]) -> Any:
    return aggregation.next(aggregation.initialize(), values, weights)


QUICK = ("clipping", "bulyan")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in RULES]
)
def test_one_client_of_five_does_not_spoil_a_robust_rule(name: str) -> None:
    aggregation = RULES[name]("float32[2]")
    for kind, bad in BAD.items():
        output = of_round(aggregation, [*GOOD, bad], [1.0] * 5)
        assert np.abs(output.result).max() <= 3, kind
        assert all(np.isfinite(np.asarray(leaf)).all() for leaf in _numbers(output)), kind
    for values in ([bad], [np.float32([0.0, 0.0])]):
        output = of_round(aggregation, values, [1.0])
        assert all(np.isfinite(np.asarray(leaf)).all() for leaf in _numbers(output.state))
    for values, weights in (([], []), ([BAD["nan"]], [0.0])):
        output = of_round(aggregation, values, weights)
        assert not np.asarray(output.result).any()
        assert [*map(float, _numbers(output.state))] == [*map(float, _numbers(aggregation.initialize()))]


def test_sums_leave_out_who_is_not_finite_or_has_no_weight() -> None:
    for weights in ([1.0, 1.0, 2.0], [1.0, -1.0, 2.0], [1.0, np.nan, 2.0], [1.0, np.inf, 2.0]):
        values = [np.float32([1, 2]), BAD["infinite"] if weights[1] == 1 else GOOD[0], np.float32([4, 5])]
        assert np.asarray(of_round(aggregators.mean()("float32[2]"), values, weights).result).tolist() == [3, 4]
        assert np.asarray(of_round(aggregators.sum()("float32[2]"), values, weights).result).tolist() == [5, 7]


def test_a_rule_within_one_that_bounds_looks_at_what_it_makes_itself() -> None:
    beyond = aggregators.attacks.scaled(
        share=0.999, factor=1e38
    )  # what is bounded is finite, what is made of it is not
    for rule in (
        aggregators.clipping(beyond, bound=1e3),
        aggregators.clipping(aggregators.zeroing(beyond, bound=1e6), bound=1e3),
    ):
        output = of_round(rule("float32[2]"), [np.float32([500.0, 1.0]), np.float32([1.0, 1.0])], [1.0, 1.0])
        assert np.allclose(output.result, np.float32([1e38, 1e38]), rtol=1e-6)  # of the one that does not overflow


def _numbers(value: Any) -> list[Any]:
    if isinstance(value, np.ndarray | np.generic) or hasattr(value, "dtype"):
        return [value]
    return [leaf for part in value for leaf in _numbers(part)]
