"""Whose data: datasets, populations and who takes part. Knows nothing of models or of how a round runs."""

from hansa.simulation.client_data import ClientData
from hansa.simulation.datasets import ImageData, load_digits, load_mnist
from hansa.simulation.participation import Participation, SimulatedParticipation
from hansa.simulation.partition import (
    partition_by_label,
    partition_by_quantity,
    partition_dirichlet,
    partition_iid,
    partition_shards,
)
from hansa.simulation.pictures import count_labels, plot_clients
from hansa.simulation.samplers import AvailabilitySampler, PoissonSampler, Sampler, UniformSampler, WeightedSampler

__all__ = [
    "AvailabilitySampler",
    "ClientData",
    "ImageData",
    "Participation",
    "PoissonSampler",
    "Sampler",
    "SimulatedParticipation",
    "UniformSampler",
    "WeightedSampler",
    "count_labels",
    "load_digits",
    "load_mnist",
    "partition_by_label",
    "partition_by_quantity",
    "partition_dirichlet",
    "partition_iid",
    "partition_shards",
    "plot_clients",
]
