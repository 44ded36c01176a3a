"""Epsilon of rounds: golden figures of dp-accounting 0.6.0 and of papers, and the laws that any accounting obeys."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest

from hansa.privacy import (
    Accountant,
    AtMost,
    Charge,
    Fixed,
    Gaussian,
    Guarantee,
    Local,
    Matrix,
    Poisson,
    Separated,
    Skellam,
    Truncated,
    calibrate,
    claim_of,
    losses,
    renyi,
)
from hansa.simulation import (
    AtMostSampler,
    CyclicSampler,
    EveryClient,
    PoissonSampler,
    TruncatedPoissonSampler,
    UniformSampler,
    WeightedSampler,
)

dp = pytest.importorskip("dp_accounting", reason="the extra hansa[privacy]")


def spent(sampling, rounds: int, *noises: float, delta: float = 1e-5, clients=None) -> Accountant:
    accountant = Accountant(delta)
    accountant.add(Charge(sampling, [Gaussian(noise) for noise in noises]), clients, times=rounds)
    return accountant


@pytest.mark.parametrize(
    ("epsilon", "delta", "noise"),
    [(1.0, 1e-5, 3.730632), (0.5, 1e-6, 8.057618), (8.0, 1e-5, 0.600229), (10.0, 1e-10, 0.683044)],
)
def test_one_gaussian_is_calibrated_exactly(epsilon, delta, noise):
    for claim in (Poisson(1.0), AtMost(1), AtMost()):
        assert calibrate(epsilon, delta, 1, claim) == pytest.approx(noise, abs=1e-6)
    assert spent(Poisson(1.0), 1, noise, delta=delta).exact() == pytest.approx(epsilon, rel=3e-6)


def test_the_classical_formula_is_no_bound_where_epsilon_is_large():
    classical = math.sqrt(2 * math.log(1.25 / 1e-10)) / 10
    assert classical == pytest.approx(0.681894, abs=1e-6)
    assert spent(Poisson(1.0), 1, classical, delta=1e-10).exact() > 10


@pytest.mark.parametrize(
    ("probability", "noise", "rounds", "delta", "exact", "live"),
    [
        (0.01, 4.0, 10_000, 1e-5, 0.946999, 1.035490),  # Abadi et al. 2016, "Deep Learning with Differential Privacy"
        # TensorFlow Privacy's example of MNIST
        pytest.param(256 / 60_000, 1.1, 14_062, 1e-5, 2.381686, 2.596556, marks=pytest.mark.slow),
        (1e-3, 1.0, 1500, 1e-6, 0.221348, 0.875810),  # CIFAR-10 in pfl-research
        pytest.param(0.05, 1.0, 100, 1e-5, 3.502149, 4.038913, marks=pytest.mark.slow),
    ],
)
def test_poisson_sampling(probability, noise, rounds, delta, exact, live):
    accountant = spent(Poisson(probability), rounds, noise, delta=delta)
    assert accountant.epsilon == pytest.approx(live, abs=2e-6)
    assert accountant.exact() == pytest.approx(exact, abs=2e-6)


@pytest.mark.slow
def test_a_count_beside_the_sum_counts():
    # An adaptive clip's, whose noise is 5 and of which each client is a half.
    assert spent(Poisson(0.05), 100, 1.0, 10.0).exact() == pytest.approx(3.538802, abs=2e-6)


@pytest.mark.slow
def test_cohorts_that_are_cut():
    accountant = spent(Truncated(0.05, 1000, 70), 100, 1.0)
    assert accountant.exact() == pytest.approx(5.501615, abs=1e-3)
    assert 5.501 < accountant.epsilon < 6.1


def test_other_samplings():
    assert spent(Fixed(50, 1000), 100, 1.0).exact() == pytest.approx(34.263536, abs=2e-6)
    assert spent(AtMost(5), 100, 1.0).exact() == pytest.approx(11.480023, abs=2e-6)
    assert spent(Poisson(1.0), 100, 10.0).exact() == pytest.approx(4.377179, abs=2e-6)
    counted = Accountant(1e-5)
    for number in range(100):
        counted.add(Charge(AtMost(), [Gaussian(1.0)]), range(number % 20, 400, 20))
    assert counted.exact() == pytest.approx(11.480023, abs=2e-6)


@pytest.mark.slow
def test_who_is_replaced_changes_a_sum_by_two_bounds():
    """dp-accounting's PLD counts that itself, and its RDP does not: figures of both, and of a Gaussian for everyone."""
    relation = dp.NeighboringRelation.REPLACE_ONE
    by_loss = dp.pld.PLDAccountant(relation)
    by_loss.compose(dp.GaussianDpEvent(1.0))
    assert by_loss.get_epsilon(1e-5) == pytest.approx(9.997, abs=1e-3)
    assert losses.gaussian_epsilon(0.5, 1e-5) == pytest.approx(9.997, abs=1e-3)
    # Where all take part, a fixed size is no sampling: RDP of the halved noise is above the exact figure, and near it.
    ours = spent(Fixed(1000, 1000), 1, 1.0).exact()
    assert 9.997 < ours < 10.8
    sampled = dp.pld.PLDAccountant(relation, value_discretization_interval=1e-3)
    sampled.compose(dp.PoissonSampledDpEvent(0.05, dp.GaussianDpEvent(1.0)), 100)
    assert sampled.get_epsilon(1e-5) == pytest.approx(4.889526, abs=1e-5)


