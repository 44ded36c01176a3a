"""Names that the tutorial uses."""

from typing import TYPE_CHECKING as _TYPE_CHECKING

from hansa import _lazy

if _TYPE_CHECKING:
    from hansa.templates import IterativeProcess as IterativeProcess

_HOMES = {"hansa.templates": ("IterativeProcess",)}

if not _TYPE_CHECKING:
    __getattr__, __dir__, __all__ = _lazy.names_of(__name__, _HOMES)
