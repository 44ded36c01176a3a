"""Models of every kind as pure functions (`hansa.models.model.FunctionalModel`), and optimizers likewise.

What is public of it is in `hansa.learning`.
"""

from typing import TYPE_CHECKING as _TYPE_CHECKING

from hansa import _lazy

_HOMES: dict[str, tuple[str, ...]] = {}

if not _TYPE_CHECKING:
    __getattr__, __dir__, __all__ = _lazy.names_of(__name__, _HOMES)
