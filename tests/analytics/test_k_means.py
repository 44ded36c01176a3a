"""k-means against scikit-learn's, and against NumPy in double precision with the counts of earlier rounds."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.cluster import KMeans, kmeans_plusplus

import hansa

DIGITS = hansa.simulation.load_digits()
IMAGES = DIGITS.train_images[:600]
SIZES = [1, 7, 40, 152, 200, 200]
STARTS = kmeans_plusplus(IMAGES[:100], 10, random_state=0)[0]


def clients_of(points, batch_size=32):
    parts = np.split(points, np.cumsum(SIZES)[:-1])
    return [hansa.Batches({"x": part, "y": np.zeros(len(part), np.int32)}, batch_size) for part in parts]


CLIENTS = clients_of(IMAGES)


def by_numpy(rounds, start, decay):
    """The centroids, counts and mean squared distance of rounds of lists of clients' points."""
    centroids, counts = np.float64(start), np.ones(len(start))
    for points in rounds:
        points = np.concatenate(points).astype(np.float64)
        squared = np.square(points[:, None] - centroids[None]).sum(2)
        nearest, distance = squared.argmin(1), squared.min(1).mean()
        before = decay * counts
        counts = before + np.bincount(nearest, minlength=len(centroids))
        for k in np.unique(nearest):
            centroids[k] = (before[k] * centroids[k] + points[nearest == k].sum(0)) / counts[k]
    return centroids, counts, distance


@pytest.fixture(scope="module")
def lloyd():
    return hansa.analytics.build_k_means(10, CLIENTS[0], initial_centroids=STARTS, decay=0)


@pytest.mark.parametrize("rounds", [1, 6])
def test_rounds_with_all_clients_are_iterations_of_scikit_learn(lloyd, rounds: int):
    state = lloyd.initialize()
    for _ in range(rounds):
        state, metrics = lloyd.next(state, CLIENTS)
    theirs = KMeans(10, init=STARTS.astype(np.float64), n_init=1, max_iter=rounds, tol=0, algorithm="lloyd")
    theirs.fit(IMAGES.astype(np.float64))
    np.testing.assert_allclose(state.centroids, theirs.cluster_centers_, rtol=0, atol=1e-6)
    assert metrics.num_points == 600


def test_counts_of_earlier_rounds_hold_centroids_where_they_are():
    process = hansa.analytics.build_k_means(10, CLIENTS[0], initial_centroids=STARTS)
    cohorts = [[0, 1, 4], [2, 5], [3], [5, 0]]
    state = process.initialize()
    for cohort in cohorts:
        state, metrics = process.next(state, [CLIENTS[client] for client in cohort])
    parts = np.split(IMAGES, np.cumsum(SIZES)[:-1])
    centroids, counts, distance = by_numpy([[parts[client] for client in cohort] for cohort in cohorts], STARTS, 1.0)
    np.testing.assert_allclose(state.centroids, centroids, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(state.counts, counts)
    assert metrics.mean_squared_distance == pytest.approx(distance, rel=1e-6)


def test_points_that_lie_far_from_zero_are_told_apart(lloyd):
    state = lloyd.initialize()._replace(centroids=STARTS + np.float32(3000))
    state, _ = lloyd.next(state, clients_of(IMAGES + np.float32(3000)))
    expected = by_numpy([[np.float64(IMAGES + np.float32(3000))]], np.float64(STARTS + np.float32(3000)), 0.0)[0]
    np.testing.assert_allclose(state.centroids, expected, rtol=0, atol=1e-3)  # float32 has steps of 2.4e-4 there


def test_a_client_with_infinite_points_is_left_out(lloyd):
    wrong = IMAGES[:7].copy()
    wrong[3, 5] = np.inf
    without, metrics = lloyd.next(lloyd.initialize(), CLIENTS[2:])
    clients = [hansa.Batches({"x": wrong, "y": np.zeros(7, np.int32)}, 32), *CLIENTS[2:]]
    state, counted = lloyd.next(lloyd.initialize(), clients)
    np.testing.assert_array_equal(state.centroids, without.centroids)
    assert (metrics.num_non_finite_clients, counted.num_non_finite_clients) == (0, 1)
    assert metrics.num_points == counted.num_points == 592


def test_where_there_is_nobody_nothing_moves(lloyd):
    empty = hansa.Batches({"x": IMAGES[:0], "y": np.zeros(0, np.int32)}, 32)
    state, metrics = lloyd.next(lloyd.initialize(), [empty])
    np.testing.assert_array_equal(state.centroids, STARTS)
    assert metrics.num_points == 0 and np.isnan(metrics.mean_squared_distance)


def test_a_run_that_goes_on_ends_with_the_same_bits(tmp_path: Path):
    data = hansa.simulation.ClientData.from_arrays({"x": IMAGES}, np.arange(600) % 12).batch(32)
    process = hansa.analytics.build_k_means(4, data.client(0), seed=3)
    whole = hansa.program.train(process, data, rounds=4, cohort_size=5, run_dir=tmp_path / "whole")
    for rounds in (2, 4):
        parts = hansa.program.train(process, data, rounds=rounds, cohort_size=5, run_dir=tmp_path / "parts")
    assert np.asarray(parts.state.centroids).tobytes() == np.asarray(whole.state.centroids).tobytes()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"num_clusters": 0}, "num_clusters must be an integer of at least 1, found 0"),
        ({"decay": 1.5}, "decay must be a number between 0 and 1, found 1.5"),
        ({"points": "z"}, "there is no array of points 'z' in a batch"),
        ({"points": "y"}, "points are an array of a float dtype"),
        ({"initial_centroids": np.zeros((2, 3))}, r"must have the shape \[10, 64\], found \[2, 3\]"),
        ({"initial_centroids": np.full((10, 64), np.nan)}, "must be finite"),
    ],
)
def test_what_cannot_be_is_said(arguments: dict, said: str):
    with pytest.raises((TypeError, ValueError), match=said):
        hansa.analytics.build_k_means(**{"num_clusters": 10, "sample_batch": CLIENTS[0], **arguments})
