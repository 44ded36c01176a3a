"""Whose data: datasets to simulate clients with. Knows nothing of models or of how a round runs."""

from hansa.simulation.datasets import ImageData, load_digits, load_mnist

__all__ = ["ImageData", "load_digits", "load_mnist"]
