"""Of every selected client the outcome is told, and is what a loop over the clients gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from hansa.simulation import SimulatedParticipation, UniformSampler

EXAMPLES = np.random.default_rng(0).integers(1, 200, 100)


@given(
    st.integers(0, 50),
    st.sampled_from([None, 20.0, 80.0]),
    st.sampled_from([None, 5, 30, 60]),
    st.sampled_from([0.0, 0.3, 1.0]),
)
def test_clients_count_until_the_round_is_over(
    round_number: int, deadline: float | None, goal: int | None, dropout: float
) -> None:
    simulated = SimulatedParticipation(
        UniformSampler(100, 40, seed=1), EXAMPLES, dropout=dropout, spread=0.5, deadline=deadline, goal=goal, seed=2
    )
    found = simulated(round_number)
    np.testing.assert_array_equal(found.selected, UniformSampler(100, 40, seed=1)(round_number))
    reports = sorted((s, i) for i, s in enumerate(found.seconds) if np.isfinite(s))
    counted: list[int] = []
    for seconds, place in reports:
        if (deadline is None or seconds <= deadline) and (goal is None or len(counted) < goal):
            counted.append(place)
    for place, (outcome, seconds) in enumerate(zip(found.outcomes, found.seconds, strict=True)):
        expected = "dropped" if seconds == np.inf else "counted" if place in counted else "late"
        assert outcome == expected
    assert found.counted.tolist() == [int(found.selected[i]) for i in sorted(counted)]
    assert len(found.counted) + len(found.dropped) + len(found.late) == 40
    last = max((found.seconds[i] for i in counted), default=0.0)
    wanted = 40 if goal is None else min(goal, 40)
    assert found.duration == (last if deadline is None or len(counted) == wanted else deadline)


def test_it_depends_on_the_seed_and_the_round_alone() -> None:
    def make(seed: int) -> Any:
        return SimulatedParticipation(UniformSampler(100, 40), EXAMPLES, dropout=0.2, spread=1.0, seed=seed)

    one, two = make(1), make(1)
    later = one(9)
    np.testing.assert_array_equal(two(9).seconds, later.seconds)
    assert one(8).seconds.tolist() != later.seconds.tolist()
    assert make(2)(9).seconds.tolist() != later.seconds.tolist()


def test_durations_are_proportional_to_examples_and_log_normal() -> None:
    speeds = np.linspace(0.1, 2.0, 100)
    exact = SimulatedParticipation(UniformSampler(100, 40), EXAMPLES, seconds_per_example=speeds)(3)
    np.testing.assert_allclose(exact.seconds, (EXAMPLES * speeds)[exact.selected])
    simulated = SimulatedParticipation(UniformSampler(100, 100), EXAMPLES, seconds_per_example=speeds, spread=0.7)
    rounds = [simulated(i) for i in range(20)]
    paces = np.concatenate([np.log(r.seconds / (EXAMPLES * speeds)[r.selected]) / 0.7 for r in rounds])
    assert scipy.stats.kstest(paces, "norm").pvalue > 0.001


def test_each_client_drops_out_with_its_own_probability() -> None:
    dropout = np.repeat([0.0, 0.1, 0.5, 1.0], 25)
    simulated = SimulatedParticipation(UniformSampler(100, 100), EXAMPLES, dropout=dropout)
    dropped = np.zeros(100)
    for i in range(200):
        dropped[simulated(i).dropped] += 1
    assert (dropped[:25] == 0).all()
    assert (dropped[75:] == 200).all()
    for p, counts in ((0.1, dropped[25:50]), (0.5, dropped[50:75])):
        assert scipy.stats.binomtest(int(counts.sum()), 200 * 25, p).pvalue > 0.001


def test_a_round_describes_itself() -> None:
    simulated = SimulatedParticipation(lambda _: [2, 0, 1], [10, 20, 30], deadline=25)
    found = simulated(4)
    assert repr(found) == "Participation(round 4: 2 of 3 counted, 0 dropped, 1 late, 25.0 s)"
    assert found.outcomes.tolist() == ["late", "counted", "counted"]


BAD = {
    "sampler": (lambda: SimulatedParticipation(3, EXAMPLES), TypeError, "sampler must be a function"),
    "examples": (lambda: SimulatedParticipation(len, [1.5]), ValueError, "examples must be one number for each client"),
    "dropout": (lambda: SimulatedParticipation(len, [1, 2], dropout=1.2), ValueError, "dropout must be from 0 to 1"),
    "per client": (
        lambda: SimulatedParticipation(len, [1, 2], dropout=[0.1] * 3),
        ValueError,
        "dropout must be one number, or one for each of the 2 clients",
    ),
    "deadline": (lambda: SimulatedParticipation(len, [1], deadline=0), ValueError, "deadline must be .* more than 0"),
    "goal": (lambda: SimulatedParticipation(len, [1], goal=0), ValueError, "goal must be an integer of 1 or more"),
    "population": (
        lambda: SimulatedParticipation(UniformSampler(9, 9), [1, 2])(0),
        IndexError,
        "but examples is of 2 clients; give both the same population",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_mistakes_are_told(case: str) -> None:
    run, kind, message = BAD[case]
    with pytest.raises(kind, match=message):
        run()
