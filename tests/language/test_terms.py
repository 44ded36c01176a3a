"""What holds for clients' contributions: bounds, how many there must be, and what is to be seen of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hansa
from hansa.language.terms import Terms

KIND = "{<a=float32[2],b=float32>}@CLIENTS"
VALUES = [
    {"a": [3.0, 0.0], "b": 4.0},  # of norm 5, which is the bound
    {"a": [3.0, 0.1], "b": 4.0},
    {"a": [1.0, 2.0], "b": 0.0},
    {"a": [float("nan"), 0.0], "b": 0.0},
    {"a": [1.0, 1.0], "b": 1.0},
    {"a": [2.0, 0.0], "b": 1.0},
]
WEIGHTS = [1.0, 1.0, 3.0, 1.0, 10.5, float("nan")]


@hansa.federated_computation(KIND, "{float32}@CLIENTS")
def bounded(values, weights):
    return {
        "weighted": hansa.federated_mean(
            values, weights, max_norm=5.0, max_weight=10.0, min_cohort=2, disclosure="sum", count_excluded=True
        ),
        "mean": hansa.federated_mean(values, max_norm=5.0),
        "sum": hansa.federated_sum(values.b, max_norm=4, count_excluded=True),
    }


def check(found: Any) -> None:
    a, b = np.float64([value["a"] for value in VALUES]), np.float64([value["b"] for value in VALUES])
    few, within = [0, 2], [0, 2, 4, 5]
    np.testing.assert_allclose(found.weighted.mean.a, (a[few] * [[1], [3]]).sum(0) / 4, rtol=1e-6)
    assert int(found.weighted.num_excluded) == 4
    np.testing.assert_allclose(found.mean.a, a[within].mean(0), rtol=1e-6)
    np.testing.assert_allclose(found.mean.b, b[within].mean(), rtol=1e-6)
    assert (float(found.sum.sum), int(found.sum.num_excluded)) == (b.sum(), 0)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("terms") / "bounded.hansa"
    hansa.save(bounded, path, platforms=["cpu"])
    return path


def test_who_exceeds_a_bound_is_excluded_whole_and_counted(saved: Path) -> None:
    check(bounded(VALUES, WEIGHTS))
    check(hansa.load(saved)(VALUES, WEIGHTS))
    with hansa.runtime(hansa.ReferenceRuntime()):
        check(bounded(VALUES, WEIGHTS))


def test_a_cohort_of_too_few_is_refused(saved: Path) -> None:
    said = "federated_mean at .*test_terms.py.* is to be of at least min_cohort=2 clients, and 1 takes part"
    for runtime in (hansa.InProcessRuntime(), hansa.ReferenceRuntime()):
        with hansa.runtime(runtime), pytest.raises(ValueError, match=said):
            bounded(VALUES[:1], WEIGHTS[:1])
    with pytest.raises(ValueError, match="of at least min_cohort=2 clients, and 0 take part"):
        hansa.load(saved)([], [])


def test_so_is_one_of_which_too_few_are_left(saved: Path) -> None:
    said = "min_cohort=2 clients, and has contributions of fewer"
    both = hansa.federated_computation(lambda x: hansa.federated_sum(x, max_norm=1, min_cohort=2), "{int64}@CLIENTS")
    chunks = hansa.InProcessRuntime(clients_per_chunk=2)
    for runtime in (hansa.InProcessRuntime(), chunks, hansa.ReferenceRuntime()):
        with hansa.runtime(runtime):
            with pytest.raises(ValueError, match=said):
                both([1, 5, 7])
            assert int(both([1, 5, -1, 1])) == 1
            with pytest.raises(ValueError, match=said):
                bounded(VALUES[:2] + VALUES[3:], WEIGHTS[:2] + WEIGHTS[3:])
    with pytest.raises(ValueError, match=said):
        hansa.load(saved)(VALUES[:2] + VALUES[3:], WEIGHTS[:2] + WEIGHTS[3:])


def test_stages_report_no_state_of_too_few() -> None:
    stages = hansa.Stages(bounded)
    stage = stages.clients[0]
    given = [stage.work([], [value, weight]).contributions for value, weight in zip(VALUES, WEIGHTS, strict=True)]

    def fold(numbers: list[int]) -> Any:
        state = stage.zero()
        for number in numbers:
            state = stage.accumulate(state, given[number])
        return state

    for numbers in ([4, 0], [0, 1, 3]):
        with pytest.raises(ValueError, match="of at least min_cohort=2 clients, and has contributions of fewer"):
            stage.report(stage.merge(fold(numbers[:1]), fold(numbers[1:])))
    check(stages.result(stage.report(stage.merge(fold([3, 1, 5]), fold([4, 2, 0])))))


def test_files_and_explanations_say_it(saved: Path) -> None:
    terms = Terms("sum", 5.0, 10.0, 2)
    (stage,) = hansa.load_ports(saved).clients
    assert [fold.terms for fold in stage.aggregates].count(terms) == 1
    assert [part.terms for part in hansa.load_client_stage(saved).contributions].count(terms) == 1
    text = hansa.explain(bounded)
    assert "mean at the server, protected, norm at most 5, weight at most 10, of at least 2 clients" in text
    assert "mean at the server, norm at most 5\n" in text
    assert "protected    mean, sum: in a deployment the server would see only the sum" in text


@pytest.mark.parametrize(
    ("use", "error", "message"),
    [
        (lambda v: hansa.federated_sum(v, max_norm=0), ValueError, "max_norm of federated_sum must be a positive"),
        (
            lambda v: hansa.federated_sum(v, max_norm=10**400),
            ValueError,
            "max_norm of federated_sum must be a positive",
        ),
        (lambda v: hansa.federated_mean(v, max_norm=v), ValueError, "must be a positive number that is known here"),
        (lambda v: hansa.federated_mean(v, max_weight=1.0), TypeError, "is of weights, and it is given none"),
        (lambda v: hansa.federated_max(v, min_cohort=0), ValueError, "min_cohort of federated_max must be a positive"),
        (lambda v: hansa.federated_sum(v, disclosure="none"), ValueError, "must be 'each' or 'sum', found 'none'"),
        (lambda v: hansa.federated_sum(v, count_excluded=True), ValueError, "give max_norm, too"),
    ],
)
def test_what_is_no_bound_is_refused(use: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        hansa.federated_computation(use, "{float32}@CLIENTS")
