"""Clients whose examples are read from a file when they are wanted: what every reader that does so has to check.

The file must be the one that was opened, a client must have as many examples as was said then, and what goes wrong is a
`DatasetError` that names the file and the client.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from hansa.simulation._errors import DatasetError, reading
from hansa.simulation._sources import Files, FunctionSource
from hansa.simulation._steps import Arrays, checked_arrays, rows
from hansa.simulation.client_data import ClientData
from hansa.types.identities import ClientId


def of_file(
    path: Path | None,
    client_ids: Sequence[ClientId],
    read: Callable[[Any], Mapping[str, Any]],
    sizes: Sequence[int] | npt.NDArray[Any],
    name: object = None,
    left_out: int = 0,
    files: Files | None = None,
) -> ClientData:
    """The clients of a file.

    Args:
        path: the file, or a folder; None for what is no file.
        client_ids: the clients.
        read: gives a client's arrays.
        sizes: how many examples each has.
        name: what to call it in messages, by default its path.
        left_out: how many of its rows are nobody's.
        files: how another process reads them, if it can.
    """
    what = path if name is None else name
    before = state_of(path)
    size_of = dict(zip(client_ids, map(int, sizes), strict=True))

    def read_named(client_id: Any) -> Arrays:
        with reading(what, f"client {client_id!r}"):
            if state_of(path) != before:
                raise DatasetError(f"{what} is not the file that it was when its clients were looked up; read it anew")
            arrays = checked_arrays(read(client_id), f"client {client_id!r} of {what}")
            if rows(arrays) != size_of[client_id]:
                raise DatasetError(
                    f"{what} is damaged: client {client_id!r} has {rows(arrays)} examples, but is said to have "
                    f"{size_of[client_id]}"
                )
            return arrays

    data = ClientData.from_function(client_ids, read_named, sizes)
    assert isinstance(data._source, FunctionSource)
    data._source.left_out, data._source.files = left_out, files
    return data


@dataclass(frozen=True)
class OfClients:
    """Files, and which part of them is whose; see `hansa.simulation._sources.Files`."""

    told: Mapping[str, Any]
    parts: Callable[[ClientId], Any]

    def part(self, client_id: ClientId) -> Any:
        """Which part is a client's."""
        return self.parts(client_id)


def state_of(path: Path | None) -> tuple[int, ...]:
    """What changes when a file is replaced or written to; of a folder, whose files may change, only which it is."""
    if path is None:
        return ()
    state = path.stat()
    return (state.st_ino,) if path.is_dir() else (state.st_ino, state.st_size, state.st_mtime_ns)
