"""The types of values, their notation, and the struct values that belong to them.

Types say what computations take and return; `to_type`, `infer_type` and `parse_type` make them of specs, values and
text, `to_value` checks a value against one. Nothing here traces or runs a computation.
"""

from typing import TYPE_CHECKING as _TYPE_CHECKING

from hansa import _lazy

if _TYPE_CHECKING:
    from hansa.types.base import Type as Type
    from hansa.types.bounds import common_type as common_type
    from hansa.types.conversion import infer_type as infer_type
    from hansa.types.conversion import to_type as to_type
    from hansa.types.notation import parse_type as parse_type
    from hansa.types.placements import CLIENTS as CLIENTS
    from hansa.types.placements import SERVER as SERVER
    from hansa.types.placements import Placement as Placement
    from hansa.types.queries import contains as contains
    from hansa.types.queries import is_federated as is_federated
    from hansa.types.queries import is_fully_defined as is_fully_defined
    from hansa.types.queries import is_inexact as is_inexact
    from hansa.types.queries import is_integer as is_integer
    from hansa.types.queries import is_numeric as is_numeric
    from hansa.types.queries import is_tensor_structure as is_tensor_structure
    from hansa.types.queries import tensor_leaves as tensor_leaves
    from hansa.types.structs import Struct as Struct
    from hansa.types.types import FederatedType as FederatedType
    from hansa.types.types import FunctionType as FunctionType
    from hansa.types.types import SequenceType as SequenceType
    from hansa.types.types import StructType as StructType
    from hansa.types.types import TensorType as TensorType
    from hansa.types.values import to_value as to_value

_HOMES = {
    "hansa.types.base": ("Type",),
    "hansa.types.bounds": ("common_type",),
    "hansa.types.conversion": (
        "infer_type",
        "to_type",
    ),
    "hansa.types.notation": ("parse_type",),
    "hansa.types.placements": (
        "CLIENTS",
        "Placement",
        "SERVER",
    ),
    "hansa.types.queries": (
        "contains",
        "is_federated",
        "is_fully_defined",
        "is_inexact",
        "is_integer",
        "is_numeric",
        "is_tensor_structure",
        "tensor_leaves",
    ),
    "hansa.types.structs": ("Struct",),
    "hansa.types.types": (
        "FederatedType",
        "FunctionType",
        "SequenceType",
        "StructType",
        "TensorType",
    ),
    "hansa.types.values": ("to_value",),
}

if not _TYPE_CHECKING:
    __getattr__, __dir__, __all__ = _lazy.names_of(__name__, _HOMES)
