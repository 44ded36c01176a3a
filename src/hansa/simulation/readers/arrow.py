"""Columns of Arrow tables as NumPy arrays, with the shapes that nested lists have."""

from __future__ import annotations

from typing import Any

import numpy as np

from hansa.simulation._selection import Selection, no_number


def to_values(column: Any) -> Any:
    """The values of an Arrow array or chunked array: an array `[rows, ...]` where they are numbers or dates, of which
    missing floats are NaN and dates NaT; else a list, in which missing ones are None."""
    import pyarrow
    from pyarrow import types

    array = _whole(column)
    kind = array.type
    if isinstance(array, pyarrow.ExtensionArray):
        if array.null_count or not hasattr(array, "to_numpy_ndarray"):
            return to_values(array.storage)
        return array.to_numpy_ndarray()
    if types.is_run_end_encoded(kind):
        return to_values(pyarrow.compute.run_end_decode(array))
    if types.is_dictionary(kind):
        return to_values(array.dictionary_decode())
    if types.is_floating(kind) or types.is_timestamp(kind) or types.is_duration(kind) or types.is_date(kind):
        return array.to_numpy(zero_copy_only=False)
    if array.null_count:
        return array.to_pylist()
    if types.is_fixed_size_list(kind):
        return _nested(array, kind.list_size)
    if types.is_list(kind) or types.is_large_list(kind):
        sizes = np.diff(np.asarray(array.offsets))
        if len(sizes) and (sizes == sizes[0]).all():
            return _nested(array, int(sizes[0]))
    if types.is_integer(kind) or types.is_boolean(kind):
        return array.to_numpy(zero_copy_only=False)
    return array.to_pylist()


def _nested(array: Any, size: int) -> Any:
    inner = to_values(array.flatten())
    return inner.reshape(len(array), size, *inner.shape[1:]) if isinstance(inner, np.ndarray) else array.to_pylist()


def check_schema(selection: Selection, schema: Any, apart: frozenset[str] = frozenset()) -> None:
    """Checks, before a row is read, that what is no number is left to a function of the user's.

    Args:
        selection: what is made of the columns.
        schema: the table's Arrow schema.
        apart: columns that something else reads.

    Raises:
        TypeError: if it is not.
    """
    for column in selection.columns:
        kind = schema.field(column).type
        what = _no_number(kind)
        if what and column not in apart and not selection.is_converted(column):
            raise no_number(selection.table, column, what, kind)


def _no_number(kind: Any) -> str:
    """What an Arrow type holds, if that is surely no number; else an empty string."""
    from pyarrow import types

    if types.is_dictionary(kind):
        kind = kind.value_type
    kind = getattr(kind, "storage_type", kind)
    text = (types.is_string, types.is_large_string, types.is_string_view)
    data = (types.is_binary, types.is_large_binary, types.is_binary_view, types.is_fixed_size_binary)
    if any(test(kind) for test in (*text, *data)):
        return "text" if any(test(kind) for test in text) else "bytes"
    if types.is_struct(kind) or types.is_map(kind) or types.is_union(kind):
        return "structs"
    return "dates or times" if types.is_temporal(kind) else ""


def _whole(column: Any) -> Any:
    """A column's values in one array."""
    import pyarrow

    array = column.combine_chunks() if isinstance(column, pyarrow.ChunkedArray) else column
    if isinstance(array, pyarrow.ChunkedArray):  # some versions keep it chunked where there are no rows
        array = pyarrow.concat_arrays(array.chunks) if array.num_chunks else pyarrow.array([], array.type)
    return array


def owners(column: Any) -> Any:
    """The values of a column of clients: an array of numbers, or objects; a missing one is NaN or None."""
    from pyarrow import compute, types

    array = _whole(column)
    array = array.storage if hasattr(array, "storage") else array
    kind = array.type
    if types.is_floating(kind) or (types.is_integer(kind) and not array.null_count):
        return array.to_numpy(zero_copy_only=False)
    text = (types.is_string, types.is_large_string, types.is_string_view)
    if not any(test(kind) for test in (types.is_dictionary, types.is_integer, *text)):
        return array.to_pylist()
    encoded = array if types.is_dictionary(kind) else array.dictionary_encode()
    names = [*encoded.dictionary.to_pylist(), None]
    objects = np.empty(len(names), object)
    for place, name in enumerate(names):
        objects[place] = name
    codes = compute.fill_null(encoded.indices.cast("int64"), len(names) - 1)
    return objects[codes.to_numpy(zero_copy_only=False)]
