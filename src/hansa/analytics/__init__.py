"""Facts about clients' data that need no model."""

from typing import TYPE_CHECKING as _TYPE_CHECKING

from hansa import _lazy

if _TYPE_CHECKING:
    from hansa.analytics.k_means import build_k_means as build_k_means

_HOMES = {"hansa.analytics.k_means": ("build_k_means",)}

if not _TYPE_CHECKING:
    __getattr__, __dir__, __all__ = _lazy.names_of(__name__, _HOMES)
