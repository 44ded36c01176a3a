"""Clients from a data frame of pandas or Polars."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hansa.simulation._dealing import Partition, check_owner, dealt
from hansa.simulation._owned import by_owner
from hansa.simulation._selection import Convert, Features, select
from hansa.simulation.client_data import ClientData
from hansa.simulation.readers import arrow
from hansa.types.mismatch import describe

if TYPE_CHECKING:
    import pandas
    import polars


def from_frame(
    frame: pandas.DataFrame | polars.DataFrame,
    client: str | None = None,
    features: Features | None = None,
    convert: Convert | None = None,
    *,
    partition: Partition | None = None,
    label: str = "y",
) -> ClientData:
    """The clients of a data frame of pandas or Polars with one row per example.

    The values are copied once, out of the frame into arrays.

    Args:
        frame: a `pandas.DataFrame` or a `polars.DataFrame`.
        client: the column that says whose each row is: all integers or all strings. Where it is missing, empty or -1,
            the row is nobody's, and is left out, with a warning.
        features: the arrays of examples. A list of columns, each an array `[examples]` (or `[examples, ...]` if it
            holds lists or arrays of one shape); or a dict such as `{"x": ["height", "weight"], "y": "label"}`, in which
            a list of columns is stacked to one array `[examples, columns]`. By default every other column.
        convert: by name of the array, a dtype that it is cast to, or a function from values to an array with a row for
            each, such as one that makes numbers of text (it then gets a list of strings).
        partition: in place of `client`, how rows are dealt out to simulated clients: the name of a partition and its
            arguments, such as `{"method": "dirichlet", "clients": 10, "alpha": 0.5, "seed": 0}` for
            `partition_dirichlet`; or a function from the labels to whose each row is.
        label: the array of labels, which partitions look at.

    Returns:
        The clients, in ascending order of their ids; each one's rows are in the frame's order.

    Raises:
        TypeError: `frame` is no such frame, or a column mixes types or holds no numbers.
        ValueError: there is no such column, or no row, or values are missing, or a cast would change them.

    Examples:
        >>> import pandas as pd
        >>> frame = pd.DataFrame({"patient": ["ann", "bo", "ann"], "height": [1.7, 1.8, 1.6], "weight": [60.0, 80, 61]})
        >>> patients = hansa.simulation.from_frame(frame, client="patient", features={"x": ["height", "weight"]})
        >>> patients.client("ann")
        {'x': array([[ 1.7, 60. ],
               [ 1.6, 61. ]])}
        >>> hansa.simulation.from_frame(frame, features={"x": "height"}, partition={"method": "iid", "clients": 3})
        ClientData(3 clients, 3 examples, 1 to 1 each: <x=float64[?]>)
    """
    library = type(frame).__module__.partition(".")[0]
    if type(frame).__name__ != "DataFrame" or library not in ("pandas", "polars"):
        hint = "; call .collect() first" if type(frame).__name__ == "LazyFrame" else ""
        raise TypeError(f"frame must be a DataFrame of pandas or Polars; found {describe(frame)}{hint}")
    read = _pandas_column if library == "pandas" else _polars_column
    for column in frame.columns:
        if not isinstance(column, str):
            raise TypeError(
                f"the columns of the frame must have strings for names; found {describe(column)}; call "
                "frame.rename(columns=str)"
            )
    check_owner(client, partition, "the frame")
    selection = select("the frame", list(frame.columns), features, convert, client)
    what = f"column {client!r} of the frame" if client else "the frame"
    if not len(frame):
        raise ValueError(f"{what} has no rows, so there are no clients")
    arrays = selection.arrays(lambda column: read(frame, column))
    if client is None:
        return dealt(arrays, partition, label, what)
    owners = read(frame, client) if library == "pandas" else _polars_owners(frame[client])
    return ClientData(by_owner(arrays, owners, table=what))


def _pandas_column(frame: Any, column: str) -> Any:
    series = frame[column]
    if series.ndim > 1:
        raise ValueError(f"the frame has {series.shape[1]} columns called {column!r}; rename them")
    if type(series.dtype).__name__ == "ArrowDtype":  # of which pandas would make floats where some are missing
        return arrow.to_values(series.array.__arrow_array__())
    if getattr(series.dtype, "tz", None) is not None:
        return series.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy()
    if not isinstance(series.dtype, np.dtype) and series.isna().any():
        return series.astype(object).to_numpy()  # else NaN would stand for what is missing of integers
    return series.to_numpy()


def _polars_column(frame: Any, column: str) -> Any:
    series = frame[column]
    kind = series.dtype
    # Polars would make floats of integers of which some are missing, and tables of structs.
    if kind.is_float() or (kind.is_temporal() and kind.base_type().__name__ != "Time"):
        return series.to_numpy()
    inner, missing = series, series.null_count()
    while inner.dtype.is_nested() and hasattr(inner.dtype, "inner"):
        inner = inner.explode()
        missing += inner.null_count()
    beyond_numpy = inner.dtype.is_nested() or inner.dtype.is_decimal() or str(inner.dtype).endswith("Int128")
    as_objects = missing or beyond_numpy
    return series.to_list() if as_objects else series.to_numpy()


def _polars_owners(series: Any) -> Any:
    # Not every type that Polars has is one of NumPy's, and a list keeps each value as it is.
    kind = series.dtype
    plain = (kind.is_integer() or kind.is_float()) and not series.null_count() and "128" not in str(kind)
    return series.to_numpy() if plain else series.to_list()