@pytest.mark.slow
def test_published_figures_by_the_conversion_of_their_time():
    """Epsilon as the least of RDP + log(1 / delta) / (order - 1), until 2020."""
    at = tuple([1.25 + i / 4 for i in range(3, 200)] + [float(order) for order in range(52, 257, 4)])

    def converted(probability: float, noise: float, rounds: int) -> float:
        values = rounds * renyi.sampled(Poisson(probability), noise, at)
        return float(np.min(values + math.log(1e5) / (np.array(at) - 1)))

    assert converted(0.01, 4.0, 10_000) == pytest.approx(1.258389, abs=2e-6)  # published: 1.26
    for noise, epochs, published in ((1.3, 15, 1.191182), (1.1, 60, 3.008387), (0.7, 45, 7.109517)):
        assert converted(256 / 60_000, noise, int(epochs * 60_000 / 256)) == pytest.approx(published, abs=2e-6)


@pytest.mark.slow
def test_delta_at_an_epsilon():
    assert losses.delta({(Poisson(0.2), 0.5): 3}, 1.0) == pytest.approx(0.155933, abs=2e-5)


def test_skellam_noise_costs_what_gaussian_noise_does():
    def epsilon(units: int) -> float:
        return renyi.epsilon(renyi.skellam(10.0, 1.0, units), 1e-5)

    assert losses.gaussian_epsilon(0.1**0.5, 1e-5) == pytest.approx(17.8566, abs=1e-4)
    assert renyi.epsilon(renyi.gaussian(0.1**0.5), 1e-5) == pytest.approx(19.0536, abs=1e-4)
    assert [epsilon(2**bits) for bits in (4, 8, 10)] == pytest.approx([19.1513, 19.0540, 19.0536], abs=1e-4)
    accountant = Accountant(1e-5)
    charge = Charge(Poisson(0.05), [Skellam(1.0, min_cohort=5)])
    accountant.add(charge, ["a", "b"], times=10)
    assert accountant.exact() == pytest.approx(19.0536, abs=1e-4)  # the server knows the cohort
    assert accountant.guarantee(10).against == "the server"


def test_local_noise_is_of_two_reports_that_are_twice_the_bound_apart():
    accountant = Accountant(1e-5)
    accountant.add(Charge(AtMost(), [Local(2 * 3.730632)]), ["a"])
    assert accountant.exact() == pytest.approx(1.0, rel=1e-6)
    assert accountant.guarantee(1) == Guarantee(accountant.exact(), 1e-5, "client", "replace one", "the server", 1)
    assert calibrate(1.0, 1e-5, 1, AtMost(), mechanism="local") == pytest.approx(2 * 3.730632, abs=2e-6)


def test_correlated_noise_is_one_mechanism_for_all_rounds():
    mechanism = Matrix(3.730632, terms=4, power=0.5, separation=5, rounds=20)
    accountant = Accountant(1e-5)
    charge = Charge(claim_of(CyclicSampler(10, 5)), [mechanism])
    for _ in range(20):
        accountant.add(charge)
        assert accountant.exact() == pytest.approx(1.0, rel=1e-6)
    with pytest.raises(ValueError, match="for 20 rounds, and there is one more"):
        accountant.add(charge)
    for sampling in (Separated(4), Poisson(0.5), Poisson(1.0), AtMost(), AtMost(2)):
        with pytest.raises(ValueError, match=r"5 rounds apart.*CyclicSampler\(len\(data\), separation=5\)"):
            Charge(sampling, [mechanism])
    Charge(AtMost(1), [mechanism])


# Laws.


