"""The types of values, their notation, and the struct values that belong to them.

Types say what computations take and return; `to_type`, `infer_type` and `parse_type` make them of specs, values and
text, `to_value` checks a value against one. Nothing here traces or runs a computation.
"""

from __future__ import annotations

from hansa.types.base import Type
from hansa.types.bounds import common_type
from hansa.types.conversion import infer_type, to_type
from hansa.types.notation import parse_type
from hansa.types.placements import CLIENTS, SERVER, Placement
from hansa.types.queries import (
    contains,
    is_federated,
    is_fully_defined,
    is_inexact,
    is_integer,
    is_numeric,
    is_tensor_structure,
    tensor_leaves,
)
from hansa.types.structs import Struct
from hansa.types.types import FederatedType, FunctionType, SequenceType, StructType, TensorType
from hansa.types.values import to_value

__all__ = [
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
    "common_type",
    "contains",
    "infer_type",
    "is_federated",
    "is_fully_defined",
    "is_inexact",
    "is_integer",
    "is_numeric",
    "is_tensor_structure",
    "parse_type",
    "tensor_leaves",
    "to_type",
    "to_value",
]
