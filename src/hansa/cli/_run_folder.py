"""The folder a demo leaves behind."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path


class RunFolderError(RuntimeError):
    """The folder cannot be used for a new run."""


@contextlib.contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Make the folder, its parents included; at the end the folders it made are removed if nothing is in them.

    Raises:
        RunFolderError: it holds something already, or cannot be made.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        occupied = any(folder.iterdir())
    except OSError as error:
        raise RunFolderError(f"{folder} cannot be used as a run folder: {error.strerror or error}.") from error
    if occupied:
        raise RunFolderError(f"{folder} is not empty, and nothing is overwritten. Name another with --run-dir.")
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            for path in missing:
                path.rmdir()
