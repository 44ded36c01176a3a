"""The schedule deals every client to one device, in the cohort's order, and keeps the devices about equally busy."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hansa.runtimes.stages.schedule import schedule

WORK = st.lists(st.integers(1, 1000), max_size=60).map(lambda work: np.array(work, np.int64))


@given(WORK, st.integers(1, 8))
def test_each_client_is_on_one_device_and_in_order(work: np.ndarray, devices: int) -> None:
    turns = schedule(work, devices)
    assert len(turns) == devices
    assert sorted(client for turn in turns for client in turn) == list(range(len(work)))
    assert all((np.diff(turn) > 0).all() for turn in turns)


@given(WORK, st.integers(1, 8))
def test_no_device_has_more_than_its_share_and_a_third(work: np.ndarray, devices: int) -> None:
    """Graham's bound, from the lower bounds of the best makespan: the mean load, and the largest client's work."""
    loads = [int(work[turn].sum()) for turn in schedule(work, devices)]
    # List scheduling: the last client on the fullest device came when it was the least loaded.
    assert max(loads) <= work.sum() / devices + (1 - 1 / devices) * work.max(initial=0) + 1e-9


@given(WORK, st.integers(1, 8))
def test_the_same_cohort_has_the_same_schedule(work: np.ndarray, devices: int) -> None:
    first, second = schedule(work, devices), schedule(work.copy(), devices)
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_large_cohort_is_partitioned_and_balanced_too() -> None:
    work = np.random.default_rng(0).integers(1, 100, 20_001)
    turns = schedule(work, 3)
    assert sorted(np.concatenate(turns)) == list(range(len(work)))
    loads = [work[turn].sum() for turn in turns]
    assert max(loads) <= 1.01 * min(loads)
