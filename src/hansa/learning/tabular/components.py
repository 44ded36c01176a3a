"""Principal components of the data of all clients, from their covariance."""

from __future__ import annotations

from typing import Any

import numpy as np

from hansa.aggregators.checks import check_whole
from hansa.learning.tabular.moments import check_counted, moments
from hansa.learning.tabular.rows import rows_of
from hansa.templates import EstimatorProcess
from hansa.types._typing import Arrays


def build_pca(
    num_components: int, sample_batch: Arrays, *, features: str = "x", whiten: bool = False
) -> EstimatorProcess:
    """A process that finds the directions along which the features vary most.

    A round adds its clients to those of earlier rounds: a client that takes part twice counts twice. Clients report
    sums, once of their numbers and once of products of differences from the mean: `features` times `features` numbers.
    The components are eigenvectors of the covariance (Pearson 1901), as of scikit-learn's solver "covariance_eigh".

    Args:
        num_components: how many directions to keep.
        sample_batch: a batch as the clients have them: arrays `[examples, …]` by name, or one such array.
        features: the name of the array of features, of any dtype of numbers.
        whiten: whether the estimator scales what it transforms to the variance 1.

    Returns:
        A process with the state `<counts=int64[1],means=float64[1,n],scatter=float64[n,n]>@SERVER` of n features, where
        scatter is the sum of products of differences. `to_sklearn(state)` gives a `sklearn.decomposition.PCA`. The
        metrics of a round are `num_examples` and `num_excluded_clients`, of which nothing is counted since a number is
        NaN, infinite, or larger than 1e150.

    Raises:
        TypeError: if there are no such features.
        ValueError: if there are fewer features than components.

    Examples:
        >>> clients = [hansa.Batches({"x": np.float32([[0, 0], [3, 4], [6, 8]])}, 2)]
        >>> process = hansa.learning.tabular.build_pca(1, clients[0])
        >>> state, metrics = process.next(process.initialize(), clients)
        >>> pca = process.to_sklearn(state)
        >>> pca.components_.round(2), pca.explained_variance_.round(2)
        (array([[0.6, 0.8]]), array([25.]))
    """
    rows = rows_of(sample_batch, "principal components", features=features)
    check_whole(f"num_components, of {rows.width} features,", num_components, 1, rows.width)

    def fitted(state: Any) -> dict[str, Any]:
        check_counted(state, "a PCA")
        count = int(state.counts[0])
        values, vectors = np.linalg.eigh(np.array(state.scatter) / max(count - 1, 1))
        values, vectors = np.maximum(values[::-1], 0), vectors.T[::-1]
        # The largest element of each is positive, as in scikit-learn.
        largest = np.abs(vectors).argmax(axis=1)
        vectors = vectors * np.sign(vectors[np.arange(len(vectors)), largest])[:, None]
        with np.errstate(invalid="ignore"):  # of constant features, the share of nothing, which is NaN
            shares = values[:num_components] / values.sum()
        rest = values[num_components : min(rows.width, count)]
        kept = values[:num_components]
        return {
            "components_": vectors[:num_components],
            "explained_variance_": kept,
            "explained_variance_ratio_": shares,
            "singular_values_": np.sqrt(kept * max(count - 1, 1)),
            "mean_": np.array(state.means[0]),
            "noise_variance_": float(rest.mean()) if len(rest) else 0.0,
            "n_components_": num_components,
            "n_samples_": count,
            "n_features_in_": rows.width,
        }

    return EstimatorProcess(
        *moments(rows, products=True),
        estimator="sklearn.decomposition.PCA",
        options={"n_components": num_components, "whiten": whiten},
        fitted=fitted,
        settings={"components": str(num_components), "features": str(rows.width)},
    )
