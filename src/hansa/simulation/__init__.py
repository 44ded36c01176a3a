"""Whose data: datasets, populations and who takes part. Knows nothing of models or of how a round runs."""

from typing import TYPE_CHECKING as _TYPE_CHECKING

from hansa import _lazy

if _TYPE_CHECKING:
    from hansa.simulation.client_data import ClientData as ClientData
    from hansa.simulation.data_plan import DataPlan as DataPlan
    from hansa.simulation.data_plan import PlanError as PlanError
    from hansa.simulation.datasets import DatasetError as DatasetError
    from hansa.simulation.datasets import ImageData as ImageData
    from hansa.simulation.datasets import load_cifar10 as load_cifar10
    from hansa.simulation.datasets import load_digits as load_digits
    from hansa.simulation.datasets import load_fashion_mnist as load_fashion_mnist
    from hansa.simulation.datasets import load_mnist as load_mnist
    from hansa.simulation.federated_datasets import load_cifar100 as load_cifar100
    from hansa.simulation.federated_datasets import load_emnist as load_emnist
    from hansa.simulation.federated_datasets import load_shakespeare as load_shakespeare
    from hansa.simulation.federated_datasets import load_tiny_shakespeare as load_tiny_shakespeare
    from hansa.simulation.participation import Participation as Participation
    from hansa.simulation.participation import SimulatedParticipation as SimulatedParticipation
    from hansa.simulation.partition import partition_by_label as partition_by_label
    from hansa.simulation.partition import partition_by_quantity as partition_by_quantity
    from hansa.simulation.partition import partition_dirichlet as partition_dirichlet
    from hansa.simulation.partition import partition_iid as partition_iid
    from hansa.simulation.partition import partition_shards as partition_shards
    from hansa.simulation.pictures import count_labels as count_labels
    from hansa.simulation.pictures import plot_clients as plot_clients
    from hansa.simulation.readers import from_csv as from_csv
    from hansa.simulation.readers import from_folder as from_folder
    from hansa.simulation.readers import from_frame as from_frame
    from hansa.simulation.readers import from_huggingface as from_huggingface
    from hansa.simulation.readers import from_json_lines as from_json_lines
    from hansa.simulation.readers import from_leaf as from_leaf
    from hansa.simulation.readers import from_parquet as from_parquet
    from hansa.simulation.readers import from_text_files as from_text_files
    from hansa.simulation.readers import from_tf_datasets as from_tf_datasets
    from hansa.simulation.readers import from_tff_hdf5 as from_tff_hdf5
    from hansa.simulation.readers import from_tff_sqlite as from_tff_sqlite
    from hansa.simulation.samplers import AvailabilitySampler as AvailabilitySampler
    from hansa.simulation.samplers import PoissonSampler as PoissonSampler
    from hansa.simulation.samplers import Sampler as Sampler
    from hansa.simulation.samplers import UniformSampler as UniformSampler
    from hansa.simulation.samplers import WeightedSampler as WeightedSampler
    from hansa.simulation.schedules import AtMostSampler as AtMostSampler
    from hansa.simulation.schedules import CyclicSampler as CyclicSampler
    from hansa.simulation.schedules import EveryClient as EveryClient
    from hansa.simulation.schedules import TruncatedPoissonSampler as TruncatedPoissonSampler
    from hansa.simulation.synthetic_data import synthetic as synthetic
    from hansa.simulation.text import CharacterCoding as CharacterCoding
    from hansa.simulation.tokens import TokenCoding as TokenCoding

_HOMES = {
    "hansa.simulation.client_data": ("ClientData",),
    "hansa.simulation.data_plan": (
        "DataPlan",
        "PlanError",
    ),
    "hansa.simulation.datasets": (
        "DatasetError",
        "ImageData",
        "load_cifar10",
        "load_digits",
        "load_fashion_mnist",
        "load_mnist",
    ),
    "hansa.simulation.federated_datasets": (
        "load_cifar100",
        "load_emnist",
        "load_shakespeare",
        "load_tiny_shakespeare",
    ),
    "hansa.simulation.participation": (
        "Participation",
        "SimulatedParticipation",
    ),
    "hansa.simulation.partition": (
        "partition_by_label",
        "partition_by_quantity",
        "partition_dirichlet",
        "partition_iid",
        "partition_shards",
    ),
    "hansa.simulation.pictures": (
        "count_labels",
        "plot_clients",
    ),
    "hansa.simulation.readers": (
        "from_csv",
        "from_folder",
        "from_frame",
        "from_huggingface",
        "from_json_lines",
        "from_leaf",
        "from_parquet",
        "from_text_files",
        "from_tf_datasets",
        "from_tff_hdf5",
        "from_tff_sqlite",
    ),
    "hansa.simulation.samplers": (
        "AvailabilitySampler",
        "PoissonSampler",
        "Sampler",
        "UniformSampler",
        "WeightedSampler",
    ),
    "hansa.simulation.schedules": (
        "AtMostSampler",
        "CyclicSampler",
        "EveryClient",
        "TruncatedPoissonSampler",
    ),
    "hansa.simulation.synthetic_data": ("synthetic",),
    "hansa.simulation.text": ("CharacterCoding",),
    "hansa.simulation.tokens": ("TokenCoding",),
}

if not _TYPE_CHECKING:
    __getattr__, __dir__, __all__ = _lazy.names_of(__name__, _HOMES)
