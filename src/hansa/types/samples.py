"""The type of batches, from a batch that a user shows as a sample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hansa.types.base import Type
from hansa.types.batches import Batches, ClientBatches
from hansa.types.conversion import infer_type
from hansa.types.dtypes import kind as dtype_kind
from hansa.types.members import members
from hansa.types.mismatch import Mismatch
from hansa.types.structs import Struct
from hansa.types.types import StructType, TensorType


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


def of_any_size(kind: Type, what: str) -> Type:
    """The type of a batch of any number of examples, from that of one.

    Args:
        kind: the type of one.
        what: what the batch is for, such as `the model 'm'`.
    """

    def open_(member: Type) -> Type:
        if isinstance(member, StructType):
            return StructType([(field, open_(part)) for field, part in member.fields], container=member.container)
        if not isinstance(member, TensorType) or not member.shape:
            raise TypeError(f"a batch for {what} holds arrays [examples, ...]; found {member} in {kind}")
        return TensorType(member.dtype, (None, *member.shape[1:]))

    return open_(kind)


def shape_of_each(kind: Type, name: str, argument: str, dtypes: Sequence[str], instead: str = "") -> tuple[int, ...]:
    """The shape of one example's part of an array in a batch.

    Args:
        kind: the type of a batch of any size; where it is no struct, it is the array itself.
        name: the array's.
        argument: the argument that gives the name, such as `points`.
        dtypes: the kinds of dtypes that it may have, such as "float".
        instead: what to do with others, at the end of the message.
    """
    found = kind
    if isinstance(kind, StructType):
        if name not in kind.names:
            raise TypeError(f"there is no array of {argument} {name!r} in a batch {kind}; name yours, {argument}='…'")
        found = kind[name]
    if not isinstance(found, TensorType) or dtype_kind(found.dtype) not in dtypes:
        wanted = " or ".join(dtypes)
        raise TypeError(
            f"{argument} are an array of {_article(wanted)} {wanted} dtype, [examples, ...]; found {found}{instead}"
        )
    sizes = [size for size in found.shape[1:] if size is not None]
    if len(sizes) + 1 != len(found.shape):
        raise TypeError(f"{argument} have one shape, found {found}, of several sizes")
    return tuple(sizes)


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"
