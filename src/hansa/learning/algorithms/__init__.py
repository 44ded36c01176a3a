"""Algorithms of the literature, each in a file: what clients do, how updates become one, how the server goes on."""

from typing import TYPE_CHECKING as _TYPE_CHECKING

from hansa import _lazy

if _TYPE_CHECKING:
    from hansa.learning.algorithms.fed_prox import build_fed_prox as build_fed_prox
    from hansa.learning.algorithms.scaffold import build_scaffold as build_scaffold

_HOMES = {
    "hansa.learning.algorithms.fed_prox": ("build_fed_prox",),
    "hansa.learning.algorithms.scaffold": ("build_scaffold",),
}

if not _TYPE_CHECKING:
    __getattr__, __dir__, __all__ = _lazy.names_of(__name__, _HOMES)
