"""k-means over the points of all clients (Lloyd 1982), with the counts of earlier rounds.

In a round each client assigns its points to the nearest centroid and reports, for each cluster, how many there are and
the sum of their differences from the centroid. The server needs the sums over clients only.
"""

from __future__ import annotations

import math
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from hansa.language import intrinsics as on
from hansa.language.computation import Computation
from hansa.language.sequences import sequence_reduce
from hansa.language.tracing import federated_computation, narrow_computation, wide_computation
from hansa.templates import EstimatorProcess
from hansa.types import CLIENTS, SERVER, FederatedType, SequenceType, Struct, TensorType, Type
from hansa.types._typing import Arrays
from hansa.types.samples import of_any_size, sample_type, shape_of_each


def build_k_means(
    num_clusters: int,
    sample_batch: Arrays,
    *,
    points: str = "x",
    initial_centroids: npt.ArrayLike | None = None,
    decay: float = 1.0,
    seed: int = 0,
) -> EstimatorProcess:
    """A process that moves `num_clusters` centroids to the means of the points that are nearest to them.

    Where a cluster with centroid c has got n points x in a round, and had the count w, the server makes
    (decay * w * c + sum(x)) / (decay * w + n) its centroid, and decay * w + n its count. So with `decay=1` the counts
    of earlier rounds, each of which begins with 1, keep a round of few clients from moving a centroid far, as in
    mini-batch k-means (Sculley 2010, Algorithm 1). With `decay=0` a round with all clients is an iteration of Lloyd's
    algorithm (Lloyd 1982). A centroid that no point is nearest to stays where it is.

    Args:
        num_clusters: how many centroids there are.
        sample_batch: a batch as the clients have them: arrays `[examples, …]` by name, or one such array. `Batches` of
            a client do, too.
        points: the name of the array of points in a batch of several. It is of a float dtype.
        initial_centroids: an array `[num_clusters, …]` to begin with, such as some points that the server has, or
            scikit-learn's `kmeans_plusplus` of them. Without it, the coordinates are standard normal draws, which suits
            points that are scaled to mean 0 and variance 1.
        decay: what becomes of a count from one round to the next, between 0 and 1.
        seed: of the draws.

    Returns:
        A process with the state `<centroids=float32[num_clusters,…],counts=float64[num_clusters]>@SERVER`. The metrics
        of a round are `num_points`; `mean_squared_distance` of them to the nearest centroid before the round, NaN where
        there are none; and `num_non_finite_clients`, which are left out as a number of theirs is NaN or infinite, or
        so large that a sum is. `to_sklearn(state)` gives a `sklearn.cluster.KMeans` that predicts
        the cluster of points in float64.

    Raises:
        TypeError: if there are no points of a float dtype.
        ValueError: if a number is out of range, or the initial centroids have another shape or are not finite.

    Examples:
        >>> points = np.float32([[0, 0], [0, 2]]), np.float32([[9, 8]])
        >>> clients = [hansa.Batches({"x": own}, 2) for own in points]
        >>> process = hansa.analytics.build_k_means(2, clients[0], initial_centroids=[[1, 1], [5, 5]], decay=0)
        >>> state, metrics = process.next(process.initialize(), clients)
        >>> print(metrics)
        <num_points=3,mean_squared_distance=9.666...,num_non_finite_clients=0>
        >>> state.centroids
        Array([[0., 1.],
               [9., 8.]], dtype=float32)
    """
    if not isinstance(num_clusters, int) or isinstance(num_clusters, bool) or num_clusters < 1:
        raise ValueError(f"num_clusters must be an integer of at least 1, found {num_clusters!r}")
    if isinstance(decay, bool) or not isinstance(decay, int | float) or not 0 <= decay <= 1:
        raise ValueError(f"decay must be a number between 0 and 1, found {decay!r}")
    batch_type = of_any_size(sample_type(sample_batch), "k-means")
    shape = (num_clusters, *shape_of_each(batch_type, points, "points", ("float",)))
    initialize = _initialize(shape, initial_centroids, seed)
    assign = _assign(batch_type, points, shape)
    state_type = initialize.type_signature.result
    assert isinstance(state_type, FederatedType)
    sums = assign.type_signature.result
    centroids_of = narrow_computation(state_type.member)(lambda state: state.centroids)

    @wide_computation(state_type.member, sums)
    def update(state: Any, sums: Any) -> Any:
        counts = decay * state.counts + sums.counts
        of_each = (-1, *[1] * (len(shape) - 1))
        moved = sums.counts.reshape(of_each) > 0
        step = sums.differences / jnp.where(moved, counts.reshape(of_each), 1.0)
        return {"centroids": (state.centroids + step).astype(jnp.float32), "counts": counts}

    @wide_computation(sums)
    def metrics(sums: Any) -> Any:
        number = sums.counts.sum()
        return {
            "num_points": number,
            "mean_squared_distance": (sums.squared_distance / number).astype(jnp.float32),
            "num_non_finite_clients": sums.non_finite,
        }

    @federated_computation(state_type, FederatedType(SequenceType(batch_type), CLIENTS))
    def next(state: Any, data: Any) -> Any:
        sent = on.federated_broadcast(on.federated_map(centroids_of, state))
        total = on.federated_sum(on.federated_map(assign, [sent, data]))
        return on.federated_map(update, [state, total]), on.federated_map(metrics, total)

    return EstimatorProcess(
        initialize,
        next,
        estimator="sklearn.cluster.KMeans",
        options={"n_clusters": num_clusters},
        fitted=_fitted,
        settings={"num_clusters": str(num_clusters), "decay": f"{decay:g}"},
    )


