"""Whose data: datasets to simulate clients with. Knows nothing of models or of how a round runs."""

from hansa.simulation import datasets

__all__ = ["datasets"]
