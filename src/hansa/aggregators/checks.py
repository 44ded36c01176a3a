"""Checks of what rules and codecs are made with."""

from __future__ import annotations

from hansa._checks import check_number as check_number
from hansa._checks import check_share as check_share
from hansa._checks import check_whole as check_whole
from hansa.types import Type, tensor_leaves
from hansa.types.dtypes import kind as dtype_kind


def check_floats(what: str, kind: Type) -> None:
    """Checks that a type has tensors of a float dtype only."""
    for leaf in tensor_leaves(kind):
        if dtype_kind(leaf.dtype) != "float":
            raise TypeError(f"{what} takes tensors of float dtypes, found {leaf} in {kind}; cast it at the clients")