def test_epsilon_grows_with_rounds_and_probability_and_falls_with_noise():
    at = spent(Poisson(0.05), 100, 1.0)
    for more in (spent(Poisson(0.05), 101, 1.0), spent(Poisson(0.051), 100, 1.0), spent(Poisson(0.05), 100, 0.99)):
        assert more.epsilon > at.epsilon
    for sampling in (Poisson(1.0), Fixed(50, 1000), AtMost(), AtMost(200)):
        assert spent(sampling, 101, 3.0).exact() > spent(sampling, 100, 3.0).exact() > spent(sampling, 100, 3.1).exact()


@pytest.mark.parametrize("sampling", [Poisson(0.05), Poisson(1.0), Fixed(50, 1000), AtMost()], ids=str)
def test_equal_rounds_one_by_one_are_as_many_at_once(sampling):
    one_by_one = Accountant(1e-5, [Charge(sampling, [Gaussian(2.0)])] * 20)
    at_once = spent(sampling, 20, 2.0)
    assert one_by_one.epsilon == pytest.approx(at_once.epsilon, rel=1e-12)
    if sampling != Poisson(0.05):  # which takes a second
        assert one_by_one.exact() == pytest.approx(at_once.exact(), rel=1e-12)


def test_several_sums_of_one_cohort_are_one_of_less_noise():
    joint = (1 / 1.5**2 + 1 / 4**2) ** -0.5
    assert spent(Poisson(0.05), 10, 1.5, 4.0).epsilon == pytest.approx(spent(Poisson(0.05), 10, joint).epsilon)


def test_who_is_in_a_cohort_twice_counts_twice():
    once, twice = Accountant(1e-5), Accountant(1e-5)
    once.add(Charge(AtMost(), [Gaussian(2.0)]), [1, 2, 3])
    twice.add(Charge(AtMost(), [Gaussian(4.0)]), [1, 2, 2])
    assert once.exact() == pytest.approx(twice.exact())


def test_a_promise_of_how_often_a_client_takes_part_is_kept():
    accountant = Accountant(1e-5)
    charge = Charge(AtMost(2), [Gaussian(1.0)])
    accountant.add(charge, [1, 2])
    accountant.add(charge, [2, 3])
    with pytest.raises(ValueError, match="client 2 would be in 3 rounds, and its sampler promises 2 at most"):
        accountant.add(charge, [2])


def test_rounds_of_different_sampling_are_refused():
    accountant = spent(Poisson(0.05), 1, 1.0)
    with pytest.raises(ValueError, match="accounted for together only if"):
        accountant.add(Charge(Fixed(5, 100), [Gaussian(1.0)]))
    accountant.add(Charge(Poisson(0.1), [Gaussian(1.0)]))


# Budgets.


def room(sampling, noise: float, epsilon: float, ahead: int = 1000) -> int:
    """For how many rounds there is room, asked one after another as a run does."""
    accountant, charge = Accountant(1e-5), Charge(sampling, [Gaussian(noise)])
    for number in range(ahead):
        if not accountant.has_room(charge, epsilon, ahead=ahead - number):
            return number
        accountant.add(charge)
        assert accountant.epsilon <= max(epsilon, 0) or not isinstance(sampling, Poisson)
    return ahead


@pytest.mark.slow
def test_a_budget_ends_before_the_round_that_exceeds_it():
    rounds = room(Poisson(0.05), 1.0, 3.502149, 104)
    assert rounds in (99, 100)
    assert losses.epsilon({(Poisson(0.05), 1.0): rounds}, 1e-5) <= 3.502149
    assert losses.epsilon({(Poisson(0.05), 1.0): rounds + 1}, 1e-5) > 3.502149
    for sampling, noise in ((Poisson(1.0), 10.0), (Fixed(50, 1000), 4.0), (AtMost(), 10.0)):
        rounds = room(sampling, noise, 2.0)
        assert 0 < rounds < 1000
        assert spent(sampling, rounds, noise).exact() <= 2.0 < spent(sampling, rounds + 1, noise).exact()


@pytest.mark.slow
def test_a_calibrated_run_has_room_for_exactly_its_rounds():
    sampling = Poisson(0.1)
    noise = calibrate(4.0, 1e-5, 30, sampling)
    assert room(sampling, noise, 4.0, 31) == 30
    assert noise == pytest.approx(losses_root(sampling, 30, 4.0), rel=1e-4)


