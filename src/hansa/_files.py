"""Files that are there whole or not at all, whenever the process is killed or the machine loses power."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import re
import stat
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

_PART = ".part-"


@contextlib.contextmanager
def replacing(target: Path, mode: int | None = None) -> Iterator[Path]:
    """Give a temporary path beside `target` to write to; at the end without an error it becomes `target`, on the disk.

    Its name ends as the target's does, because Keras and matplotlib choose the format by it.

    Args:
        target: the path.
        mode: of the file, such as 0o600; by default what the process's mask says. Until then only its owner reads it.
    """
    try:
        descriptor, name = tempfile.mkstemp(prefix=_PART, suffix=f"-{target.name}", dir=target.parent)
    except OSError as error:
        error.filename = os.fspath(target)
        raise
    os.close(descriptor)
    part = Path(name)
    try:
        yield part
        part.chmod(0o666 & ~_umask() if mode is None else mode)
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, target)
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = os.fspath(target)  # which the system does not say of what is written
        raise
    finally:
        part.unlink(missing_ok=True)
    sync_folder(target.parent)


def remove_parts(folder: Path) -> None:
    """Remove what processes that were killed within `replacing` have left in a folder."""
    for part in folder.glob(f"{_PART}*"):
        part.unlink(missing_ok=True)


def remove_others(folder: Path, pattern: re.Pattern[str], names: Iterable[str]) -> None:
    """Remove the files of a folder whose whole names fit a pattern, but for some, and what was left of writing."""
    if folder.is_dir():
        remove_parts(folder)
        kept = set(names)
        for path in folder.iterdir():
            if pattern.fullmatch(path.name) and path.name not in kept:
                path.unlink(missing_ok=True)


def is_part(path: Path) -> bool:
    """Whether it is what a process that was killed within `replacing` has left."""
    return path.name.startswith(_PART)


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a file to read, if it is a regular one: a FIFO would wait for its writer, and a device need not end.

    Raises:
        OSError: if it cannot be opened, or is something else.
    """
    flags = ("O_NONBLOCK", "O_NOCTTY", "O_BINARY", "O_CLOEXEC")
    descriptor = os.open(path, os.O_RDONLY | sum(getattr(os, flag, 0) for flag in flags))
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, "It is a folder", os.fspath(path))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "It is no regular file", os.fspath(path))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def set_aside(path: Path) -> Path:
    """Give what is at a path another name beside it, `NAME.damaged`, so that nothing is lost; gives its new path."""
    aside = _free_name(path)
    os.rename(path, aside)
    return aside


def keep_aside(path: Path) -> Path:
    """As `set_aside`, of a file that is replaced next: it has both names until then, where the file system knows how.

    So there is no moment at which nothing is at the path.
    """
    aside = _free_name(path)
    try:
        os.link(path, aside, follow_symlinks=False)
    except OSError:
        os.rename(path, aside)
    return aside


def _free_name(path: Path) -> Path:
    for number in itertools.count(1):
        name = path.with_name(f"{path.name}.damaged" + (f"-{number}" if number > 1 else ""))
        if not os.path.lexists(name):
            return name
    raise AssertionError("some name is free")


def sync_folder(folder: Path) -> None:
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
