"""Clients from a dataset of Hugging Face's `datasets`."""

from __future__ import annotations

from typing import Any

import numpy as np

from hansa.simulation._errors import reader
from hansa.simulation.client_data import ClientData
from hansa.simulation.readers import arrow
from hansa.simulation.readers.clients import of_file
from hansa.simulation.readers.columns import Convert, Features, select
from hansa.simulation.readers.grouping import group
from hansa.types.mismatch import describe

_ROWS_AT_ONCE = 1 << 16


@reader
def from_huggingface(
    dataset: Any, client: str, features: Features | None = None, convert: Convert | None = None
) -> ClientData:
    """The clients of a `datasets.Dataset` of Hugging Face, one split of it.

    The column of clients is read once, to learn which rows are whose; a client's rows are read when they are wanted.
    Images are decoded to uint8 arrays `[examples, height, width]`, or `[examples, height, width, 3]`.

    Args:
        dataset: the dataset. `datasets.load_dataset(...)["train"]` is one.
        client: the column that says whose each row is: integers or strings. A missing id, or a negative number, means
            that the row is nobody's, and it is left out.
        features: the arrays of examples. A list of columns, each an array `[examples]`, or `[examples, ...]` if it
            holds lists of one shape; or a dict such as `{"x": "image", "y": "label"}`, in which a list of columns is
            stacked to one array `[examples, columns]`. By default every other column.
        convert: by name of the array, a dtype that it is cast to, or a function from values to an array with a row for
            each, such as a tokenizer (it gets a list of strings).

    Returns:
        The clients, in ascending order of their ids; each one's rows are in the dataset's order.

    Raises:
        TypeError: `dataset` is another kind of dataset, or a column mixes types or holds no numbers.
        ValueError: there is no such column, or no row, or values are missing.
        DatasetError: what the dataset is read from is damaged; the errors above are DatasetErrors, too.
    """
    if type(dataset).__name__ == "DatasetDict":
        raise TypeError(
            f"dataset must be one split; found a DatasetDict of {', '.join(map(repr, dataset))}; pass "
            f"dataset[{next(iter(dataset), 'train')!r}]"
        )
    if type(dataset).__name__ != "Dataset" or type(dataset).__module__.partition(".")[0] != "datasets":
        raise TypeError(
            f"dataset must be a datasets.Dataset, of which rows can be read in any order; found {describe(dataset)}"
        )
    selection = select("the dataset", dataset.column_names, features, convert, client)
    images = {column for column in selection.columns if type(dataset.features[column]).__name__ == "Image"}
    for column in selection.columns:
        if getattr(dataset.features[column], "dtype", "") == "string" and not selection.takes_text(column):
            raise TypeError(
                f"column {column!r} of the dataset holds text; leave it out of features, or give convert a function "
                "that makes numbers of a list of strings"
            )
    ids = dataset.select_columns([client]).with_format("arrow")
    stretches = range(0, len(dataset), _ROWS_AT_ONCE)
    parts = (arrow.owners(ids[start : start + _ROWS_AT_ONCE].column(client)) for start in stretches)
    rows = group(parts, f"column {client!r} of the dataset")
    positions = {client_id: position for position, client_id in enumerate(rows.client_ids)}
    plain = dataset.select_columns([column for column in selection.columns if column not in images])
    plain = plain.with_format("arrow")
    pictures = dataset.select_columns([column for column in selection.columns if column in images]).with_format(None)

    def read(client_id: Any) -> dict[str, Any]:
        mine = rows.of(positions[client_id])
        table = plain[mine] if plain.column_names else None
        decoded = pictures[mine] if images else {}

        def values(column: str) -> Any:
            if column in images:
                return [None if image is None else np.asarray(image) for image in decoded[column]]
            assert table is not None
            return arrow.to_values(table.column(column), f"column {column!r} of the dataset, client {client_id!r},")

        return selection.arrays(values)

    return of_file(None, rows.client_ids, read, rows.sizes, "the dataset")
