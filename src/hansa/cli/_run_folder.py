"""The folder a run leaves behind. Each of its files is there whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
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


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Give a temporary path beside `target` to write to; at the end without an error it becomes `target`.

    Its name ends as the target's does, because Keras and matplotlib choose the format by it.
    """
    descriptor, name = tempfile.mkstemp(prefix=".part-", suffix=f"-{target.name}", dir=target.parent)
    os.close(descriptor)
    part = Path(name)
    try:
        yield part
        part.chmod(0o666 & ~_umask())
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _umask() -> int:
    # The mask can only be read by setting it.
    mask = os.umask(0)
    os.umask(mask)
    return mask
