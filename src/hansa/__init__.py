"""Hansa: federated learning as typed programs that compile to one XLA program per round.

The language (`federated_computation`, `jax_computation`, the `federated_*` and `sequence_*` operations) and its types
are here; algorithms are in `hansa.learning`, client data in `hansa.simulation`.
"""

from typing import TYPE_CHECKING as _TYPE_CHECKING

from hansa import _lazy, _setup

if _TYPE_CHECKING:
    from hansa import aggregators as aggregators
    from hansa import analytics as analytics
    from hansa import learning as learning
    from hansa import network as network
    from hansa import privacy as privacy
    from hansa import program as program
    from hansa import simulation as simulation
    from hansa import templates as templates
    from hansa import types as types
    from hansa import utils as utils
    from hansa.compiler.artifact_error import ArtifactError as ArtifactError
    from hansa.compiler.artifacts.artifact import load as load
    from hansa.compiler.artifacts.artifact import load_client_stage as load_client_stage
    from hansa.compiler.artifacts.artifact import load_ports as load_ports
    from hansa.compiler.artifacts.artifact import save as save
    from hansa.compiler.artifacts.device import DeviceStage as DeviceStage
    from hansa.compiler.explain import explain as explain
    from hansa.language.context import runtime as runtime
    from hansa.language.context import set_runtime as set_runtime
    from hansa.language.counted import Counted as Counted
    from hansa.language.each import federated_collect as federated_collect
    from hansa.language.each import federated_select as federated_select
    from hansa.language.each import federated_stack as federated_stack
    from hansa.language.intrinsics import federated_aggregate as federated_aggregate
    from hansa.language.intrinsics import federated_average as federated_average
    from hansa.language.intrinsics import federated_broadcast as federated_broadcast
    from hansa.language.intrinsics import federated_client_id as federated_client_id
    from hansa.language.intrinsics import federated_client_key as federated_client_key
    from hansa.language.intrinsics import federated_eval as federated_eval
    from hansa.language.intrinsics import federated_map as federated_map
    from hansa.language.intrinsics import federated_max as federated_max
    from hansa.language.intrinsics import federated_mean as federated_mean
    from hansa.language.intrinsics import federated_min as federated_min
    from hansa.language.intrinsics import federated_sum as federated_sum
    from hansa.language.intrinsics import federated_value as federated_value
    from hansa.language.intrinsics import federated_zip as federated_zip
    from hansa.language.modular_sums import federated_secure_modular_sum as federated_secure_modular_sum
    from hansa.language.occasions import AbandonedError as AbandonedError
    from hansa.language.occasions import Occasion as Occasion
    from hansa.language.occasions import current_occasion as current_occasion
    from hansa.language.private_sums import federated_private_sum as federated_private_sum
    from hansa.language.protected_sums import federated_secure_sum as federated_secure_sum
    from hansa.language.protected_sums import federated_secure_sum_bitwidth as federated_secure_sum_bitwidth
    from hansa.language.sequences import sequence_map as sequence_map
    from hansa.language.sequences import sequence_reduce as sequence_reduce
    from hansa.language.sequences import sequence_sum as sequence_sum
    from hansa.language.tracing import federated_computation as federated_computation
    from hansa.language.tracing import jax_computation as jax_computation
    from hansa.language.tracing import tf_computation as tf_computation
    from hansa.language.values import Value as Value
    from hansa.program.fitting import fit as fit
    from hansa.runtimes.inprocess.runtime import InProcessRuntime as InProcessRuntime
    from hansa.runtimes.ray.runtime import RayRuntime as RayRuntime
    from hansa.runtimes.reference import ReferenceRuntime as ReferenceRuntime
    from hansa.runtimes.stages.executor import Stages as Stages
    from hansa.runtimes.stages.round import NeedsWideSums as NeedsWideSums
    from hansa.types import CLIENTS as CLIENTS
    from hansa.types import SERVER as SERVER
    from hansa.types import FederatedType as FederatedType
    from hansa.types import FunctionType as FunctionType
    from hansa.types import Placement as Placement
    from hansa.types import SequenceType as SequenceType
    from hansa.types import Struct as Struct
    from hansa.types import StructType as StructType
    from hansa.types import TensorType as TensorType
    from hansa.types import Type as Type
    from hansa.types import infer_type as infer_type
    from hansa.types import parse_type as parse_type
    from hansa.types import to_type as to_type
    from hansa.types.batches import Batches as Batches
    from hansa.types.batches import ClientBatches as ClientBatches
    from hansa.types.client_states import ClientStates as ClientStates
    from hansa.types.client_values import ClientValues as ClientValues
    from hansa.types.elsewhere import Elsewhere as Elsewhere

__version__ = "0.1.0"

_HOMES = {
    "hansa.compiler.artifacts.artifact": ("load", "load_client_stage", "load_ports", "save"),
    "hansa.compiler.artifact_error": ("ArtifactError",),
    "hansa.compiler.artifacts.device": ("DeviceStage",),
    "hansa.compiler.explain": ("explain",),
    "hansa.language.context": ("runtime", "set_runtime"),
    "hansa.language.counted": ("Counted",),
    "hansa.language.each": ("federated_collect", "federated_select", "federated_stack"),
    "hansa.language.intrinsics": (
        "federated_aggregate",
        "federated_average",
        "federated_broadcast",
        "federated_client_id",
        "federated_client_key",
        "federated_eval",
        "federated_map",
        "federated_max",
        "federated_mean",
        "federated_min",
        "federated_sum",
        "federated_value",
        "federated_zip",
    ),
    "hansa.language.modular_sums": ("federated_secure_modular_sum",),
    "hansa.language.occasions": ("AbandonedError", "Occasion", "current_occasion"),
    "hansa.language.private_sums": ("federated_private_sum",),
    "hansa.language.protected_sums": ("federated_secure_sum", "federated_secure_sum_bitwidth"),
    "hansa.language.sequences": ("sequence_map", "sequence_reduce", "sequence_sum"),
    "hansa.language.tracing": ("federated_computation", "jax_computation", "tf_computation"),
    "hansa.language.values": ("Value",),
    "hansa.program.fitting": ("fit",),
    "hansa.runtimes.inprocess.runtime": ("InProcessRuntime",),
    "hansa.runtimes.ray.runtime": ("RayRuntime",),
    "hansa.runtimes.reference": ("ReferenceRuntime",),
    "hansa.runtimes.stages.executor": ("Stages",),
    "hansa.runtimes.stages.round": ("NeedsWideSums",),
    "hansa.types": (
        "CLIENTS",
        "SERVER",
        "FederatedType",
        "FunctionType",
        "Placement",
        "SequenceType",
        "Struct",
        "StructType",
        "TensorType",
        "Type",
        "infer_type",
        "parse_type",
        "to_type",
    ),
    "hansa.types.batches": ("Batches", "ClientBatches"),
    "hansa.types.client_states": ("ClientStates",),
    "hansa.types.client_values": ("ClientValues",),
    "hansa.types.elsewhere": ("Elsewhere",),
}
_PARTS = (
    "aggregators",
    "analytics",
    "learning",
    "network",
    "privacy",
    "program",
    "simulation",
    "templates",
    "types",
    "utils",
)

_setup.prepare()

if not _TYPE_CHECKING:
    __getattr__, __dir__, __all__ = _lazy.names_of(__name__, _HOMES, _PARTS)
