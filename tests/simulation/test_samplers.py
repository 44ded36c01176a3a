"""Samplers are functions of the seed and the round, and draw from the distributions that they name."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats

from hansa.simulation import (
    AtMostSampler,
    AvailabilitySampler,
    CyclicSampler,
    EveryClient,
    PoissonSampler,
    Sampler,
    SimulatedParticipation,
    TruncatedPoissonSampler,
    UniformSampler,
    WeightedSampler,
)

MAKERS: dict[str, Callable[[int], Sampler]] = {
    "uniform": lambda seed: UniformSampler(50, 10, seed),
    "poisson": lambda seed: PoissonSampler(50, 0.2, seed),
    "truncated": lambda seed: TruncatedPoissonSampler(50, 0.2, 15, seed),
    "weighted": lambda seed: WeightedSampler(np.arange(50), 10, seed),
    "available": lambda seed: AvailabilitySampler(np.zeros(50), np.arange(50) % 24, 10, period=24, seed=seed),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_a_cohort_depends_on_the_seed_and_the_round_alone(make: Callable[[int], Sampler]) -> None:
    sampler, cohorts = make(1), {}
    for round_number in (7, 0, 3, 5002):
        cohorts[round_number] = sampler(round_number)
        assert cohorts[round_number].dtype == np.int64
        assert len(set(cohorts[round_number].tolist())) == len(cohorts[round_number])
        assert cohorts[round_number].min() >= 0
        assert cohorts[round_number].max() < 50
    again, other = make(1), make(2)
    for round_number in reversed(cohorts):
        np.testing.assert_array_equal(again(round_number), cohorts[round_number])
        assert set(other(round_number)) != set(cohorts[round_number])
    assert len({frozenset(cohort.tolist()) for cohort in cohorts.values()}) == 4
    with pytest.raises(ValueError, match="round_number must be an integer of 0 or more; found -1"):
        sampler(-1)


def test_every_cohort_of_a_size_is_as_likely() -> None:
    sampler = UniformSampler(5, 2, seed=3)
    seen = Counter(tuple(sorted(sampler(i).tolist())) for i in range(2000))
    counts = [seen[pair] for pair in itertools.combinations(range(5), 2)]
    assert sum(counts) == 2000
    assert scipy.stats.chisquare(counts).pvalue > 0.001


def test_poisson_clients_are_independent() -> None:
    sampler, rounds = PoissonSampler(40, 0.3, seed=1), 2000
    there = np.zeros((rounds, 40))
    for i in range(rounds):
        there[i, sampler(i)] = 1
    sizes = there.sum(1)
    expected = scipy.stats.binom(40, 0.3)
    bounds = [-1, 7, 9, 11, 12, 14, 16, 40]
    observed = np.histogram(sizes, np.array(bounds) + 0.5)[0]
    assert scipy.stats.chisquare(observed, rounds * np.diff(expected.cdf(bounds))).pvalue > 0.001
    z = (there.sum(0) - rounds * 0.3) / np.sqrt(rounds * 0.3 * 0.7)
    assert scipy.stats.kstest(z, "norm").pvalue > 0.001
    correlations = np.corrcoef(there.T)[np.triu_indices(40, 1)]
    assert abs(correlations.mean()) < 4 / np.sqrt(rounds * len(correlations))
    assert PoissonSampler(3, 1.0)(0).size == 3
    assert any(PoissonSampler(3, 0.1)(i).size == 0 for i in range(20))


def test_weighted_cohorts_are_drawn_one_client_after_another() -> None:
    weights = np.array([1.0, 0.0, 3.0, 2.0])
    sampler = WeightedSampler(weights, 2, seed=4)
    seen = Counter(tuple(sampler(i).tolist()) for i in range(3000))
    expected = {}
    for first, second in itertools.permutations([0, 2, 3], 2):
        expected[first, second] = weights[first] / 6 * weights[second] / (6 - weights[first])
    assert set(seen) == set(expected)
    observed = [seen[pair] for pair in expected]
    assert scipy.stats.chisquare(observed, 3000 * np.array(list(expected.values()))).pvalue > 0.001
    assert sorted(WeightedSampler(weights, 3)(0).tolist()) == [0, 2, 3]


def test_a_cut_cohort_is_a_poisson_cohort_without_some() -> None:
    sampler, rounds = TruncatedPoissonSampler(40, 0.3, 12, seed=2), 2000
    cohorts = [sampler(i) for i in range(rounds)]
    sizes = np.array([len(cohort) for cohort in cohorts])
    assert sizes.max() == 12
    expected = scipy.stats.binom(40, 0.3)
    observed = [(sizes <= 8).sum(), ((sizes > 8) & (sizes < 11)).sum(), (sizes == 11).sum(), (sizes == 12).sum()]
    cumulative = expected.cdf([8, 10, 11])
    probabilities = np.diff(np.concatenate([[0.0], cumulative, [1.0]]))
    assert scipy.stats.chisquare(observed, rounds * probabilities).pvalue > 0.001
    counts = np.bincount(np.concatenate(cohorts), minlength=40)
    share = sizes.sum() / rounds / 40
    z = (counts - rounds * share) / np.sqrt(rounds * share * (1 - share))
    assert scipy.stats.kstest(z, "norm").pvalue > 0.001


@pytest.mark.parametrize(("clients", "separation"), [(12, 4), (13, 4), (7, 7), (5, 1)])
def test_in_cycles_each_client_comes_once_in_so_many_rounds(clients: int, separation: int) -> None:
    sampler = CyclicSampler(clients, separation, seed=3)
    for first in (0, 1, 5002):
        window = [sampler(first + i) for i in range(separation)]
        assert sorted(np.concatenate(window).tolist()) == list(range(clients))
        sizes = [len(cohort) for cohort in window]
        assert max(sizes) - min(sizes) <= 1
        np.testing.assert_array_equal(sampler(first), sampler(first + separation))
    if separation == 4:
        assert set(sampler(1)) != set(CyclicSampler(clients, separation, seed=4)(1))


@pytest.mark.parametrize(("clients", "cohort", "passes"), [(12, 4, 2), (13, 4, 3), (5, 5, 2)])
def test_nobody_is_more_often_in_a_run_than_is_said(clients: int, cohort: int, passes: int) -> None:
    sampler = AtMostSampler(clients, cohort, passes, seed=1)
    per_pass = clients // cohort
    assert sampler.rounds == per_pass * passes
    cohorts = [sampler(i) for i in range(1, sampler.rounds + 1)]
    assert all(len(drawn) == cohort for drawn in cohorts)
    for begin in range(0, sampler.rounds, per_pass):
        assert np.bincount(np.concatenate(cohorts[begin : begin + per_pass])).max() == 1
    for outside in (0, sampler.rounds + 1):
        with pytest.raises(ValueError, match=f"rounds 1 to {sampler.rounds}, .* found round_number {outside}"):
            sampler(outside)
    assert cohort == clients or set(cohorts[0]) != set(cohorts[per_pass])


def test_everyone_is_everyone() -> None:
    np.testing.assert_array_equal(EveryClient(3)(7), [0, 1, 2])


@pytest.mark.parametrize(
    "make",
    [*MAKERS.values(), lambda seed: CyclicSampler(50, 5, seed), lambda seed: AtMostSampler(50, 10, 9, seed)],
    ids=[*MAKERS, "cyclic", "at most"],
)
def test_a_secret_seed_takes_the_place_of_one_that_is_not_given(make: Callable[[int | None], Sampler]) -> None:
    sampler = make(None)
    secret = sampler.with_secret(2**255 + 12345)
    assert (sampler.is_open, make(0).is_open, secret.is_open) == (False, True, False)
    np.testing.assert_array_equal(sampler(3), make(0)(3))
    np.testing.assert_array_equal(secret(3), make(2**255 + 12345)(3))
    assert set(secret(3)) != set(sampler(3))
    assert repr(sampler).endswith("seed 0)")
    assert repr(secret).endswith("secret seed)")
    assert "12345" not in repr(secret)


class TestAvailability:
    def test_windows_come_again_each_period_and_go_over_its_end(self) -> None:
        sampler = AvailabilitySampler([22, 8, 0], [6, 17, 24], 3, period=24, round_length=0.5)
        for round_number in range(100):
            hour = round_number * 0.5 % 24
            expected = [hour >= 22 or hour < 6, 8 <= hour < 17, True]
            assert sampler.available(round_number).tolist() == expected
            assert sorted(sampler(round_number).tolist()) == np.flatnonzero(expected).tolist()

    def test_without_a_period_a_window_comes_once(self) -> None:
        sampler = AvailabilitySampler([0, 3], [2, 100], 5)
        assert [sampler(i).tolist() for i in (0, 1, 2, 99, 100)] == [[0], [0], [], [1], []]

    def test_of_the_available_ones_all_are_as_likely(self) -> None:
        sampler = AvailabilitySampler(np.zeros(12), np.where(np.arange(12) < 8, 1e6, 0), 2, seed=6)
        counts = np.bincount(np.concatenate([sampler(i) for i in range(1500)]), minlength=12)
        assert (counts[8:] == 0).all()
        # Two of each round, so that counts vary less than independent draws would.
        z2 = ((counts[:8] - 375) ** 2 / (1500 * 0.25 * 0.75)).sum() * 7 / 8
        assert scipy.stats.chi2(7).sf(z2) > 0.001


def test_the_same_seed_serves_a_sampler_and_a_participation() -> None:
    # Were their draws the same, who is drawn first would always drop out.
    sampler = PoissonSampler(1, 0.5, seed=0)
    participation = SimulatedParticipation(lambda i: [0], [1], dropout=0.5, seed=0)
    drawn = np.array([sampler(i).size for i in range(400)])
    dropped = np.array([participation(i).dropped.size for i in range(400)])
    assert (
        scipy.stats.chi2_contingency(
            [
                [(drawn & dropped).sum(), (drawn & (1 - dropped)).sum()],
                [((1 - drawn) & dropped).sum(), ((1 - drawn) & (1 - dropped)).sum()],
            ]
        ).pvalue
        > 0.001
    )


def test_a_cohort_size_may_be_a_fraction_of_the_clients():
    for share, clients, expected in ((0.1, 30, 3), (0.25, 10, 3), (0.01, 30, 1), (1.0, 7, 7)):
        assert len(UniformSampler(clients, share)(0)) == len(WeightedSampler(np.ones(clients), share)(0)) == expected


BAD = {
    "separation": (lambda: CyclicSampler(3, 4), ValueError, "separation must be at most the number of clients, 3"),
    "participations": (lambda: AtMostSampler(3, 2, 0), ValueError, "participations must be an integer of 1 or more"),
    "population": (
        lambda: UniformSampler([1, 2, 3], 2),
        TypeError,
        r"clients must be their number; .* write len\(data\)",
    ),
    "cohort": (lambda: UniformSampler(3, 4), ValueError, "cohort_size must be from 1 to the number of clients, 3"),
    "old name": (lambda: UniformSampler(3, cohort=2), TypeError, "no argument 'cohort': write cohort_size= in its pl"),
    "whole": (lambda: UniformSampler(30, 10.0), ValueError, r"a float of .* found 10.0; for 10 clients write 10"),
    "probability": (lambda: PoissonSampler(3, 1.5), ValueError, "probability must be .* at most 1; found 1.5"),
    "negative": (lambda: WeightedSampler([1, -2], 1), ValueError, "that of client 1 is -2"),
    "weights": (lambda: WeightedSampler([1, 0, 0], 2), ValueError, "clients with a weight of more than 0, 1; found 2"),
    "windows": (lambda: AvailabilitySampler([1, 2], [3], 1), ValueError, "opens is of 2 clients, closes of 1"),
    "hour": (
        lambda: AvailabilitySampler([1, 25], [3, 4], 1, period=24),
        ValueError,
        "opens must be from 0 to the period, 24; that of client 1 is 25",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_mistakes_are_told(case: str) -> None:
    run, kind, message = BAD[case]
    with pytest.raises(kind, match=message):
        run()


def test_weights_that_are_masked_or_add_up_to_infinity_are_refused():
    with pytest.raises(ValueError, match="weights: 1 values of an array are masked, the first at"):
        WeightedSampler(np.ma.array([1.0, 2.0], mask=[False, True]), 1)
    with pytest.raises(ValueError, match=r"weights add up to more than float64 holds; divide them by 1e\+308"):
        WeightedSampler([1e308, 1e308], 1, replace=True)
