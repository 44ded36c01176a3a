"""Models of tables that are sums over the clients: each is a process whose states are scikit-learn's estimators."""

from typing import TYPE_CHECKING as _TYPE_CHECKING

from hansa import _lazy

if _TYPE_CHECKING:
    from hansa.learning.tabular.components import build_pca as build_pca
    from hansa.learning.tabular.logistic import build_logistic_regression as build_logistic_regression
    from hansa.learning.tabular.naive_bayes import build_gaussian_nb as build_gaussian_nb
    from hansa.learning.tabular.ridge import build_ridge as build_ridge
    from hansa.learning.tabular.scaling import build_standard_scaler as build_standard_scaler

_HOMES = {
    "hansa.learning.tabular.components": ("build_pca",),
    "hansa.learning.tabular.logistic": ("build_logistic_regression",),
    "hansa.learning.tabular.naive_bayes": ("build_gaussian_nb",),
    "hansa.learning.tabular.ridge": ("build_ridge",),
    "hansa.learning.tabular.scaling": ("build_standard_scaler",),
}

if not _TYPE_CHECKING:
    __getattr__, __dir__, __all__ = _lazy.names_of(__name__, _HOMES)
