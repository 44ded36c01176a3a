"""Where a type leaves a size of a client's tensor open, it is one size for all clients of a call, in every runtime.

A tensor of each client's own size is a sequence of one batch; the error says how that is written.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hansa.types import CLIENTS, FederatedType, SequenceType, StructType, TensorType, Type, contains, is_federated
from hansa.types import names as _names
from hansa.types.values import field_values


def check_client_sizes(kind: Type | None, value: Any, what: str) -> None:
    """Checks the tensors that clients have, outside of sequences, in an argument of the type `kind`.

    What is of another type or rank is left to the check of types.

    Raises:
        ValueError: if two clients have tensors of different sizes; the message says which, and what to write instead.
    """
    if isinstance(kind, FederatedType):
        listed = kind.placement is CLIENTS and not kind.all_equal and isinstance(value, list | tuple)
        if listed and not isinstance(kind.member, SequenceType):
            _check(kind.member, list(value), what, "", kind.member)
    elif isinstance(kind, StructType) and is_federated(kind):
        for i, ((name, member), part) in enumerate(zip(kind.fields, field_values(value, kind, what), strict=True)):
            check_client_sizes(member, part, what + _names.step(name, i))


def _check(kind: Type, entries: list[Any], what: str, path: str, whole: Type) -> None:
    if isinstance(kind, StructType) and contains(kind, _is_open):
        rows = [field_values(entry, kind, f"{what}[{i}]{path}") for i, entry in enumerate(entries)]
        for index, (name, member) in enumerate(kind.fields):
            _check(member, [row[index] for row in rows], what, path + _names.step(name, index), whole)
    elif isinstance(kind, TensorType) and _is_open(kind):
        shapes = [_shape(entry) for entry in entries]
        first = shapes[0] if shapes else None
        for i, shape in enumerate(shapes):
            if first is None or shape is None or not kind.takes_shape(first) or not kind.takes_shape(shape):
                return
            if shape != first:
                one, other = f"{what}[0]{path}", f"{what}[{i}]{path}"
                raise ValueError(
                    f"{one} is of shape {list(first)} and {other} of shape {list(shape)}, but such a size is the same "
                    f"for all clients of a call; {_remedy(kind, shape[1:] == first[1:], whole)}"
                )


def _is_open(kind: Type) -> bool:
    return isinstance(kind, TensorType) and None in kind.shape


def _shape(value: Any) -> tuple[int, ...] | None:
    try:
        return tuple(np.shape(value))
    except ValueError:
        return None  # a ragged list, which has no shape


def _remedy(kind: TensorType, leading: bool, whole: Type) -> str:
    if kind.shape[0] is not None or not leading:
        return "pad them to one size"
    in_struct = contains(whole, lambda part: isinstance(part, SequenceType))
    declared = f"the field as a sequence of one batch, '{kind}*'" if in_struct else f"'{{{whole}*}}@CLIENTS'"
    return (
        f"for sizes of their own declare {declared}, pass each client's as the one batch of a list, and write "
        "hansa.sequence_sum(hansa.sequence_map(fn, value)) for hansa.federated_map(fn, value); or pad them to one size"
    )
