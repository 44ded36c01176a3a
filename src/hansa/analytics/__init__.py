"""Facts about clients' data that need no model."""

from typing import TYPE_CHECKING as _TYPE_CHECKING

from hansa import _lazy

if _TYPE_CHECKING:
    from hansa.analytics.k_means import build_k_means as build_k_means
    from hansa.analytics.private_counts import private_count as private_count
    from hansa.analytics.private_counts import private_histogram as private_histogram
    from hansa.analytics.private_counts import private_mean as private_mean
    from hansa.analytics.private_counts import private_quantiles as private_quantiles
    from hansa.analytics.private_hitters import build_private_heavy_hitters as build_private_heavy_hitters

_HOMES = {
    "hansa.analytics.k_means": ("build_k_means",),
    "hansa.analytics.private_counts": ("private_count", "private_histogram", "private_mean", "private_quantiles"),
    "hansa.analytics.private_hitters": ("build_private_heavy_hitters",),
}

if not _TYPE_CHECKING:
    __getattr__, __dir__, __all__ = _lazy.names_of(__name__, _HOMES)
