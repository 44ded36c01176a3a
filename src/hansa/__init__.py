"""Hansa: federated learning as typed programs that compile to one XLA program per round.

The language (`federated_computation`, `jax_computation`, the `federated_*` and `sequence_*` operations) and its types
are here; algorithms are in `hansa.learning`, client data in `hansa.simulation`.
"""

import importlib as _importlib
from typing import TYPE_CHECKING as _TYPE_CHECKING

from hansa import _setup
from hansa.compiler.explain import explain
from hansa.language.context import runtime, set_runtime
from hansa.language.intrinsics import (
    federated_aggregate,
    federated_average,
    federated_broadcast,
    federated_client_id,
    federated_client_key,
    federated_collect,
    federated_eval,
    federated_map,
    federated_max,
    federated_mean,
    federated_min,
    federated_select,
    federated_sum,
    federated_value,
    federated_zip,
    sequence_map,
    sequence_reduce,
    sequence_sum,
)
from hansa.language.protected_sums import federated_secure_sum, federated_secure_sum_bitwidth
from hansa.language.tracing import federated_computation, jax_computation, tf_computation
from hansa.language.values import Value
from hansa.runtimes.inprocess import InProcessRuntime
from hansa.runtimes.reference import ReferenceRuntime
from hansa.types import (
    CLIENTS,
    SERVER,
    FederatedType,
    FunctionType,
    Placement,
    SequenceType,
    Struct,
    StructType,
    TensorType,
    Type,
    infer_type,
    parse_type,
    to_type,
)
from hansa.types.batches import Batches, ClientBatches

if _TYPE_CHECKING:
    from hansa import learning, program, simulation, templates, utils
    from hansa.compiler.artifact import load, load_client_stage, save
    from hansa.compiler.artifact_file import ArtifactError
    from hansa.compiler.device import DeviceStage

__version__ = "0.1.0"

_LAZY = ("learning", "models", "program", "simulation", "templates", "utils")
_LAZY_NAMES = {
    "ArtifactError": "hansa.compiler.artifact_file",
    "DeviceStage": "hansa.compiler.device",
    "load": "hansa.compiler.artifact",
    "load_client_stage": "hansa.compiler.artifact",
    "save": "hansa.compiler.artifact",
}

_setup.prepare()


def __getattr__(name: str) -> object:
    if name in _LAZY:
        return _importlib.import_module(f"hansa.{name}")
    if name in _LAZY_NAMES:
        return getattr(_importlib.import_module(_LAZY_NAMES[name]), name)
    raise AttributeError(f"module 'hansa' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


__all__ = [
    "CLIENTS",
    "SERVER",
    "ArtifactError",
    "Batches",
    "ClientBatches",
    "DeviceStage",
    "FederatedType",
    "FunctionType",
    "InProcessRuntime",
    "Placement",
    "ReferenceRuntime",
    "SequenceType",
    "Struct",
    "StructType",
    "TensorType",
    "Type",
    "Value",
    "explain",
    "federated_aggregate",
    "federated_average",
    "federated_broadcast",
    "federated_client_id",
    "federated_client_key",
    "federated_collect",
    "federated_computation",
    "federated_eval",
    "federated_map",
    "federated_max",
    "federated_mean",
    "federated_min",
    "federated_secure_sum",
    "federated_secure_sum_bitwidth",
    "federated_select",
    "federated_sum",
    "federated_value",
    "federated_zip",
    "infer_type",
    "jax_computation",
    "learning",
    "load",
    "load_client_stage",
    "parse_type",
    "program",
    "runtime",
    "save",
    "sequence_map",
    "sequence_reduce",
    "sequence_sum",
    "set_runtime",
    "simulation",
    "templates",
    "tf_computation",
    "to_type",
    "utils",
]
