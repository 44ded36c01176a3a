"""Clients from the HDF5 files in which TensorFlow Federated has published its datasets."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hansa._extras import require
from hansa.simulation import _same_file
from hansa.simulation._errors import DatasetError, reader
from hansa.simulation._limits import too_much, unpacked_limit
from hansa.simulation._selection import Convert, Features, Selection, select, without_rows
from hansa.simulation.client_data import ClientData
from hansa.simulation.readers.clients import OfClients, of_file
from hansa.types import names
from hansa.types.identities import ClientId

_EXAMPLES = "examples"
_CHUNK_BYTES = 64 << 20
_TEXTS_AT_ONCE = 64


@reader
def from_tff_hdf5(path: str | Path, features: Features | None = None, convert: Convert | None = None) -> ClientData:
    """The clients of an HDF5 file of TensorFlow Federated, such as `fed_emnist_train.h5`.

    It has a group `examples`, in that a group for each client, and in those a dataset `[examples, ...]` for each
    feature. A client's datasets are read when they are wanted, and only those that are chosen.

    Args:
        path: the file.
        features: the arrays of examples: a list of features, or a dict such as `{"x": "pixels", "y": "label"}`; by
            default all features.
        convert: by name of the array, a dtype that it is cast to, or a function from values to an array with a row for
            each. For a feature of bytes or strings it gets a list of them.

    Returns:
        The clients, in alphabetical order.

    Raises:
        DatasetError: the file is damaged, or of another layout; it has links, data in other files, or more than a file
            of its size may hold. It is a FileNotFoundError if there is no such file, and a TypeError or a ValueError if
            there is no such feature, or it does not hold what it should.
        ImportError: h5py is not installed.

    Examples:
        >>> import h5py
        >>> with h5py.File("train.h5", "w") as file:
        ...     file["examples/ann/pixels"] = np.zeros((2, 28, 28), np.float32)
        ...     file["examples/ann/label"] = np.array([3, 5], np.int32)
        >>> hansa.simulation.from_tff_hdf5("train.h5", features={"x": "pixels", "y": "label"})
        ClientData(1 clients, 2 examples, 2 to 2 each)
    """
    h5py = require("h5py", "hdf5", "from_tff_hdf5")
    file_path = Path(path)
    if not file_path.is_file():
        raise FileNotFoundError(f"there is no file {file_path}")

    with _opened(file_path) as file:
        groups = _member(file, _EXAMPLES, h5py.Group, file_path)
        client_ids = sorted(groups)
        if not client_ids:
            raise ValueError(f"{file_path} has no clients in its group {_EXAMPLES!r}")
        first = _member(groups, client_ids[0], h5py.Group, file_path)
        selection = select(str(file_path), sorted(first), features, convert)
        for column in selection.columns:
            text = _member(first, column, h5py.Dataset, file_path).dtype.kind in "OS"
            if text and not selection.is_converted(column):
                raise TypeError(
                    f"feature {column!r} of {file_path} holds text; leave it out of features, or give convert a "
                    "function that makes numbers of a list of bytes"
                )
        sizes = [_size(groups, client_id, selection.columns, file_path) for client_id in client_ids]

    some = client_ids[int(np.argmax(sizes))] if any(sizes) else None
    read = _reading(file_path, selection, some)
    files = None
    if (chosen := selection.told()) is not None:
        told = {"reader": "tff_hdf5", "file": _same_file.told(file_path), "selection": chosen, "some": some}
        files = OfClients(told, lambda client_id: None)
    return of_file(file_path, client_ids, lambda client_id: read(None, client_id), sizes, files=files)


def opened(told: Mapping[str, Any]) -> Callable[[Any, ClientId], dict[str, Any]]:
    """What reads clients here, of what `from_tff_hdf5` has told elsewhere."""
    require("h5py", "hdf5", "from_tff_hdf5")
    read = _reading(Path(told["file"]["path"]), Selection.of_told(told["selection"]), told["some"])

    def checked(part: None, client_id: ClientId) -> dict[str, Any]:
        _same_file.check(told["file"])
        return read(part, client_id)

    return checked


def _reading(path: Path, selection: Selection, some: Any) -> Callable[[None, ClientId], dict[str, Any]]:
    """Reads a client's datasets; of one without examples they are as those of some client that has some."""

    def read(part: None, client_id: Any) -> dict[str, Any]:
        import h5py

        with _opened(path) as file:
            group = _member(_member(file, _EXAMPLES, h5py.Group, path), client_id, h5py.Group, path)
            datasets = {name: _member(group, name, h5py.Dataset, path) for name in selection.columns}
            _check_bytes(sum(dataset.nbytes for dataset in datasets.values()), client_id, path)
            if not len(datasets[selection.columns[0]]) and some is not None:
                return without_rows(read(None, some))
            return selection.of_client(client_id).arrays(lambda column: _values(datasets[column], path))

    return read