def losses_root(sampling: Poisson, rounds: int, epsilon: float) -> float:
    """The same by dp-accounting's own calibration, on a coarse grid."""
    return dp.calibrate_dp_mechanism(
        lambda: dp.pld.PLDAccountant(value_discretization_interval=1e-3),
        lambda z: dp.SelfComposedDpEvent(dp.PoissonSampledDpEvent(sampling.probability, dp.GaussianDpEvent(z)), rounds),
        epsilon,
        1e-5,
        dp.ExplicitBracketInterval(0.6, 2.0),
        tol=1e-4,
    )


@pytest.mark.slow
def test_calibration_is_quick_and_finds_the_published_setting():
    begin = time.process_time()
    noise = calibrate(2.0, 1e-6, 1500, Poisson(1e-3))
    assert time.process_time() - begin < 8  # 3 seconds where nothing else runs
    assert noise == pytest.approx(0.616146, abs=2e-6)
    assert losses.epsilon({(Poisson(1e-3), noise): 1500}, 1e-6) == pytest.approx(1.999988, abs=2e-5)
    coarse = losses.epsilon({(Poisson(1e-3), 0.616276): 1500}, 1e-6, losses.COARSE)
    assert coarse == pytest.approx(1.998, abs=1e-3)


def test_live_epsilon_takes_less_than_a_millisecond_a_round():
    accountant, charge = Accountant(1e-5), Charge(Poisson(0.05), [Gaussian(1.0)])
    accountant.add(charge)
    begin = time.process_time()
    for _ in range(200):
        accountant.add(charge)
        _ = accountant.epsilon
    assert (time.process_time() - begin) / 200 < 2e-3  # a third of a millisecond where nothing else runs


# Claims and words.


def test_what_may_be_claimed_of_a_sampler():
    class Own(PoissonSampler):
        def __call__(self, round_number):
            return super().__call__(0)

    for sampler, claim in {
        PoissonSampler(100, 0.1): Poisson(0.1),
        EveryClient(100): Poisson(1.0),
        TruncatedPoissonSampler(100, 0.1, 20): Truncated(0.1, 100, 20),
        UniformSampler(100, 10): Fixed(10, 100),
        UniformSampler(100, 10, replace=True): AtMost(),
        CyclicSampler(100, 10): Separated(10),
        AtMostSampler(100, 10, 3): AtMost(3),
        WeightedSampler(np.ones(100), 10): AtMost(),
        Own(100, 0.1): AtMost(),
    }.items():
        assert claim_of(sampler) == claim


def test_a_charge_is_written_and_read():
    for sampling in (Poisson(0.1), Truncated(0.1, 100, 20), Fixed(10, 100), AtMost(), AtMost(3)):
        charge = Charge(sampling, [Gaussian(1.0), Gaussian(10.0)])
        assert Charge.from_json(charge.to_json()) == charge
    charge = Charge(Separated(5), [Matrix(1.0, 4, 0.5, 5, 20)])
    assert Charge.from_json(charge.to_json()) == charge
    with pytest.raises(ValueError, match="is no charge"):
        Charge.from_json({"sampling": {"kind": "poisson"}, "releases": []})


def test_a_guarantee_is_a_sentence():
    assert str(Guarantee(math.inf, 1e-5, rounds=1)).startswith("no guarantee after 1 round:")
    assert "epsilon 2.5 at delta 1e-05 after 10 rounds" in str(Guarantee(2.5, 1e-5, rounds=10))


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: calibrate(0, 1e-5, 1, Poisson(0.1)), ValueError, "epsilon must be more than 0"),
        (lambda: calibrate(1.0, 2, 1, Poisson(0.1)), ValueError, "delta must be between 0 and 1"),
        (lambda: calibrate(1.0, "a", 1, Poisson(0.1)), TypeError, "delta must be a number, such as 1e-6"),
        (lambda: calibrate(1.0, 1e-5, 0, Poisson(0.1)), ValueError, "rounds must be an integer of 1 or more"),
        (lambda: calibrate(1.0, 1e-5, 1, Poisson(0.0)), ValueError, "nobody takes part"),
        (lambda: calibrate(1.0, 1e-5, 1, Poisson(0.1), mechanism="m"), ValueError, "mechanism must be 'gaussian', "),
        (lambda: Poisson(1.5), ValueError, "probability must be from 0 to 1"),
        (lambda: Fixed(5, 4), ValueError, "cohort must be at most the number of clients"),
        (lambda: Charge(Poisson(0.1), []), ValueError, "nothing that leaves the round is noised"),
    ],
)
def test_what_cannot_be_is_said(call, kind, message):
    with pytest.raises(kind, match=message):
        call()
