"""Clients from the HDF5 files in which TensorFlow Federated has published its datasets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hansa._extras import require
from hansa.simulation._files import DatasetError
from hansa.simulation.client_data import ClientData
from hansa.simulation.readers.columns import Convert, Features, select
from hansa.types import names

_EXAMPLES = "examples"


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
        DatasetError: the file is damaged, or of another layout.
        FileNotFoundError: there is no such file.
        ImportError: h5py is not installed.
        TypeError, ValueError: there is no such feature, or it does not hold what it should.
    """
    h5py = require("h5py", "hdf5", "from_tff_hdf5")
    file_path = Path(path)
    if not file_path.is_file():
        raise FileNotFoundError(f"there is no file {file_path}")

    def opened() -> Any:
        try:
            return h5py.File(file_path, "r")
        except OSError as error:
            raise DatasetError(f"{file_path} is damaged, or no HDF5 file: {error}") from error

    with opened() as file:
        if _EXAMPLES not in file or not isinstance(file[_EXAMPLES], h5py.Group):
            raise DatasetError(
                f"{file_path} has no group {_EXAMPLES!r} with the clients in it; it has: {names.listing(sorted(file))}"
            )
        groups = file[_EXAMPLES]
        client_ids = sorted(groups)
        if not client_ids:
            raise ValueError(f"{file_path} has no clients in its group {_EXAMPLES!r}")
        first = groups[client_ids[0]]
        selection = select(str(file_path), sorted(first), features, convert)
        for column in selection.columns:
            if first[column].dtype.kind in "OS" and not selection.takes_text(column):
                raise TypeError(
                    f"feature {column!r} of {file_path} holds text; leave it out of features, or give convert a "
                    "function that makes numbers of a list of bytes"
                )
        sizes = [_size(groups[client_id], client_id, file_path) for client_id in client_ids]

    def read(client_id: str) -> dict[str, Any]:
        with opened() as file:
            group = file[_EXAMPLES][client_id]
            for column in selection.columns:
                if column not in group:
                    raise DatasetError(f"{file_path} is damaged: client {client_id!r} has no feature {column!r}")
            return selection.arrays(lambda column: group[column][()])

    return ClientData.from_function(client_ids, read, sizes)


def _size(group: Any, client_id: str, path: Path) -> int:
    lengths = {name: dataset.shape[0] for name, dataset in group.items() if dataset.shape}
    if len(set(lengths.values())) != 1:
        raise DatasetError(f"{path} is damaged: the features of client {client_id!r} have the lengths {lengths}")
    return int(next(iter(lengths.values())))
