"""Columns of Arrow tables as NumPy arrays, with the shapes that nested lists have."""

from __future__ import annotations

from typing import Any

import numpy as np


def to_values(column: Any, what: str) -> Any:
    """The values of an Arrow array or chunked array: an array `[rows, ...]`, or a list where they are text or mixed.

    Raises:
        ValueError: if values are missing.
    """
    import pyarrow

    array = _whole(column)
    if array.null_count:
        row = int(np.flatnonzero(np.asarray(array.is_null()))[0])
        raise ValueError(f"{what} has no value in {array.null_count} rows, the first of which is row {row}; fill it")
    if isinstance(array, pyarrow.ExtensionArray):
        return to_values(array.storage, what)
    kind = array.type
    if pyarrow.types.is_fixed_size_list(kind):
        return _nested(array, len(array), kind.list_size, what)
    if pyarrow.types.is_list(kind) or pyarrow.types.is_large_list(kind):
        sizes = np.diff(np.asarray(array.offsets))
        if len(sizes) and (sizes == sizes[0]).all():
            return _nested(array, len(array), int(sizes[0]), what)
        return array.to_pylist()
    if pyarrow.types.is_dictionary(kind):
        return to_values(array.dictionary_decode(), what)
    if is_text(kind) or pyarrow.types.is_null(kind) or pyarrow.types.is_nested(kind):
        return array.to_pylist()
    return array.to_numpy(zero_copy_only=False)


def _nested(array: Any, rows: int, size: int, what: str) -> Any:
    inner = to_values(array.flatten(), what)
    if isinstance(inner, list):
        return array.to_pylist()
    return inner.reshape(rows, size, *inner.shape[1:])


def is_text(kind: Any) -> bool:
    """Whether an Arrow type is that of strings or bytes."""
    from pyarrow import types

    if types.is_dictionary(kind):
        kind = kind.value_type
    tests = (types.is_string, types.is_large_string, types.is_string_view, types.is_binary, types.is_large_binary)
    return any(test(kind) for test in tests)


def _whole(column: Any) -> Any:
    """A column's values in one array."""
    import pyarrow

    array = column.combine_chunks() if isinstance(column, pyarrow.ChunkedArray) else column
    if isinstance(array, pyarrow.ChunkedArray):  # some versions keep it chunked where there are no rows
        array = pyarrow.concat_arrays(array.chunks) if array.num_chunks else pyarrow.array([], array.type)
    return array


def owners(column: Any) -> Any:
    """The values of a column of clients: an array of numbers, or objects; a missing one is NaN or None."""
    import pyarrow

    array = _whole(column)
    kind = array.type
    if pyarrow.types.is_floating(kind) or (pyarrow.types.is_integer(kind) and not array.null_count):
        return array.to_numpy(zero_copy_only=False)
    encoded = array if pyarrow.types.is_dictionary(kind) else array.dictionary_encode()
    names = [*encoded.dictionary.to_pylist(), None]
    objects = np.empty(len(names), object)
    objects[:] = names
    return objects[encoded.indices.cast(pyarrow.int64()).fill_null(len(names) - 1).to_numpy(zero_copy_only=False)]
