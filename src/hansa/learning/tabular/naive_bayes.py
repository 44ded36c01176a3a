"""Gaussian naive Bayes: the mean and the variance of each feature in each class, over the data of all clients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hansa.aggregators.checks import check_number, check_whole
from hansa.learning.tabular.moments import check_counted, moments
from hansa.learning.tabular.rows import rows_of
from hansa.templates import EstimatorProcess
from hansa.types._typing import Arrays


def build_gaussian_nb(
    num_classes: int,
    sample_batch: Arrays,
    *,
    features: str = "x",
    labels: str = "y",
    priors: Sequence[float] | None = None,
    var_smoothing: float = 1e-9,
) -> EstimatorProcess:
    """A process that finds what Gaussian naive Bayes predicts with.

    A round adds its clients to those of earlier rounds, as `partial_fit` does: a client that takes part twice counts
    twice. Clients report sums for each class, once of their numbers and once of squared differences from the mean.

    Args:
        num_classes: how many classes there are; labels are integers from 0.
        sample_batch: a batch as the clients have them: arrays `[examples, …]` by name.
        features: the name of the array of features, of any dtype of numbers.
        labels: the name of the array of labels, integers `[examples]`.
        priors: the probability of each class; by default its share of the examples.
        var_smoothing: the share of the largest variance of a feature that is added to all variances.

    Returns:
        A process with the state `<counts=int64[k],means=float64[k,n],scatter=float64[k,n]>@SERVER` of k classes and n
        features, where scatter is the sum of squared differences. `to_sklearn(state)` gives a
        `sklearn.naive_bayes.GaussianNB`. The metrics of a round are `num_examples` and `num_excluded_clients`, of which
        nothing is counted since a number is NaN, infinite, or larger than 1e150, or a label is no class.

    Raises:
        TypeError: if there are no such features or labels.
        ValueError: if a number is out of range, or the priors are not one for each class, of the sum 1.

    Examples:
        >>> clients = [
        ...     hansa.Batches({"x": np.float32([[0], [2], [7]]), "y": np.int32([0, 0, 1])}, 2),
        ...     hansa.Batches({"x": np.float32([[9]]), "y": np.int32([1])}, 2),
        ... ]
        >>> process = hansa.learning.tabular.build_gaussian_nb(2, clients[0])
        >>> state, metrics = process.next(process.initialize(), clients)
        >>> process.to_sklearn(state).predict([[1.5], [6.0]])
        array([0, 1])
    """
    check_whole("num_classes", num_classes, 2)
    check_number("var_smoothing", var_smoothing)
    if var_smoothing < 0:
        raise ValueError(f"var_smoothing must not be negative, found {var_smoothing!r}")
    try:
        given = None if priors is None else np.asarray(priors, np.float64)
    except (TypeError, ValueError):
        given = np.zeros(0)
    if given is not None and (given.shape != (num_classes,) or (given < 0).any() or not np.isclose(given.sum(), 1)):
        raise ValueError(f"priors must be {num_classes} numbers of the sum 1, none negative; found {priors!r}")
    rows = rows_of(sample_batch, "naive Bayes", features=features, labels=labels, classes=num_classes)

    def fitted(state: Any) -> dict[str, Any]:
        check_counted(state, "a GaussianNB")
        counts, means, scatter = (np.array(part) for part in (state.counts, state.means, state.scatter))
        number, mass = max(counts.sum(), 1), counts[:, None]
        # The variance of all, about the mean of all.
        off = means - (mass * means).sum(0) / number
        pooled = (scatter + mass * np.square(off)).sum(0) / number
        epsilon = var_smoothing * pooled.max()
        return {
            "classes_": np.arange(num_classes),
            "class_count_": counts.astype(np.float64),
            "class_prior_": counts / number if given is None else given,
            "theta_": means,
            "var_": scatter / np.maximum(mass, 1) + epsilon,
            "epsilon_": float(epsilon),
            "n_features_in_": rows.width,
        }

    return EstimatorProcess(
        *moments(rows, products=False),
        estimator="sklearn.naive_bayes.GaussianNB",
        options={"priors": given, "var_smoothing": var_smoothing},
        fitted=fitted,
        settings={"classes": str(num_classes), "features": str(rows.width)},
    )
