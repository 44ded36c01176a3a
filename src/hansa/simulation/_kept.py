"""Files that are made of others and kept in the cache: found by what they were made of, trusted for what they hold.

A kept file is called `KEY-DIGEST.SUFFIX`. The key says what it was made of, and how. The digest is the SHA-256 of its
own bytes, which are gone through before it is used: a file that is damaged has another digest than its name says, and
is removed. So no kept file is ever overwritten, and of two processes that make the same one at once the first keeps it.

Whoever can write to the cache can put a file of any content there, and so can decide what is read.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from hansa._cache import cache_dir, named_cache_dir
from hansa.simulation._errors import DatasetError

_CHUNK = 1 << 20
_SETTLED_NANOSECONDS = 2_000_000_000
_LEFT_SECONDS = 86_400
_WORK = ".making-"
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)

_known: dict[Path, tuple[tuple[int, ...], str]] = {}


def digest_of(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal.

    A file is gone through once in a process, and again when it has been replaced or written to. That is seen by its
    inode, its size and its times; a file so young that a second change could have the same time is not remembered.

    Raises:
        DatasetError: it was written to meanwhile.
    """
    before, digest = _gone_through(path)
    check_unchanged(path, before)
    return digest


def identity(file: int | Path) -> tuple[int, ...]:
    """What changes when a file is replaced or written to."""
    state = os.stat(file)
    return state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns


def check_unchanged(path: Path, before: tuple[int, ...]) -> None:
    """Checks that a file, now that it has been read, is the one that it was before.

    Raises:
        DatasetError: it is not.
    """
    if identity(path) != before:
        raise DatasetError(f"{path} was changed while it was read; read it again when it is whole")


def _gone_through(path: Path) -> tuple[tuple[int, ...], str]:
    """What a file was before it was gone through, and its digest."""
    whole = path.resolve()
    with path.open("rb") as file:
        before, now = identity(file.fileno()), time.time_ns()
        known = _known.get(whole)
        if known is not None and known[0] == before:
            return known
        digest = hashlib.sha256()
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    found = before, digest.hexdigest()
    if now - max(before[-2:]) > _SETTLED_NANOSECONDS:
        _known[whole] = found
    return found


def has_any(folder: str, key: str) -> bool:
    """Whether there may be a file whose key begins so; its content is not looked at."""
    return any(True for place in _places(folder) for _ in place.glob(f"{glob.escape(key)}-*"))


def find(folder: str, key: str, suffix: str) -> Path | None:
    """A kept file of this key, whose bytes have been checked; damaged ones are removed."""
    for place in _places(folder):
        for path in sorted(place.glob(f"{glob.escape(key)}-*{glob.escape(suffix)}")):
            if not path.is_file():
                continue
            with contextlib.suppress(OSError):
                if path.name == _name(key, _kept_digest(path), suffix):
                    return path
            with contextlib.suppress(OSError):
                path.unlink()
    return None


@contextlib.contextmanager
def workplace(folder: str) -> Iterator[Path]:
    """A temporary folder in the cache, in which a file is made that `keep` then keeps.

    Raises:
        DatasetError: there is no room in the cache.
    """
    place = cache_dir(folder)
    _remove_left(place)
    try:
        with tempfile.TemporaryDirectory(prefix=_WORK, dir=place, ignore_cleanup_errors=True) as work:
            yield Path(work)
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        raise DatasetError(
            f"{place} cannot be written: {error.strerror}; make room there, or set HANSA_CACHE_DIR to another folder"
        ) from error


def keep(part: Path, key: str, suffix: str) -> Path:
    """Keeps a file that has been made in a workplace.

    Where another process has just made the same one, that stays: it may be in use, and a file in use is not replaced.
    """
    digest = digest_of(part)
    target = part.parent.parent / _name(key, digest, suffix)
    try:
        os.link(part, target)
    except FileExistsError:
        if not (target.is_file() and _kept_digest(target) == digest):
            part.replace(target)
    except OSError:  # of a file system without such links
        part.replace(target)
    return target


def _kept_digest(path: Path) -> str:
    """The digest of a kept file, which its name is compared with; so it does not matter whether it was changed
    meanwhile, as it seems to be when another process that has made it removes its own link to it."""
    return _gone_through(path)[1]


def _name(key: str, digest: str, suffix: str) -> str:
    return f"{key}-{digest}{suffix}"


def _places(folder: str) -> list[Path]:
    """Where kept files may be: the lasting cache, which this process may not be able to write to, and its own."""
    lasting = named_cache_dir()
    return list(dict.fromkeys([*([] if lasting is None else [lasting / folder]), cache_dir(folder)]))


def _remove_left(place: Path) -> None:
    """Removes what processes have left that were killed while they made a file."""
    for left in place.glob(f"{_WORK}*"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > _LEFT_SECONDS:
                shutil.rmtree(left, ignore_errors=True)
