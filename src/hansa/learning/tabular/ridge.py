"""Ridge regression on the data of all clients, from their covariance."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from hansa.aggregators.checks import check_number
from hansa.learning.tabular.moments import check_counted, moments
from hansa.learning.tabular.rows import rows_of
from hansa.templates import EstimatorProcess
from hansa.types._typing import Arrays


def build_ridge(
    sample_batch: Arrays, *, features: str = "x", targets: str = "y", alpha: float = 1.0
) -> EstimatorProcess:
    """A process that finds the linear model of least squares with a penalty on its coefficients.

    With features x and targets y, it minimises the sum of (y - x w - b)² plus `alpha` times |w|² (Hoerl and Kennard
    1970). A round adds its clients to those of earlier rounds: a client that takes part twice counts twice. Clients
    report sums, once of their numbers and once of products of differences from the mean: (`features` + `targets`)²
    numbers.

    Args:
        sample_batch: a batch as the clients have them: arrays `[examples, …]` by name.
        features: the name of the array of features, of any dtype of numbers.
        targets: the name of the array of what is to be predicted, `[examples]` or `[examples, targets]`.
        alpha: the weight of the penalty.

    Returns:
        A process with the state `<counts=int64[1],means=float64[1,columns],scatter=float64[columns,columns]>@SERVER`,
        whose columns are the features and behind them the targets. `to_sklearn(state)` gives a
        `sklearn.linear_model.Ridge`. The metrics of a round are `num_examples` and `num_excluded_clients`, of which
        nothing is counted since a number is NaN, infinite, or larger than 1e150.

    Raises:
        TypeError: if there are no such features or targets.
        ValueError: if alpha is not above 0.

    Examples:
        >>> clients = [hansa.Batches({"x": np.float32([[0], [1], [2]]), "y": np.float32([1, 3, 5])}, 2)]
        >>> process = hansa.learning.tabular.build_ridge(clients[0], alpha=1e-9)
        >>> state, metrics = process.next(process.initialize(), clients)
        >>> process.to_sklearn(state).predict([[10.0]]).round(6)
        array([21.])
    """
    check_number("alpha", alpha, above=0)
    rows = rows_of(sample_batch, "ridge regression", features=features, targets=targets)
    (_, of_features), (_, of_target) = rows.columns
    width = math.prod(of_features)

    def fitted(state: Any) -> dict[str, Any]:
        check_counted(state, "a Ridge")
        means, scatter = np.array(state.means[0]), np.array(state.scatter)
        coefficients = np.linalg.solve(scatter[:width, :width] + alpha * np.eye(width), scatter[:width, width:]).T
        intercepts = means[width:] - coefficients @ means[:width]
        return {
            "coef_": coefficients if of_target else coefficients[0],
            "intercept_": intercepts if of_target else float(intercepts[0]),
            "n_iter_": None,
            "n_features_in_": width,
        }

    return EstimatorProcess(
        *moments(rows, products=True),
        estimator="sklearn.linear_model.Ridge",
        options={"alpha": alpha},
        fitted=fitted,
        settings={"alpha": f"{alpha:g}", "features": str(width)},
    )
