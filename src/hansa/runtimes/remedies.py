"""What to write where something else is passed as the clients' data, or as one client's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from hansa.types import FederatedType, SequenceType, Struct, StructType, Type


def for_clients(kind: FederatedType, value: Any) -> str:
    """What to write in place of a value that is no list with an entry for each client."""
    repeated = isinstance(kind.member, SequenceType)
    if hasattr(value, "cohort"):
        return "choose who takes part, by position: data.cohort([0, 1, 2])"
    if isinstance(value, set | frozenset):
        return "a set has no order: make a list of it"
    if isinstance(value, Iterator):
        if repeated:
            return "an iterator is one client's sequence: put it in a list, one iterator per client"
        return "make a list of it, with list(…)"
    wrap = "wrap one client's value in a list"
    if isinstance(kind.member, SequenceType):
        if isinstance(value, Mapping):
            return f"{wrap}, and so its batches: [[{_example(kind.member.element)}]]"
        if isinstance(value, Struct):
            return f"{wrap}; or, if it is a state, pass it before the data"
    return wrap


def for_a_client(kind: SequenceType, value: Any) -> str:
    """What to write in place of a client's value whose elements are not of the type; empty if that is not known."""
    arrays = isinstance(value, list | tuple) and len(value) > 0 and all(map(_is_array, value))
    if not isinstance(kind.element, StructType) or not (arrays or _is_array(value)):
        return ""
    return f"; a client's value is a list of its batches: [{_example(kind.element)}]"


def for_no_sequence(value: Any) -> str:
    """What to write in place of a value that is not a sequence."""
    if isinstance(value, Mapping | Struct):
        return "; put the one batch in a list"
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return "; if it says which client, pass data.cohort([…]) with these positions"
    return ""


def _example(element: Type) -> str:
    if not isinstance(element, StructType):
        return "…"
    if any(name is None for name in element.names):
        return f"({', '.join('…' for _ in element)})"
    return "{" + ", ".join(f'"{name}": …' for name in element.names) + "}"


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray | jax.Array) and value.ndim > 0
