"""The type of a model's batches, and what models of every kind find in a batch."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from hansa.types import Struct, StructType, TensorType, Type, infer_type
from hansa.types.batches import Batches, ClientBatches
from hansa.types.members import members
from hansa.types.mismatch import Mismatch

LABELS = ("y", "sample_weight")
"""The fields of a batch that a model learns from, and does not predict from."""


def sample_type(batch: Any) -> Type:
    """The type of a sample batch; of `Batches`, that of each."""
    if batch is None:
        raise TypeError("sample_batch is None; pass a batch as the clients have them, such as OrderedDict(x=…, y=…)")
    if hasattr(batch, "cohort"):
        raise TypeError(
            "sample_batch is a whole population; pass the examples of one client, data.client(data.client_ids[0])"
        )
    if isinstance(batch, Batches | ClientBatches):
        return batch.type_signature.element
    try:
        return infer_type(_arrays(batch))
    except Mismatch as mismatch:
        raise mismatch.error("sample_batch") from None


def _arrays(value: Any) -> Any:
    """Arrays of what NumPy makes arrays of, in the containers and the order that they are in."""
    found = members(value)
    if found is None:
        return np.asarray(value)
    return Struct([(name, _arrays(part)) for name, part in zip(found.names, found.values, strict=True)])


def of_any_size(kind: Type, name: str) -> Type:
    """The type of a batch of any number of examples, from that of one."""

    def open_(member: Type) -> Type:
        if isinstance(member, StructType):
            return StructType([(field, open_(part)) for field, part in member.fields], container=member.container)
        if not isinstance(member, TensorType) or not member.shape:
            raise TypeError(f"a batch for the model {name!r} holds arrays [examples, ...]; found {member} in {kind}")
        return TensorType(member.dtype, (None, *member.shape[1:]))

    return open_(kind)


def leading_size(batch: Any) -> Any:
    """How many examples a batch holds: the leading size of its first tensor that has one."""
    return next((leaf.shape[0] for leaf in jax.tree.leaves(batch) if leaf.ndim), 1)


def labels(batch: Any, name: str) -> Any:
    """The labels of a batch: its field `y`, or the second of a pair or triple."""
    if isinstance(batch, Struct):
        if "y" in batch._fields:
            return batch["y"]
        if 2 <= len(batch) <= 3 and not any(batch._fields):
            return batch[1]
    raise TypeError(
        f"{name} takes labels, the field y of a batch or the second of a pair, and there are none in the batches of "
        f"the model: {_described(batch)}; use hansa.learning.MetricSums, whose function gets the whole batch"
    )


def sample_weight(batch: Any) -> Any:
    """The weights of a batch's examples, if it has any: its field `sample_weight`, or the third of a triple."""
    if isinstance(batch, Struct):
        if "sample_weight" in batch._fields:
            return batch["sample_weight"]
        if len(batch) == 3 and not any(batch._fields):
            return batch[2]
    return None


def _described(batch: Any) -> str:
    return f"with the fields {', '.join(map(str, batch._fields))}" if isinstance(batch, Struct) else "arrays"
