"""Clients from a `tf.data.Dataset` of examples for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from hansa.simulation._errors import reading
from hansa.simulation._numbers import check_present
from hansa.simulation.client_data import ClientData
from hansa.types.identities import distinct
from hansa.types.mismatch import describe

_ROWS_AT_ONCE = 1024


def from_tf_datasets(
    datasets: Mapping[Any, Any] | Callable[[Any], Any],
    client_ids: Sequence[Any] | None = None,
    *,
    names: Sequence[str] = ("x", "y"),
) -> ClientData:
    """The clients whose examples are `tf.data.Dataset`s. Each is read when its client is wanted.

    Args:
        datasets: a dict from client ids to datasets of single examples (not of batches), or a function from a client id
            to one. Examples are dicts of tensors by name, tuples of tensors, or tensors.
        client_ids: the clients, if `datasets` is a function.
        names: the names of the tensors, where examples are tuples or tensors.

    Returns:
        The clients, in the order in which they are given.

    Raises:
        TypeError: `datasets` is neither, or gives something else than a dataset of examples.
        ValueError: a dataset has batches, or does not end, or its examples have different shapes, or NaN in them; or
            `names` are not as many as an example has tensors. Datasets are looked at when they are first wanted.
        DatasetError: a dataset cannot be run through, because a file of its is damaged, say.

    Examples:
        >>> import tensorflow as tf
        >>> ann = tf.data.Dataset.from_tensor_slices(([0.5, 1.5], [0, 1]))
        >>> bo = tf.data.Dataset.from_tensor_slices(([2.5], [1]))
        >>> clients = hansa.simulation.from_tf_datasets({"ann": ann, "bo": bo})
        >>> clients.client("ann")
        {'x': array([0.5, 1.5], dtype=float32), 'y': array([0, 1], dtype=int32)}
    """
    if isinstance(datasets, Mapping):
        if client_ids is not None:
            raise TypeError("client_ids go with a function; the dict of datasets has client ids for keys")
        if not datasets:
            raise ValueError("datasets is empty, so there are no clients")
        ids: Sequence[Any] = distinct(list(datasets), "datasets")
        given = dict(zip(ids, datasets.values(), strict=True))
        make = given.__getitem__
        for client_id, dataset in given.items():
            _columns(dataset, client_id, names)
    elif callable(datasets):
        if client_ids is None:
            raise TypeError("with a function, give client_ids too: from_tf_datasets(make_dataset, client_ids=[...])")
        ids, make = client_ids, datasets
    else:
        raise TypeError(
            "datasets must be a dict from client ids to tf.data.Datasets, or a function from a client id to one; found "
            f"{describe(datasets)}"
        )

    def read(client_id: Any) -> dict[str, Any]:
        with reading("the dataset", f"client {client_id!r}"):
            return _read(make(client_id), client_id, names)

    return ClientData.from_function(ids, read)


def _columns(dataset: Any, client_id: Any, names: Sequence[str]) -> list[str] | None:
    """The names of an example's tensors; None if it is a dict that has them."""
    if not hasattr(dataset, "element_spec"):
        raise TypeError(f"client {client_id!r} must have a tf.data.Dataset; found {describe(dataset)}")
    spec = dataset.element_spec
    parts = _tensors(spec)
    shapes: list[Any] = [getattr(part, "shape", None) for part in parts]
    if any(shape is None for shape in shapes):
        raise TypeError(
            f"the examples of client {client_id!r} must be dicts or tuples of tensors, one level deep; found {spec}"
        )
    if all(shape.rank and shape[0] is None for shape in shapes):
        raise ValueError(
            f"the dataset of client {client_id!r} has batches, {spec}; pass it as it was before .batch(), or after "
            ".unbatch(): batches are made by ClientData.batch"
        )
    if isinstance(spec, Mapping):
        return None
    if len(set(names)) < len(names):
        raise ValueError(f"names gives two tensors the same name: {list(names)}; name each in its own way")
    if len(names) < len(parts):
        raise ValueError(
            f"the examples of client {client_id!r} have {len(parts)} tensors, but names are {list(names)}; name each"
        )
    return list(names[: len(parts)])


def _read(dataset: Any, client_id: Any, names: Sequence[str]) -> dict[str, Any]:
    from tensorflow import errors

    named = _columns(dataset, client_id, names)
    if int(dataset.cardinality()) == -1:  # tf.data.INFINITE_CARDINALITY
        raise ValueError(f"the dataset of client {client_id!r} does not end; leave out .repeat(), or add .take()")
    spec = dataset.element_spec
    try:
        batches = [_tensors(batch) for batch in dataset.batch(_ROWS_AT_ONCE).as_numpy_iterator()]
        columns = [np.concatenate(column) for column in zip(*batches, strict=True)]
    except (errors.InvalidArgumentError, ValueError) as error:
        if "shape" not in str(error).lower() and "dimension" not in str(error):
            raise
        raise ValueError(
            f"the examples of client {client_id!r} have different shapes, {spec}; pad or crop them to one: {error}"
        ) from error
    if not batches:
        columns = [np.zeros((0, *part.shape), part.dtype.as_numpy_dtype) for part in _tensors(spec)]
    arrays = dict(zip(named or list(spec), columns, strict=True))
    for name, array in arrays.items():
        check_present(array, f"{name!r} of client {client_id!r}")
    return arrays


def _tensors(element: Any) -> list[Any]:
    """The tensors of an example, a batch, or their spec, in one order."""
    if isinstance(element, Mapping):
        return [element[name] for name in element]
    return list(element) if isinstance(element, tuple) else [element]
