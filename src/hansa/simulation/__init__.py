"""Whose data: datasets and populations to simulate clients with. Knows nothing of models or of how a round runs."""

from hansa.simulation.client_data import ClientData
from hansa.simulation.datasets import ImageData, load_digits, load_mnist

__all__ = ["ClientData", "ImageData", "load_digits", "load_mnist"]
