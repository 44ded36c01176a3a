"""Files that are there whole or not at all, whenever the process is killed or the machine loses power."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

_PART = ".part-"


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Give a temporary path beside `target` to write to; at the end without an error it becomes `target`, on the disk.

    Its name ends as the target's does, because Keras and matplotlib choose the format by it.
    """
    descriptor, name = tempfile.mkstemp(prefix=_PART, suffix=f"-{target.name}", dir=target.parent)
    os.close(descriptor)
    part = Path(name)
    try:
        yield part
        part.chmod(0o666 & ~_umask())
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)
    _sync_folder(target.parent)


def remove_parts(folder: Path) -> None:
    """Remove what processes that were killed within `replacing` have left in a folder."""
    for part in folder.glob(f"{_PART}*"):
        part.unlink(missing_ok=True)


def is_part(path: Path) -> bool:
    """Whether it is what a process that was killed within `replacing` has left."""
    return path.name.startswith(_PART)


def _sync_folder(folder: Path) -> None:
    """Put the names in a folder on the disk."""
    if os.name == "nt":  # where folders cannot be opened, nor need be
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    # The mask can only be read by setting it.
    mask = os.umask(0)
    os.umask(mask)
    return mask