def _opened(path: Path) -> Any:
    import h5py

    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise DatasetError(f"{path} is damaged, or no HDF5 file: {error}") from error


def _member(group: Any, name: str, kind: type[Any], path: Path) -> Any:
    """A member of a group, which must lie in the file itself.

    Raises:
        DatasetError: there is none of this kind, or it is elsewhere, or is not all there.
    """
    import h5py

    where = f"{group.name.rstrip('/')}/{name}"
    link = group.get(name, getlink=True)
    if link is None:
        inside = "" if group.name == "/" else f" in {group.name}"
        raise DatasetError(
            f"{path} has no {kind.__name__.lower()} {name!r}{inside}; it has: {names.listing(sorted(group)) or 'none'}"
        )
    if not isinstance(link, h5py.HardLink):
        raise DatasetError(f"{path} is refused: {where} is a link; what is read must be in the file itself, once")
    found = group[name]
    if not isinstance(found, kind):
        raise DatasetError(f"{path} is damaged: {where} is no {kind.__name__.lower()}")
    if kind is h5py.Dataset:
        if found.is_virtual or found.external:
            raise DatasetError(f"{path} is refused: {where} has its values in other files")
        if h5py.check_ref_dtype(found.dtype) is not None:
            raise DatasetError(f"{path} is refused: {where} holds references, not values")
        if found.shape is None or not found.shape:
            raise DatasetError(f"{path} is damaged: {where} has no row for each example")
        if math.prod(found.chunks or (0,)) * found.dtype.itemsize > max(_CHUNK_BYTES, 2 * found.nbytes):
            raise DatasetError(f"{path} is refused: {where} has chunks of {list(found.chunks)} for {list(found.shape)}")
    return found


def _values(dataset: Any, path: Path) -> Any:
    """The values of a dataset. Those of any length may lie in the same place many times, so they are read in parts."""
    if dataset.dtype.kind != "O":
        return dataset[()]
    if len(dataset.shape) != 1:
        raise TypeError(f"{dataset.name} has values of any length in {len(dataset.shape)} dimensions, and not in one")
    limit, values, total = unpacked_limit(path), [], 0
    for start in range(0, len(dataset), _TEXTS_AT_ONCE):
        for value in dataset[start : start + _TEXTS_AT_ONCE]:
            total += len(value) if isinstance(value, bytes | str) else value.nbytes
            values.append(value)
        if total > limit:
            raise DatasetError(too_much(path, f"{dataset.name}, of more than {total:,} bytes"))
    return values


def _check_bytes(size: int, client_id: str, path: Path) -> None:
    if size > unpacked_limit(path):
        raise DatasetError(too_much(path, f"client {client_id!r}, of {size:,} bytes"))


def _size(groups: Any, client_id: str, columns: list[str], path: Path) -> int:
    import h5py

    group = _member(groups, client_id, h5py.Group, path)
    lengths = {name: _member(group, name, h5py.Dataset, path).shape[0] for name in columns}
    if len(set(lengths.values())) != 1:
        raise DatasetError(f"{path} is damaged: the features of client {client_id!r} have the lengths {lengths}")
    return int(next(iter(lengths.values())))
