"""Clients from a dataset of Hugging Face's `datasets`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hansa.simulation._dealing import Partition, check_owner, dealt
from hansa.simulation._errors import reader
from hansa.simulation._selection import Convert, Features, Selection, select
from hansa.simulation.client_data import ClientData
from hansa.simulation.readers import arrow
from hansa.simulation.readers.clients import of_file
from hansa.simulation.readers.grouping import group
from hansa.simulation.readers.images import opened, pixels
from hansa.types.mismatch import describe

if TYPE_CHECKING:
    import datasets

_ROWS_AT_ONCE = 1 << 16


@reader
def from_huggingface(
    dataset: datasets.Dataset,
    client: str | None = None,
    features: Features | None = None,
    convert: Convert | None = None,
    *,
    partition: Partition | None = None,
    label: str = "y",
) -> ClientData:
    """The clients of a `datasets.Dataset` of Hugging Face, one split of it.

    The column of clients is read once, to learn which rows are whose; a client's rows are read when they are wanted.
    Images are decoded to arrays `[height, width]`, or `[height, width, channels]`, as `from_folder` does it before it
    makes them grey or coloured: uint8, uint16 if they have 16 bits, bool if they have 1. Those with a palette have 3
    channels, those with transparency 4.

    Args:
        dataset: the dataset. `datasets.load_dataset(...)["train"]` is one.
        client: the column that says whose each row is: all integers or all strings. Where it is missing, empty or -1,
            the row is nobody's, and is left out, with a warning.
        features: the arrays of examples. A list of columns, each an array `[examples]`, or `[examples, ...]` if it
            holds lists of one shape; or a dict such as `{"x": "image", "y": "label"}`, in which a list of columns is
            stacked to one array `[examples, columns]`. By default every other column.
        convert: by name of the array, a dtype that it is cast to, or a function from values to an array with a row for
            each, such as a tokenizer (it gets a list of strings), or one that brings images to one size (it gets a list
            of arrays, or one array if they have one size and dtype).
        partition: in place of `client`, how rows are dealt out to simulated clients; see `from_frame`. All rows are
            then read at once, and kept in memory.
        label: the array of labels, which partitions look at.

    Returns:
        The clients, in ascending order of their ids; each one's rows are in the dataset's order.

    Raises:
        TypeError: `dataset` is another kind of dataset, or a column mixes types or holds no numbers.
        ValueError: there is no such column, or no row, or values are missing.
        DatasetError: what the dataset is read from is damaged; the errors above are DatasetErrors, too.

    Examples:
        >>> import datasets
        >>> reviews = datasets.Dataset.from_dict({"user": [7, 3, 7], "words": [10, 25, 4], "stars": [5, 3, 1]})
        >>> users = hansa.simulation.from_huggingface(reviews, client="user", features={"x": "words", "y": "stars"})
        >>> users.client(7)
        {'x': array([10,  4]), 'y': array([5, 1])}
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
    check_owner(client, partition, "the dataset")
    selection = select("the dataset", dataset.column_names, features, convert, client)
    features_of = dataset.features
    images = frozenset(column for column in selection.columns if _has_image(features_of[column]))
    arrow.check_schema(selection, features_of.arrow_schema, apart=images)
    stored = dataset.select_columns(selection.columns).with_format("arrow")

    def arrays(rows: Any, selection: Selection) -> dict[str, Any]:
        """The arrays of some rows, int64 [rows]."""
        table = stored[rows]

        def values(column: str) -> Any:
            if column not in images:
                return arrow.to_values(table.column(column))
            what = f"column {column!r} of {selection.table} in row"
            cells = zip(rows.tolist(), table.column(column).to_pylist(), strict=True)
            return [_decoded(features_of[column], cell, f"{what} {row}") for row, cell in cells]

        return selection.arrays(values)

    if client is None:
        if not len(dataset):
            raise ValueError("the dataset has no rows, so there are no clients")
        return dealt(arrays(np.arange(len(dataset)), selection), partition, label, "the dataset")
    ids = dataset.select_columns([client]).with_format("arrow")
    stretches = range(0, len(dataset), _ROWS_AT_ONCE)
    parts = (arrow.owners(ids[start : start + _ROWS_AT_ONCE].column(client)) for start in stretches)
    rows = group(parts, f"column {client!r} of the dataset")
    positions = {client_id: position for position, client_id in enumerate(rows.client_ids)}

    def read(client_id: Any) -> dict[str, Any]:
        return arrays(rows.of(positions[client_id]), selection.of_client(client_id))

    return of_file(None, rows.client_ids, read, rows.sizes, "the dataset", rows.left_out)


def _has_image(feature: Any) -> bool:
    if isinstance(feature, dict):
        return any(map(_has_image, feature.values()))
    if isinstance(feature, list):
        return any(map(_has_image, feature))
    return type(feature).__name__ == "Image" or _has_image(getattr(feature, "feature", None) or [])


def _decoded(feature: Any, stored: Any, what: str) -> Any:
    """What is stored for a feature, with arrays for its images."""
    if stored is None:
        return None
    if isinstance(feature, dict):
        return {name: _decoded(part, stored[name], what) for name, part in feature.items()}
    if type(feature).__name__ == "Image":
        path = Path(stored["path"] or "")
        if stored["bytes"] is not None or path.is_file():
            return pixels(opened(path if stored["bytes"] is None else stored["bytes"], what, feature.mode))
        return pixels(feature.decode_example(stored))  # from wherever else `datasets` can get it
    inner = feature[0] if isinstance(feature, list) else getattr(feature, "feature", None)
    return [_decoded(inner, part, what) for part in stored] if _has_image(inner) else stored
