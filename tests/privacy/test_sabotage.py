"""What somebody could do by mistake or on purpose to a private sum: it is refused, or charged for what it is."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import hansa
from hansa.privacy import Accountant, AtMost, Charge, Fixed, Gaussian, Poisson, Skellam, claim_of
from hansa.simulation import PoissonSampler
from hansa.templates import IterativeProcess
from tests.program.private_run import BUDGET, population, run

NOISE = Gaussian(1.0)
VALUES = "{float32}@CLIENTS"


def computed(function, *kinds):
    return hansa.jax_computation(function, *kinds)


def refused(made, *words):
    for word in words:
        with pytest.raises(ValueError, match=word):
            hansa.privacy.require_private(made)


# What leaves beside the noised sum.


def test_a_mean_over_who_came_is_refused():
    @hansa.federated_computation(VALUES)
    def mean(values):
        total = hansa.federated_private_sum(values, 1.0, NOISE)
        ones = hansa.federated_map(computed(lambda x: jnp.float32(1)), values)
        return hansa.federated_map(computed(lambda a, n: a / n), [total, hansa.federated_sum(ones)])

    refused(mean, "made of federated_sum")


def test_a_mean_by_weights_is_refused_and_so_is_their_sum_beside_it():
    @hansa.federated_computation("{<x=float32,w=float32>}@CLIENTS")
    def mean(values):
        weighted = hansa.federated_map(computed(lambda v: v.x * v.w), values)
        total = hansa.federated_private_sum(weighted, 1.0, NOISE)
        return hansa.federated_map(computed(lambda a, n: a / n), [total, hansa.federated_sum(values.w)])

    refused(mean, "made of federated_sum")


def test_how_many_rows_there_are_is_a_fact_about_the_clients():
    @hansa.federated_computation(VALUES)
    def number(values):
        noised = hansa.federated_private_sum(values, 1.0, NOISE)
        rows = hansa.federated_stack(values)
        return noised, hansa.federated_map(computed(lambda rows: jnp.float32(rows.shape[0])), rows)

    refused(number, r"\[1\] is made of federated_stack")


@pytest.mark.parametrize(
    "decide",
    [
        lambda bare, noised: jnp.where(bare > 0, noised, 0),
        lambda bare, noised: jnp.stack([noised, -noised])[bare.astype(int)],
        lambda bare, noised: lax.cond(bare > 0, lambda: noised, lambda: -noised),
        lambda bare, noised: lax.while_loop(lambda s: s[0] < bare, lambda s: (s[0] + 1, s[1] * 2), (0.0, noised))[1],
        lambda bare, noised: lax.scan(lambda c, _: ((c[1], c[0]), 0), (bare, noised), jnp.arange(3))[0][1],
    ],
)
def test_noised_sums_of_which_one_without_noise_decides_are_refused(decide):
    @hansa.federated_computation(VALUES)
    def both(values):
        noised = hansa.federated_private_sum(values, 1.0, NOISE)
        return hansa.federated_map(computed(decide), [hansa.federated_max(values), noised])

    refused(both, "made of federated_max")


def of_python(where):
    """A noised sum, and functions of Python that are called at the clients, or at the server and read what was told."""
    told: list[float] = []

    def at_clients(value):
        if where == "print":
            jax.debug.print("{}", value)
        if where == "clients":
            jax.debug.callback(told.append, value)
        return value

    def at_server(noised):
        if where == "server":
            read = jax.pure_callback(lambda _: np.float32(sum(told)), jax.ShapeDtypeStruct((), "float32"), noised)
            return noised + read
        return noised

    @hansa.federated_computation(VALUES)
    def total(values):
        noised = hansa.federated_private_sum(hansa.federated_map(computed(at_clients), values), 1.0, NOISE)
        return hansa.federated_map(computed(at_server), noised)

    return total


@pytest.mark.parametrize("where", ["print", "clients", "server"])
def test_functions_of_python_may_tell_anything_and_are_refused(where):
    refused(of_python(where), "made of a function of Python")
    hansa.privacy.require_private(of_python("nowhere"))


def selecting(mechanism):
    """Clients whose keys are their own data, as the rows that they ask the server for."""

    @hansa.federated_computation("{int32[2]}@CLIENTS", "float32[5]@SERVER")
    def total(keys, table):
        row = computed(lambda table, key: table[key], "float32[5]", "int32")
        rows = hansa.federated_select(keys, 5, table, row)
        add = computed(lambda a, b: a + b, "float32", "float32")
        summed = hansa.federated_computation(rows.type_signature.member)(
            lambda rows: hansa.sequence_reduce(rows, np.float32(0), add)
        )
        return hansa.federated_private_sum(hansa.federated_map(summed, rows), 1.0, mechanism)

    return total


def test_keys_that_clients_select_by_are_seen_by_the_server():
    hansa.privacy.require_private(selecting(NOISE))  # against those who read the result
    with pytest.raises(ValueError, match="the server sees what each client gives to federated_select"):
        hansa.privacy.require_protected(selecting(NOISE))
    refused(selecting(hansa.privacy.Local(1.0)), "federated_select")  # which is against the server


def test_a_sum_without_noise_that_is_sent_to_the_clients_comes_back_without_it():
    @hansa.federated_computation(VALUES)
    def centred(values):
        mean = hansa.federated_broadcast(hansa.federated_mean(values))
        away = hansa.federated_map(computed(lambda value, mean: value - mean), [values, mean])
        return hansa.federated_private_sum(away, 1.0, NOISE)

    refused(centred, "made of federated_mean")


@pytest.mark.parametrize(
    "decide",
    [
        lambda bare, noised: noised + lax.bitcast_convert_type(bare, jnp.int32) % 2,
        lambda bare, noised: noised + jax.grad(lambda t: t * bare)(1.0),
        lambda bare, noised: noised + 0 * lax.stop_gradient(bare),
        lambda bare, noised: jnp.where(jnp.isnan(bare), noised, noised + 1),
    ],
)
def test_what_is_left_of_a_value_after_conversions_gradients_and_zeros_is_still_its(decide):
    @hansa.federated_computation(VALUES)
    def both(values):
        noised = hansa.federated_private_sum(values, 1.0, NOISE)
        return hansa.federated_map(computed(decide), [hansa.federated_max(values), noised])

    refused(both, "made of federated_max")


# Metrics that the state is made of.


def stateful(name: str) -> IterativeProcess:
    """A process whose state has a field that is made of a sum without noise, called as metrics are."""

    @hansa.federated_computation
    def initialize():
        return hansa.federated_value({"model": np.float32(0), name: np.float32(0)}, hansa.SERVER)

    @hansa.federated_computation(f"<model=float32,{name}=float32>@SERVER", VALUES)
    def step(state, values):
        noised = hansa.federated_private_sum(values, 1.0, NOISE)
        return hansa.federated_zip({"model": noised, name: hansa.federated_sum(values)})

    return IterativeProcess(initialize, step)


@pytest.mark.parametrize("name", ["metrics", "metrics_of_before"])
def test_open_metrics_are_no_part_of_the_state(name):
    process = stateful(name)
    with pytest.raises(ValueError, match=f"{name} is made of federated_sum"):
        hansa.privacy.require_private(process, open=("metrics",))
    if name != "metrics":  # of a computation by itself these are its results
        with pytest.raises(ValueError, match=f"{name} is made of federated_sum"):
            hansa.privacy.require_private(process.next, open=("metrics",))


# Values, weights and bounds.


@hansa.federated_computation("float32@SERVER", "{<x=float32[2],w=float32>}@CLIENTS")
def clipped_then_weighted(bound, values):
    """A mistake: weights after clipping; the sum clips again."""
    given = computed(lambda v: v.w * v.x / jnp.maximum(jnp.linalg.norm(v.x), 1.0))
    return hansa.federated_private_sum(hansa.federated_map(given, values), bound, None)


def test_clipping_before_weighting_does_not_change_what_one_client_can_do():
    others = [{"x": np.float32([0.1, 0.2]), "w": np.float32(1)}] * 3
    forged = [
        {"x": np.float32([3.0, 4.0]), "w": np.float32(weight)} for weight in (98.0, -1e30, 3e38, np.inf, np.nan)
    ] + [{"x": np.float32([np.nan, -np.inf]), "w": np.float32(1)}, {"x": np.float32([1e-45, 0.0]), "w": np.float32(1)}]
    for bound in (0.5, 1e-30, 3e38, 0.0, -1.0, np.inf, np.nan):
        without = np.asarray(clipped_then_weighted(np.float32(bound), others), np.float64)
        for one in forged:
            there = np.asarray(clipped_then_weighted(np.float32(bound), [*others, one]), np.float64)
            assert np.isfinite(there).all()
            assert np.linalg.norm(there - without) <= 1 + 1e-6  # both are rounded to float32


def test_fewer_clients_than_noise_is_made_for_are_refused_where_the_sum_is_built():
    with pytest.raises(ValueError, match=r"min_cohort=1 of federated_private_sum is less than that of Skellam\("):
        hansa.federated_computation(VALUES)(
            lambda values: hansa.federated_private_sum(values, 1.0, Skellam(1.0, min_cohort=50), min_cohort=1)
        )
    hansa.federated_computation(VALUES)(
        lambda values: hansa.federated_private_sum(values, 1.0, Skellam(1.0, min_cohort=50), min_cohort=60)
    )


# Who takes part.


class OverSelecting(PoissonSampler):
    """Selects more clients than are needed, and takes the first that report."""

    def __call__(self, round_number):
        return super().__call__(round_number)[:5]


def test_over_selection_has_no_poisson_figures():
    assert claim_of(OverSelecting(100, 0.2)) == AtMost()
    wrapped = OverSelecting(100, 0.2).__call__
    assert claim_of(wrapped) == AtMost()


def test_a_fixed_size_has_no_poisson_figures():
    pytest.importorskip("dp_accounting", reason="the extra hansa[privacy]")
    fixed, poisson = Accountant(1e-5), Accountant(1e-5)
    fixed.add(Charge(Fixed(50, 1000), [NOISE]), times=100)
    poisson.add(Charge(Poisson(0.05), [NOISE]), times=100)
    assert fixed.epsilon > 5 * poisson.epsilon
    with pytest.raises(ValueError, match="only if their cohorts are drawn in one way"):
        poisson.add(Charge(Fixed(50, 1000), [NOISE]))


@pytest.mark.parametrize("exact", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_attempts_at_a_round_have_one_cohort_and_are_charged_as_one_draw(exact):
    dp = pytest.importorskip("dp_accounting", reason="the extra hansa[privacy]")
    from dp_accounting import pld, rdp

    charge = Charge(Poisson(0.01), [Gaussian(1.0)])
    accountant = Accountant(1e-5)
    accountant.add(charge, times=3)
    for earlier in ([charge], [charge] * 2):
        accountant.add(charge, earlier=earlier)
    # Three rounds, of which one had three attempts: together they are Gaussian noise of 1 / sqrt(3).
    oracle = pld.PLDAccountant(value_discretization_interval=1e-3) if exact else rdp.RdpAccountant()
    oracle.compose(dp.PoissonSampledDpEvent(0.01, dp.GaussianDpEvent(1.0)), 2)
    oracle.compose(dp.PoissonSampledDpEvent(0.01, dp.GaussianDpEvent(3**-0.5)))
    expected = oracle.get_epsilon(1e-5)
    assert (accountant.exact() if exact else accountant.epsilon) == pytest.approx(expected, rel=2e-3 if exact else 1e-6)
    as_others = Accountant(1e-5)
    as_others.add(charge, times=5)
    assert expected > 2 * (as_others.exact() if exact else as_others.epsilon)
    assert accountant.has_room(charge, 10.0, earlier=[charge] * 3)
    assert not exact or not accountant.has_room(charge, expected + 1e-3, earlier=[charge] * 3)


def test_attempts_count_for_their_clients_and_are_no_further_rounds_of_theirs():
    pytest.importorskip("dp_accounting", reason="the extra hansa[privacy]")
    charge = Charge(AtMost(1), [Gaussian(4.0)])
    accountant = Accountant(1e-5)
    accountant.add(charge, ["ann", "bo"])
    accountant.add(charge, ["ann", "bo"], earlier=[charge])
    twice = Accountant(1e-5)
    twice.add(Charge(AtMost(2), [Gaussian(4.0)]), ["ann"], times=2)
    assert accountant.exact() == pytest.approx(twice.exact())
    with pytest.raises(ValueError, match="would be in 2 rounds"):
        accountant.add(charge, ["ann"])
    fixed = Charge(Fixed(5, 100), [Gaussian(4.0)])
    once, again = Accountant(1e-5), Accountant(1e-5)
    once.add(Charge(Fixed(5, 100), [Gaussian(4.0 * 2**-0.5)]))
    again.add(fixed)
    again.add(fixed, earlier=[fixed])
    assert again.exact() == pytest.approx(once.exact())


def test_attempts_of_other_cohorts_are_in_one_or_the_other():
    first, second = Charge(Poisson(0.01), [Gaussian(2.0)]), Charge(Poisson(0.02), [Gaussian(2.0)])
    assert second.with_earlier([first]) == Charge(Poisson(0.03), [Gaussian(2.0)] * 2)
    with pytest.raises(ValueError, match="attempts at one round have cohorts of"):
        Charge(Fixed(5, 100), [NOISE]).with_earlier([first])


def test_a_client_that_is_several_times_in_a_cohort_is_charged_for_all_of_it():
    pytest.importorskip("dp_accounting", reason="the extra hansa[privacy]")

    class Twice:
        replace = True

        def __call__(self, round_number):
            return [3, 3]

    twice = run(None, 1, cohort_size=None, sampler=Twice(), data=population(), privacy=BUDGET)
    once = run(None, 1, cohort_size=None, sampler=lambda number: [3], data=population(), privacy=BUDGET)
    expected = Accountant(1e-5)
    expected.add(Charge(Poisson(1.0), [Gaussian(2.0)]))  # two bounds, of noise 4
    assert twice.privacy.epsilon == pytest.approx(expected.exact(), rel=1e-6)
    assert once.privacy.epsilon < twice.privacy.epsilon
