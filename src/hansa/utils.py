"""Names that the tutorial uses."""

from hansa.templates import IterativeProcess

__all__ = ["IterativeProcess"]