def _fitted(state: Any) -> dict[str, Any]:
    """What scikit-learn predicts with; it looks up a number of threads, too."""
    centers = np.float64(state.centroids).reshape(len(state.centroids), -1)
    return {"cluster_centers_": centers, "n_features_in_": centers.shape[1], "_n_threads": 1}


def _initialize(shape: tuple[int, ...], initial: Any, seed: int) -> Computation:
    if initial is not None:
        initial = np.asarray(initial, np.float32)
        if initial.shape != shape:
            raise ValueError(f"initial_centroids must have the shape {list(shape)}, found {list(initial.shape)}")
        if not np.isfinite(initial).all():
            raise ValueError("initial_centroids must be finite, found NaN or infinity")

    @wide_computation()
    def begin() -> Any:
        draws = jax.random.normal(jax.random.key(seed), shape, jnp.float32) if initial is None else jnp.asarray(initial)
        return {"centroids": draws, "counts": jnp.ones(shape[0])}

    return cast(Computation, federated_computation(lambda: on.federated_value(begin(), SERVER)))


def _assign(batch_type: Type, points: str, shape: tuple[int, ...]) -> Computation:
    """(centroids, batches) -> what a client adds to the sums."""
    centroids_type = TensorType("float32", shape)
    number = shape[0]

    @narrow_computation()
    def start() -> Any:
        return {
            "counts": jnp.zeros(number, jnp.int32),
            "differences": jnp.zeros((number, math.prod(shape[1:]))),
            "squared_distance": jnp.float32(0),
        }

    @narrow_computation(start.type_signature.result, batch_type, centroids_type)
    def step(carry: Any, batch: Any, centroids: Any) -> Any:
        given = batch[points] if isinstance(batch, Struct) else batch
        flat = given.astype(jnp.float32).reshape(given.shape[0], math.prod(shape[1:]))
        centers = centroids.reshape(number, -1)
        middle = centers.mean(0)  # near which the numbers below are small, wherever the points lie
        flat, centers = flat - middle, centers - middle
        # |x - c|^2 without what is the same for each c.
        products = jnp.matmul(flat, centers.T, precision="highest")
        nearest = jnp.argmin(jnp.square(centers).sum(1) - 2 * products, axis=1)
        assigned = jax.nn.one_hot(nearest, number)
        differences = flat - jnp.matmul(assigned, centers, precision="highest")
        return {
            "counts": carry.counts + assigned.astype(jnp.int32).sum(0),
            "differences": carry.differences + jnp.matmul(assigned.T, differences, precision="highest"),
            "squared_distance": carry.squared_distance + jnp.square(differences).sum(),
        }

    @wide_computation(start.type_signature.result)
    def finish(carry: Any) -> Any:
        finite = jnp.isfinite(carry.differences).all() & jnp.isfinite(carry.squared_distance)
        report = {
            "counts": carry.counts.astype(jnp.int64),
            "differences": carry.differences.reshape(shape),
            "squared_distance": carry.squared_distance,
        }
        kept = jax.tree.map(lambda leaf: jnp.where(finite, leaf, jnp.zeros((), leaf.dtype)), report)
        return {**kept, "non_finite": jnp.int64(~finite)}

    @federated_computation(centroids_type, SequenceType(batch_type))
    def assign(centroids: Any, data: Any) -> Any:
        return finish(sequence_reduce(data, start(), step, given=centroids))

    return assign
