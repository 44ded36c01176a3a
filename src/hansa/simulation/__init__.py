"""Whose data: datasets, populations and who takes part. Knows nothing of models or of how a round runs."""

from hansa.simulation.client_data import ClientData
from hansa.simulation.datasets import DatasetError, ImageData, load_cifar10, load_digits, load_fashion_mnist, load_mnist
from hansa.simulation.federated_datasets import load_cifar100, load_emnist, load_shakespeare, load_tiny_shakespeare
from hansa.simulation.participation import Participation, SimulatedParticipation
from hansa.simulation.partition import (
    partition_by_label,
    partition_by_quantity,
    partition_dirichlet,
    partition_iid,
    partition_shards,
)
from hansa.simulation.pictures import count_labels, plot_clients
from hansa.simulation.readers import (
    from_csv,
    from_folder,
    from_frame,
    from_huggingface,
    from_leaf,
    from_parquet,
    from_tf_datasets,
    from_tff_hdf5,
    from_tff_sqlite,
)
from hansa.simulation.samplers import AvailabilitySampler, PoissonSampler, Sampler, UniformSampler, WeightedSampler
from hansa.simulation.synthetic_data import synthetic
from hansa.simulation.text import CharacterCoding

__all__ = [
    "AvailabilitySampler",
    "CharacterCoding",
    "ClientData",
    "DatasetError",
    "ImageData",
    "Participation",
    "PoissonSampler",
    "Sampler",
    "SimulatedParticipation",
    "UniformSampler",
    "WeightedSampler",
    "count_labels",
    "from_csv",
    "from_folder",
    "from_frame",
    "from_huggingface",
    "from_leaf",
    "from_parquet",
    "from_tf_datasets",
    "from_tff_hdf5",
    "from_tff_sqlite",
    "load_cifar10",
    "load_cifar100",
    "load_digits",
    "load_emnist",
    "load_fashion_mnist",
    "load_mnist",
    "load_shakespeare",
    "load_tiny_shakespeare",
    "partition_by_label",
    "partition_by_quantity",
    "partition_dirichlet",
    "partition_iid",
    "partition_shards",
    "plot_clients",
    "synthetic",
]
