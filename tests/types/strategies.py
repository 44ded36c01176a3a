"""Hypothesis strategies for types, for values of a type, and for types that are above or below another."""

from __future__ import annotations

import string
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hansa.types import (
    FederatedType,
    FunctionType,
    Placement,
    SequenceType,
    Struct,
    StructType,
    TensorType,
    Type,
)
from hansa.types.dtypes import DTYPES, STR, kind

IDENTIFIERS = st.text(string.ascii_lowercase + "_", min_size=1, max_size=6).filter(str.isidentifier)
NAMES = st.one_of(
    IDENTIFIERS,
    st.sampled_from(["dense/kernel", "lstm/lstm_cell/kernel:0", "a.b", "-", "?", "0"]),
    st.text(max_size=5),
)
SIZES = st.one_of(st.none(), st.integers(0, 4))


def tensor_types(
    dtypes: st.SearchStrategy[str] | None = None, sizes: st.SearchStrategy[int | None] = SIZES
) -> st.SearchStrategy[TensorType]:
    """Tensors of rank 0 to 3, of any dtype unless told otherwise."""
    return st.builds(TensorType, dtypes or st.sampled_from(sorted(DTYPES)), st.lists(sizes, max_size=3))


@st.composite
def struct_types(draw: st.DrawFn, members: st.SearchStrategy[Type], max_size: int = 3) -> StructType:
    """Structs of such members, some of them with names."""
    types = draw(st.lists(members, max_size=max_size))
    names = draw(st.lists(NAMES, min_size=len(types), max_size=len(types), unique=True))
    named = draw(st.one_of(st.just([True] * len(types)), st.lists(st.booleans(), min_size=len(types))))
    return StructType([(name if keep else None, type_) for name, keep, type_ in zip(names, named, types, strict=False)])


def value_types(tensors: st.SearchStrategy[TensorType] | None = None) -> st.SearchStrategy[Type]:
    """Tensors and nested structs of them: what `to_value` makes values of."""
    leaves: st.SearchStrategy[Type] = tensors or tensor_types()
    return st.recursive(leaves, struct_types, max_leaves=5)


def local_types() -> st.SearchStrategy[Type]:
    """Tensors, sequences and structs of both: what may be placed."""
    leaves = st.one_of(tensor_types(), st.builds(SequenceType, value_types()))
    return st.recursive(leaves, struct_types, max_leaves=4)


def types() -> st.SearchStrategy[Type]:
    """Types of all kinds."""
    placements = st.sampled_from(Placement)
    leaves = st.one_of(local_types(), st.builds(FederatedType, local_types(), placements, st.booleans()))
    return st.recursive(
        leaves,
        lambda members: st.one_of(struct_types(members), st.builds(FunctionType, st.none() | members, members)),
        max_leaves=4,
    )


@st.composite
def related(draw: st.DrawFn, type_: Type, above: bool = True) -> Type:
    """A type that `type_` is assignable to if `above`, else one that is assignable to it."""
    match type_:
        case TensorType():
            changes: st.SearchStrategy[int | None] = st.integers(0, 4)
            shape = [
                draw(st.sampled_from([size, None]) if above else changes if size is None else st.just(size))
                for size in type_.shape
            ]
            return TensorType(type_.dtype, shape)
        case StructType():
            members = [draw(related(member, above)) for member in type_]
            names = list(type_.names)
            for index, name in enumerate(names):
                if draw(st.booleans()):
                    # A name longer than those of NAMES, so that there is no other field of that name.
                    names[index] = None if not above else f"fresh/{index}" if name is None else name
            return StructType(zip(names, members, strict=True))
        case SequenceType():
            return SequenceType(draw(related(type_.element, above)))
        case FunctionType():
            parameter = None if type_.parameter is None else draw(related(type_.parameter, not above))
            return FunctionType(parameter, draw(related(type_.result, above)))
        case FederatedType():
            all_equal = draw(st.sampled_from([type_.all_equal, not above]))
            return FederatedType(draw(related(type_.member, above)), type_.placement, all_equal)
    raise AssertionError(type_)


def values_of(type_: Type) -> st.SearchStrategy[Any]:
    """Values of a type of tensors and structs, in the form that `to_value` gives them.

    The numbers are finite and small; a size that the type leaves open is 0 to 3.
    """
    if isinstance(type_, TensorType):
        return _tensors_of(type_)
    assert isinstance(type_, StructType), type_
    container = type_.container or Struct
    return st.tuples(*(values_of(member) for member in type_)).map(
        lambda members: container(zip(type_.names, members, strict=True))
    )


def plain_values_of(type_: Type) -> st.SearchStrategy[Any]:
    """Values of a type as a user would write them: numbers, nested lists and dicts; integers for what is numeric."""
    if isinstance(type_, TensorType):
        return _tensors_of(type_).map(lambda array: array if isinstance(array, str) else _plain(array))
    assert isinstance(type_, StructType), type_
    members = st.tuples(*(plain_values_of(member) for member in type_))
    if None in type_.names:
        return members.map(list)
    names = st.permutations(range(len(type_)))
    return st.builds(lambda values, order: {type_.names[index]: values[index] for index in order}, members, names)


def _plain(array: np.ndarray) -> Any:
    return array.astype(np.float32).tolist() if array.dtype.kind == "V" else array.tolist()


@st.composite
def _tensors_of(draw: st.DrawFn, type_: TensorType) -> Any:
    if type_ == TensorType(STR):
        return draw(st.text(max_size=5))
    shape = tuple(draw(st.integers(0, 3)) if size is None else size for size in type_.shape)
    match kind(type_.dtype):
        case "str":
            return draw(hnp.arrays("U5", shape))
        case "bool":
            return draw(hnp.arrays(np.bool_, shape))
        case "int" if type_.dtype.kind == "u":
            return draw(hnp.arrays(type_.dtype, shape, elements=st.integers(0, 100)))
        case "int":
            return draw(hnp.arrays(type_.dtype, shape, elements=st.integers(-100, 100)))
    # Halves of small integers are exact in every floating dtype.
    halves = draw(hnp.arrays(np.float32, shape, elements=st.integers(-100, 100).map(lambda number: number / 2)))
    return halves.astype(type_.dtype)
