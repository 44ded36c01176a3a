"""Standard scaling: the mean and the deviation of each feature, over the data of all clients."""

from __future__ import annotations

from typing import Any

import numpy as np

from hansa.learning.tabular.moments import check_counted, moments
from hansa.learning.tabular.rows import rows_of
from hansa.templates import EstimatorProcess
from hansa.types._typing import Arrays


def build_standard_scaler(sample_batch: Arrays, *, features: str = "x") -> EstimatorProcess:
    """A process that finds the mean and the variance of each feature.

    A round adds its clients to those of earlier rounds, as `partial_fit` does: a client that takes part twice counts
    twice. Clients report sums, once of their numbers and once of squared differences from the mean.

    Args:
        sample_batch: a batch as the clients have them: arrays `[examples, …]` by name, or one such array.
        features: the name of the array of features, of any dtype of numbers.

    Returns:
        A process with the state `<counts=int64[1],means=float64[1,features],scatter=float64[1,features]>@SERVER`:
        scatter is the sum of squared differences. `to_sklearn(state)` gives a `sklearn.preprocessing.StandardScaler`.
        The metrics of a round are `num_examples` and `num_excluded_clients`, of which nothing is counted since a number
        is NaN, infinite, or larger than 1e150.

    Raises:
        TypeError: if there are no such features.

    Examples:
        >>> clients = [hansa.Batches({"x": np.float32([[0, 1], [4, 3]])}, 2)]
        >>> process = hansa.learning.tabular.build_standard_scaler(clients[0])
        >>> state, metrics = process.next(process.initialize(), clients)
        >>> print(metrics)
        <num_examples=2,num_excluded_clients=0>
        >>> process.to_sklearn(state).scale_
        array([2., 1.])
    """
    rows = rows_of(sample_batch, "standard scaling", features=features)
    return EstimatorProcess(
        *moments(rows, products=False),
        estimator="sklearn.preprocessing.StandardScaler",
        options={},
        fitted=_fitted,
        settings={"features": str(rows.width)},
    )


def _fitted(state: Any) -> dict[str, Any]:
    check_counted(state, "a StandardScaler")
    count, mean, scatter = int(state.counts[0]), np.array(state.means[0]), np.array(state.scatter[0])
    variance = scatter / max(count, 1)
    # A feature whose variance is nothing but rounding is constant, and stays as it is.
    rounding = np.finfo(np.float64).eps * count
    constant = variance <= rounding * variance + np.square(rounding * mean)
    return {
        "mean_": mean,
        "var_": variance,
        "scale_": np.where(constant, 1.0, np.sqrt(variance)),
        "n_samples_seen_": count,
        "n_features_in_": len(mean),
    }
