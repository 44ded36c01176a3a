"""Partitions give every example to one client, in the proportions that their papers say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from hansa.simulation import (
    ClientData,
    partition_by_label,
    partition_by_quantity,
    partition_dirichlet,
    partition_iid,
    partition_shards,
)

LABELS = np.random.default_rng(0).integers(0, 10, 6000)

PARTITIONS: dict[str, Callable[[Any, int, int], Any]] = {
    "iid": lambda y, clients, seed: partition_iid(len(y), clients, seed),
    "shards": lambda y, clients, seed: partition_shards(y, clients, 2, seed),
    "dirichlet": lambda y, clients, seed: partition_dirichlet(y, clients, 0.5, seed, min_examples=0),
    "equal dirichlet": lambda y, clients, seed: partition_dirichlet(y, clients, 0.1, seed, equal_sizes=True),
    "quantity": lambda y, clients, seed: partition_by_quantity(len(y), clients, alpha=0.5, seed=seed),
    "log-normal": lambda y, clients, seed: partition_by_quantity(len(y), clients, sigma=1.0, seed=seed),
    "label": lambda y, clients, seed: partition_by_label(y, len(np.unique(y)), clients, seed),
}


def sizes(client_of: Any, clients: int) -> Any:
    return np.array([(client_of == client).sum() for client in range(clients)])


def table(client_of: Any, labels: Any, clients: int) -> Any:
    """How many examples of each label each client has, counted one by one."""
    counts = np.zeros((clients, labels.max() + 1), int)
    for client, label in zip(client_of, labels, strict=True):
        counts[client, label] += 1
    return counts


@pytest.mark.parametrize("partition", PARTITIONS.values(), ids=PARTITIONS)
@given(
    labels=st.lists(st.integers(0, 4), min_size=20, max_size=80), clients=st.integers(1, 10), seed=st.integers(0, 99)
)
def test_every_example_is_one_clients_and_the_seed_decides(
    partition: Any, labels: list[int], clients: int, seed: int
) -> None:
    found = partition(labels, clients, seed)
    assert found.dtype == np.int64
    assert found.shape == (len(labels),)
    assert 0 <= found.min() <= found.max() < clients
    np.testing.assert_array_equal(found, partition(labels, clients, seed))
    data = ClientData.from_arrays({"i": np.arange(len(labels))}, found)
    assert sorted(data.centralized()["i"].tolist()) == list(range(len(labels)))


@pytest.mark.parametrize("partition", PARTITIONS.values(), ids=PARTITIONS)
def test_another_seed_is_another_partition(partition: Any) -> None:
    assert (partition(LABELS, 20, 0) != partition(LABELS, 20, 1)).mean() > 0.4


@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 9))
def test_iid_sizes_differ_by_one(examples: int, clients: int, seed: int) -> None:
    if clients > examples:
        with pytest.raises(ValueError, match=f"at most the number of examples, {examples}; found {clients}"):
            partition_iid(examples, clients, seed)
        return
    found = sizes(partition_iid(examples, clients, seed), clients)
    assert found.sum() == examples
    assert found.max() - found.min() <= 1


def test_iid_clients_have_the_labels_of_all() -> None:
    counts = table(partition_iid(len(LABELS), 10, seed=3), LABELS, 10)
    assert scipy.stats.chi2_contingency(counts).pvalue > 0.001


def test_shards_are_of_one_label_where_labels_are_as_many() -> None:
    mixed = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 600))
    counts = table(partition_shards(mixed, 100, seed=1), mixed, 100)
    assert (counts.sum(1) == 60).all()
    assert set(np.unique(counts)) == {0, 30, 60}  # 200 shards of 30, none across labels
    assert ((counts > 0).sum(1) <= 2).all()
    assert ((counts > 0).sum(1) == 2).mean() > 0.8  # two shards of a label with a chance of 19/199


def test_the_shares_of_a_label_are_dirichlet() -> None:
    # The share of one client in a label of many examples is Beta(alpha, alpha * (clients - 1)).
    labels, clients, alpha = np.repeat(np.arange(400), 500), 4, 0.7
    counts = table(partition_dirichlet(labels, clients, alpha, seed=5), labels, clients)
    assert (counts.sum(0) == 500).all()
    for client in range(clients):
        # Rounding to 1/500 moves the distribution function by little.
        shares = counts[client] / 500
        beta = scipy.stats.beta(alpha, alpha * (clients - 1))
        smooth = shares + np.random.default_rng(0).uniform(-0.5, 0.5, len(shares)) / 500
        assert scipy.stats.kstest(smooth.clip(0, 1), beta.cdf).pvalue > 0.001


def test_the_mixtures_of_clients_of_equal_sizes_are_dirichlet() -> None:
    labels, alpha = np.random.default_rng(1).permutation(np.repeat([0, 1], [150_000, 50_000])), 2.0
    found = partition_dirichlet(labels, 400, alpha, seed=2, equal_sizes=True)
    assert (sizes(found, 400) == 500).all()
    # The first half draws from plenty: its shares of label 1 are Beta(alpha / 4, alpha * 3 / 4), and binomial.
    ones = np.bincount(found[labels == 1], minlength=400)[:200]
    oracle = np.random.default_rng(3)
    expected = oracle.binomial(500, oracle.beta(alpha / 4, alpha * 3 / 4, 5000))
    assert scipy.stats.ks_2samp(ones, expected).pvalue > 0.001


def test_a_small_alpha_leaves_few_labels() -> None:
    def labels_of_half(alpha: float, equal_sizes: bool) -> float:
        client_of = partition_dirichlet(LABELS, 20, alpha, seed=1, equal_sizes=equal_sizes)
        counts = np.sort(table(client_of, LABELS, 20), axis=1)[:, ::-1]
        return float(((np.cumsum(counts, 1) < counts.sum(1, keepdims=True) / 2).sum(1) + 1).mean())

    for equal_sizes in (False, True):
        few, many = labels_of_half(0.1, equal_sizes), labels_of_half(1000.0, equal_sizes)
        assert few < 2.5
        assert many > 4


@given(st.integers(0, 15), st.integers(0, 20))
def test_no_client_has_fewer_than_the_least(min_examples: int, seed: int) -> None:
    found = partition_dirichlet(LABELS[:600], 20, 1.0, seed, min_examples=min_examples)
    assert sizes(found, 20).min() >= min_examples
    by_quantity = partition_by_quantity(600, 20, alpha=0.3, min_examples=min_examples, seed=seed)
    assert sizes(by_quantity, 20).min() >= min_examples


def test_sizes_are_log_normal_or_dirichlet() -> None:
    found = sizes(partition_by_quantity(1_000_000, 500, sigma=1.2, min_examples=0, seed=4), 500)
    assert (
        scipy.stats.kstest(np.log(found[found > 0] / np.exp(np.log(found[found > 0]).mean())) / 1.2, "norm").pvalue
        > 0.001
    )
    shares = sizes(partition_by_quantity(1_000_000, 500, alpha=2.0, min_examples=0, seed=4), 500) / 1_000_000
    assert scipy.stats.kstest(shares, scipy.stats.beta(2.0, 2.0 * 499).cdf).pvalue > 0.001
    equal = sizes(partition_by_quantity(1000, 10, sigma=0), 10)
    assert equal.tolist() == [100] * 10


class TestByLabel:
    def test_client_d_has_digit_d(self) -> None:
        np.testing.assert_array_equal(partition_by_label(LABELS), LABELS)
        words = np.array(["cat", "ant", "cat", "bee"])
        assert partition_by_label(words).tolist() == [2, 0, 2, 1]

    @given(st.integers(1, 10), st.integers(1, 25), st.integers(0, 3))
    def test_clients_share_their_labels_evenly(self, each: int, clients: int, seed: int) -> None:
        labels = np.arange(500) % 10
        if each * clients < 10:
            with pytest.raises(ValueError, match=f"{clients} clients of {each} labels have {each * clients} of the 10"):
                partition_by_label(labels, each, clients, seed)
            return
        counts = table(partition_by_label(labels, each, clients, seed), labels, clients)
        assert ((counts > 0).sum(1) == each).all()
        for of_label in counts.T:
            assert of_label.sum() == 50
            assert np.ptp(of_label[of_label > 0]) <= 1
        assert np.ptp((counts > 0).sum(0)) <= each


BAD = {
    "labels as examples": (lambda: partition_iid(LABELS, 3), TypeError, r"write len\(labels\)"),
    "column": (lambda: partition_shards(LABELS[:, None], 3), ValueError, r"found int64\[6000,1\]; write labels.ravel"),
    "one-hot": (lambda: partition_shards(np.eye(4), 3), ValueError, r"an array \[examples\]; found float64\[4,4\]$"),
    "floats": (lambda: partition_dirichlet(LABELS * 0.5, 3, 1.0), TypeError, "must be integers or strings"),
    "none": (lambda: partition_by_label([]), TypeError, "labels"),
    "shards": (lambda: partition_shards(LABELS, 100, 100), ValueError, "100 clients of 100 shards take 10000 examples"),
    "alpha": (lambda: partition_dirichlet(LABELS, 3, 0), ValueError, "alpha must be a number, more than 0; found 0"),
    "too few": (
        lambda: partition_dirichlet(LABELS[:40], 20, 0.01, min_examples=2),
        ValueError,
        "in 1000 draws, the smallest of the 20 clients had .* equal_sizes=True",
    ),
    "more than all": (
        lambda: partition_dirichlet(LABELS[:40], 20, 1.0, min_examples=3),
        ValueError,
        "20 clients of at least 3 examples have 60; there are 40",
    ),
    "both": (lambda: partition_by_quantity(9, 3, alpha=1.0, sigma=1.0), ValueError, "give alpha, .* or sigma"),
    "neither": (lambda: partition_by_quantity(9, 3), ValueError, "give alpha, .* or sigma"),
    "labels each": (lambda: partition_by_label(LABELS, 11), ValueError, "at most the number of labels, 10; found 11"),
    "clients": (lambda: partition_iid(10, 2.5), TypeError, "clients must be an integer of 1 or more"),
    "seed": (lambda: partition_iid(10, 2, seed=-1), ValueError, "seed must be an integer of 0 or more; found -1"),
}


@pytest.mark.parametrize("case", BAD)
def test_mistakes_are_told(case: str) -> None:
    run, kind, message = BAD[case]
    with pytest.raises(kind, match=message):
        run()
