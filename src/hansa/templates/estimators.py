"""`EstimatorProcess`: a process whose states are those of a fitted estimator of scikit-learn."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from hansa._extras import require
from hansa._tracebacks import boundaries
from hansa.language.computation import Computation
from hansa.templates.iterative import IterativeProcess

if TYPE_CHECKING:
    from sklearn.base import BaseEstimator


@boundaries
class EstimatorProcess(IterativeProcess):
    """A process that computes what an estimator of scikit-learn learns in `fit`, without scikit-learn.

    Args:
        initialize: as of `IterativeProcess`.
        next: as of `IterativeProcess`.
        estimator: the module and the name of the estimator's class, such as `sklearn.linear_model.Ridge`.
        options: what the class is called with, such as `{"alpha": 1.0}`.
        fitted: from a state to the attributes that `fit` sets, such as `{"coef_": …}`.
        settings: as of `IterativeProcess`.

    Examples:
        >>> process = hansa.learning.tabular.build_standard_scaler({"x": np.zeros((1, 2))})
        >>> clients = [hansa.Batches({"x": np.float64([[0, 1], [4, 1]])}, 2), hansa.Batches({"x": np.ones((1, 2))}, 2)]
        >>> state, metrics = process.next(process.initialize(), clients)
        >>> process.fitted(state)["mean_"]
        array([1.66666667, 1.        ])
        >>> process.to_sklearn(state).transform([[1.0, 1.0]]).round(3)
        array([[-0.392,  0.   ]])
        >>> process.model_of(state)
        StandardScaler()
    """

    def __init__(
        self,
        initialize: Computation,
        next: Computation,
        *,
        estimator: str,
        options: Mapping[str, Any],
        fitted: Callable[[Any], dict[str, Any]],
        settings: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(initialize, next, model_of=self.to_sklearn, settings=settings)
        self._estimator, self._options, self._fitted = estimator, dict(options), fitted

    def fitted(self, state: Any) -> dict[str, Any]:
        """What the estimator knows after `fit`: NumPy arrays and numbers, by scikit-learn's names.

        Args:
            state: a state of this process.

        Raises:
            ValueError: if no example is counted in it, of processes that count them.
        """
        return self._fitted(state)

    def to_sklearn(self, state: Any) -> BaseEstimator:
        """The estimator of a state, a new one, as `fit` on the data of all clients would have made it.

        Args:
            state: a state of this process.

        Raises:
            ModuleNotFoundError: if scikit-learn is not installed.
            ValueError: if no example is counted in the state, of processes that count them.
        """
        require("sklearn", "sklearn", f"to_sklearn, which makes a {self._estimator},")
        module, _, name = self._estimator.rpartition(".")
        made: BaseEstimator = getattr(importlib.import_module(module), name)(**self._options)
        for attribute, value in self._fitted(state).items():
            setattr(made, attribute, value)
        return made
